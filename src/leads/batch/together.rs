//! Single calls that went as one batch: each gets what it would have got alone. What the answer does
//! not say for certain is left to a call of its own, wherever making that call is safe.

use super::{
    BatchAnswer, BatchItem, Error, Input, Left, Outcome, Reason, SideEffect, Unmentioned, is_named,
    isolate, matched, refuses_inputs,
};

/// Most calls spent on finding the inputs for which HubSpot refuses all: enough for three in a hundred.
/// One takes nine calls, and the seven inputs around it are asked for alone.
const MAX_CALLS: u32 = 24;

/// As few as these are asked for alone instead of being divided further: that takes no more calls.
const FEW: usize = 4;

/// What came of a call that went together with others.
#[derive(Debug, Clone)]
pub(in crate::leads) enum Fate<T> {
    /// This.
    Told(Result<T, Error>),
    /// Nothing that is certain; it may be made alone.
    Alone,
}

/// What is done about an input that an answer neither names nor settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::leads) enum Unsettled {
    /// It is asked for alone: doing it twice is the same as doing it once.
    Repeat,
    /// The caller is told.
    Tell,
}

/// Sends the inputs, at most a hundred, as one batch; one fate per input, in their order. Where HubSpot
/// refuses all, the rest is sent without those at fault, and nothing again that has succeeded. `send` is
/// told which input is the first of those it sends.
pub(in crate::leads) async fn together<I, S, F>(
    inputs: &[I],
    unmentioned: Unmentioned,
    unsettled: Unsettled,
    send: S,
) -> Vec<Fate<Option<BatchItem>>>
where
    I: Input,
    S: Fn(usize, Vec<I>) -> F + Sync,
    F: Future<Output = Result<BatchAnswer, Error>> + Send,
{
    let mut fates: Vec<Fate<Option<BatchItem>>> = inputs.iter().map(|_| Fate::Alone).collect();
    let mut waiting: Vec<Vec<usize>> = vec![(0..inputs.len()).collect()];
    for calls in 0..MAX_CALLS {
        let Some(part) = waiting.pop() else { break };
        // After a refusal a call of its own tells more.
        if calls > 0 && part.len() == 1 {
            continue;
        }
        let sent: Vec<I> = part.iter().map(|&index| inputs[index].clone()).collect();
        let first = part.first().copied().unwrap_or_default();
        match send(first, sent.clone()).await {
            Ok(answer) => {
                let (found, left) = matched(&sent, answer, is_named);
                let open = found.iter().filter(|outcome| outcome.is_none()).count();
                for (&index, outcome) in part.iter().zip(found) {
                    fates[index] = match outcome {
                        Some(outcome) => told(outcome),
                        None => settle(&left, open, unmentioned, unsettled),
                    };
                }
            }
            Err(error) if is_of_the_batch(&error) => {
                let (bad, parts) = isolate(inputs, part, &error);
                // Nobody is named.
                let few = |part: &Vec<usize>| !bad.is_empty() || part.len() > FEW;
                waiting.extend(parts.into_iter().filter(few));
            }
            Err(error) if is_no_batch(&error) => {}
            Err(error) => {
                for index in part {
                    fates[index] = Fate::Told(Err(error.clone()));
                }
            }
        }
    }
    fates
}

/// What is said of one input. HubSpot may refuse it for its limits, which a call of its own waits for.
fn told(outcome: Outcome) -> Fate<Option<BatchItem>> {
    match outcome {
        Err(error) if error.reason() == Reason::RateLimited => Fate::Alone,
        outcome => Fate::Told(outcome),
    }
}

/// What to do about one of the `open` inputs that nothing could be matched with.
fn settle(
    left: &Left,
    open: usize,
    unmentioned: Unmentioned,
    unsettled: Unsettled,
) -> Fate<Option<BatchItem>> {
    let nothing = left.results == 0 && left.errors.is_empty();
    if nothing && unmentioned != Unmentioned::OutcomeUnknown {
        return Fate::Told(left.outcome(unmentioned));
    }
    // With an error for each of them, none can have been done.
    let none_done = left.results == 0 && open > 0 && left.errors.len() >= open;
    if none_done || unsettled == Unsettled::Repeat {
        return Fate::Alone;
    }
    Fate::Told(left.outcome(unmentioned))
}

/// Whether HubSpot refused the batch for what is in it, or answered more than is read: parts of it may
/// pass.
fn is_of_the_batch(error: &Error) -> bool {
    let is_too_large =
        error.reason() == Reason::AnswerTooLarge && error.side_effect() == SideEffect::None;
    refuses_inputs(error) || is_too_large
}

/// Whether HubSpot does not know such a batch.
fn is_no_batch(error: &Error) -> bool {
    error.reason() == Reason::UpstreamUnintelligible
        && error.side_effect() == SideEffect::None
        && error.upstream().http_status == Some(404)
}

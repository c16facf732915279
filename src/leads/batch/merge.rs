//! Sends the inputs of several callers as one batch. Each caller gets the result of an individual
//! request: inputs with an ambiguous outcome are requested individually, wherever that is safe.

use super::{
    input::BatchInput,
    isolate::rejected,
    matching::{
        MissingItemPolicy, Unmatched, UnresolvedPolicy, is_named, match_response, split_by_error,
    },
    search::rejects_content,
};
use crate::leads::{
    error::{Error, Reason, SideEffect},
    request::{BatchItem, BatchResponse, Outcome},
};

/// Maximum number of requests spent on finding the inputs for which HubSpot rejects a merged batch:
/// enough for three of one hundred. One such input takes thirteen requests, and the two inputs beside
/// it are requested individually.
const MAX_REQUESTS: u32 = 40;

/// A rejected part of at most this size is requested individually instead of being halved. A rejection
/// so costs at most three more requests.
const MIN_PART: usize = 3;

/// Maximum number of named inputs that are requested individually, because that says more about an
/// input. With the request for the rest these are three requests. Further inputs get the error.
const MAX_NAMED: usize = 2;

/// Maximum number of leads that a response does not mention and that are requested individually. More
/// are sent again as one batch.
const MAX_UNANSWERED: usize = 4;

/// Outcome of one input of a merged batch.
#[derive(Debug, Clone)]
pub enum ItemOutcome<T> {
    /// Result of the input.
    Resolved(Result<T, Error>),
    /// Ambiguous; the input may be requested individually.
    RetryAlone,
    /// HubSpot rejects a batch of only the inputs of this owner. They are requested apart from those of
    /// others.
    RetryApart,
}

/// Sends at most 100 inputs as one batch and returns one outcome per input, in input order.
///
/// If HubSpot rejects the batch, the affected inputs are removed and the rest is sent again; nothing
/// that succeeded is sent again. `owners` are the numbers of the callers of the inputs; the inputs of one
/// caller are neighbours. `send` gets the index of the first input that it sends.
pub async fn send_merged<I, S, F>(
    inputs: &[I],
    owners: &[usize],
    missing: MissingItemPolicy,
    unresolved: UnresolvedPolicy,
    mut send: S,
) -> Vec<ItemOutcome<Option<BatchItem>>>
where
    I: BatchInput,
    S: FnMut(usize, Vec<I>) -> F,
    F: Future<Output = Result<BatchResponse, Error>> + Send,
{
    let mut outcomes: Vec<ItemOutcome<Option<BatchItem>>> =
        inputs.iter().map(|_| ItemOutcome::RetryAlone).collect();
    let mut pending: Vec<Vec<usize>> = vec![(0..inputs.len()).collect()];
    let is_mixed = !has_one_owner(&pending[0], owners);
    let mut was_repeated = false;
    for requests in 0..MAX_REQUESTS {
        let Some(part) = pending.pop() else { break };
        // After a rejection an individual request returns a more specific error.
        if requests > 0 && part.len() == 1 {
            continue;
        }
        let sent: Vec<I> = part.iter().map(|&index| inputs[index].clone()).collect();
        let first = part.first().copied().unwrap_or_default();
        match send(first, sent.clone()).await {
            Ok(response) => {
                let (found, unmatched) = match_response(&sent, response, is_named);
                let open = found.iter().filter(|outcome| outcome.is_none()).count();
                let mut again = Vec::new();
                for (&index, outcome) in part.iter().zip(found) {
                    outcomes[index] = match outcome {
                        Some(outcome) => resolved(outcome),
                        None => {
                            again.push(index);
                            settle(&unmatched, open, missing, unresolved)
                        }
                    };
                }
                // Too many for individual requests; one more batch may mention them.
                let is_unanswered =
                    unmatched.is_empty() && missing == MissingItemPolicy::Unanswered;
                if is_unanswered && open > MAX_UNANSWERED && !was_repeated {
                    was_repeated = true;
                    pending.push(again);
                }
            }
            Err(error) if may_pass_in_parts(&error) => {
                let (affected, others) = split_by_error(inputs, &part, &error);
                if affected.len() > MAX_NAMED {
                    for &index in &affected {
                        outcomes[index] = ItemOutcome::Resolved(rejected(&error, missing));
                    }
                }
                if !affected.is_empty() {
                    pending.extend(Some(others).filter(|others| !others.is_empty()));
                } else if is_mixed && has_one_owner(&part, owners) {
                    part.into_iter().for_each(|index| outcomes[index] = ItemOutcome::RetryApart);
                } else if part.len() > MIN_PART {
                    pending.extend(halves(&part, owners));
                }
            }
            Err(error) if is_unknown_batch(&error) => {}
            Err(error) => {
                for index in part {
                    outcomes[index] = ItemOutcome::Resolved(Err(error.clone()));
                }
            }
        }
    }
    outcomes
}

fn has_one_owner(part: &[usize], owners: &[usize]) -> bool {
    part.windows(2).all(|pair| owners[pair[0]] == owners[pair[1]])
}

/// Divides a part in the middle, or between two owners if it has several. The first half is the last one
/// of the result.
fn halves(part: &[usize], owners: &[usize]) -> [Vec<usize>; 2] {
    let middle = part.len() / 2;
    let is_border = |at: &usize| owners[part[at - 1]] != owners[part[*at]];
    let borders = (1..part.len()).filter(is_border);
    let at = borders.min_by_key(|at| at.abs_diff(middle)).unwrap_or(middle);
    let (left, right) = part.split_at(at);
    [right.to_vec(), left.to_vec()]
}

/// The outcome of a matched input. A per-item 429 is retried individually, because an individual
/// request waits for quota.
fn resolved(outcome: Outcome) -> ItemOutcome<Option<BatchItem>> {
    match outcome {
        Err(error) if error.reason() == Reason::RateLimited => ItemOutcome::RetryAlone,
        outcome => ItemOutcome::Resolved(outcome),
    }
}

/// The outcome of one of the `open` inputs that nothing could be matched with.
fn settle(
    unmatched: &Unmatched,
    open: usize,
    missing: MissingItemPolicy,
    unresolved: UnresolvedPolicy,
) -> ItemOutcome<Option<BatchItem>> {
    let is_not_found =
        unmatched.only_error().is_some_and(|error| error.reason() == Reason::LeadNotFound);
    let is_resolved = match missing {
        MissingItemPolicy::Succeeded => unmatched.is_empty(),
        MissingItemPolicy::Unanswered if unmatched.results > 0 => false,
        // An individual read shows whether a lead that HubSpot does not mention exists.
        MissingItemPolicy::Unanswered if unmatched.is_empty() => open > MAX_UNANSWERED,
        MissingItemPolicy::Unanswered => is_not_found,
        MissingItemPolicy::OutcomeUnknown => false,
    };
    if is_resolved {
        return ItemOutcome::Resolved(unmatched.outcome(open, missing));
    }
    // With an error for each of them, none of them succeeded.
    let none_succeeded = unmatched.results == 0 && open > 0 && unmatched.errors.len() >= open;
    if none_succeeded || unresolved == UnresolvedPolicy::RetryAlone {
        return ItemOutcome::RetryAlone;
    }
    ItemOutcome::Resolved(unmatched.outcome(open, missing))
}

/// True if HubSpot rejected the batch because of its content, or its response exceeds the bound:
/// then parts of it may succeed.
fn may_pass_in_parts(error: &Error) -> bool {
    let is_too_large =
        error.reason() == Reason::ResponseTooLarge && error.side_effect() == SideEffect::None;
    rejects_content(error) || is_too_large
}

/// True if HubSpot does not know the path of this batch.
fn is_unknown_batch(error: &Error) -> bool {
    error.reason() == Reason::UpstreamInvalidResponse
        && error.side_effect() == SideEffect::None
        && error.upstream().http_status == Some(404)
}

#[cfg(test)]
mod tests;

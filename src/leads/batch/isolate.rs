//! Sends one batch and isolates the inputs for which HubSpot rejects it as a whole, so that the
//! other inputs succeed.

use super::{
    input::BatchInput,
    matching::{MissingItemPolicy, Unmatched, UnresolvedPolicy, is_affected, match_response},
    progress::no_outcome,
};
use crate::leads::{
    error::{Error, Reason, SideEffect},
    request::{BatchResponse, ChunkOutcomes, Outcome},
};

/// Maximum number of requests spent on one batch to find the inputs for which HubSpot rejects it.
/// Three invalid inputs of one hundred take at most 3 x 2 x log2(100) = 40 requests.
const MAX_REQUESTS: u32 = 40;

/// Number of requests after which the search stops if HubSpot rejects the batch and both of its halves
/// for the same cause and names no input: then the cause is most likely common to all inputs.
const ALIKE_REQUESTS: usize = 3;

/// Maximum number of inputs that are sent individually because HubSpot does not say which of several
/// errors is theirs.
const MAX_INDIVIDUAL: usize = 8;

/// Inputs of one request, by index.
struct Part {
    inputs: Vec<usize>,
    /// True if the response to an earlier request left them open. They are sent again once.
    is_repeat: bool,
}

/// Sends a batch of at most 100 inputs. While HubSpot rejects it as a whole, removes the affected
/// inputs or halves it. If HubSpot rejects both halves alike, every input gets that rejection.
///
/// Inputs that the response leaves open are sent again once where that is safe: those that it does not
/// mention in one batch, and those that share several errors individually.
pub async fn send_isolated<I, S, F>(
    inputs: &[I],
    missing: MissingItemPolicy,
    unresolved: UnresolvedPolicy,
    send: S,
) -> ChunkOutcomes
where
    I: BatchInput,
    S: Fn(Vec<I>) -> F + Sync,
    F: Future<Output = Result<BatchResponse, Error>> + Send,
{
    let mut outcomes: Vec<Option<Outcome>> = vec![None; inputs.len()];
    let mut evaluated = false;
    let mut requests = 0;
    let all = Part { inputs: (0..inputs.len()).collect(), is_repeat: false };
    let mut pending: Vec<Part> = vec![all];
    let mut last_rejection = None;
    let mut unnamed: Vec<Error> = Vec::new();
    while requests < MAX_REQUESTS {
        let Some(Part { inputs: part, is_repeat }) = pending.pop() else { break };
        let sent: Vec<I> = part.iter().map(|&index| inputs[index].clone()).collect();
        requests += 1;
        let rejection = match send(sent.clone()).await {
            Ok(response) => {
                evaluated = true;
                let (found, unmatched) = match_response(&sent, response, is_affected);
                let mut open = Vec::new();
                for (&index, outcome) in part.iter().zip(found) {
                    // HubSpot may return to a repeat what was not asked for.
                    let outcome =
                        outcome.filter(|it| !is_repeat || !is_foreign(&inputs[index], it));
                    match outcome {
                        Some(outcome) => outcomes[index] = Some(outcome),
                        None => open.push(index),
                    }
                }
                // Reported unless a repeat says more.
                for &index in &open {
                    outcomes[index] = Some(unmatched.outcome(open.len(), missing));
                }
                if !is_repeat {
                    pending.extend(repeats(open, &unmatched, missing, unresolved));
                }
                continue;
            }
            Err(error) => error,
        };
        if !rejects_content(&rejection) {
            for index in part {
                outcomes[index] = Some(Err(rejection.clone()));
            }
            continue;
        }
        evaluated = true;
        let (affected, rest) = isolate(inputs, part, &rejection);
        if affected.is_empty() {
            unnamed.push(rejection.clone());
            if is_common(&unnamed, requests) {
                let left = pending.into_iter().map(|part| part.inputs);
                let rest = left.chain(rest).flatten();
                rest.for_each(|index| outcomes[index] = Some(Err(rejection.clone())));
                return complete(outcomes, evaluated);
            }
        }
        for index in affected {
            outcomes[index] = Some(Err(rejection.clone()));
        }
        let part = |inputs| Part { inputs, is_repeat };
        // The halves of the whole batch come before their parts.
        let other_half = if requests == 2 { pending.pop() } else { None };
        pending.extend(rest.into_iter().map(part));
        pending.extend(other_half);
        last_rejection = Some(rejection);
    }
    if let Some(rejection) = last_rejection {
        let left = pending.into_iter().filter(|part| !part.is_repeat);
        for index in left.flat_map(|part| part.inputs) {
            outcomes[index] = Some(Err(not_sent_individually(&rejection)));
        }
    }
    complete(outcomes, evaluated)
}

fn complete(outcomes: Vec<Option<Outcome>>, evaluated: bool) -> ChunkOutcomes {
    let open = || Err(no_outcome());
    let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(open)).collect();
    ChunkOutcomes { outcomes, evaluated }
}

/// True if HubSpot rejected the batch because of its content, so that parts of it may succeed.
pub fn rejects_content(error: &Error) -> bool {
    let about_content = match error.reason() {
        Reason::ValidationFailed
        | Reason::AlreadyExists
        | Reason::Conflict
        | Reason::LeadNotFound => true,
        Reason::InvalidRequest
        | Reason::UnknownPortal
        | Reason::InvalidPageToken
        | Reason::SearchWindowExceeded
        | Reason::RequestIdReused
        | Reason::MissingScopes
        | Reason::UpstreamForbidden
        | Reason::CredentialUnavailable
        | Reason::CredentialRejected
        | Reason::RateLimited
        | Reason::DailyLimitReached
        | Reason::Overloaded
        | Reason::AccountLocked
        | Reason::AccountMigrating
        | Reason::UpstreamUnavailable
        | Reason::UpstreamInvalidResponse
        | Reason::ResponseTooLarge
        | Reason::DeadlineExceeded
        | Reason::WriteOutcomeUnknown
        | Reason::BatchRejected
        | Reason::Internal
        | Reason::RequestTooLarge
        | Reason::Unauthenticated
        | Reason::CallerForbidden
        | Reason::AuthenticationUnavailable
        | Reason::Unimplemented => false,
    };
    about_content && error.side_effect() == SideEffect::None
}

/// True if a result shows another unique value than that of its input.
fn is_foreign<I: BatchInput>(input: &I, outcome: &Outcome) -> bool {
    let reference = input.reference().filter(|reference| reference.id_property.is_some());
    match (reference, outcome) {
        (Some(reference), Ok(Some(item))) => !reference.identifies(&item.lead),
        (Some(_) | None, _) => false,
    }
}

/// Parts to send again because the response leaves them open.
fn repeats(
    open: Vec<usize>,
    unmatched: &Unmatched,
    missing: MissingItemPolicy,
    unresolved: UnresolvedPolicy,
) -> Vec<Part> {
    let repeat = |inputs| Part { inputs, is_repeat: true };
    if open.is_empty() || unresolved == UnresolvedPolicy::Fail || unmatched.results > 0 {
        return Vec::new();
    }
    if unmatched.is_empty() {
        let is_open = missing == MissingItemPolicy::Unanswered;
        return if is_open { vec![repeat(open)] } else { Vec::new() };
    }
    if unmatched.only_error().is_some() || open.len() > MAX_INDIVIDUAL {
        return Vec::new();
    }
    open.into_iter().map(|index| repeat(vec![index])).collect()
}

/// Splits a rejected part into the inputs that the rejection names and the others.
pub(super) fn named<I: BatchInput>(
    inputs: &[I],
    part: &[usize],
    rejection: &Error,
) -> (Vec<usize>, Vec<usize>) {
    part.iter().copied().partition(|&index| is_affected(&inputs[index], rejection))
}

/// Splits a rejected part into the affected inputs and the parts to send again.
fn isolate<I: BatchInput>(
    inputs: &[I],
    part: Vec<usize>,
    rejection: &Error,
) -> (Vec<usize>, Vec<Vec<usize>>) {
    if part.len() == 1 {
        return (part, Vec::new());
    }
    let (affected, others) = named(inputs, &part, rejection);
    if affected.is_empty() {
        let (left, right) = part.split_at(part.len() / 2);
        return (Vec::new(), vec![right.to_vec(), left.to_vec()]);
    }
    let rest = if others.is_empty() { Vec::new() } else { vec![others] };
    (affected, rest)
}

/// True if the batch and both of its halves were rejected alike without a named input, and nothing else
/// was sent.
fn is_common(unnamed: &[Error], requests: u32) -> bool {
    let [first, others @ ..] = unnamed else { return false };
    let is_alike =
        |other: &Error| (other.reason(), other.message()) == (first.reason(), first.message());
    unnamed.len() == ALIKE_REQUESTS
        && requests as usize == ALIKE_REQUESTS
        && others.iter().all(is_alike)
}

fn not_sent_individually(rejection: &Error) -> Error {
    let message = format!(
        "HubSpot rejected the batch because of other inputs, and it has too many to send each \
         individually; this input was not written; send it in a smaller batch. HubSpot's error: {}",
        rejection.message()
    );
    Error::new(Reason::BatchRejected, message).with_upstream(rejection.upstream().clone())
}

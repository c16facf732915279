//! Sends one batch and isolates the inputs for which HubSpot rejects it as a whole, so that the
//! other inputs succeed.

use super::{
    input::BatchInput,
    matching::{MissingItemPolicy, is_affected, match_all},
};
use crate::leads::{
    error::{Error, Reason, SideEffect},
    request::{BatchResponse, ChunkOutcomes, Outcome},
};

/// Maximum number of requests spent on one batch to find the inputs for which HubSpot rejects it.
/// Three invalid inputs of one hundred take at most 3 x 2 x log2(100) = 40 requests.
const MAX_REQUESTS: u32 = 40;

/// Sends a batch of at most 100 inputs. While HubSpot rejects it as a whole, removes the affected
/// inputs or halves it.
pub async fn send_isolated<I, S, F>(
    inputs: &[I],
    missing: MissingItemPolicy,
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
    let mut pending: Vec<Vec<usize>> = vec![(0..inputs.len()).collect()];
    let mut last_rejection = None;
    while requests < MAX_REQUESTS {
        let Some(part) = pending.pop() else { break };
        let sent: Vec<I> = part.iter().map(|&index| inputs[index].clone()).collect();
        requests += 1;
        let rejection = match send(sent.clone()).await {
            Ok(response) => {
                evaluated = true;
                for (&index, outcome) in part.iter().zip(match_all(&sent, response, missing)) {
                    outcomes[index] = Some(outcome);
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
        for index in affected {
            outcomes[index] = Some(Err(rejection.clone()));
        }
        pending.extend(rest);
        last_rejection = Some(rejection);
    }
    if let Some(rejection) = last_rejection {
        for index in pending.into_iter().flatten() {
            outcomes[index] = Some(Err(not_sent_individually(&rejection)));
        }
    }
    let outcomes = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(|| Err(internal("an input has no outcome"))))
        .collect();
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

/// Splits a rejected part into the affected inputs and the parts to send again.
pub(super) fn isolate<I: BatchInput>(
    inputs: &[I],
    part: Vec<usize>,
    rejection: &Error,
) -> (Vec<usize>, Vec<Vec<usize>>) {
    if part.len() == 1 {
        return (part, Vec::new());
    }
    let (affected, others): (Vec<usize>, Vec<usize>) =
        part.iter().copied().partition(|&index| is_affected(&inputs[index], rejection));
    if affected.is_empty() {
        let (left, right) = part.split_at(part.len() / 2);
        return (Vec::new(), vec![right.to_vec(), left.to_vec()]);
    }
    let rest = if others.is_empty() { Vec::new() } else { vec![others] };
    (affected, rest)
}

fn internal(what: &str) -> Error {
    Error::new(Reason::Internal, "internal error: an input of the batch has no outcome")
        .with_internal(what)
        .with_side_effect(SideEffect::Possible)
}

fn not_sent_individually(rejection: &Error) -> Error {
    let message = format!(
        "HubSpot rejected the batch because of other inputs, and it has too many to send each \
         individually; this input was not written; send it in a smaller batch. HubSpot's error: {}",
        rejection.message()
    );
    Error::new(Reason::BatchRejected, message).with_upstream(rejection.upstream().clone())
}

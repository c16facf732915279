//! Resolves creates whose outcome is unknown: looks them up together, and sends those that are absent
//! again together.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::TaggedCreate;
use crate::leads::{
    DEFAULT_PROPERTIES,
    batch::{self, BatchLimits, ReadInput},
    context::CallContext,
    error::{Error, Reason, SideEffect},
    lead::Lead,
    query::BatchRead,
    request::{BatchItem, Outcome, Request},
    write::{CreateLead, Traced},
};

/// Maximum number of lookups of one create, each followed by another attempt if it is not found.
const MAX_ROUNDS: u32 = 4;

/// Pause before the first lookup; it doubles with each round. A create in progress at HubSpot completes
/// in that time.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// Maximum pause between two attempts of a lookup that fails.
const MAX_LOOKUP_BACKOFF: Duration = Duration::from_secs(2);

/// Time after the caller's deadline for which an unknown outcome is resolved: a repeat with the
/// same request id needs the outcome.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(15);

/// Time before the caller's deadline at which failing lookups end, so that the caller receives their
/// result.
const RESPONSE_MARGIN: Duration = Duration::from_millis(100);

/// `RetryInfo` of a create whose lookup failed, unless the failure states a longer time.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A create whose outcome is unknown.
#[derive(Debug, Clone)]
pub(super) struct OpenCreate {
    pub(super) input: Traced<CreateLead>,
    pub(super) tag: TaggedCreate,
    /// The error of its last attempt.
    pub(super) error: Error,
}

/// Resolves creates of the same portal that were lost [`FIRST_BACKOFF`] ago. Returns one outcome per
/// create, in their order.
pub(super) async fn resolve(
    ctx: &CallContext,
    creates: Vec<OpenCreate>,
    limits: BatchLimits,
) -> Vec<Outcome> {
    let now = Instant::now();
    let before_deadline = ctx.deadline.checked_sub(RESPONSE_MARGIN).filter(|until| *until > now);
    let ctx = ctx.extended_to(now + RESOLVE_TIMEOUT);
    let lookups_until = before_deadline.unwrap_or(ctx.deadline);
    // A duplicate that was looked up and not found is searched for.
    let ctx = CallContext { search: ctx.search.searching(), ..ctx };
    let mut outcomes: Vec<Outcome> =
        creates.iter().map(|create| Err(create.error.clone())).collect();
    let mut open: Vec<usize> = (0..creates.len()).collect();
    for round in 1..=MAX_ROUNDS {
        if round > 1 {
            sleep(FIRST_BACKOFF * 2_u32.pow(round - 1)).await;
        }
        let wanted: Vec<&OpenCreate> = open.iter().map(|&index| &creates[index]).collect();
        let found = find_until(&ctx, &wanted, limits, lookups_until).await;
        let mut absent = Vec::new();
        for (index, found) in open.into_iter().zip(found) {
            let error = outcomes[index].as_ref().err();
            match found {
                Ok(Some(lead)) => outcomes[index] = Ok(Some(created(lead))),
                Ok(None) if error.is_some_and(|it| is_lost(it) || is_unattributed(it)) => {
                    absent.push(index);
                }
                // Another unique value conflicts: the error is final.
                Ok(None) => {}
                Err(cause) => {
                    let error = error.unwrap_or(&cause);
                    outcomes[index] = Err(unresolved(error, Some(&cause), &creates[index].tag));
                }
            }
        }
        if absent.is_empty() || round == MAX_ROUNDS {
            break;
        }
        let inputs: Vec<_> = absent.iter().map(|&index| creates[index].input.clone()).collect();
        // A failed batch leaves every outcome unknown: the request may still be in progress.
        if let Ok(results) = send(&ctx, inputs, limits).await {
            for (&index, result) in absent.iter().zip(results) {
                outcomes[index] = result;
            }
        }
        let is_open = |index: &usize| {
            let was_lost = is_lost(&creates[*index].error);
            let is_open =
                |error: &Error| outcome_unknown(error) || was_lost && is_unattributed(error);
            outcomes[*index].as_ref().is_err_and(is_open)
        };
        open = absent.into_iter().filter(is_open).collect();
        if open.is_empty() {
            break;
        }
    }
    for (create, outcome) in creates.iter().zip(&mut outcomes) {
        // The batch may have been rejected for the lead of the attempt that was lost.
        if is_lost(&create.error) && outcome.as_ref().is_err_and(is_unattributed) {
            *outcome = Err(create.error.clone());
        }
        if let Err(error) = outcome
            && create.tag.is_repeatable
            && error.reason() == Reason::WriteOutcomeUnknown
            && error.retry_after().is_none()
        {
            *error = error.clone().with_retry_after(RETRY_AFTER);
        }
    }
    outcomes
}

/// Sends creates again: one alone, as its caller sent it, or several as batches.
async fn send(
    ctx: &CallContext,
    mut inputs: Vec<Traced<CreateLead>>,
    limits: BatchLimits,
) -> Result<Vec<Outcome>, Error> {
    if inputs.len() > 1 {
        let request = Request::BatchCreate;
        return batch::run(ctx, &inputs, limits.write_plan(), request).await;
    }
    let Some(Traced { input, .. }) = inputs.pop() else { return Ok(Vec::new()) };
    match ctx.portal.upstream.call(ctx, Request::Create(input)).await {
        Ok(response) => {
            Ok(vec![response.into_lead().map(|lead| Some(created(Arc::unwrap_or_clone(lead))))])
        }
        Err(error) if is_transient(&error) && !is_lost(&error) => Err(error),
        Err(error) => Ok(vec![Err(error)]),
    }
}

/// Looks leads up by their tags. Repeats failed lookups before `until` if they may succeed later.
async fn find_until(
    ctx: &CallContext,
    wanted: &[&OpenCreate],
    limits: BatchLimits,
    until: Instant,
) -> Vec<Result<Option<Lead>, Error>> {
    let mut results = find(ctx, wanted, limits).await;
    let mut pause = FIRST_BACKOFF;
    loop {
        let failed: Vec<usize> = (0..results.len())
            .filter(|&index| results[index].as_ref().is_err_and(is_transient))
            .collect();
        let Some(error) = failed.first().and_then(|&index| results[index].as_ref().err()) else {
            return results;
        };
        let stated = error.retry_after().unwrap_or_default();
        let wait = stated + pause.mul_f64(rand::random_range(0.5..1.0));
        if Instant::now() + wait >= until {
            return results;
        }
        sleep(wait).await;
        pause = (pause * 2).min(MAX_LOOKUP_BACKOFF);
        let again: Vec<&OpenCreate> = failed.iter().map(|&index| wanted[index]).collect();
        for (index, result) in failed.into_iter().zip(find(ctx, &again, limits).await) {
            results[index] = result;
        }
    }
}

/// Looks leads up by their tags, with all properties that were written.
async fn find(
    ctx: &CallContext,
    wanted: &[&OpenCreate],
    limits: BatchLimits,
) -> Vec<Result<Option<Lead>, Error>> {
    let Some(first) = wanted.first() else { return Vec::new() };
    let property = &first.tag.property;
    let mut properties: Vec<String> =
        wanted.iter().flat_map(|create| create.input.input.properties.keys().cloned()).collect();
    properties.extend(DEFAULT_PROPERTIES.map(str::to_owned));
    properties.sort();
    properties.dedup();
    let inputs: Vec<ReadInput> = wanted
        .iter()
        .map(|create| ReadInput {
            id: create.tag.value.clone(),
            id_property: Some(property.clone()),
        })
        .collect();
    let request = |inputs: Vec<ReadInput>| {
        Request::BatchRead(BatchRead {
            ids: inputs.into_iter().map(|input| input.id).collect(),
            id_property: Some(property.clone()),
            properties: properties.clone(),
            properties_with_history: Vec::new(),
            archived: false,
        })
    };
    // A lead that does not fit in the response keeps its id, like that of any write.
    let plan = BatchLimits { concurrency: 1, ..limits }.write_plan();
    match batch::run(ctx, &inputs, plan, request).await {
        Ok(outcomes) => outcomes.into_iter().map(lookup_result).collect(),
        Err(error) => vec![lookup_result(Err(error)); wanted.len()],
    }
}

fn lookup_result(outcome: Outcome) -> Result<Option<Lead>, Error> {
    match outcome {
        Ok(item) => Ok(item.map(|item| item.lead)),
        Err(error) if error.reason() == Reason::LeadNotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Builds the error of a create whose lead was not looked up, or whose lookup failed for `cause`. It is
/// never the conflict with an earlier attempt. A repeat is safe if it has the same tag.
pub(super) fn unresolved(error: &Error, cause: Option<&Error>, tag: &TaggedCreate) -> Error {
    let condition = match cause {
        Some(_) => "HubSpot may have created the lead, and looking it up failed",
        None => "HubSpot may have created the lead, and it was not looked up before the deadline",
    };
    let remedy = if tag.is_repeatable {
        "repeat the call with the same request_id"
    } else {
        "look the lead up before you repeat the call"
    };
    let mut unknown = Error::new(Reason::WriteOutcomeUnknown, format!("{condition}; {remedy}"))
        .with_side_effect(SideEffect::Possible)
        .with_upstream(error.upstream().clone());
    if let Some(cause) = cause {
        unknown = unknown.with_internal(cause.to_string());
    }
    if tag.is_repeatable {
        let stated = cause.and_then(Error::retry_after).unwrap_or_default();
        unknown.with_retry_after(stated.max(RETRY_AFTER))
    } else {
        unknown
    }
}

/// True if the lead may exist although the create failed: the response was lost, or a lead with the
/// create's tag conflicts.
pub(super) fn outcome_unknown(error: &Error) -> bool {
    is_lost(error) || error.reason() == Reason::AlreadyExists
}

/// True if HubSpot rejected a batch with the create, and the error may be that of another input. Nothing was
/// created, but an earlier attempt may have been.
pub(super) fn is_unattributed(error: &Error) -> bool {
    error.reason() == Reason::BatchRejected
}

fn is_lost(error: &Error) -> bool {
    error.side_effect() == SideEffect::Possible
}

/// True if a lookup that failed may succeed later.
fn is_transient(error: &Error) -> bool {
    match error.reason() {
        Reason::CredentialUnavailable
        | Reason::RateLimited
        | Reason::Overloaded
        | Reason::AccountLocked
        | Reason::AccountMigrating
        | Reason::UpstreamUnavailable
        | Reason::UpstreamInvalidResponse
        | Reason::DeadlineExceeded
        | Reason::AuthenticationUnavailable => true,
        Reason::InvalidRequest
        | Reason::UnknownPortal
        | Reason::InvalidPageToken
        | Reason::SearchWindowExceeded
        | Reason::RequestIdReused
        | Reason::LeadNotFound
        | Reason::ValidationFailed
        | Reason::AlreadyExists
        | Reason::Conflict
        | Reason::MissingScopes
        | Reason::UpstreamForbidden
        | Reason::CredentialRejected
        | Reason::DailyLimitReached
        | Reason::ResponseTooLarge
        | Reason::WriteOutcomeUnknown
        | Reason::BatchRejected
        | Reason::Internal
        | Reason::RequestTooLarge
        | Reason::Unauthenticated
        | Reason::CallerForbidden
        | Reason::Unimplemented
        | Reason::WrongDataCenter => false,
    }
}

fn created(lead: Lead) -> BatchItem {
    BatchItem { lead, trace_id: None, created: Some(true) }
}

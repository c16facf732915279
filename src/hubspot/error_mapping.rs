//! Maps error responses of HubSpot to [`crate::leads::Error`], by status and then by body.
//!
//! HubSpot may change message texts, so they are inspected only where no other field has the information.
//! A body that is HTML, empty or malformed maps by its status.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{
    error_body::{ErrorBody, correlation_id},
    operations::{Idempotency, Operation},
    retry_after::retry_after,
};
use crate::leads::{Error, FieldFault, Reason, SideEffect, UpstreamFacts};

/// Retry delay for a 429 of the ten-second window without `Retry-After`.
const WINDOW_WAIT: Duration = Duration::from_secs(10);

/// Retry delay for a 429 of the per-second limit without `Retry-After`.
const SECOND_WAIT: Duration = Duration::from_secs(1);

/// Retry delay for a 423: a bulk operation locks the account for some seconds.
const LOCKED_WAIT: Duration = Duration::from_secs(2);

/// Retry delay for a 5xx without `Retry-After`.
const OVERLOAD_WAIT: Duration = Duration::from_secs(3);

/// Length of the URL of a request in characters that may exceed a limit of a proxy.
const LONG_URL: usize = 2_000;

/// Length of the body of a request in bytes that may exceed a limit of a proxy.
const LONG_BODY: usize = 8 * 1024;

/// Lengths of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RequestSize {
    /// Length of the URL in characters.
    pub(super) url: usize,
    /// Length of the body in bytes.
    pub(super) body: usize,
}

/// Maps the error response to a request of this size.
pub(super) fn error(
    operation: Operation,
    size: RequestSize,
    status: StatusCode,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Error {
    response_error(operation, size, status, headers, &ErrorBody::parse(bytes))
}

/// Maps a 429 to a request that is no operation.
pub(super) fn rate_limited(headers: &HeaderMap, bytes: &[u8]) -> Error {
    let (reason, text, default_wait) = classify_429(&ErrorBody::parse(bytes));
    let error = Error::new(reason, text);
    match retry_after(headers).or(default_wait) {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    }
}

/// Maps an error response whose body is truncated and may be HubSpot's error object.
pub(super) fn incomplete_error(
    operation: Operation,
    size: RequestSize,
    status: StatusCode,
    headers: &HeaderMap,
) -> Error {
    response_error(operation, size, status, headers, &ErrorBody::incomplete())
}

fn response_error(
    operation: Operation,
    size: RequestSize,
    status: StatusCode,
    headers: &HeaderMap,
    body: &ErrorBody,
) -> Error {
    let facts = body.facts(Some(status), headers);
    let wait = retry_after(headers);
    let (reason, fallback, default_wait) = classify(size, status, headers, body);
    let message = match &facts.correct_hublet {
        // HubSpot's text is about its own domains.
        Some(hublet) if reason == Reason::WrongDataCenter => {
            format!("{fallback} (the account is in {hublet})")
        }
        Some(_) | None => body.message(&format!("{fallback} (HTTP status {})", status.as_u16())),
    };
    let reason = reason_for(operation, reason);
    if reason == Reason::LeadNotFound && is_about_whole_batch(operation, body) {
        let text = format!("HubSpot rejected the whole batch and named no lead: {message}");
        return Error::new(Reason::UpstreamInvalidResponse, text).with_upstream(facts);
    }
    let error = if reason == Reason::UpstreamUnavailable {
        server_error(operation, status, &message)
    } else {
        Error::new(reason, message)
    };
    let error = match wait.or(default_wait) {
        // RetryInfo would invite the caller to repeat a write with an unknown outcome.
        Some(wait) if error.reason() != Reason::WriteOutcomeUnknown => error.with_retry_after(wait),
        Some(_) | None => error,
    };
    normalize_not_found(
        error
            .with_fields(fields(operation, body))
            .with_affected_inputs(body.affected_inputs())
            .with_upstream(facts),
    )
}

/// Reason, fallback message and default retry delay of a status.
///
/// A status is about the content of a request only if it is known to be, and if HubSpot sent it. Proxies
/// and firewalls use the same statuses.
fn classify(
    size: RequestSize,
    status: StatusCode,
    headers: &HeaderMap,
    body: &ErrorBody,
) -> (Reason, &'static str, Option<Duration>) {
    let none = None;
    // HubSpot's responses may have no body, but they have its id.
    let has_id = !body.is_foreign && correlation_id(headers).is_some();
    let is_from_hubspot = body.is_from_hubspot() || has_id;
    if let Some(text) = cause_on_the_way(size, status, body, is_from_hubspot) {
        return (Reason::UpstreamInvalidResponse, text, none);
    }
    if is_from_hubspot && let Some(reason) = other_cause(status, body) {
        let wait = (reason == Reason::RateLimited).then_some(WINDOW_WAIT);
        return (reason, "HubSpot rejected the request", wait);
    }
    if matches!(status.as_u16(), 400 | 404 | 409 | 422) && body.has_unknown_cause() {
        let text = "HubSpot rejected the call for a cause that leadsd does not know";
        return (Reason::UpstreamInvalidResponse, text, none);
    }
    match status.as_u16() {
        401 => (Reason::CredentialRejected, "HubSpot rejected the credential", none),
        403 if body.category.as_deref() == Some("MISSING_SCOPES") => {
            (Reason::MissingScopes, "the portal's credential lacks a scope", none)
        }
        403 => (Reason::UpstreamForbidden, "HubSpot denied the request", none),
        404 => (Reason::LeadNotFound, "HubSpot has no such lead", none),
        400 | 409 if body.is_duplicate() => {
            (Reason::AlreadyExists, "HubSpot already has a record with this value", none)
        }
        409 => (Reason::Conflict, "HubSpot reports a conflict", none),
        400 | 422 => (Reason::ValidationFailed, "HubSpot rejected the request", none),
        413 => (Reason::ValidationFailed, "the request is too large for HubSpot", none),
        414 => (Reason::ValidationFailed, "the URL of the request is too long for HubSpot", none),
        408 | 425 => {
            (Reason::UpstreamUnavailable, "HubSpot did not receive the request in time", none)
        }
        423 => (
            Reason::AccountLocked,
            "the HubSpot account is locked by a bulk operation",
            Some(LOCKED_WAIT),
        ),
        429 => classify_429(body),
        477 => (Reason::AccountMigrating, "HubSpot is migrating the account", none),
        488 => (
            Reason::WrongDataCenter,
            "HubSpot serves this account in another data centre; the operator must set \
             portals.<name>.base_url",
            none,
        ),
        // Observed for malformed tokens.
        530 => (Reason::CredentialRejected, "HubSpot rejected the credential", none),
        500..=599 => (Reason::UpstreamUnavailable, "HubSpot is unavailable", Some(OVERLOAD_WAIT)),
        300..=399 => (
            Reason::UpstreamInvalidResponse,
            "HubSpot returned a redirect, which is not followed",
            none,
        ),
        _ => (
            Reason::UpstreamInvalidResponse,
            "HubSpot rejected the call with an unexpected HTTP status",
            none,
        ),
    }
}

/// Reason, fallback message and default retry delay of a 429.
fn classify_429(body: &ErrorBody) -> (Reason, &'static str, Option<Duration>) {
    if body.is_daily_limit() {
        return (Reason::DailyLimitReached, "HubSpot's daily limit is exhausted", None);
    }
    match body.policy_name.as_deref() {
        Some("SECONDLY") => {
            (Reason::RateLimited, "HubSpot's per-second limit is exhausted", Some(SECOND_WAIT))
        }
        _ => (Reason::RateLimited, "HubSpot's rate limit is exhausted", Some(WINDOW_WAIT)),
    }
}

/// Cause of a status that comes from a proxy or firewall between leadsd and HubSpot, or from a wrong path.
/// `None` if HubSpot may have sent it for this request. The limits of HubSpot's gateway on long requests have
/// no error object either.
fn cause_on_the_way(
    size: RequestSize,
    status: StatusCode,
    body: &ErrorBody,
    is_from_hubspot: bool,
) -> Option<&'static str> {
    let text = match status.as_u16() {
        // A missing lead has a JSON body; another body means that the path does not exist.
        404 if body.is_foreign => "HubSpot has no such path; check hubspot.base_url",
        407 => "a proxy between leadsd and HubSpot requires authentication",
        _ if is_from_hubspot => return None,
        400 | 403 | 404 | 409 | 422 => {
            "a proxy or firewall responded instead of HubSpot; check hubspot.base_url and the network"
        }
        413 if size.body >= LONG_BODY => return None,
        414 if size.url >= LONG_URL => return None,
        413 | 414 => {
            "a proxy or firewall rejected a short request as too long; check hubspot.base_url and the \
             network"
        }
        _ => return None,
    };
    Some(text)
}

/// Reason of a category that is not about the content of a request, with another status: HubSpot's own
/// category says more.
fn other_cause(status: StatusCode, body: &ErrorBody) -> Option<Reason> {
    let status = status.as_u16();
    if !matches!(status, 400 | 403 | 404 | 409 | 422) {
        return None;
    }
    let (own_status, reason) = body.classify()?;
    (own_status != status && !matches!(own_status, 400 | 404 | 409)).then_some(reason)
}

/// True if "not found" is not about leads of a batch: a missing lead has the category of one, or is named.
fn is_about_whole_batch(operation: Operation, body: &ErrorBody) -> bool {
    operation.spec().batch.is_some() && !body.has_category_of_missing() && !body.names_inputs()
}

/// Field violations. Only creates have associations.
fn fields(operation: Operation, body: &ErrorBody) -> Vec<FieldFault> {
    let is_create = operation.spec().idempotency == Idempotency::NotIdempotent;
    let mut fields = body.fields();
    fields.extend(body.association_fault().filter(|_| is_create));
    fields
}

/// Adjusts the reason to the operation. A create that gets "not found" names an unknown record to
/// associate with. A page, or the associations of several leads, are about no lead that may be missing.
fn reason_for(operation: Operation, reason: Reason) -> Reason {
    if reason != Reason::LeadNotFound {
        return reason;
    }
    match operation {
        Operation::Create
        | Operation::BatchCreate
        | Operation::CreateAssociations
        | Operation::CreateContacts => Reason::ValidationFailed,
        Operation::List
        | Operation::Search
        | Operation::ReadAssociations
        | Operation::ListProperties
        | Operation::ListPipelines
        | Operation::ListOwners
        | Operation::ListAssociationTypes
        | Operation::ListValidationRules => Reason::UpstreamInvalidResponse,
        Operation::Get
        | Operation::Update
        | Operation::Archive
        | Operation::BatchRead
        | Operation::BatchUpdate
        | Operation::BatchArchive
        | Operation::ListAssociations
        | Operation::ArchiveAssociations
        | Operation::ArchiveAssociationTypes
        | Operation::FindContacts => reason,
    }
}

/// Maps a 5xx status, or that of a request that arrived too late. Its outcome is unknown unless the status
/// proves that HubSpot did not process the request.
fn server_error(operation: Operation, status: StatusCode, text: &str) -> Error {
    // With these, the gateway had no connection to the application, or rejected early data. 522 is
    // excluded: it may also mean a timeout after the request was sent.
    let not_processed = matches!(status.as_u16(), 425 | 521 | 523 | 525 | 526);
    if not_processed {
        return Error::new(Reason::UpstreamUnavailable, text);
    }
    outcome_unknown(operation, text)
}

/// Builds the error of a request whose response did not arrive or is unusable.
pub(super) fn outcome_unknown(operation: Operation, text: &str) -> Error {
    let side_effect = if operation.writes() { SideEffect::Possible } else { SideEffect::None };
    let reason = match operation.spec().idempotency {
        Idempotency::Idempotent => Reason::UpstreamUnavailable,
        Idempotency::NotIdempotent => Reason::WriteOutcomeUnknown,
    };
    let text = match operation.spec().idempotency {
        Idempotency::Idempotent => text.to_owned(),
        Idempotency::NotIdempotent => format!("the lead may or may not have been created: {text}"),
    };
    Error::new(reason, text).with_side_effect(side_effect)
}

/// Builds the error of a successful response with an invalid body. The outcome of a create is unknown.
pub(super) fn invalid_response(operation: Operation, text: &str) -> Error {
    let error = outcome_unknown(operation, text);
    if error.reason() == Reason::WriteOutcomeUnknown {
        return error;
    }
    Error::new(Reason::UpstreamInvalidResponse, text).with_side_effect(error.side_effect())
}

/// Builds the error of a response that exceeds the configured maximum.
pub(super) fn too_large(operation: Operation) -> Error {
    let side_effect = if operation.writes() { SideEffect::Possible } else { SideEffect::None };
    let text = "HubSpot's response exceeds the configured maximum size; request fewer leads or \
                properties per call";
    Error::new(Reason::ResponseTooLarge, text).with_side_effect(side_effect)
}

/// Maps the error of one batch input. It gets the status that an individual call would have had, and the
/// correlation id of the batch.
pub(super) fn item_error(
    operation: Operation,
    correlation_id: Option<&str>,
    value: Value,
) -> Error {
    let body = ErrorBody::from_value(value);
    let (status, reason) = body.classify().unwrap_or((400, Reason::ValidationFailed));
    let mut facts = body.facts(StatusCode::from_u16(status).ok(), &HeaderMap::new());
    facts.correlation_id = facts.correlation_id.or_else(|| correlation_id.map(str::to_owned));
    let text = body.message("HubSpot rejected this input");
    let error = if reason == Reason::UpstreamUnavailable {
        outcome_unknown(operation, &text)
    } else {
        Error::new(reason_for(operation, reason), text)
    };
    normalize_not_found(
        error
            .with_fields(fields(operation, &body))
            .with_affected_inputs(body.affected_inputs())
            .with_upstream(facts),
    )
}

/// Maps the error object in the body of a success; `None` if there is none. An error whose category does
/// not tell that HubSpot rejected the request leaves the outcome of a write unknown.
pub(super) fn carried_error(
    operation: Operation,
    status: StatusCode,
    correlation_id: Option<&str>,
    bytes: &[u8],
) -> Option<Error> {
    let body = ErrorBody::parse(bytes);
    if !body.is_error_object() {
        return None;
    }
    let mut facts = body.facts(Some(status), &HeaderMap::new());
    facts.correlation_id = facts.correlation_id.or_else(|| correlation_id.map(str::to_owned));
    let text = body.message("HubSpot reported a success with an error");
    let error = match body.classify() {
        Some((_, Reason::UpstreamUnavailable)) => outcome_unknown(operation, &text),
        Some((_, Reason::RateLimited)) => {
            Error::new(Reason::RateLimited, text).with_retry_after(WINDOW_WAIT)
        }
        Some((_, reason)) => Error::new(reason_for(operation, reason), text),
        None => invalid_response(operation, &text),
    };
    Some(normalize_not_found(
        error
            .with_fields(fields(operation, &body))
            .with_affected_inputs(body.affected_inputs())
            .with_upstream(facts),
    ))
}

/// Normalizes the error of a missing lead: HubSpot's message differs between individual and batch
/// operations.
fn normalize_not_found(error: Error) -> Error {
    if error.reason() != Reason::LeadNotFound {
        return error;
    }
    let UpstreamFacts { http_status, correlation_id, attempts, .. } = error.upstream().clone();
    Error::lead_not_found()
        .with_upstream(UpstreamFacts {
            http_status,
            correlation_id,
            attempts,
            ..Error::lead_not_found().upstream().clone()
        })
        .with_affected_inputs(error.affected_inputs().clone())
}

#[cfg(test)]
mod tests;

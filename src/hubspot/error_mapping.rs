//! Maps error responses of HubSpot to [`crate::leads::Error`], by status and then by body.
//!
//! HubSpot may change message texts, so they are inspected only where no other field has the information.
//! A body that is HTML, empty or malformed maps by its status.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{
    error_body::ErrorBody,
    operations::{Idempotency, Operation},
};
use crate::leads::{Error, Reason, SideEffect, UpstreamFacts};

/// Retry delay for a 429 of the ten-second window without `Retry-After`.
const WINDOW_WAIT: Duration = Duration::from_secs(10);

/// Retry delay for a 429 of the per-second limit without `Retry-After`.
const SECOND_WAIT: Duration = Duration::from_secs(1);

/// Retry delay for a 423: a bulk operation locks the account for some seconds.
const LOCKED_WAIT: Duration = Duration::from_secs(2);

/// Retry delay for a 5xx without `Retry-After`.
const OVERLOAD_WAIT: Duration = Duration::from_secs(3);

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 =
        headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Maps an error response.
pub(super) fn error(
    operation: Operation,
    status: StatusCode,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Error {
    let body = ErrorBody::parse(bytes);
    let facts = body.facts(Some(status), headers);
    let wait = retry_after(headers);
    let (reason, fallback, default_wait) = classify(status, &body);
    let message = body.message(&format!("{fallback} (HTTP status {})", status.as_u16()));
    let reason = reason_for(operation, reason);
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
            .with_fields(body.fields())
            .with_affected_inputs(body.affected_inputs())
            .with_upstream(facts),
    )
}

/// Reason, fallback message and default retry delay of a status.
fn classify(status: StatusCode, body: &ErrorBody) -> (Reason, &'static str, Option<Duration>) {
    let none = None;
    match status.as_u16() {
        401 => (Reason::CredentialRejected, "HubSpot rejected the credential", none),
        403 if body.category.as_deref() == Some("MISSING_SCOPES") => {
            (Reason::MissingScopes, "the portal's credential lacks a scope", none)
        }
        403 => (Reason::UpstreamForbidden, "HubSpot denied the request", none),
        // A missing lead has a JSON body; another body means that the path does not exist.
        404 if body.is_foreign => (
            Reason::UpstreamInvalidResponse,
            "HubSpot has no such path; check hubspot.base_url",
            none,
        ),
        404 => (Reason::LeadNotFound, "HubSpot has no such lead", none),
        400 | 409 if body.is_duplicate() => {
            (Reason::AlreadyExists, "HubSpot already has a record with this value", none)
        }
        409 => (Reason::Conflict, "HubSpot reports a conflict", none),
        414 => (Reason::ValidationFailed, "the request names too many properties", none),
        423 => (
            Reason::AccountLocked,
            "the HubSpot account is locked by a bulk operation",
            Some(LOCKED_WAIT),
        ),
        429 => match body.policy_name.as_deref() {
            Some("DAILY") => {
                (Reason::DailyLimitReached, "HubSpot's daily limit is exhausted", none)
            }
            Some("SECONDLY") => {
                (Reason::RateLimited, "HubSpot's per-second limit is exhausted", Some(SECOND_WAIT))
            }
            _ => (Reason::RateLimited, "HubSpot's rate limit is exhausted", Some(WINDOW_WAIT)),
        },
        477 => (Reason::AccountMigrating, "HubSpot is migrating the account", none),
        // Observed for malformed tokens.
        530 => (Reason::CredentialRejected, "HubSpot rejected the credential", none),
        500..=599 => (Reason::UpstreamUnavailable, "HubSpot is unavailable", Some(OVERLOAD_WAIT)),
        300..=399 => (
            Reason::UpstreamInvalidResponse,
            "HubSpot returned a redirect, which is not followed",
            none,
        ),
        400..=499 => (Reason::ValidationFailed, "HubSpot rejected the request", none),
        _ => (Reason::UpstreamInvalidResponse, "HubSpot returned an unknown HTTP status", none),
    }
}

/// Adjusts the reason to the operation: a create that gets "not found" names an unknown record to
/// associate with.
fn reason_for(operation: Operation, reason: Reason) -> Reason {
    match operation.spec().idempotency {
        Idempotency::NotIdempotent if reason == Reason::LeadNotFound => Reason::ValidationFailed,
        Idempotency::Idempotent | Idempotency::NotIdempotent => reason,
    }
}

/// Maps a 5xx status. Its outcome is unknown unless the status proves that HubSpot did not process the
/// request.
fn server_error(operation: Operation, status: StatusCode, text: &str) -> Error {
    // With these, the gateway had no connection to the application. 522 is excluded: it may also mean a
    // timeout after the request was sent.
    let not_processed = matches!(status.as_u16(), 521 | 523 | 525 | 526);
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
            .with_fields(body.fields())
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
            .with_fields(body.fields())
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

//! Maps an HTTP response that is not a success to [`crate::leads::Error`]: by status first, then by
//! the body.
//!
//! HubSpot says that message texts may change; they are inspected only where nothing else tells. A
//! body that is HTML, empty or malformed still maps, by its status.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{
    error_body::ErrorBody,
    operations::{Idempotency, Operation},
};
use crate::leads::{Error, Reason, SideEffect, UpstreamFacts};

/// Wait after a 429 of the ten-second window that does not say how long.
const WINDOW_WAIT: Duration = Duration::from_secs(10);

/// Wait after a 429 of the per-second limit that does not say how long.
const SECOND_WAIT: Duration = Duration::from_secs(1);

/// Wait after a 423: a bulk operation locks the account for some seconds.
const LOCKED_WAIT: Duration = Duration::from_secs(2);

/// Wait after an overload that does not say how long.
const OVERLOAD_WAIT: Duration = Duration::from_secs(3);

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 =
        headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The error of a whole call.
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
    let reason = as_of(operation, reason);
    let error = if reason == Reason::UpstreamUnavailable {
        lost(operation, status, &body.text(fallback))
    } else {
        Error::new(reason, body.text(fallback))
    };
    let error = match wait.or(default_wait) {
        // Nothing may invite to repeat what may have been done.
        Some(wait) if error.reason() != Reason::WriteOutcomeUnknown => error.with_retry_after(wait),
        Some(_) | None => error,
    };
    uniform(
        error
            .with_fields(body.fields())
            .with_affected_inputs(body.affected_inputs())
            .with_upstream(facts),
    )
}

/// The reason of a status; a text for bodies without one; the usual wait.
fn classify(status: StatusCode, body: &ErrorBody) -> (Reason, &'static str, Option<Duration>) {
    let none = None;
    match status.as_u16() {
        401 => (Reason::CredentialRejected, "HubSpot does not accept the credential", none),
        403 if body.category.as_deref() == Some("MISSING_SCOPES") => {
            (Reason::MissingScopes, "the portal's credential lacks a scope", none)
        }
        403 => (Reason::UpstreamForbidden, "HubSpot forbids this call", none),
        // HubSpot says this in JSON; a page of HTML says that there is no such path.
        404 if body.is_foreign => {
            (Reason::UpstreamInvalidResponse, "HubSpot does not know the path of this call", none)
        }
        404 => (Reason::LeadNotFound, "HubSpot has no such lead", none),
        400 | 409 if body.clashes() => {
            (Reason::AlreadyExists, "HubSpot has a record with this value already", none)
        }
        409 => (Reason::Conflict, "HubSpot reports a conflict", none),
        414 => (Reason::ValidationFailed, "the request names too many properties", none),
        423 => {
            (Reason::AccountLocked, "a bulk operation locks the HubSpot account", Some(LOCKED_WAIT))
        }
        429 => match body.policy_name.as_deref() {
            Some("DAILY") => (Reason::DailyLimitReached, "HubSpot's daily limit is used up", none),
            Some("SECONDLY") => {
                (Reason::RateLimited, "HubSpot's limit per second is used up", Some(SECOND_WAIT))
            }
            _ => (Reason::RateLimited, "HubSpot's rate limit is used up", Some(WINDOW_WAIT)),
        },
        477 => (Reason::AccountMigrating, "the account moves between data centres", none),
        // Seen for a token that is no token at all.
        530 => (Reason::CredentialRejected, "HubSpot does not accept the credential", none),
        500..=599 => {
            (Reason::UpstreamUnavailable, "HubSpot does not answer properly", Some(OVERLOAD_WAIT))
        }
        300..=399 => (Reason::UpstreamInvalidResponse, "HubSpot redirects, which is refused", none),
        400..=499 => (Reason::ValidationFailed, "HubSpot refuses the request", none),
        _ => (Reason::UpstreamInvalidResponse, "HubSpot answers with a status nobody knows", none),
    }
}

/// A create looks for no lead: what HubSpot does not find for it is a record to associate with.
fn as_of(operation: Operation, reason: Reason) -> Reason {
    match operation.spec().idempotency {
        Idempotency::NotIdempotent if reason == Reason::LeadNotFound => Reason::ValidationFailed,
        Idempotency::Idempotent | Idempotency::NotIdempotent => reason,
    }
}

/// A call that HubSpot's side lost: whether it was acted on depends on where it got lost.
fn lost(operation: Operation, status: StatusCode, text: &str) -> Error {
    // The gateway found no way to the application, which never saw the call. 522 is not among
    // them: it also stands for a connection that fell silent after the call was sent.
    let never_arrived = matches!(status.as_u16(), 521 | 523 | 525 | 526);
    if never_arrived {
        return Error::new(Reason::UpstreamUnavailable, text);
    }
    outcome_unknown(operation, text)
}

/// The error of a request whose response never arrived or is unusable.
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

/// The error of a success that does not say what happened. For a create, the created lead is not
/// known.
pub(super) fn invalid_response(operation: Operation, text: &str) -> Error {
    let error = outcome_unknown(operation, text);
    if error.reason() == Reason::WriteOutcomeUnknown {
        return error;
    }
    Error::new(Reason::UpstreamInvalidResponse, text).with_side_effect(error.side_effect())
}

/// The error of a response that exceeds the configured bound.
pub(super) fn too_large(operation: Operation) -> Error {
    let side_effect = if operation.writes() { SideEffect::Possible } else { SideEffect::None };
    let text = "HubSpot's answer is larger than this service reads; ask for fewer leads or \
                properties at a time";
    Error::new(Reason::ResponseTooLarge, text).with_side_effect(side_effect)
}

/// The error of one input of a batch, whose call has this correlation id. It has no status of its own:
/// told is the one that a call for this input alone would have had.
pub(super) fn item_error(
    operation: Operation,
    correlation_id: Option<&str>,
    value: Value,
) -> Error {
    let body = ErrorBody::of(value);
    let (status, reason) = match body.category.as_deref() {
        Some("OBJECT_NOT_FOUND") => (404, Reason::LeadNotFound),
        Some("MISSING_SCOPES") => (403, Reason::MissingScopes),
        Some("RATE_LIMITS") => (429, Reason::RateLimited),
        Some("CONFLICT") if body.clashes() => (409, Reason::AlreadyExists),
        _ if body.clashes() => (400, Reason::AlreadyExists),
        Some("CONFLICT") => (409, Reason::Conflict),
        _ => (400, Reason::ValidationFailed),
    };
    let mut facts = body.facts(StatusCode::from_u16(status).ok(), &HeaderMap::new());
    facts.correlation_id = facts.correlation_id.or_else(|| correlation_id.map(str::to_owned));
    let error = Error::new(as_of(operation, reason), body.text("HubSpot refuses this input"))
        .with_fields(body.fields())
        .with_affected_inputs(body.affected_inputs())
        .with_upstream(facts);
    uniform(error)
}

/// A lead that is not there is told in one way, whichever HubSpot has told it in: it has several, and
/// for one lead others than for many.
fn uniform(error: Error) -> Error {
    if error.reason() != Reason::LeadNotFound {
        return error;
    }
    let UpstreamFacts { correlation_id, attempts, .. } = error.upstream().clone();
    Error::lead_not_found()
        .with_upstream(UpstreamFacts {
            correlation_id,
            attempts,
            ..Error::lead_not_found().upstream().clone()
        })
        .with_affected_inputs(error.affected_inputs().clone())
}

#[cfg(test)]
mod tests;

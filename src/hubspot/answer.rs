//! From an HTTP answer that is no success to [`crate::leads::Error`]: by status first, then by what the
//! body says, if it says anything.
//!
//! Message texts may change, says HubSpot; only where nothing else tells are they looked into. A
//! body that is HTML, empty or garbage still maps, by its status.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{
    endpoints::{Operation, Repeatable},
    wire::{as_text, as_texts},
};
use crate::leads::{AffectedInputs, Error, FieldFault, Reason, SideEffect, UpstreamFacts};

/// Longest text of HubSpot that is passed on, in characters.
const MAX_MESSAGE: usize = 500;

/// Wait after a 429 of the ten-second window that does not say how long.
const WINDOW_WAIT: Duration = Duration::from_secs(10);

/// Wait after a 429 of the per-second limit that does not say how long.
const SECOND_WAIT: Duration = Duration::from_secs(1);

/// Wait after a 423: a bulk operation locks the account for some seconds.
const LOCKED_WAIT: Duration = Duration::from_secs(2);

/// Wait after an overload that does not say how long.
const OVERLOAD_WAIT: Duration = Duration::from_secs(3);

/// HubSpot's error object, as far as it is one. Also the items of a batch's `errors`.
#[derive(Debug, Default)]
pub(super) struct Body {
    category: Option<String>,
    sub_category: Option<String>,
    message: Option<String>,
    correlation_id: Option<String>,
    policy_name: Option<String>,
    error_type: Option<String>,
    context: Vec<(String, Vec<String>)>,
    errors: Vec<Detail>,
    /// It is not empty, and no JSON object.
    is_foreign: bool,
}

#[derive(Debug, Default)]
struct Detail {
    message: Option<String>,
    code: Option<String>,
    context: Vec<(String, Vec<String>)>,
}

/// A 401, told apart before anything else: the pipeline acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unauthorized {
    /// The token has expired.
    Expired,
    /// Anything else.
    Refused,
}

// === impl Body ===

impl Body {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let foreign = || Self { is_foreign: !bytes.is_empty(), ..Self::default() };
        serde_json::from_slice(bytes).map_or_else(|_| foreign(), Self::of)
    }

    pub(super) fn of(value: Value) -> Self {
        let Value::Object(mut object) = value else {
            return Self { is_foreign: true, ..Self::default() };
        };
        let mut text = |key: &str| object.remove(key).and_then(as_text);
        let mut body = Self {
            category: text("category"),
            message: text("message"),
            correlation_id: text("correlationId"),
            policy_name: text("policyName"),
            error_type: text("errorType"),
            ..Self::default()
        };
        // Typed as an object in the specification, a text on the wire.
        body.sub_category = object.remove("subCategory").and_then(as_text);
        body.context = context(object.remove("context"));
        if let Some(Value::Array(errors)) = object.remove("errors") {
            body.errors = errors.into_iter().map(Detail::of).collect();
        }
        body
    }

    pub(super) fn unauthorized(&self) -> Unauthorized {
        match self.category.as_deref() {
            Some("EXPIRED_AUTHENTICATION") => Unauthorized::Expired,
            _ => Unauthorized::Refused,
        }
    }

    /// Values of one key, on the top or in any detail.
    fn values(&self, key: &str) -> Vec<String> {
        let details = self.errors.iter().flat_map(|detail| &detail.context);
        let all = self.context.iter().chain(details);
        all.filter(|(name, _)| name == key).flat_map(|(_, values)| values.clone()).collect()
    }

    fn text(&self, fallback: &str) -> String {
        let text = self.message.as_deref().unwrap_or(fallback);
        // Validation messages carry a JSON list after this; the list becomes field faults.
        let text = text.split_once(": [{").map_or(text, |(head, _)| head);
        text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
    }

    /// Faults of single properties, from the details and from the list inside the message.
    fn fields(&self) -> Vec<FieldFault> {
        let mut fields: Vec<FieldFault> = Vec::new();
        let mut add = |name: &str, description: &str| {
            let field = format!("properties[{name:?}]");
            if !fields.iter().any(|known| known.field == field) {
                let clean = description.chars().filter(|c| !c.is_control());
                fields.push(FieldFault::new(field, clean.take(MAX_MESSAGE).collect::<String>()));
            }
        };
        for detail in &self.errors {
            let fallback = detail.code.as_deref().unwrap_or("is refused by HubSpot");
            let description = detail.message.as_deref().unwrap_or(fallback);
            for name in detail.names() {
                add(&name, description);
            }
        }
        for (name, description, _) in self.listed() {
            add(&name, &description);
        }
        for name in self.context.iter().filter(|(key, _)| key == "properties") {
            name.1.iter().for_each(|name| add(name, "is required"));
        }
        fields
    }

    /// The list that `Property values were not valid: [...]` carries: name, message, code.
    fn listed(&self) -> Vec<(String, String, String)> {
        let start = self.message.as_deref().and_then(|text| Some(&text[text.find("[{")?..]));
        let list: Vec<Value> =
            start.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let part = |item: &Value, key: &str| item.get(key).cloned().and_then(as_text);
        list.iter()
            .filter_map(|item| {
                let name = part(item, "name")?;
                let message = part(item, "message").unwrap_or_default();
                Some((name, message, part(item, "error").unwrap_or_default()))
            })
            .collect()
    }

    fn affected_inputs(&self) -> AffectedInputs {
        let mut ids = self.values("ids");
        ids.extend(self.values("id"));
        let mut unknown_properties: Vec<String> = self
            .errors
            .iter()
            .filter(|detail| detail.code.as_deref() == Some("PROPERTY_DOESNT_EXIST"))
            .flat_map(Detail::names)
            .collect();
        let listed = self.listed().into_iter();
        unknown_properties.extend(
            listed.filter(|(_, _, code)| code == "PROPERTY_DOESNT_EXIST").map(|(name, ..)| name),
        );
        AffectedInputs { trace_ids: self.values("objectWriteTraceId"), ids, unknown_properties }
    }

    /// Id of the record in the way: from the context, else from the text.
    fn existing_id(&self) -> Option<String> {
        let named = self.values("existingId").into_iter().next();
        named.or_else(|| {
            let (_, tail) = self.message.as_deref()?.split_once("Existing ID: ")?;
            let id: String = tail.chars().take_while(char::is_ascii_digit).collect();
            (!id.is_empty()).then_some(id)
        })
    }

    fn facts(&self, status: Option<StatusCode>, headers: &HeaderMap) -> UpstreamFacts {
        UpstreamFacts {
            http_status: status.map(|status| status.as_u16()),
            correlation_id: correlation_id(headers)
                .map(str::to_owned)
                .or_else(|| self.correlation_id.clone()),
            category: self.category.clone().or_else(|| self.error_type.clone()),
            sub_category: self.sub_category.clone(),
            policy_name: self.policy_name.clone(),
            required_scopes: self.values("requiredGranularScopes"),
            existing_id: self.existing_id(),
            attempts: 0,
        }
    }

    fn clashes(&self) -> bool {
        let text = self.message.as_deref().unwrap_or_default();
        text.contains("already has that value")
            || text.contains("already exists")
            || self.existing_id().is_some()
    }
}

// === impl Detail ===

impl Detail {
    fn of(value: Value) -> Self {
        let Value::Object(mut object) = value else { return Self::default() };
        let mut text = |key: &str| object.remove(key).and_then(as_text);
        let (message, code) = (text("message"), text("code"));
        let mut context = context(object.remove("context"));
        if let Some(name) = object.remove("in").and_then(as_text) {
            context.push(("in".to_owned(), vec![name]));
        }
        Self { message, code, context }
    }

    /// The properties it is about.
    fn names(&self) -> Vec<String> {
        let keys = ["propertyName", "in"];
        let named = self.context.iter().filter(|(key, _)| keys.contains(&key.as_str()));
        named.flat_map(|(_, values)| values.clone()).collect()
    }
}

fn context(value: Option<Value>) -> Vec<(String, Vec<String>)> {
    match value {
        Some(Value::Object(object)) => {
            object.into_iter().map(|(key, values)| (key, as_texts(values))).collect()
        }
        _ => Vec::new(),
    }
}

/// HubSpot's id of a call, which its support asks for.
pub(super) fn correlation_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-hubspot-correlation-id")?.to_str().ok()
}

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
    let body = Body::parse(bytes);
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
fn classify(status: StatusCode, body: &Body) -> (Reason, &'static str, Option<Duration>) {
    let none = None;
    match status.as_u16() {
        401 => (Reason::CredentialRejected, "HubSpot does not accept the credential", none),
        403 if body.category.as_deref() == Some("MISSING_SCOPES") => {
            (Reason::MissingScopes, "the portal's credential lacks a scope", none)
        }
        403 => (Reason::Forbidden, "HubSpot forbids this call", none),
        // HubSpot says this in JSON; a page of HTML says that there is no such path.
        404 if body.is_foreign => {
            (Reason::UpstreamUnintelligible, "HubSpot does not know the path of this call", none)
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
        300..=399 => (Reason::UpstreamUnintelligible, "HubSpot redirects, which is refused", none),
        400..=499 => (Reason::ValidationFailed, "HubSpot refuses the request", none),
        _ => (Reason::UpstreamUnintelligible, "HubSpot answers with a status nobody knows", none),
    }
}

/// A create looks for no lead: what HubSpot does not find for it is a record to associate with.
fn as_of(operation: Operation, reason: Reason) -> Reason {
    match operation {
        Operation::Create | Operation::BatchCreate if reason == Reason::LeadNotFound => {
            Reason::ValidationFailed
        }
        _ => reason,
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
    interrupted(operation, text)
}

/// A call whose answer never came, or came broken.
pub(super) fn interrupted(operation: Operation, text: &str) -> Error {
    let side_effect = if operation.writes() { SideEffect::Possible } else { SideEffect::None };
    let reason = match operation.repeatable() {
        Repeatable::Yes => Reason::UpstreamUnavailable,
        Repeatable::No => Reason::WriteOutcomeUnknown,
    };
    let text = match operation.repeatable() {
        Repeatable::Yes => text.to_owned(),
        Repeatable::No => format!("the lead may or may not have been created: {text}"),
    };
    Error::new(reason, text).with_side_effect(side_effect)
}

/// The error of one input of a batch, whose call has this correlation id. It has no status of its own:
/// told is the one that a call for this input alone would have had.
pub(super) fn item_error(
    operation: Operation,
    correlation_id: Option<&str>,
    value: Value,
) -> Error {
    let body = Body::of(value);
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

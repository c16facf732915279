//! Parses HubSpot's error object, and the items of `errors` in a batch response.
//!
//! - `daily_limit` recognises the limit of a day.
//! - `context` reads the context of an error: its keys differ between endpoints.
//! - `records` finds the records that an error names.
//! - `words` finds trace ids anywhere in an error.

mod context;
mod daily_limit;
mod records;
mod words;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use self::context::{
    CORRECT_HUBLET, Context, MISSING_PROPERTIES, REQUIRED_SCOPES, beside_context, context, names,
    property_names, with_options,
};
use self::words::uuids_in_error;
use super::wire::{as_text, parse_value};
use crate::leads::{FieldFault, Reason, UpstreamFacts};
use leadsd_base::secret::Secret;

/// Maximum length in characters of a HubSpot message that is passed on.
pub(super) const MAX_MESSAGE: usize = 500;

/// Maximum length in bytes of a correlation id, which is passed on in logs and errors. HubSpot's are
/// UUIDs.
const MAX_CORRELATION_ID: usize = 128;

/// Parts of messages about a unique value that another record has.
const DUPLICATE_TEXTS: [&str; 2] = ["already has that value", "already exists"];

/// Categories of records that do not exist, or no longer.
const MISSING_RECORDS: [&str; 6] = [
    "OBJECT_NOT_FOUND",
    "NOT_FOUND",
    "RESOURCE_NOT_FOUND",
    "RECORD_NOT_FOUND",
    "OBJECT_DELETED",
    "RECORD_DELETED",
];

/// Maximum number of details of an error that are read: ten for each input of a batch.
const MAX_DETAILS: usize = 1_000;

/// Maximum number of ids in a message.
const MAX_SHOWN_IDS: usize = 3;

/// Header with the data centre that serves the account.
const HUBLET_HEADER: &str = "x-hubspot-correct-hublet";

/// Maximum length of the name of a data centre. HubSpot's have three characters.
const MAX_HUBLET: usize = 16;

/// Category of the error for an expired token.
const EXPIRED: &str = "EXPIRED_AUTHENTICATION";

/// Parts of the names of categories for failures of HubSpot.
const INTERNAL_ERRORS: [&str; 3] = ["INTERNAL", "UNAVAILABLE", "TIMEOUT"];

/// Parts of the names of categories for records that do not exist.
const MISSING_CATEGORIES: [&str; 2] = ["NOT_FOUND", "DELETED"];

/// Categories of errors about the content of a request, and codes of details that HubSpot may send as one.
const CONTENT_CATEGORIES: [&str; 8] = [
    "BAD_REQUEST",
    "DUPLICATE",
    "INVALID_INPUT",
    "INVALID_JSON",
    "INVALID_PARAMETER",
    "MISSING_REQUIRED",
    "READ_ONLY",
    "VALIDATION",
];

/// Error object of HubSpot, parsed leniently.
#[derive(Debug, Default)]
pub(super) struct ErrorBody {
    /// Field `status`: `error` in the error objects of HubSpot's CRM.
    status: Option<String>,
    pub(super) category: Option<String>,
    sub_category: Option<String>,
    message: Option<String>,
    correlation_id: Option<String>,
    pub(super) policy_name: Option<String>,
    error_type: Option<String>,
    context: Context,
    errors: Vec<ErrorDetail>,
    correct_hublet: Option<String>,
    /// UUIDs anywhere in the error, which may be trace ids.
    uuids: Vec<String>,
    /// True if the body is neither empty nor a JSON object, so that it is not from HubSpot's API.
    pub(super) is_foreign: bool,
    /// True if the body is truncated.
    is_incomplete: bool,
}

/// Item of `errors` in an error object.
#[derive(Debug, Default)]
struct ErrorDetail {
    message: Option<String>,
    code: Option<String>,
    context: Context,
}

/// Cause of a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unauthorized {
    /// The token has expired.
    Expired,
    /// Any other cause.
    Rejected,
}

// === impl ErrorBody ===

impl ErrorBody {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let foreign = || Self { is_foreign: !bytes.is_empty(), ..Self::default() };
        parse_value(bytes).map_or_else(foreign, Self::from_value)
    }

    /// Truncated body that may be HubSpot's error object.
    pub(super) fn incomplete() -> Self {
        Self { is_incomplete: true, ..Self::default() }
    }

    pub(super) fn from_value(value: Value) -> Self {
        let Value::Object(mut object) = value else {
            return Self { is_foreign: true, ..Self::default() };
        };
        let uuids = uuids_in_error(&object);
        let mut text = |key: &str| object.remove(key).and_then(as_text);
        let mut body = Self {
            uuids,
            status: text("status"),
            category: text("category"),
            message: text("message"),
            correlation_id: text("correlationId"),
            policy_name: text("policyName"),
            error_type: text("errorType"),
            correct_hublet: text("correctHublet"),
            ..Self::default()
        };
        // An object in HubSpot's specification, but a string in its responses.
        body.sub_category = object.remove("subCategory").and_then(as_text);
        body.context = context(object.remove("context"));
        if let Some(Value::Array(errors)) = object.remove("errors") {
            let details = errors.into_iter().take(MAX_DETAILS);
            body.errors = details.map(ErrorDetail::from_value).collect();
        }
        body.context.extend(beside_context(object));
        body
    }

    /// Reports whether the body has a field that HubSpot's errors have, and those of proxies do not, or
    /// may have one. A `message` alone is common among API gateways.
    pub(super) fn is_from_hubspot(&self) -> bool {
        let fields = [&self.category, &self.correlation_id, &self.error_type, &self.policy_name];
        let is_marked = fields.into_iter().any(Option::is_some);
        is_marked || self.is_error_object() || self.is_incomplete
    }

    /// Name of the data centre that serves the account: from the body, else from the header. `None` if it
    /// does not have the form of one.
    pub(super) fn correct_hublet(&self, headers: &HeaderMap) -> Option<String> {
        let in_context = || self.values(&CORRECT_HUBLET).into_iter().next();
        let in_header = || headers.get(HUBLET_HEADER)?.to_str().ok().map(str::to_owned);
        let name = self.correct_hublet.clone().or_else(in_context).or_else(in_header)?;
        let name = name.trim();
        let is_name = |name: &str| name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        let fits = (1..=MAX_HUBLET).contains(&name.len()) && is_name(name);
        fits.then(|| name.to_owned())
    }

    /// Reports whether the body has the form of an error object, whatever its HTTP status.
    pub(super) fn is_error_object(&self) -> bool {
        let is_error = self.status.as_deref().is_some_and(|it| it.eq_ignore_ascii_case("error"));
        is_error || self.category.is_some()
    }

    /// HTTP status and reason of the category; `None` if it is absent or unknown.
    pub(super) fn classify(&self) -> Option<(u16, Reason)> {
        let category = self.category.as_deref().unwrap_or_default();
        let known = match category {
            _ if MISSING_RECORDS.contains(&category) => (404, Reason::LeadNotFound),
            "MISSING_SCOPES" => (403, Reason::MissingScopes),
            "FORBIDDEN" => (403, Reason::UpstreamForbidden),
            "INVALID_AUTHENTICATION" | EXPIRED => (401, Reason::CredentialRejected),
            "RATE_LIMITS" if self.is_daily_limit() => (429, Reason::DailyLimitReached),
            "RATE_LIMITS" => (429, Reason::RateLimited),
            "CONFLICT" if self.is_duplicate() => (409, Reason::AlreadyExists),
            "OBJECT_ALREADY_EXISTS" => (409, Reason::AlreadyExists),
            _ if self.is_duplicate() => (400, Reason::AlreadyExists),
            "CONFLICT" => (409, Reason::Conflict),
            "VALIDATION_ERROR" => (400, Reason::ValidationFailed),
            _ if INTERNAL_ERRORS.iter().any(|part| category.contains(part)) => {
                (500, Reason::UpstreamUnavailable)
            }
            _ => return None,
        };
        Some(known)
    }

    /// True if HubSpot rejected a request with a category that is not known to be about the content, and the
    /// error has nothing of the content.
    pub(super) fn has_unknown_cause(&self) -> bool {
        let Some(category) = self.category.as_deref() else { return false };
        let is_known = CONTENT_CATEGORIES.iter().any(|part| category.contains(part));
        !is_known
            && !self.has_category_of_missing()
            && self.classify().is_none()
            && !self.names_content()
    }

    /// True if the category is that of a record that does not exist.
    pub(super) fn has_category_of_missing(&self) -> bool {
        let category = self.category.as_deref().unwrap_or_default();
        MISSING_CATEGORIES.iter().any(|part| category.contains(part))
    }

    pub(super) fn unauthorized(&self) -> Unauthorized {
        match self.category.as_deref() {
            Some(EXPIRED) => Unauthorized::Expired,
            _ => Unauthorized::Rejected,
        }
    }

    /// Entries of the context, at the top level and in all details.
    fn entries(&self) -> impl Iterator<Item = &(String, Vec<String>)> {
        self.context.iter().chain(self.errors.iter().flat_map(|detail| &detail.context))
    }

    /// Values of context keys, at the top level and in all details.
    fn values(&self, keys: &[&str]) -> Vec<String> {
        let named = self.entries().filter(|(key, _)| keys.contains(&key.as_str()));
        named.flat_map(|(_, values)| values.clone()).collect()
    }

    /// Message for the caller. It contains the first field violation and the ids of the records involved,
    /// since many clients show only the message.
    pub(super) fn message(&self, fallback: &str) -> String {
        let mut message = self.text(fallback);
        if let Some(FieldFault { field, description }) = self.fields().first()
            && !message.contains(description.as_str())
        {
            let summary = message.trim_end_matches('.');
            message = format!("{summary}: {field}: {description}");
        }
        if let Some(id) = self.existing_id()
            && !names(&message, &id)
        {
            message = format!("{message} (existing record {id})");
        }
        let ids = self.record_ids();
        let missing: Vec<&str> =
            ids.iter().map(String::as_str).filter(|id| !names(&message, id)).collect();
        if let Some(shown) =
            missing.get(..missing.len().min(MAX_SHOWN_IDS)).filter(|it| !it.is_empty())
        {
            let more = missing.len() - shown.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            message = format!("{message} (record {}{more})", shown.join(", "));
        }
        message
    }

    /// Text of HubSpot without the list of violations.
    fn text(&self, fallback: &str) -> String {
        let text = self.message.as_deref().unwrap_or(fallback);
        // Validation messages end with a JSON list, which becomes field violations. Other lists, such as
        // that of the options, are part of the text.
        let has_list = !self.message_list().is_empty();
        let text = text.split_once(": [{").filter(|_| has_list).map_or(text, |(head, _)| head);
        text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
    }

    /// Field violations, from the details, the context, and the list inside the message.
    pub(super) fn fields(&self) -> Vec<FieldFault> {
        let mut fields: Vec<FieldFault> = Vec::new();
        let mut add = |name: &str, description: &str| {
            let clean = description.chars().filter(|c| !c.is_control());
            let fault = FieldFault::for_property(name, clean.take(MAX_MESSAGE).collect::<String>());
            if !fields.iter().any(|known| known.field == fault.field) {
                fields.push(fault);
            }
        };
        for detail in &self.errors {
            let fallback = detail.code.as_deref().unwrap_or("is rejected by HubSpot");
            let description = detail.message.as_deref().unwrap_or(fallback);
            let description = with_options(description, &detail.context);
            for name in property_names(&detail.context) {
                add(name, &description);
            }
        }
        for (name, description, _) in self.message_list() {
            add(&name, &description);
        }
        let description = with_options(&self.text("is rejected by HubSpot"), &self.context);
        for name in property_names(&self.context) {
            add(name, &description);
        }
        for (_, names) in
            self.context.iter().filter(|(key, _)| MISSING_PROPERTIES.contains(&key.as_str()))
        {
            names.iter().for_each(|name| add(name, "is required"));
        }
        fields
    }

    /// List in the message `Property values were not valid: [...]`: name, message, code.
    fn message_list(&self) -> Vec<(String, String, String)> {
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

    pub(super) fn facts(&self, status: Option<StatusCode>, headers: &HeaderMap) -> UpstreamFacts {
        UpstreamFacts {
            http_status: status.map(|status| status.as_u16()),
            correlation_id: correlation_id(headers)
                .map(str::to_owned)
                .or_else(|| self.correlation_id.clone()),
            category: self.category.clone().or_else(|| self.error_type.clone()),
            sub_category: self.sub_category.clone(),
            policy_name: self.policy_name.clone(),
            required_scopes: self.values(&REQUIRED_SCOPES),
            existing_id: self.existing_id(),
            correct_hublet: self.correct_hublet(headers),
            record_ids: self.record_ids(),
            attempts: 0,
        }
    }

    /// Reports whether the error is a duplicate of a unique value.
    pub(super) fn is_duplicate(&self) -> bool {
        let texts = self.errors.iter().map(|detail| &detail.message).chain([&self.message]);
        let mut texts = texts.flatten().map(|text| text.to_ascii_lowercase());
        self.existing_id().is_some()
            || texts.any(|text| DUPLICATE_TEXTS.iter().any(|part| text.contains(part)))
    }
}

// === impl ErrorDetail ===

impl ErrorDetail {
    fn from_value(value: Value) -> Self {
        let Value::Object(mut object) = value else { return Self::default() };
        let mut text = |key: &str| object.remove(key).and_then(as_text);
        let (message, code) = (text("message"), text("code"));
        let mut context = context(object.remove("context"));
        if let Some(name) = object.remove("in").and_then(as_text) {
            context.push(("in".to_owned(), vec![name]));
        }
        context.extend(beside_context(object));
        Self { message, code, context }
    }
}

/// Correlation id of a response, which HubSpot's support asks for; `None` if it is longer than ids are.
pub(super) fn correlation_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get("x-hubspot-correlation-id")?.to_str().ok()?;
    (id.len() <= MAX_CORRELATION_ID).then_some(id)
}

/// Replaces the credential of the request in the body of an error.
pub(super) fn redacted(body: Vec<u8>, credential: &Secret) -> Vec<u8> {
    let credential = credential.expose();
    match str::from_utf8(&body) {
        Ok(text) if !credential.is_empty() && text.contains(credential) => {
            text.replace(credential, "[redacted]").into_bytes()
        }
        Ok(_) | Err(_) => body,
    }
}

#[cfg(test)]
mod tests;

//! Parses HubSpot's error object, and the items of `errors` in a batch response.

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::wire::{as_text, as_texts};
use crate::leads::{AffectedInputs, FieldFault, Reason, UpstreamFacts};
use leadsd_base::secret::Secret;

/// Maximum length in characters of a HubSpot message that is passed on.
pub(super) const MAX_MESSAGE: usize = 500;

/// Maximum length in bytes of a correlation id, which is passed on in logs and errors. HubSpot's are
/// UUIDs.
const MAX_CORRELATION_ID: usize = 128;

/// Category of the error for an expired token.
const EXPIRED: &str = "EXPIRED_AUTHENTICATION";

/// Parts of the names of categories for failures of HubSpot.
const INTERNAL_ERRORS: [&str; 3] = ["INTERNAL", "UNAVAILABLE", "TIMEOUT"];

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
    context: Vec<(String, Vec<String>)>,
    errors: Vec<ErrorDetail>,
    /// True if the body is neither empty nor a JSON object, so that it is not from HubSpot's API.
    pub(super) is_foreign: bool,
}

/// Item of `errors` in an error object.
#[derive(Debug, Default)]
struct ErrorDetail {
    message: Option<String>,
    code: Option<String>,
    context: Vec<(String, Vec<String>)>,
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
        serde_json::from_slice(bytes).map_or_else(|_| foreign(), Self::from_value)
    }

    pub(super) fn from_value(value: Value) -> Self {
        let Value::Object(mut object) = value else {
            return Self { is_foreign: true, ..Self::default() };
        };
        let mut text = |key: &str| object.remove(key).and_then(as_text);
        let mut body = Self {
            status: text("status"),
            category: text("category"),
            message: text("message"),
            correlation_id: text("correlationId"),
            policy_name: text("policyName"),
            error_type: text("errorType"),
            ..Self::default()
        };
        // An object in HubSpot's specification, but a string in its responses.
        body.sub_category = object.remove("subCategory").and_then(as_text);
        body.context = context(object.remove("context"));
        if let Some(Value::Array(errors)) = object.remove("errors") {
            body.errors = errors.into_iter().map(ErrorDetail::from_value).collect();
        }
        body
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
            "OBJECT_NOT_FOUND" => (404, Reason::LeadNotFound),
            "MISSING_SCOPES" => (403, Reason::MissingScopes),
            "FORBIDDEN" => (403, Reason::UpstreamForbidden),
            "INVALID_AUTHENTICATION" | EXPIRED => (401, Reason::CredentialRejected),
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

    pub(super) fn unauthorized(&self) -> Unauthorized {
        match self.category.as_deref() {
            Some(EXPIRED) => Unauthorized::Expired,
            _ => Unauthorized::Rejected,
        }
    }

    /// Values of a context key, at the top level and in all details.
    fn values(&self, key: &str) -> Vec<String> {
        let details = self.errors.iter().flat_map(|detail| &detail.context);
        let all = self.context.iter().chain(details);
        all.filter(|(name, _)| name == key).flat_map(|(_, values)| values.clone()).collect()
    }

    /// Message for the caller. It contains the first field violation and the id of the existing record,
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
            && !message.contains(&id)
        {
            message = format!("{message} (existing record {id})");
        }
        message
    }

    /// Text of HubSpot without the list of violations.
    fn text(&self, fallback: &str) -> String {
        let text = self.message.as_deref().unwrap_or(fallback);
        // Validation messages end with a JSON list, which becomes field violations.
        let text = text.split_once(": [{").map_or(text, |(head, _)| head);
        text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
    }

    /// Field violations, from the details and from the list inside the message.
    pub(super) fn fields(&self) -> Vec<FieldFault> {
        let mut fields: Vec<FieldFault> = Vec::new();
        let mut add = |name: &str, description: &str| {
            let field = format!("properties[{name:?}]");
            if !fields.iter().any(|known| known.field == field) {
                let clean = description.chars().filter(|c| !c.is_control());
                fields.push(FieldFault::new(field, clean.take(MAX_MESSAGE).collect::<String>()));
            }
        };
        for detail in &self.errors {
            let fallback = detail.code.as_deref().unwrap_or("is rejected by HubSpot");
            let description = detail.message.as_deref().unwrap_or(fallback);
            for name in detail.property_names() {
                add(&name, description);
            }
        }
        for (name, description, _) in self.message_list() {
            add(&name, &description);
        }
        for name in self.context.iter().filter(|(key, _)| key == "properties") {
            name.1.iter().for_each(|name| add(name, "is required"));
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

    pub(super) fn affected_inputs(&self) -> AffectedInputs {
        let mut ids = self.values("ids");
        ids.extend(self.values("id"));
        let mut unknown_properties: Vec<String> = self
            .errors
            .iter()
            .filter(|detail| detail.code.as_deref() == Some("PROPERTY_DOESNT_EXIST"))
            .flat_map(ErrorDetail::property_names)
            .collect();
        let listed = self.message_list().into_iter();
        unknown_properties.extend(
            listed.filter(|(_, _, code)| code == "PROPERTY_DOESNT_EXIST").map(|(name, ..)| name),
        );
        AffectedInputs { trace_ids: self.values("objectWriteTraceId"), ids, unknown_properties }
    }

    /// Id of the existing record: from the context, else from the message.
    fn existing_id(&self) -> Option<String> {
        let named = self.values("existingId").into_iter().next();
        named.or_else(|| {
            let (_, tail) = self.message.as_deref()?.split_once("Existing ID: ")?;
            let id: String = tail.chars().take_while(char::is_ascii_digit).collect();
            (!id.is_empty()).then_some(id)
        })
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
            required_scopes: self.values("requiredGranularScopes"),
            existing_id: self.existing_id(),
            attempts: 0,
        }
    }

    /// Reports whether the error is a duplicate of a unique value.
    pub(super) fn is_duplicate(&self) -> bool {
        let text = self.message.as_deref().unwrap_or_default();
        text.contains("already has that value")
            || text.contains("already exists")
            || self.existing_id().is_some()
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
        Self { message, code, context }
    }

    /// Names of the properties in the context.
    fn property_names(&self) -> Vec<String> {
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

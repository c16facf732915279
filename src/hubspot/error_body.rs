//! HubSpot's error object: what it says about a failure and which inputs it is about. Also the items of a
//! batch's `errors`.

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::wire::{as_text, as_texts};
use crate::leads::{AffectedInputs, FieldFault, UpstreamFacts};

/// Maximum length of a text of HubSpot that is passed on, in characters.
pub(super) const MAX_MESSAGE: usize = 500;

/// HubSpot's error object, as far as it is one. Also the items of a batch's `errors`.
#[derive(Debug, Default)]
pub(super) struct ErrorBody {
    pub(super) category: Option<String>,
    sub_category: Option<String>,
    message: Option<String>,
    correlation_id: Option<String>,
    pub(super) policy_name: Option<String>,
    error_type: Option<String>,
    context: Vec<(String, Vec<String>)>,
    errors: Vec<Detail>,
    /// It is not empty, and no JSON object.
    pub(super) is_foreign: bool,
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

// === impl ErrorBody ===

impl ErrorBody {
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

    pub(super) fn text(&self, fallback: &str) -> String {
        let text = self.message.as_deref().unwrap_or(fallback);
        // Validation messages carry a JSON list after this; the list becomes field faults.
        let text = text.split_once(": [{").map_or(text, |(head, _)| head);
        text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
    }

    /// Faults of single properties, from the details and from the list inside the message.
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

    pub(super) fn affected_inputs(&self) -> AffectedInputs {
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

    pub(super) fn clashes(&self) -> bool {
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

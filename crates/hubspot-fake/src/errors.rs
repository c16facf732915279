//! Error bodies of HubSpot, in shapes recorded from the real API.

use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

/// Error of a request or of one item of a batch.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

// === impl Failure ===

impl Failure {
    fn new(status: u16, category: &str, message: impl Into<String>) -> Self {
        let body = json!({
            "status": "error", "message": message.into(), "category": category,
        });
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, body }
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.body[key] = value;
        self
    }

    /// True if another record has a unique value of this one.
    pub(super) fn is_conflict(&self) -> bool {
        self.body["category"] == "CONFLICT" || self.body["context"]["existingId"].is_array()
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new(400, "VALIDATION_ERROR", message)
    }

    /// Invalid properties: name, message and code of each.
    pub(super) fn properties(faults: &[(String, String, &'static str)]) -> Self {
        let list: Vec<Value> = faults
            .iter()
            .map(|(name, text, code)| {
                json!({"isValid": false, "message": text, "error": code, "name": name})
            })
            .collect();
        let details: Vec<Value> = faults
            .iter()
            .map(|(name, text, code)| {
                json!({"message": text, "code": code, "context": {"propertyName": [name]}})
            })
            .collect();
        let list = Value::Array(list).to_string();
        Self::validation(format!("Property values were not valid: {list}"))
            .with("errors", Value::Array(details))
    }

    pub(super) fn required(name: &str) -> Self {
        Self::validation("Error creating LEAD. Some required properties were not set.")
            .with("context", json!({"properties": [name]}))
    }

    /// Association with an unknown record. For a contact, the status may also be 404.
    pub(super) fn no_such_record(status: u16, id: &str) -> Self {
        if status == 404 {
            let text = format!("The object with id {id} to associate with does not exist");
            return Self::new(404, "OBJECT_NOT_FOUND", text)
                .with("context", json!({"toObjectId": [id]}));
        }
        Self::association("One or more associations are invalid", id)
    }

    pub(super) fn association(message: &str, id: &str) -> Self {
        Self::validation(message)
            .with("subCategory", json!("crm.associations.INVALID_IDENTIFIER"))
            .with("context", json!({"INVALID_OBJECT_IDS": [id]}))
    }

    /// Unknown lead of an association.
    pub(super) fn no_association_source(id: &str) -> Self {
        Self::new(404, "OBJECT_NOT_FOUND", format!("The lead {id} does not exist."))
            .with("context", json!({"fromObjectId": [id]}))
    }

    /// Lead without associations to an object type.
    pub(super) fn no_associations(id: &str, to: &str) -> Self {
        Self::new(404, "OBJECT_NOT_FOUND", format!("No {to} is associated with lead {id}."))
            .with("subCategory", json!("crm.associations.NO_ASSOCIATIONS_FOUND"))
            .with("context", json!({"fromObjectId": [id], "fromObjectType": ["lead"]}))
    }

    /// Unknown lead. Recorded single-lead responses have no category.
    pub(super) fn not_found(category: bool) -> Self {
        if category {
            return Self::new(404, "OBJECT_NOT_FOUND", "resource not found");
        }
        let body = json!({"status": "error", "message": "resource not found"});
        Self { status: StatusCode::NOT_FOUND, body }
    }

    pub(super) fn not_numeric(id: &str) -> Self {
        // Two spaces, as recorded.
        let text = "Object not found.  objectId are usually numeric.";
        Self::new(404, "OBJECT_NOT_FOUND", text).with("context", json!({"id": [id]}))
    }

    pub(super) fn unknown_object(name: &str) -> Self {
        let text = format!("Unable to infer object type from: {name}");
        let body = json!({"status": "error", "message": text});
        Self { status: StatusCode::BAD_REQUEST, body }
    }

    /// Status without a body.
    pub(super) fn bare(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, body: Value::Null }
    }

    pub(super) fn locked() -> Self {
        let text = "This portal is locked while a bulk operation is in progress";
        Self::new(423, "LOCKED", text)
    }

    pub(super) fn forbidden() -> Self {
        Self::new(403, "FORBIDDEN", "This call is not allowed")
    }

    pub(super) fn gateway_limited() -> Self {
        Self::new(429, "RATE_LIMITS", "You have reached your limit.")
    }

    pub(super) fn items_not_found(ids: &[String]) -> Self {
        let text = "Could not get some LEAD objects, they may be deleted or not exist. Check that \
                    ids are valid.";
        Self::new(404, "OBJECT_NOT_FOUND", text).with("context", json!({ "ids": ids }))
    }

    pub(super) fn unique(status: u16, name: &str, value: &str, existing: &str) -> Self {
        let category = if status == 409 { "CONFLICT" } else { "VALIDATION_ERROR" };
        let text = format!("Cannot set {name}={value}. {existing} already has that value.");
        Self::new(status, category, text)
            .with("context", json!({"propertyName": [name], "existingId": [existing]}))
    }

    /// Contact whose address another one has. HubSpot names the other one in the message.
    pub(super) fn contact_exists(id: &str) -> Self {
        Self::new(409, "CONFLICT", format!("Contact already exists. Existing ID: {id}"))
    }

    pub(super) fn duplicate_ids(ids: &[String]) -> Self {
        let text =
            format!("Duplicate IDs found in batch input: [{}]. IDs must be unique", ids.join(", "));
        Self::validation(text).with("context", json!({ "ids": ids }))
    }

    pub(super) fn unauthenticated() -> Self {
        let text = "Authentication credentials not found. This API supports OAuth 2.0 \
                    authentication and you can find more details at the developer site";
        Self::new(401, "INVALID_AUTHENTICATION", text)
    }

    pub(super) fn expired(seconds: u64) -> Self {
        let text =
            format!("The OAuth token used to make this call expired {seconds} second(s) ago.");
        Self::new(401, "EXPIRED_AUTHENTICATION", text)
            .with("context", json!({"expire time": ["2026-11-01T08:00:00.000Z"]}))
    }

    /// Missing scope, named in `errors` or at the top level of the body.
    pub(super) fn missing_scope(scope: &str, on_top: bool) -> Self {
        let text = "This app hasn't been granted all required scopes to make this call. Read more \
                    about required scopes here: the developer site.";
        let failure = Self::new(403, "MISSING_SCOPES", text);
        if on_top {
            let context = json!({"requiredGranularScopes": [scope], "links": ["the site"]});
            return failure.with("context", context);
        }
        let detail = json!({"message": "One or more of the following scopes are required.",
                            "context": {"requiredGranularScopes": [scope]}});
        failure.with("errors", json!([detail])).with("links", json!({"scopes": "the site"}))
    }

    pub(super) fn rate_limited(policy: &str) -> Self {
        let body = json!({
            "status": "error",
            "message": format!("You have reached your {} limit.", policy.to_lowercase()),
            "errorType": "RATE_LIMIT",
            "policyName": policy,
            "requestId": Uuid::new_v4().to_string(),
        });
        Self { status: StatusCode::TOO_MANY_REQUESTS, body }
    }

    pub(super) fn oauth(status: &str, error: &str, message: &str) -> Self {
        let body = json!({
            "status": status, "message": message, "error": error, "error_description": message,
        });
        Self { status: StatusCode::BAD_REQUEST, body }
    }

    /// Item in the `errors` of a batch.
    pub(super) fn into_item(self, trace_id: Option<&str>) -> Value {
        let mut body = self.body;
        if body.get("category").is_none() {
            body["category"] = json!("OBJECT_NOT_FOUND");
        }
        if let Some(trace_id) = trace_id {
            if !body["context"].is_object() {
                body["context"] = json!({});
            }
            body["context"]["objectWriteTraceId"] = json!([trace_id]);
        }
        body
    }
}

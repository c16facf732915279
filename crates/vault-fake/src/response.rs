//! Responses of the fake.

use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::VaultResponse;

pub(crate) fn result(data: Value, auth: Value) -> VaultResponse {
    let body = json!({
        "request_id": Uuid::new_v4().to_string(), "lease_id": "", "renewable": false,
        "lease_duration": 0, "data": data, "wrap_info": null, "warnings": null, "auth": auth,
    });
    (StatusCode::OK, body)
}

pub(crate) fn errors(status: StatusCode, errors: &[&str]) -> VaultResponse {
    (status, json!({ "errors": errors }))
}

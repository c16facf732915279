//! Requests and responses of the fake.

use std::{collections::HashMap, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    errors::Failure,
    limits::{Limits, Remaining},
};

/// Components of a request.
pub(super) struct FakeRequest {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: HashMap<String, String>,
    pub(super) body: Value,
    /// True for a path of version 2026-09, which validates more strictly.
    pub(super) modern: bool,
}

/// Status and body; null means no body.
pub(super) type FakeResponse = (StatusCode, Value);

/// Id of the record that a response describes, attached as an extension.
#[derive(Debug, Clone)]
pub(super) struct RecordId(pub(super) String);

/// Rate limit headers of a response.
#[derive(Clone, Copy)]
pub(super) struct LimitHeaders {
    pub(super) limits: Limits,
    pub(super) counted: Remaining,
    pub(super) oauth: bool,
}

// === impl FakeRequest ===

impl FakeRequest {
    pub(super) fn archived(&self) -> bool {
        self.query.get("archived").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    pub(super) fn names(&self, key: &str) -> Vec<String> {
        let joined = self.query.get(key).map(String::as_str).unwrap_or_default();
        joined.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }
}

/// Builds a response with a correlation id, rate limit headers and `Retry-After`.
pub(super) fn to_response(
    answer: Result<FakeResponse, Failure>,
    shown: Option<LimitHeaders>,
    wait: Option<Duration>,
) -> Response {
    let correlation_id = Uuid::new_v4().to_string();
    let (status, body) = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            let mut body = failure.body;
            if !body.is_null() {
                body["correlationId"] = json!(correlation_id);
            }
            (failure.status, body)
        }
    };
    let record = body["id"].as_str().map(|id| RecordId(id.to_owned()));
    let mut response = if body.is_null() {
        status.into_response()
    } else {
        (status, axum::Json(body)).into_response()
    };
    if let Some(record) = record {
        response.extensions_mut().insert(record);
    }
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set("x-hubspot-correlation-id", correlation_id);
    if let Some(LimitHeaders { limits, counted, oauth }) = shown {
        set("x-hubspot-ratelimit-max", limits.reported_burst().to_string());
        set("x-hubspot-ratelimit-remaining", counted.window.to_string());
        set("x-hubspot-ratelimit-interval-milliseconds", limits.window.as_millis().to_string());
        set("x-hubspot-ratelimit-secondly", (limits.reported_burst() / 10).to_string());
        set("x-hubspot-ratelimit-secondly-remaining", counted.second.to_string());
        if !oauth {
            set("x-hubspot-ratelimit-daily", limits.daily.to_string());
            set("x-hubspot-ratelimit-daily-remaining", counted.day.to_string());
        }
    }
    if let Some(wait) = wait {
        set("retry-after", wait.as_secs().max(1).to_string());
    }
    response
}

/// The strings of a JSON array.
pub(super) fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

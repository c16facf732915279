//! Injected faults and latency: shares of the requests of an operation fail, as in an outage.
//!
//! A script replaces the next responses; an injected fault stays until the faults are replaced.

use std::time::Duration;

use axum::{
    http::StatusCode,
    response::{Html, IntoResponse as _, Response},
};
use serde_json::json;

use super::{
    errors::Failure,
    http::to_response,
    route::{Api, Route},
};

/// Value of `Retry-After` of an account that moves to another data centre.
const MIGRATION_TIME: Duration = Duration::from_secs(1);

/// Operation of HubSpot's API, whether one lead or a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Creates of leads.
    Create,
    /// Reads of leads by id.
    Get,
    /// Updates of leads.
    Update,
    /// Archives of leads.
    Archive,
    /// Pages of leads.
    List,
    /// Searches.
    Search,
    /// Reads and changes of associations.
    Associations,
    /// Properties and pipelines.
    Schema,
    /// Owners.
    Owners,
    /// Account information.
    Account,
    /// Requests to the token endpoint.
    Token,
}

/// Fault of a share of the requests. A request that fails has no effect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// Operation; `None` for all requests.
    pub operation: Option<Operation>,
    /// Status of the response.
    pub status: u16,
    /// Share of the requests that fail, from 0 to 1.
    pub ratio: f64,
}

// === impl Operation ===

impl Operation {
    /// Operations by name.
    pub const NAMES: [(&'static str, Self); 11] = [
        ("create", Self::Create),
        ("get", Self::Get),
        ("update", Self::Update),
        ("archive", Self::Archive),
        ("list", Self::List),
        ("search", Self::Search),
        ("associations", Self::Associations),
        ("schema", Self::Schema),
        ("owners", Self::Owners),
        ("account", Self::Account),
        ("token", Self::Token),
    ];

    /// Operation of a request; `None` for contacts, companies and unknown paths.
    pub(super) fn of_request(method: &str, path: &str) -> Option<Self> {
        if path.starts_with("/oauth/") {
            return path.ends_with("/token").then_some(Self::Token);
        }
        let route = Route::parse(path)?;
        match route.area {
            Api::Objects if matches!(route.object, "leads" | "0-136") => {
                Self::of_leads(method, &route.rest)
            }
            Api::Objects => None,
            Api::Properties | Api::PropertyValidations | Api::Pipelines => Some(Self::Schema),
            Api::Associations => Some(Self::Associations),
            Api::Owners => Some(Self::Owners),
            Api::Account => Some(Self::Account),
        }
    }

    fn of_leads(method: &str, rest: &[&str]) -> Option<Self> {
        match (method, rest) {
            ("GET", []) => Some(Self::List),
            ("POST", [] | ["batch", "create"]) => Some(Self::Create),
            ("POST", ["search"]) => Some(Self::Search),
            ("POST", ["batch", "read"]) => Some(Self::Get),
            ("POST", ["batch", "update" | "upsert"]) => Some(Self::Update),
            ("POST", ["batch", "archive"]) => Some(Self::Archive),
            (_, [_, "associations", ..]) => Some(Self::Associations),
            ("GET", [_]) => Some(Self::Get),
            ("PATCH", [_]) => Some(Self::Update),
            ("DELETE", [_]) => Some(Self::Archive),
            _ => None,
        }
    }
}

/// Status of a request with this operation. `draw` is a number from 0 to 1 that decides which fault
/// applies: the ratios of all faults of the operation add up.
pub(super) fn status(faults: &[Fault], operation: Option<Operation>, draw: f64) -> Option<u16> {
    let mut reached = 0.0;
    faults
        .iter()
        .filter(|fault| fault.operation.is_none() || fault.operation == operation)
        .find(|fault| {
            reached += fault.ratio;
            draw < reached
        })
        .map(|fault| fault.status)
}

/// Response of HubSpot with this status. The token endpoint has error bodies of another form.
pub(super) fn respond(status: u16, operation: Option<Operation>) -> Response {
    if operation == Some(Operation::Token) && status == 400 {
        let text = "missing or invalid refresh token";
        let failure = Failure::oauth("BAD_REFRESH_TOKEN", "invalid_grant", text);
        return to_response(Err(failure), None, None);
    }
    let (failure, wait) = match status {
        400 => (Failure::validation("injected fault"), None),
        401 => (Failure::unauthenticated(), None),
        403 => (Failure::forbidden(), None),
        404 => (Failure::not_found(true), None),
        423 => (Failure::locked(), None),
        429 => (Failure::rate_limited("TEN_SECONDLY_ROLLING"), None),
        477 => (Failure::bare(477), Some(MIGRATION_TIME)),
        // Gateways respond with a page.
        502..=504 => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            let page = format!("<html><body>{status}</body></html>");
            return (status, Html(page)).into_response();
        }
        _ => {
            let mut failure = Failure::bare(status);
            failure.body = json!({"status": "error", "message": "injected fault"});
            (failure, None)
        }
    };
    to_response(Err(failure), None, wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(operation: Option<Operation>, status: u16, ratio: f64) -> Fault {
        Fault { operation, status, ratio }
    }

    #[test]
    fn ratios_of_one_operation_add_up_and_leave_others_alone() {
        let faults = [
            fault(Some(Operation::Create), 503, 0.1),
            fault(Some(Operation::Get), 404, 1.0),
            fault(Some(Operation::Create), 429, 0.2),
            fault(None, 500, 0.3),
        ];
        for (draw, expected) in [
            (0.0, Some(503)),
            (0.099, Some(503)),
            (0.1, Some(429)),
            (0.299, Some(429)),
            (0.31, Some(500)),
            (0.61, None),
            (0.999, None),
        ] {
            assert_eq!(status(&faults, Some(Operation::Create), draw), expected, "{draw}");
        }
        assert_eq!(status(&faults, Some(Operation::Search), 0.29), Some(500));
        assert_eq!(status(&faults, None, 0.31), None);
        assert_eq!(status(&faults, Some(Operation::Get), 0.999), Some(404));
        assert_eq!(status(&[fault(None, 500, 0.0)], None, 0.0), None, "0 % never fails");
    }

    #[test]
    fn requests_of_all_versions_have_an_operation() {
        let leads = ["/crm/v3/objects/leads", "/crm/objects/2026-09/0-136"];
        for base in leads {
            for (method, rest, expected) in [
                ("GET", "", Operation::List),
                ("POST", "", Operation::Create),
                ("POST", "/batch/create", Operation::Create),
                ("POST", "/batch/read", Operation::Get),
                ("GET", "/107", Operation::Get),
                ("PATCH", "/107", Operation::Update),
                ("POST", "/batch/update", Operation::Update),
                ("DELETE", "/107", Operation::Archive),
                ("POST", "/batch/archive", Operation::Archive),
                ("POST", "/search", Operation::Search),
                ("PUT", "/107/associations/contacts/101", Operation::Associations),
            ] {
                let path = format!("{base}{rest}");
                assert_eq!(Operation::of_request(method, &path), Some(expected), "{method} {path}");
            }
        }
        let others = [
            ("/oauth/2026-09/token", Some(Operation::Token)),
            ("/oauth/authorize", None),
            ("/crm/v3/properties/leads", Some(Operation::Schema)),
            ("/crm/v3/pipelines/leads", Some(Operation::Schema)),
            ("/crm/v4/associations/leads/contacts/batch/read", Some(Operation::Associations)),
            ("/crm/v3/owners", Some(Operation::Owners)),
            ("/account-info/v3/details", Some(Operation::Account)),
            ("/crm/v3/objects/contacts/101", None),
            ("/elsewhere", None),
        ];
        for (path, expected) in others {
            let method = if path.ends_with("token") { "POST" } else { "GET" };
            assert_eq!(Operation::of_request(method, path), expected, "{path}");
        }
    }
}

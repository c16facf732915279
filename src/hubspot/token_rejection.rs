//! Permanent rejections of the OAuth endpoints, shared by the service and the command line.

use http::StatusCode;
use serde_json::Value;

use super::wire::parse_value;

/// Codes that retries cannot cure: of HubSpot (field `status`) and of RFC 6749 (field `error`). HubSpot's
/// codes come first, since they are more specific.
const PERMANENT_CODES: [&str; 16] = [
    "BAD_AUTH_CODE",
    "EXPIRED_AUTH_CODE",
    "BAD_REDIRECT_URI",
    "BAD_CLIENT_ID",
    "BAD_CLIENT_SECRET",
    "BAD_REFRESH_TOKEN",
    "BAD_HUB",
    "invalid_client",
    "invalid_grant",
    "access_denied",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "invalid_token",
    "invalid_request",
];

/// Codes of the field `error` with which a retry may succeed.
const TRANSIENT_CODES: [&str; 9] = [
    "server_error",
    "internal_error",
    "internal_server_error",
    "temporarily_unavailable",
    "service_unavailable",
    "slow_down",
    "rate_limited",
    "rate_limit_exceeded",
    "too_many_requests",
];

/// Statuses whose unknown codes in the field `error` are rejections. Gateways use others with such codes too.
const REJECTION_STATUSES: [u16; 3] = [400, 401, 403];

/// Maximum length of a code that is not in the table.
const MAX_CODE: usize = 40;

/// Status of a proxy that requires authentication.
const PROXY_AUTHENTICATION: u16 = 407;

/// Statuses with which a retry may succeed with any code.
const TRANSIENT_STATUSES: [u16; 3] = [408, 425, 429];

/// Codes of a permanent rejection; at least one of them is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenRejection {
    /// Index of the field `error` in the table.
    error: Option<usize>,
    /// Index of the field `status` in the table.
    status: Option<usize>,
    /// The field `status`, or else the field `error`, if it is a code that is not in the table.
    unknown: Option<String>,
}

// === impl TokenRejection ===

impl TokenRejection {
    /// Parses the codes of an error response; `None` if a retry may succeed. An unknown code of a rejection is
    /// permanent as well. A success is a rejection if it has a known code and no access token.
    pub(super) fn from_response(status: StatusCode, body: &[u8]) -> Option<Self> {
        if TRANSIENT_STATUSES.contains(&status.as_u16()) {
            return None;
        }
        let body = parse_value(body).unwrap_or_default();
        if status.is_success() && body.get("access_token").is_some() {
            return None;
        }
        let text = |key: &str| body.get(key).and_then(Value::as_str);
        let known = |key: &str| {
            let code = text(key)?;
            PERMANENT_CODES.iter().position(|known| known.eq_ignore_ascii_case(code))
        };
        // Gateways use the codes of OAuth for their own failures.
        let is_of_gateway = status.is_server_error() || status.as_u16() == PROXY_AUTHENTICATION;
        let is_rejected = REJECTION_STATUSES.contains(&status.as_u16());
        let of_hubspot =
            text("status").filter(|code| status.is_client_error() && is_unknown_code(code));
        let of_oauth = text("error").filter(|code| is_rejected && is_unknown_oauth_code(code));
        let rejection = Self {
            error: known("error").filter(|_| !is_of_gateway),
            status: known("status"),
            unknown: of_hubspot.or(of_oauth).map(str::to_owned),
        };
        let Self { error, status, unknown } = &rejection;
        let is_rejection = error.or(*status).is_some() || unknown.is_some();
        is_rejection.then_some(rejection)
    }

    /// Code of RFC 6749, for logs; HubSpot's code if there is none.
    pub(super) fn standard_code(&self) -> &str {
        self.code(self.error.or(self.status))
    }

    /// Most specific code, for error messages: an unknown one of HubSpot, or the first of the table.
    pub(super) fn specific_code(&self) -> &str {
        match &self.unknown {
            Some(code) if self.status.is_none() => code,
            _ => self.code(self.error.into_iter().chain(self.status).min()),
        }
    }

    fn code(&self, known: Option<usize>) -> &str {
        let code = known.map(|index| PERMANENT_CODES[index]);
        code.or(self.unknown.as_deref()).unwrap_or_default()
    }
}

/// True for a code of HubSpot that is not in the table. The status `error` of its error objects does not
/// have the form of a code.
fn is_unknown_code(text: &str) -> bool {
    let is_allowed = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
    let has_form =
        text.starts_with(|c: char| c.is_ascii_uppercase()) && text.bytes().all(is_allowed);
    (2..=MAX_CODE).contains(&text.len()) && has_form && !PERMANENT_CODES.contains(&text)
}

/// True for a code of the field `error` that is not in the tables. The form is that of RFC 6749's codes.
fn is_unknown_oauth_code(text: &str) -> bool {
    let is_allowed = |c: u8| c.is_ascii_lowercase() || c == b'_';
    let has_form =
        text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(is_allowed);
    (2..=MAX_CODE).contains(&text.len())
        && has_form
        && !PERMANENT_CODES.contains(&text)
        && !TRANSIENT_CODES.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(status: u16, body: &str) -> Option<(String, String)> {
        let status = StatusCode::from_u16(status).unwrap();
        let rejection = TokenRejection::from_response(status, body.as_bytes())?;
        Some((rejection.standard_code().to_owned(), rejection.specific_code().to_owned()))
    }

    fn both(standard: &str, specific: &str) -> Option<(String, String)> {
        Some((standard.to_owned(), specific.to_owned()))
    }

    #[test]
    fn each_code_is_permanent_in_either_field() {
        for code in PERMANENT_CODES {
            for key in ["error", "status"] {
                let body = format!(r#"{{"{key}":"{code}"}}"#);
                assert_eq!(codes(400, &body), both(code, code), "{body}");
            }
        }
    }

    #[test]
    fn a_code_is_known_in_either_case_unless_a_gateway_sends_it() {
        for body in [r#"{"error":"INVALID_GRANT"}"#, r#"{"error":"Invalid_Grant"}"#] {
            assert_eq!(codes(400, body), both("invalid_grant", "invalid_grant"), "{body}");
        }
        let lower = r#"{"status":"bad_refresh_token"}"#;
        assert_eq!(codes(400, lower), both("BAD_REFRESH_TOKEN", "BAD_REFRESH_TOKEN"));
        for status in [407, 500, 502, 503, 504] {
            for code in ["access_denied", "invalid_request", "invalid_grant"] {
                let body = format!(r#"{{"error":"{code}"}}"#);
                assert_eq!(codes(status, &body), None, "{status} {code}");
            }
        }
    }

    #[test]
    fn standard_and_specific_code_of_a_rejection() {
        for (body, expected) in [
            (
                r#"{"status":"BAD_REFRESH_TOKEN","error":"invalid_grant"}"#,
                ("invalid_grant", "BAD_REFRESH_TOKEN"),
            ),
            (
                r#"{"status":"BAD_CLIENT_SECRET","error":"invalid_client"}"#,
                ("invalid_client", "BAD_CLIENT_SECRET"),
            ),
            (
                r#"{"status":"BAD_CLIENT_SECRET","error":"server_error"}"#,
                ("BAD_CLIENT_SECRET", "BAD_CLIENT_SECRET"),
            ),
        ] {
            assert_eq!(codes(400, body), both(expected.0, expected.1), "{body}");
        }
    }

    #[test]
    fn an_unknown_code_of_a_rejection_is_permanent() {
        let unknown = r#"{"status":"BAD_SOMETHING_NEW","message":"no"}"#;
        for status in [400, 401, 403] {
            let code = "BAD_SOMETHING_NEW";
            assert_eq!(codes(status, unknown), both(code, code), "{status}");
        }
        let mixed = r#"{"status":"APP_REMOVED","error":"invalid_grant"}"#;
        assert_eq!(codes(400, mixed), both("invalid_grant", "APP_REMOVED"));
        for status in [408, 425, 429, 500, 503] {
            assert_eq!(codes(status, unknown), None, "{status}");
        }
        for code in ["BAD_APP_V2", "OAUTH2_DISABLED"] {
            let body = format!("\u{feff}{{\"status\":\"{code}\"}}");
            assert_eq!(codes(400, &body), both(code, code), "a byte order mark is not content");
        }
        let long = format!(r#"{{"status":"{}"}}"#, "A".repeat(41));
        for other in [
            r#"{"status":"error","message":"no"}"#,
            r#"{"status":"400"}"#,
            r#"{"status":"4XX"}"#,
            r#"{"status":"_"}"#,
            r#"{"status":400}"#,
            r#"{"status":"no such app"}"#,
            r#"{"status":""}"#,
            &long,
        ] {
            assert_eq!(codes(400, other), None, "{other}");
        }
    }

    #[test]
    fn an_unknown_code_of_oauth_is_permanent_with_the_statuses_of_a_rejection() {
        let unknown = r#"{"error":"consent_required","error_description":"no"}"#;
        for status in [400, 401, 403] {
            let code = "consent_required";
            assert_eq!(codes(status, unknown), both(code, code), "{status}");
        }
        for status in [200, 404, 407, 408, 429, 451, 488, 500, 502, 503] {
            assert_eq!(codes(status, unknown), None, "{status}");
        }
        for code in TRANSIENT_CODES {
            let body = format!(r#"{{"error":"{code}"}}"#);
            for status in [400, 403, 500, 503] {
                assert_eq!(codes(status, &body), None, "{status} {code}");
            }
        }
        for (body, standard, specific) in [
            (
                r#"{"status":"BAD_GRANT_TYPE","error":"unsupported_grant_type"}"#,
                "unsupported_grant_type",
                "BAD_GRANT_TYPE",
            ),
            (r#"{"status":"error","error":"invalid_scope"}"#, "invalid_scope", "invalid_scope"),
            (r#"{"status":"BAD_HUB","error":"consent_required"}"#, "BAD_HUB", "BAD_HUB"),
            (
                r#"{"status":"APP_REMOVED","error":"consent_required"}"#,
                "APP_REMOVED",
                "APP_REMOVED",
            ),
        ] {
            assert_eq!(codes(400, body), both(standard, specific), "{body}");
        }
    }

    #[test]
    fn other_responses_may_be_retried() {
        for body in [
            "<html>",
            "",
            "{}",
            "[]",
            r#"{"error":3}"#,
            r#"{"error":"Bad Request"}"#,
            r#"{"error":"Forbidden"}"#,
            r#"{"error":"blocked-by-policy"}"#,
            r#"{"error":{"code":"invalid_grant"}}"#,
        ] {
            assert_eq!(codes(400, body), None, "{body}");
        }
        let rejected = r#"{"error":"invalid_grant"}"#;
        assert_eq!(codes(429, rejected), None, "a rate limit is not a rejection");
    }

    #[test]
    fn a_success_with_a_known_code_and_no_token_is_a_rejection() {
        for (body, code) in [
            (r#"{"status":"BAD_REFRESH_TOKEN"}"#, "BAD_REFRESH_TOKEN"),
            (r#"{"error":"invalid_grant"}"#, "invalid_grant"),
        ] {
            assert_eq!(codes(200, body), both(code, code), "{body}");
        }
        for other in [
            r#"{"status":"BAD_REFRESH_TOKEN","access_token":"hush"}"#,
            r#"{"status":"COMPLETE"}"#,
            "{}",
        ] {
            assert_eq!(codes(200, other), None, "{other}");
        }
    }
}

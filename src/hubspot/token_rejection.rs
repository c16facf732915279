//! Permanent rejections of the OAuth endpoints, shared by the service and the command line.

use http::StatusCode;
use serde_json::Value;

/// Codes that retries cannot cure: of HubSpot (field `status`) and of RFC 6749 (field `error`). HubSpot's
/// codes come first, since they are more specific.
const PERMANENT_CODES: [&str; 10] = [
    "BAD_AUTH_CODE",
    "BAD_REDIRECT_URI",
    "BAD_CLIENT_ID",
    "BAD_CLIENT_SECRET",
    "BAD_REFRESH_TOKEN",
    "BAD_HUB",
    "invalid_client",
    "invalid_grant",
    "access_denied",
    "unauthorized_client",
];

/// Codes of a permanent rejection; at least one of them is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenRejection {
    /// Index of the field `error` in the table.
    error: Option<usize>,
    /// Index of the field `status` in the table.
    status: Option<usize>,
}

// === impl TokenRejection ===

impl TokenRejection {
    /// Parses the codes of an error response; `None` if a retry may succeed.
    pub(super) fn from_response(status: StatusCode, body: &[u8]) -> Option<Self> {
        if status.is_success() || status == StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let known = |key: &str| {
            let code = body.get(key)?.as_str()?;
            PERMANENT_CODES.iter().position(|known| *known == code)
        };
        let (error, status) = (known("error"), known("status"));
        error.or(status).is_some().then_some(Self { error, status })
    }

    /// Code of RFC 6749, for metrics and logs; HubSpot's code if there is none.
    pub(super) fn standard_code(self) -> &'static str {
        PERMANENT_CODES[self.error.or(self.status).unwrap_or_default()]
    }

    /// Most specific code, for error messages.
    pub(super) fn specific_code(self) -> &'static str {
        let position = self.error.into_iter().chain(self.status).min();
        PERMANENT_CODES[position.unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(status: u16, body: &str) -> Option<(&'static str, &'static str)> {
        let status = StatusCode::from_u16(status).unwrap();
        let rejection = TokenRejection::from_response(status, body.as_bytes())?;
        Some((rejection.standard_code(), rejection.specific_code()))
    }

    #[test]
    fn each_code_is_permanent_in_either_field() {
        for code in PERMANENT_CODES {
            for key in ["error", "status"] {
                let body = format!(r#"{{"{key}":"{code}"}}"#);
                assert_eq!(codes(400, &body), Some((code, code)), "{body}");
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
            assert_eq!(codes(400, body), Some(expected), "{body}");
        }
    }

    #[test]
    fn other_responses_may_be_retried() {
        for body in ["<html>", "", "{}", "[]", r#"{"error":"server_error"}"#, r#"{"error":3}"#] {
            assert_eq!(codes(400, body), None, "{body}");
        }
        let rejected = r#"{"error":"invalid_grant"}"#;
        assert_eq!(codes(429, rejected), None, "a rate limit is not a rejection");
        assert_eq!(codes(200, rejected), None);
    }
}

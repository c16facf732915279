//! Rejections of the OAuth endpoints that no repetition cures: one table for the service and the
//! command line.

use http::StatusCode;
use serde_json::Value;

/// Codes of HubSpot, in the field `status`, and of RFC 6749, in the field `error`. HubSpot's come
/// first: they say more.
const FINAL_CODES: [&str; 10] = [
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

/// Known codes of a rejection: at least one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenRejection {
    /// Position in the table of the field `error`.
    error: Option<usize>,
    /// Position in the table of the field `status`.
    status: Option<usize>,
}

// === impl TokenRejection ===

impl TokenRejection {
    /// Reads the codes of an error response; `None` if it may succeed when it is repeated. Nothing else
    /// of the body is looked at.
    pub(super) fn from_response(status: StatusCode, body: &[u8]) -> Option<Self> {
        if status.is_success() || status == StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let known = |key: &str| {
            let code = body.get(key)?.as_str()?;
            FINAL_CODES.iter().position(|known| *known == code)
        };
        let (error, status) = (known("error"), known("status"));
        error.or(status).is_some().then_some(Self { error, status })
    }

    /// The standard code, for metrics and logs; HubSpot's if there is no standard one.
    pub(super) fn standard_code(self) -> &'static str {
        FINAL_CODES[self.error.or(self.status).unwrap_or_default()]
    }

    /// The code that says most, for people.
    pub(super) fn specific_code(self) -> &'static str {
        let position = self.error.into_iter().chain(self.status).min();
        FINAL_CODES[position.unwrap_or_default()]
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
    fn each_code_of_the_table_is_final_in_either_field() {
        for code in FINAL_CODES {
            for key in ["error", "status"] {
                let body = format!(r#"{{"{key}":"{code}"}}"#);
                assert_eq!(codes(400, &body), Some((code, code)), "{body}");
            }
        }
    }

    #[test]
    fn logs_get_the_standard_code_and_people_the_specific_one() {
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
    fn anything_else_may_succeed_when_it_is_repeated() {
        for body in ["<html>", "", "{}", "[]", r#"{"error":"server_error"}"#, r#"{"error":3}"#] {
            assert_eq!(codes(400, body), None, "{body}");
        }
        let rejected = r#"{"error":"invalid_grant"}"#;
        assert_eq!(codes(429, rejected), None, "a limit says nothing about the grant");
        assert_eq!(codes(200, rejected), None);
    }
}

//! Errors of Vault, classified by the reaction they require.

use serde_json::Value;

use leadsd_base::net::connect_error::ConnectError;
use leadsd_credentials::StoreError;

/// Text in the error message of a failed check-and-set. Vault and OpenBao return status 400 for it as
/// for other invalid requests.
const CAS_TEXT: &str = "check-and-set";

/// Error of a request or login to Vault. Contains no secret and no response body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A configured file cannot be read or parsed.
    #[error("{file}: {what}")]
    File {
        /// Path of the file.
        file: String,
        /// Cause.
        what: String,
    },
    /// The HTTP client or a request cannot be built.
    #[error("cannot set up the Vault client: {0}")]
    Setup(String),
    /// The auth method or the token lookup rejected the login with this status.
    #[error("login rejected with HTTP status {0}{hint}", hint = login_hint(*.0))]
    LoginRejected(u16),
    /// The wrapping token in this file was used before or has expired.
    #[error(
        "{0}: the wrapping token was used before or is expired; unless an earlier leadsd process used \
         it, the secret id may have been intercepted; store a new wrapping token"
    )]
    Unwrap(String),
    /// Status 403: the token is unknown, or its policy does not allow the request.
    #[error("permission denied")]
    Denied,
    /// Status 404.
    #[error("not found")]
    NotFound,
    /// Status 400 of a write whose check-and-set failed.
    #[error("the secret was changed concurrently")]
    CasConflict,
    /// Any other status 400.
    #[error("Vault rejected the request as invalid (HTTP status 400)")]
    Invalid,
    /// No response arrived.
    #[error("{0}")]
    Connect(ConnectError),
    /// Vault is sealed, in standby or throttling, or its response is invalid.
    #[error("{0}")]
    Unavailable(String),
}

// === impl Error ===

impl Error {
    /// True if the login itself is at fault: its files, its credential, its role or its namespace.
    pub(super) fn is_of_login(&self) -> bool {
        match self {
            Self::File { .. } | Self::Setup(_) | Self::LoginRejected(_) | Self::Unwrap(_) => true,
            Self::Denied
            | Self::NotFound
            | Self::CasConflict
            | Self::Invalid
            | Self::Connect(_)
            | Self::Unavailable(_) => false,
        }
    }

    /// Classifies an error response by its status and its list of errors.
    pub(super) fn from_response(status: u16, body: &Value) -> Self {
        match status {
            400 if is_cas_conflict(body) => Self::CasConflict,
            400 => Self::Invalid,
            403 => Self::Denied,
            404 => Self::NotFound,
            // Vault redirects with 307 and 308 only.
            301..=303 => Self::Unavailable(format!(
                "a server in front of Vault redirects (HTTP status {status}), for example from http to \
                 https; set vault.address to the URL that it redirects to"
            )),
            412 => Self::Unavailable("replication lag (HTTP status 412)".to_owned()),
            429 => Self::Unavailable("throttling or standby (HTTP status 429)".to_owned()),
            472 | 473 => Self::Unavailable(format!("standby (HTTP status {status})")),
            503 => Self::Unavailable("sealed or in maintenance (HTTP status 503)".to_owned()),
            status => Self::Unavailable(format!("HTTP status {status}")),
        }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::File { .. } | Error::Setup(_) | Error::LoginRejected(_) | Error::Unwrap(_) => {
                Self::LoginRejected(error.to_string())
            }
            Error::Denied => Self::Denied,
            Error::NotFound => Self::NotFound,
            Error::CasConflict => Self::Conflict,
            Error::Invalid => Self::Unavailable(error.to_string()),
            Error::Connect(error) => Self::Unavailable(error.to_string()),
            Error::Unavailable(what) => Self::Unavailable(what),
        }
    }
}

/// Cause of a rejected login, where the status tells it.
fn login_hint(status: u16) -> &'static str {
    if status == 404 { ": no such auth method, or no such namespace (vault.namespace)" } else { "" }
}

fn is_cas_conflict(body: &Value) -> bool {
    let errors = body.get("errors").and_then(Value::as_array).into_iter().flatten();
    errors.filter_map(Value::as_str).any(|error| error.contains(CAS_TEXT))
}

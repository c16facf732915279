//! Failures of Vault, told apart as far as it changes what to do next.

use serde_json::Value;

use leadsd_base::net::connect_error::{self, ConnectError};
use leadsd_credentials::StoreError;

/// Text by which Vault and OpenBao tell a failed check-and-set from other invalid requests: the
/// status is 400 for both.
const CAS_TEXT: &str = "check-and-set";

/// A failed request to Vault, or a login that cannot be made. Never holds a secret or a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file of the configuration cannot be used.
    #[error("{file}: {what}")]
    File {
        /// Path of the file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// The HTTP client or a request cannot be built.
    #[error("cannot set up the client: {0}")]
    Setup(String),
    /// The login was refused with this status by the auth method or by the lookup of the token.
    #[error("the login is refused with status {0}")]
    LoginRejected(u16),
    /// The wrapping token in this file was used or has expired.
    #[error(
        "{0}: the wrapping token was used before or has expired; unless it was used by a process \
         that ran before this one, somebody may have intercepted the secret id. Put a new one there"
    )]
    Unwrap(String),
    /// Status 403: the token is unknown, or its policy does not allow the request.
    #[error("permission denied")]
    Denied,
    /// Status 404.
    #[error("not found")]
    NotFound,
    /// Status 400 of a write whose check-and-set failed.
    #[error("another version was written meanwhile")]
    CasConflict,
    /// Status 400 for any other reason.
    #[error("the request is refused as invalid")]
    Invalid,
    /// No response arrived.
    #[error("{0}")]
    Connect(ConnectError),
    /// Sealed, in standby, throttling, or a response that cannot be understood.
    #[error("{0}")]
    Unavailable(String),
}

// === impl Error ===

impl Error {
    /// Classifies an error response. Of the body only the list of errors is looked at.
    pub(super) fn from_response(status: u16, body: &Value) -> Self {
        match status {
            400 if is_cas_conflict(body) => Self::CasConflict,
            400 => Self::Invalid,
            403 => Self::Denied,
            404 => Self::NotFound,
            412 => Self::Unavailable("has not caught up with a write".to_owned()),
            429 => Self::Unavailable("is throttling or in standby".to_owned()),
            472 | 473 => Self::Unavailable("is in standby".to_owned()),
            503 => Self::Unavailable("is sealed or in maintenance".to_owned()),
            status => Self::Unavailable(format!("answers with status {status}")),
        }
    }

    /// Classifies a request that got no response.
    pub(super) fn unreachable(error: &reqwest::Error) -> Self {
        Self::Connect(connect_error::cause(error))
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
            Error::Invalid => Self::Unavailable("refuses the request as invalid".to_owned()),
            Error::Connect(why) => Self::Unavailable(why.to_string()),
            Error::Unavailable(what) => Self::Unavailable(what),
        }
    }
}

fn is_cas_conflict(body: &Value) -> bool {
    let errors = body.get("errors").and_then(Value::as_array).into_iter().flatten();
    errors.filter_map(Value::as_str).any(|error| error.contains(CAS_TEXT))
}

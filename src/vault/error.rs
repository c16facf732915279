//! What went wrong with Vault, told apart as far as it changes what to do next.

use vaultrs::error::ClientError;

use leadsd_base::net::connect_error::{self, ConnectError};
use leadsd_credentials::StoreError;

/// A failed request to Vault, or a login that cannot be made. Never holds a secret or a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file of the configuration cannot be used.
    #[error("{file}: {what}")]
    File {
        /// Which file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// The HTTP client cannot be built.
    #[error("cannot set up the client: {0}")]
    Setup(String),
    /// The login is refused: 400 or 403 from the auth method, or from lookup-self.
    #[error("the login is refused with status {0}")]
    LoginRefused(u16),
    /// The wrapping token in this file does not work any more.
    #[error(
        "{0}: the wrapping token was used before or has expired; unless it was used by a process \
         that ran before this one, somebody may have intercepted the secret id. Put a new one there"
    )]
    Unwrap(String),
    /// 403: the token or its policy does not do.
    #[error("permission denied")]
    Denied,
    /// 404.
    #[error("not found")]
    NotFound,
    /// 400 of a write with check-and-set.
    #[error("the request is refused as invalid")]
    Invalid,
    /// No answer came.
    #[error("{0}")]
    Connect(ConnectError),
    /// Sealed, in standby, throttling, or not making sense.
    #[error("{0}")]
    Unavailable(String),
}

// === impl Error ===

impl Error {
    /// Reads `vaultrs`'s error without ever printing it: some variants hold whole bodies.
    pub(super) fn of(error: &ClientError) -> Self {
        if let ClientError::APIError { code, .. } = error {
            return Self::of_status(*code);
        }
        if let ClientError::RestClientError { source } = error {
            return match source {
                rustify::errors::ClientError::ServerResponseError { code, .. } => {
                    Self::of_status(*code)
                }
                rustify::errors::ClientError::RequestError { source, .. } => {
                    match source.downcast_ref::<reqwest::Error>() {
                        Some(error) => Self::unreachable(error),
                        None => Self::Unavailable("cannot be reached".to_owned()),
                    }
                }
                _ => Self::Unavailable("answers nonsense".to_owned()),
            };
        }
        match error {
            ClientError::ResponseEmptyError | ClientError::ResponseDataEmptyError => {
                Self::Unavailable("answers without content".to_owned())
            }
            _ => Self::Unavailable("answers nonsense".to_owned()),
        }
    }

    /// No answer came.
    pub(super) fn unreachable(error: &reqwest::Error) -> Self {
        Self::Connect(connect_error::cause(error))
    }

    /// The status of a login that failed: 400, 403 and 404 are refusals, anything else an outage.
    pub(super) fn of_login_status(code: u16) -> Self {
        match code {
            400 | 403 | 404 => Self::LoginRefused(code),
            code => Self::of_status(code),
        }
    }

    pub(super) fn of_status(code: u16) -> Self {
        match code {
            400 => Self::Invalid,
            403 => Self::Denied,
            404 => Self::NotFound,
            412 => Self::Unavailable("has not caught up with a write".to_owned()),
            429 => Self::Unavailable("is throttling or in standby".to_owned()),
            472 | 473 => Self::Unavailable("is in standby".to_owned()),
            503 => Self::Unavailable("is sealed or in maintenance".to_owned()),
            code => Self::Unavailable(format!("answers with status {code}")),
        }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::File { .. } | Error::Setup(_) | Error::LoginRefused(_) | Error::Unwrap(_) => {
                Self::LoginRejected(error.to_string())
            }
            Error::Denied => Self::Denied,
            Error::NotFound => Self::NotFound,
            Error::Invalid => Self::Unavailable("refuses the request as invalid".to_owned()),
            Error::Connect(why) => Self::Unavailable(why.to_string()),
            Error::Unavailable(what) => Self::Unavailable(what),
        }
    }
}

//! Classes of failures, for metrics and operators.

use crate::{source::GrantError, store::StoreError};

/// Class of a credential failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The secret store is sealed, throttling, unreachable, slow, or sent an invalid response.
    StoreUnavailable,
    /// The secret store rejects the login.
    LoginRejected,
    /// The secret store denies access to the path.
    StoreDenied,
    /// The path has no secret, or its newest version is deleted.
    SecretMissing,
    /// The secret has neither kind's keys.
    SecretMalformed,
    /// A rotated refresh token was not saved because the secret was changed concurrently.
    StoreConflict,
    /// The token endpoint throttles.
    TokenThrottled,
    /// The token endpoint gives no usable response.
    TokenUnavailable,
    /// The token endpoint rejects the grant or the client.
    GrantRejected,
    /// HubSpot rejects the access token, and the secret store has no other.
    TokenRejected,
}

// === impl FailureClass ===

impl FailureClass {
    /// All classes.
    pub const ALL: [Self; 10] = [
        Self::StoreUnavailable,
        Self::LoginRejected,
        Self::StoreDenied,
        Self::SecretMissing,
        Self::SecretMalformed,
        Self::StoreConflict,
        Self::TokenThrottled,
        Self::TokenUnavailable,
        Self::GrantRejected,
        Self::TokenRejected,
    ];

    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoreUnavailable => "store_unavailable",
            Self::LoginRejected => "login_rejected",
            Self::StoreDenied => "store_denied",
            Self::SecretMissing => "secret_missing",
            Self::SecretMalformed => "secret_malformed",
            Self::StoreConflict => "store_conflict",
            Self::TokenThrottled => "token_throttled",
            Self::TokenUnavailable => "token_unavailable",
            Self::GrantRejected => "grant_rejected",
            Self::TokenRejected => "token_rejected",
        }
    }

    /// True if the failure can end without a change of the secret or its policy. A rejected login
    /// counts as transient: it affects all portals at once, and the store's session retries it.
    pub(crate) fn is_transient(self) -> bool {
        match self {
            Self::StoreUnavailable
            | Self::LoginRejected
            | Self::StoreConflict
            | Self::TokenThrottled
            | Self::TokenUnavailable => true,
            Self::StoreDenied
            | Self::SecretMissing
            | Self::SecretMalformed
            | Self::GrantRejected
            | Self::TokenRejected => false,
        }
    }
}

impl From<&StoreError> for FailureClass {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::SecretMissing,
            StoreError::Denied => Self::StoreDenied,
            StoreError::LoginRejected(_) => Self::LoginRejected,
            StoreError::Conflict => Self::StoreConflict,
            StoreError::Malformed(_) => Self::SecretMalformed,
            StoreError::Unavailable(_) => Self::StoreUnavailable,
        }
    }
}

impl From<&GrantError> for FailureClass {
    fn from(error: &GrantError) -> Self {
        match error {
            GrantError::Rejected { .. } => Self::GrantRejected,
            GrantError::Throttled { .. } => Self::TokenThrottled,
            GrantError::Unavailable(_) => Self::TokenUnavailable,
        }
    }
}

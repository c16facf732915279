//! Port to the token endpoint, with its messages. The names are those of RFC 6749.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use leadsd_base::secret::Secret;

/// A token request with the refresh grant (RFC 6749, section 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshRequest {
    /// Client identifier of the app.
    pub client_id: String,
    /// Authenticates the app.
    pub client_secret: Secret,
    /// The grant.
    pub refresh_token: Secret,
}

/// A successful response of the token endpoint (RFC 6749, section 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenResponse {
    /// The new access token.
    pub access_token: Secret,
    /// Lifetime of the access token, counted from the response.
    pub expires_in: Duration,
    /// The refresh token of the response, if it had one; may equal the one that was sent.
    pub refresh_token: Option<Secret>,
}

/// Reason why the token endpoint issued no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The grant, the client or the request is rejected permanently (`invalid_grant`,
    /// `invalid_client`, `invalid_scope`). Carries the code of the error, never the body.
    #[error("the token endpoint rejects the credential: {code}")]
    Rejected {
        /// Code of RFC 6749, such as `invalid_grant`, or of HubSpot, such as `BAD_CLIENT_SECRET`.
        code: String,
    },
    /// Too many requests, or another transient rejection whose response states a pause.
    #[error("the token endpoint throttles requests, or is overloaded")]
    Throttled {
        /// `Retry-After` of the response, if it had one.
        retry_after: Option<Duration>,
    },
    /// No usable response: unreachable, timed out, a server error, or a body without a token.
    #[error("the token endpoint is unavailable: {0}")]
    Unavailable(String),
}

/// Result of a token check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenCheck {
    /// HubSpot accepts the token. It may lack scopes.
    Accepted,
    /// HubSpot rejects the token with status 401.
    Rejected,
    /// No response, or one that neither accepts nor rejects the token. Contains the cause.
    Inconclusive(String),
}

/// Issues access tokens. Production uses HubSpot's token endpoint; tests use
/// `testing::TokenEndpoint`.
#[async_trait]
pub trait TokenSource: fmt::Debug + Send + Sync + 'static {
    /// Exchanges a refresh token of a portal for an access token.
    async fn refresh(
        &self,
        portal: &str,
        request: &RefreshRequest,
    ) -> Result<TokenResponse, GrantError>;

    /// Checks an access token of a portal with one call that needs no scope and changes nothing.
    async fn check(&self, portal: &str, token: &Secret) -> TokenCheck;
}

// === impl GrantError ===

impl GrantError {
    /// `Retry-After` of the response; `None` if it had none.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } => *retry_after,
            Self::Rejected { .. } | Self::Unavailable(_) => None,
        }
    }
}

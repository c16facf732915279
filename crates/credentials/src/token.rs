//! Access tokens, and reasons for their absence.

use leadsd_base::secret::Secret;

/// An access token and its generation. Every new token of a portal has a higher generation, so that
/// a hundred reports about the same token count once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Sent as `Authorization: Bearer`.
    pub secret: Secret,
    /// Number of the token among those of its portal, from 1 up.
    pub generation: u64,
    /// True if it replaced a token that HubSpot rejected, and HubSpot has not accepted it yet.
    pub is_unproven: bool,
}

/// Reason why no token is available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenUnavailable {
    /// No token came before the caller's deadline. Names the condition that the engine waits for.
    #[error("no access token before the deadline: {0}")]
    DeadlineExceeded(String),
    /// The credential is suspended: the secret is missing, malformed or rejected permanently, or
    /// the portal was removed. An operator must act. Says why.
    #[error("the credential is suspended: {0}")]
    Suspended(String),
    /// HubSpot rejected the token, and there is no other: a static token whose secret is unchanged, or
    /// the token of a refresh that followed an earlier rejection.
    #[error("HubSpot rejects the access token, and no other token is available")]
    Rejected,
}

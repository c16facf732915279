//! Access tokens as their users see them.

use tokio::{sync::watch, time::Instant};

use crate::secret::Secret;

/// An access token and which one it is: every new token of a portal has a higher generation, so
/// that a hundred reports about the same bad token count once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Sent as `Authorization: Bearer`.
    pub secret: Secret,
    /// Counts the tokens of this portal, from 1 up.
    pub generation: u64,
}

/// What HubSpot's 401 said about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Category `EXPIRED_AUTHENTICATION`: a refresh helps.
    Expired,
    /// Any other 401: only another secret in Vault helps.
    Refused,
}

/// Why there is no token to use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// None came before the caller's deadline. Says what the engine is waiting for.
    #[error("no credential in time: {0}")]
    NotInTime(String),
    /// The secret is missing, malformed or refused for good; somebody must act. Says why.
    #[error("the credential does not work: {0}")]
    Broken(String),
    /// HubSpot refused the token and there is no other one.
    #[error("hubspot refuses the access token, and the secret store has no other")]
    Rejected,
}

/// One portal's tokens: cheap to clone, and a look at the current token never waits.
#[derive(Debug, Clone)]
pub struct Handle {
    current: watch::Receiver<Option<Token>>,
}

// === impl Handle ===

impl Handle {
    /// A handle with one token for ever.
    pub fn fixed(secret: Secret) -> Self {
        let (_, current) = watch::channel(Some(Token { secret, generation: 1 }));
        Self { current }
    }

    /// The token to use now; waits for the first one, at most until `deadline`.
    pub async fn token(&self, deadline: Instant) -> Result<Token, Unusable> {
        let mut current = self.current.clone();
        let first = tokio::time::timeout_at(deadline, current.wait_for(Option::is_some)).await;
        match first {
            Ok(Ok(token)) => token.clone().ok_or(Unusable::Rejected),
            Ok(Err(_)) | Err(_) => Err(Unusable::NotInTime("the first token".to_owned())),
        }
    }

    /// The token to try instead of `rejected`, which HubSpot answered with a 401. Waits until the
    /// engine has refreshed it or read Vault again, at most until `deadline`.
    pub async fn instead_of(
        &self,
        rejected: &Token,
        rejection: Rejection,
        deadline: Instant,
    ) -> Result<Token, Unusable> {
        let _ = (rejection, deadline);
        let current = self.current.borrow().clone();
        current.filter(|token| token.generation > rejected.generation).ok_or(Unusable::Rejected)
    }
}

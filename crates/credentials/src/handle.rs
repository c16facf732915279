//! The callers' side of a portal: a borrow of the present token if one is valid, a bounded wait
//! otherwise.

use std::{fmt, sync::Arc};

use tokio::{sync::watch, time::Instant};

use crate::{
    published::{ActiveToken, Published, TokenRequirement},
    signals::Signals,
    token::{Token, TokenUnavailable},
};
use leadsd_base::secret::Secret;

/// Access to one portal's tokens. Cheap to clone; reading the present token never waits.
#[derive(Clone)]
pub struct Handle {
    published: watch::Receiver<Published>,
    /// `None` for a token that is never renewed.
    signals: Option<Arc<Signals>>,
}

// === impl Handle ===

impl Handle {
    /// True if both are handles of one engine. A portal that is removed and added again gets another
    /// engine.
    pub fn is_same(&self, other: &Self) -> bool {
        self.published.same_channel(&other.published)
    }

    pub(crate) fn new(published: watch::Receiver<Published>, signals: Arc<Signals>) -> Self {
        Self { published, signals: Some(signals) }
    }

    /// A handle that always returns the same token.
    pub fn fixed(secret: Secret) -> Self {
        let token = Token { secret, generation: 1, is_unproven: false };
        let active = Some(ActiveToken { token, expires_at: None });
        let (_, published) = watch::channel(Published { active, ..Published::default() });
        Self { published, signals: None }
    }

    /// Returns the present token. Does not wait while there is an unexpired one; otherwise waits
    /// for the next, at most until `deadline`.
    ///
    /// Cancel safe.
    pub async fn token(&self, deadline: Instant) -> Result<Token, TokenUnavailable> {
        let need = TokenRequirement::default();
        if let Some(result) = self.published.borrow().resolve(need, Instant::now()) {
            return result;
        }
        if let Some(signals) = &self.signals {
            signals.want_token();
        }
        self.wait(need, deadline).await
    }

    /// Returns a replacement for the token of generation `rejected`, which HubSpot rejected with status
    /// 401. Waits until the engine has refreshed the token or read the secret again, at most until
    /// `deadline`. The body of the 401 does not matter: a refresh cures most causes.
    ///
    /// Cancel safe: the engine finishes what it has begun.
    pub async fn replacement_for(
        &self,
        rejected: u64,
        deadline: Instant,
    ) -> Result<Token, TokenUnavailable> {
        let Some(signals) = &self.signals else { return Err(TokenUnavailable::Rejected) };
        let need = TokenRequirement { above: rejected };
        if let Some(result) = self.published.borrow().resolve(need, Instant::now()) {
            return result;
        }
        signals.reject(rejected);
        self.wait(need, deadline).await
    }

    /// Reports that HubSpot rejected a request with the token of this generation, after it had rejected the
    /// same request with the previous token. Does not wait.
    pub fn reject_replacement(&self, generation: u64) {
        if let Some(signals) = &self.signals {
            signals.reject_again(generation);
        }
    }

    /// Reports that HubSpot accepted the unproven token of this generation, so that a later rejection of
    /// it is a new one. Does not wait.
    pub fn accept(&self, generation: u64) {
        if let Some(signals) = &self.signals {
            signals.accept(generation);
        }
    }

    async fn wait(
        &self,
        need: TokenRequirement,
        deadline: Instant,
    ) -> Result<Token, TokenUnavailable> {
        let mut published = self.published.clone();
        let mut result = None;
        let resolved = published.wait_for(|published| {
            result = published.resolve(need, Instant::now());
            result.is_some()
        });
        let outcome = tokio::time::timeout_at(deadline, resolved).await.map(|seen| seen.is_ok());
        match (outcome, result) {
            (Ok(true), Some(result)) => result,
            (Ok(_), _) => Err(TokenUnavailable::Suspended("the portal was removed".to_owned())),
            (Err(_), _) => {
                let awaits = self.published.borrow().awaits.to_owned();
                Err(TokenUnavailable::DeadlineExceeded(awaits))
            }
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let published = self.published.borrow();
        let generation = published.active.as_ref().map(|active| active.token.generation);
        f.debug_struct("Handle").field("generation", &generation).finish_non_exhaustive()
    }
}

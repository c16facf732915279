//! Access tokens as their users see them: a borrow from a watch while one is valid, a bounded wait
//! otherwise.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use leadsd_base::secret::Secret;

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
    Invalid,
}

/// Why there is no token to use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenUnavailable {
    /// None came before the caller's deadline. Says what the engine is waiting for.
    #[error("no credential in time: {0}")]
    DeadlineExceeded(String),
    /// The secret is missing, malformed or refused for good; somebody must act. Says why.
    #[error("the credential does not work: {0}")]
    Suspended(String),
    /// HubSpot refused the token and there is no other one.
    #[error("hubspot refuses the access token, and the secret store has no other")]
    Rejected,
}

/// One portal's tokens: cheap to clone, and a look at the current token never waits.
#[derive(Clone)]
pub struct Handle {
    view: watch::Receiver<Published>,
    /// None for a token that nobody renews.
    signals: Option<Arc<Signals>>,
}

/// A token and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ActiveToken {
    pub(super) token: Token,
    /// None for a token that does not expire by itself.
    pub(super) expires_at: Option<Instant>,
}

/// What the engine publishes to the portal's callers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) live: Option<ActiveToken>,
    /// The store was asked for another token than this one and has none.
    pub(super) verdict: Option<NoReplacement>,
    /// Why there will be no token until somebody acts.
    pub(super) broken: Option<Arc<str>>,
    /// What the engine is waiting for, for callers who give up.
    pub(super) awaits: &'static str,
}

/// "The store has no other token than this one", and until when that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoReplacement {
    pub(super) generation: u64,
    pub(super) until: Instant,
}

/// What a caller can use.
#[derive(Debug, Clone, Copy, Default)]
struct Need {
    /// Tokens of this generation and below are of no use; 0 takes any.
    above: u64,
    /// What HubSpot said about the token of generation `above`.
    rejection: Option<Rejection>,
}

/// What callers and operators ask of a portal's engine. Any number of signals of one kind is one
/// signal, so nothing here can grow.
#[derive(Debug, Default)]
pub(super) struct Signals {
    wake: Notify,
    wanted: AtomicBool,
    refresh_now: AtomicBool,
    closing: AtomicBool,
    /// Highest generation reported as such; 0 for none.
    expired: AtomicU64,
    refused: AtomicU64,
}

/// The signals since they were last taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingSignals {
    pub(super) wanted: bool,
    pub(super) refresh_now: bool,
    pub(super) expired: Option<u64>,
    pub(super) refused: Option<u64>,
}

// === impl Handle ===

impl Handle {
    pub(super) fn new(view: watch::Receiver<Published>, signals: Arc<Signals>) -> Self {
        Self { view, signals: Some(signals) }
    }

    /// A handle with one token for ever.
    pub fn fixed(secret: Secret) -> Self {
        let token = Token { secret, generation: 1 };
        let live = Some(ActiveToken { token, expires_at: None });
        let (_, view) = watch::channel(Published { live, ..Published::default() });
        Self { view, signals: None }
    }

    /// The token to use now. Does not wait while there is an unexpired one; otherwise waits for the
    /// next, at most until `deadline`.
    ///
    /// Safe to cancel.
    pub async fn token(&self, deadline: Instant) -> Result<Token, TokenUnavailable> {
        let need = Need::default();
        if let Some(answer) = self.view.borrow().answer(need, Instant::now()) {
            return answer;
        }
        if let Some(signals) = &self.signals {
            signals.want();
        }
        self.wait(need, deadline).await
    }

    /// The token to try instead of `rejected`, which HubSpot answered with a 401. Waits until the
    /// engine has refreshed it or read Vault again, at most until `deadline`.
    ///
    /// Safe to cancel: what the engine has begun, it finishes.
    pub async fn replacement_for(
        &self,
        rejected: &Token,
        rejection: Rejection,
        deadline: Instant,
    ) -> Result<Token, TokenUnavailable> {
        let Some(signals) = &self.signals else { return Err(TokenUnavailable::Rejected) };
        let need = Need { above: rejected.generation, rejection: Some(rejection) };
        if let Some(answer) = self.view.borrow().answer(need, Instant::now()) {
            return answer;
        }
        signals.report(rejected.generation, rejection);
        self.wait(need, deadline).await
    }

    async fn wait(&self, need: Need, deadline: Instant) -> Result<Token, TokenUnavailable> {
        let mut view = self.view.clone();
        let mut answer = None;
        let answered = view.wait_for(|view| {
            answer = view.answer(need, Instant::now());
            answer.is_some()
        });
        let outcome = tokio::time::timeout_at(deadline, answered).await.map(|seen| seen.is_ok());
        match (outcome, answer) {
            (Ok(true), Some(answer)) => answer,
            (Ok(_), _) => Err(TokenUnavailable::Suspended("the portal was removed".to_owned())),
            (Err(_), _) => {
                Err(TokenUnavailable::DeadlineExceeded(self.view.borrow().awaits.to_owned()))
            }
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = self.view.borrow().live.as_ref().map(|live| live.token.generation);
        f.debug_struct("Handle").field("generation", &generation).finish_non_exhaustive()
    }
}

// === impl ActiveToken ===

impl ActiveToken {
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

// === impl Published ===

impl Published {
    /// What to tell somebody with this need, or none if that is not decided yet.
    fn answer(&self, need: Need, now: Instant) -> Option<Result<Token, TokenUnavailable>> {
        let live = self.live.as_ref().filter(|live| live.is_usable(now));
        if let Some(live) = live.filter(|live| live.token.generation > need.above) {
            return Some(Ok(live.token.clone()));
        }
        if let Some(why) = &self.broken {
            return Some(Err(TokenUnavailable::Suspended(why.to_string())));
        }
        let verdict = self.verdict?;
        if verdict.generation != need.above || now >= verdict.until {
            return None;
        }
        match need.rejection {
            // A refresh may still help, unless there is nothing to refresh.
            Some(Rejection::Expired) if live.is_some_and(|live| live.expires_at.is_some()) => None,
            Some(Rejection::Expired | Rejection::Invalid) | None => {
                Some(Err(TokenUnavailable::Rejected))
            }
        }
    }
}

// === impl Signals ===

impl Signals {
    /// Waits for the next signal; one that came since the last wait counts.
    pub(super) async fn notified(&self) {
        self.wake.notified().await;
    }

    /// Takes the pending signals.
    pub(super) fn take(&self) -> PendingSignals {
        let taken = |generation: &AtomicU64| match generation.swap(0, Ordering::AcqRel) {
            0 => None,
            generation => Some(generation),
        };
        PendingSignals {
            wanted: self.wanted.load(Ordering::Acquire),
            refresh_now: self.refresh_now.swap(false, Ordering::AcqRel),
            expired: taken(&self.expired),
            refused: taken(&self.refused),
        }
    }

    /// Somebody needs a token.
    pub(super) fn want(&self) {
        if !self.wanted.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    fn report(&self, generation: u64, rejection: Rejection) {
        let highest = match rejection {
            Rejection::Expired => &self.expired,
            Rejection::Invalid => &self.refused,
        };
        if highest.fetch_max(generation, Ordering::AcqRel) < generation {
            self.wake.notify_one();
        }
    }

    /// An operator wants everything tried again now.
    pub(super) fn refresh_now(&self) {
        self.refresh_now.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// The engine is to end once nothing would be lost.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

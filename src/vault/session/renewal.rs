//! Renewal loop of a session: logs in, renews the token, and replaces it before it expires.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout_at},
};
use tracing::{info, warn};

use super::{JitterSource, SessionCounters, SessionState, UNKNOWN_TOKEN_PATIENCE};
use crate::vault::{
    auth_method::{IssuedToken, LoginMethod, Replacement},
    error::Error,
    lease::{self, Lease, LeaseAction},
};
use leadsd_base::secret::Secret;

/// Interval at which the file of a token is read again.
pub(super) const EXTERNAL_INTERVAL: Duration = Duration::from_secs(5);

/// Timeout for revoking a replaced token.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after the first lookup of the secret id: a node of Vault may not know the token of the login yet.
const FIRST_LOOKUP_PAUSE: Duration = Duration::from_secs(10);

/// Interval of further lookups: a secret id may be replaced while the token is renewed.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(600);

/// Maximum life of a secret id; longer ones are shortened to it, so that instants do not overflow.
const MAX_SECRET_ID_LIFE: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// Sleep interval for a token that does not expire.
const IDLE_INTERVAL: Duration = Duration::from_secs(86_400);

/// State of a session, shared with the loop.
pub(super) struct Renewal {
    pub(super) method: &'static str,
    pub(super) auth: Box<dyn LoginMethod>,
    pub(super) jitter: JitterSource,
    pub(super) current: watch::Sender<Current>,
    /// Wakes the loop when Vault denied the token of the current generation.
    pub(super) denied: Notify,
    pub(super) counts: SessionCounters,
    pub(super) reported: Reported,
}

/// Conditions that the log has; each is logged once.
#[derive(Default)]
pub(super) struct Reported {
    /// A token may not revoke itself.
    revocation_denied: AtomicBool,
    /// Tokens have a use limit.
    use_limit: AtomicBool,
}

/// Current token and state.
#[derive(Clone)]
pub(super) struct Current {
    /// Number of the token; increments with each login.
    pub(super) generation: u64,
    pub(super) state: SessionState,
    pub(super) token: Option<CurrentToken>,
    /// Token that Vault denied; the next login replaces and revokes it.
    pub(super) dropped: Option<CurrentToken>,
    /// Cause of the last failed login; `None` after a login.
    pub(super) login_error: Option<Error>,
    pub(super) secret_id_expires_at: Option<Instant>,
}

/// Token in use.
#[derive(Clone)]
pub(super) struct CurrentToken {
    pub(super) secret: Secret,
    /// True if the session created the token.
    pub(super) owned: bool,
    /// False if an operator has to replace the token before it expires.
    pub(super) is_replaced: bool,
    /// Time until which a node of Vault may not know the token.
    pub(super) young_until: Instant,
    /// `None` if the token does not expire.
    pub(super) expires_at: Option<Instant>,
    pub(super) history: Arc<TokenHistory>,
}

/// Results of the requests with a token.
pub(super) struct TokenHistory {
    /// True after a response that shows that Vault knows the token.
    is_known: AtomicBool,
    /// True if the token replaced one that Vault denied, and with which no request succeeded.
    follows_denied: bool,
}

// === impl TokenHistory ===

impl TokenHistory {
    /// Records a response that shows that Vault knows the token.
    pub(super) fn accept(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// Reports whether no request with this token and its predecessor succeeded: then the policy denies
    /// them, and another token would be denied too.
    pub(super) fn is_denied_again(&self) -> bool {
        self.follows_denied && !self.is_known.load(Ordering::Relaxed)
    }

    /// Reports whether a token that replaces this one starts with a denied predecessor.
    fn is_denied(&self, was_dropped: bool) -> bool {
        !self.is_known.load(Ordering::Relaxed) && (was_dropped || self.follows_denied)
    }
}

// === impl Renewal ===

impl Renewal {
    /// Logs in and renews the token; never returns.
    pub(super) async fn run(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            match self.auth.log_in().await {
                Ok(issued) => {
                    failures = 0;
                    self.counts.logins.fetch_add(1, Ordering::Relaxed);
                    info!(
                        vault.method = self.method,
                        vault.ttl_s = issued.lease.ttl.as_secs(),
                        "Logged in to Vault"
                    );
                    self.report_use_limit(issued.uses_left);
                    let (lease, token) = (issued.lease, issued.token.clone());
                    let replacement = issued.replacement;
                    if let Some(previous) = self.publish(issued) {
                        self.revoke(&previous.secret, Instant::now() + REVOKE_TIMEOUT).await;
                    }
                    tokio::select! {
                        () = self.renew_until_expiry(&token, lease, replacement) => {}
                        () = self.watch_secret_id(&token) => {}
                    }
                }
                Err(error) => {
                    failures += 1;
                    self.counts.login_failures.fetch_add(1, Ordering::Relaxed);
                    if failures == 1 {
                        warn!(%error, "Login to Vault failed; retrying");
                    }
                    self.login_failed(&error);
                    sleep(lease::login_pause(failures, (self.jitter)())).await;
                }
            }
        }
    }

    pub(super) fn report_denied(&self, generation: u64) {
        let is_current = self.current.send_if_modified(|now| {
            let is_current = now.generation == generation && now.token.is_some();
            if is_current {
                now.dropped = now.token.take();
                now.log_out("Vault denied the token");
            }
            is_current
        });
        if is_current {
            self.denied.notify_one();
        }
    }

    /// Revokes a token. A policy without `revoke-self` is logged once: each login would repeat it.
    pub(super) async fn revoke(&self, token: &Secret, deadline: Instant) {
        match timeout_at(deadline, self.auth.revoke(token)).await {
            Ok(Ok(())) => {}
            Ok(Err(Error::Denied))
                if self.reported.revocation_denied.swap(true, Ordering::Relaxed) => {}
            Ok(Err(_)) | Err(_) => {
                warn!("Revocation of a Vault token failed; the token expires at its time to live");
            }
        }
    }

    fn report_use_limit(&self, uses_left: Option<u64>) {
        if let Some(uses) = uses_left
            && !self.reported.use_limit.swap(true, Ordering::Relaxed)
        {
            warn!(
                vault.method = self.method,
                vault.uses_left = uses,
                "The Vault token has a use limit and ends with it; create one without a use limit"
            );
        }
    }

    /// Publishes a token as the current one. Returns the previous token if it must be revoked: if the
    /// session created it and it differs.
    fn publish(&self, issued: IssuedToken) -> Option<CurrentToken> {
        let IssuedToken { token, lease, owned, replacement, age, is_known, uses_left: _ } = issued;
        let now = Instant::now();
        let expires_at = (!lease.ttl.is_zero()).then(|| now + lease.ttl);
        let mut previous = None;
        self.current.send_modify(|current| {
            let dropped = current.dropped.take();
            let was_dropped = dropped.is_some();
            previous = current.token.take().or(dropped);
            let follows_denied =
                previous.as_ref().is_some_and(|previous| previous.history.is_denied(was_dropped));
            current.token = Some(CurrentToken {
                secret: token.clone(),
                owned,
                is_replaced: replacement == Replacement::Automatic,
                young_until: now + UNKNOWN_TOKEN_PATIENCE.saturating_sub(age),
                expires_at,
                history: Arc::new(TokenHistory {
                    is_known: AtomicBool::new(is_known),
                    follows_denied,
                }),
            });
            current.generation += 1;
            current.login_error = None;
            current.state = SessionState::LoggedIn;
        });
        previous.filter(|previous| previous.owned && previous.secret != token)
    }

    /// Handles a failed login: keeps a valid token, drops an expired one.
    fn login_failed(&self, error: &Error) {
        self.current.send_modify(|now| {
            let has_expired =
                |token: &CurrentToken| token.expires_at.is_some_and(|at| at <= Instant::now());
            if now.token.as_ref().is_none_or(has_expired) {
                now.log_out(&error.to_string());
            }
            now.login_error = Some(error.clone());
        });
    }

    /// Renews the token while renewals extend it; returns when a new login is due.
    async fn renew_until_expiry(&self, token: &Secret, lease: Lease, replacement: Replacement) {
        let Lease { mut ttl, mut renewable } = lease;
        let mut since = Instant::now();
        let (mut previous_ttl, mut failures) = (None, 0);
        // Only a renewal shows whether the token lasts, so the first one is not delayed.
        let mut is_unproven = matches!(replacement, Replacement::WhileRenewed(_));
        loop {
            let left = (since + ttl).saturating_duration_since(Instant::now());
            let action = match failures {
                0 if std::mem::take(&mut is_unproven) => LeaseAction::Renew(lease::MIN_PAUSE),
                0 => lease::next_action(ttl, renewable, previous_ttl, (self.jitter)()),
                failures => lease::action_after_failure(left, ttl, failures, (self.jitter)()),
            };
            let pause = match action {
                LeaseAction::Renew(pause) | LeaseAction::Login(pause) => pause,
                LeaseAction::Keep => IDLE_INTERVAL,
            };
            tokio::select! {
                () = self.denied.notified() => return,
                () = self.replaced_externally(token) => return,
                () = sleep(pause) => {}
            }
            match action {
                LeaseAction::Login(_) => return,
                LeaseAction::Keep => continue,
                LeaseAction::Renew(_) => {}
            }
            let sent_at = Instant::now();
            match self.auth.renew(token).await {
                // Zero would mean that the token does not expire, but a renewable token does.
                Ok(renewed) if renewed.ttl.is_zero() => return,
                Ok(renewed) => {
                    self.counts.renewals.fetch_add(1, Ordering::Relaxed);
                    failures = 0;
                    previous_ttl = Some(ttl);
                    (ttl, renewable, since) = (renewed.ttl, renewed.renewable, sent_at);
                    self.extend(
                        since + ttl,
                        match replacement {
                            Replacement::Automatic => true,
                            Replacement::WhileRenewed(full) => {
                                renewable && lease::is_full(ttl, full)
                            }
                            Replacement::Operator => false,
                        },
                    );
                }
                Err(error) => {
                    self.counts.renewal_failures.fetch_add(1, Ordering::Relaxed);
                    failures += 1;
                    if error == Error::Denied {
                        if self.auth.external_token().await.is_none() {
                            return;
                        }
                        // Another login would only return the token in the file.
                        (failures, renewable) = (0, false);
                        ttl = (since + ttl).saturating_duration_since(Instant::now());
                        since = Instant::now();
                        self.extend(since + ttl, false);
                        continue;
                    }
                    if failures == 1 {
                        warn!(%error, "Renewal of the Vault token failed; retrying until it expires");
                    }
                }
            }
        }
    }

    /// Polls the expiry of the secret id of the login; never returns. Only operators use the result, so a
    /// failure has no other effect.
    async fn watch_secret_id(&self, token: &Secret) {
        let mut pause = FIRST_LOOKUP_PAUSE;
        loop {
            let left = self.auth.secret_id_left(token).await;
            let expires_at = left.map(|left| Instant::now() + left.min(MAX_SECRET_ID_LIFE));
            self.current.send_modify(|now| now.secret_id_expires_at = expires_at);
            sleep(pause).await;
            pause = LOOKUP_INTERVAL;
        }
    }

    fn extend(&self, expires_at: Instant, is_replaced: bool) {
        self.current.send_modify(|now| {
            if let Some(token) = &mut now.token {
                token.expires_at = Some(expires_at);
                token.is_replaced = is_replaced;
            }
        });
    }

    /// Waits until the configured file has another token; never returns with other methods.
    async fn replaced_externally(&self, token: &Secret) {
        loop {
            sleep(EXTERNAL_INTERVAL).await;
            if self.auth.external_token().await.is_some_and(|external| external != *token) {
                return;
            }
        }
    }
}

// === impl Current ===

impl Current {
    fn log_out(&mut self, cause: &str) {
        self.token = None;
        self.state = SessionState::LoggedOut(cause.to_owned());
    }
}

//! The loop behind a session: logs in, renews the token, and replaces it in time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout_at},
};
use tracing::{info, warn};

use super::{Counts, Jitter, SessionState};
use crate::vault::{
    auth_method::{AuthMethod, IssuedToken},
    error::Error,
    lease::{self, Lease, Next},
};
use leadsd_base::secret::Secret;

/// How often a token that another process keeps fresh is read again.
pub(super) const EXTERNAL_INTERVAL: Duration = Duration::from_secs(5);

/// Timeout for revoking a token that was replaced.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause while nothing has to be done about a token that never expires.
const IDLE: Duration = Duration::from_secs(86_400);

/// State of a session, shared with the loop.
pub(super) struct Renewal {
    pub(super) method: &'static str,
    pub(super) auth: Box<dyn AuthMethod>,
    pub(super) jitter: Jitter,
    pub(super) current: watch::Sender<Current>,
    /// Wakes the loop: Vault denied the token of the current generation.
    pub(super) denied: Notify,
    pub(super) counts: Counts,
}

/// The token in use, if there is one.
#[derive(Clone)]
pub(super) struct Current {
    /// Number of the token: it grows with each login.
    pub(super) generation: u64,
    pub(super) state: SessionState,
    pub(super) token: Option<CurrentToken>,
}

/// A token in use.
#[derive(Clone)]
pub(super) struct CurrentToken {
    pub(super) secret: Secret,
    /// Whether the session created it.
    pub(super) owned: bool,
    /// `None` if it never expires.
    pub(super) expires_at: Option<Instant>,
}

// === impl Renewal ===

impl Renewal {
    /// Logs in and keeps the login alive; never returns.
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
                    let (lease, token) = (issued.lease, issued.token.clone());
                    if let Some(previous) = self.publish(issued) {
                        self.revoke(&previous.secret, Instant::now() + REVOKE_TIMEOUT).await;
                    }
                    self.renew_until_expiry(&token, lease).await;
                }
                Err(error) => {
                    failures += 1;
                    self.counts.login_failures.fetch_add(1, Ordering::Relaxed);
                    if failures == 1 {
                        warn!(%error, "Cannot log in to Vault; trying again");
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
                now.log_out("the token was refused");
            }
            is_current
        });
        if is_current {
            self.denied.notify_one();
        }
    }

    pub(super) async fn revoke(&self, token: &Secret, deadline: Instant) {
        if !matches!(timeout_at(deadline, self.auth.revoke(token)).await, Ok(Ok(()))) {
            warn!("Cannot revoke a Vault token; it will expire by itself");
        }
    }

    /// Makes a token the current one. Returns the previous one if it has to be revoked: if the session
    /// created it and it is another one.
    fn publish(&self, issued: IssuedToken) -> Option<CurrentToken> {
        let IssuedToken { token, lease, owned } = issued;
        let expires_at = (!lease.ttl.is_zero()).then(|| Instant::now() + lease.ttl);
        let mut previous = None;
        self.current.send_modify(|now| {
            let secret = token.clone();
            previous = now.token.replace(CurrentToken { secret, owned, expires_at });
            now.generation += 1;
            now.state = SessionState::LoggedIn;
        });
        previous.filter(|previous| previous.owned && previous.secret != token)
    }

    /// After a failed login a token that is still valid is kept, and one that has expired is not.
    fn login_failed(&self, error: &Error) {
        self.current.send_modify(|now| {
            let has_expired =
                |token: &CurrentToken| token.expires_at.is_some_and(|at| at <= Instant::now());
            if now.token.as_ref().is_none_or(has_expired) {
                now.log_out(&error.to_string());
            }
        });
    }

    /// Renews the token while that extends it; returns when it is time to log in again.
    async fn renew_until_expiry(&self, token: &Secret, lease: Lease) {
        let Lease { mut ttl, mut renewable } = lease;
        let mut since = Instant::now();
        let (mut previous_ttl, mut failures) = (None, 0);
        loop {
            let left = (since + ttl).saturating_duration_since(Instant::now());
            let step = match failures {
                0 => lease::next(ttl, renewable, previous_ttl, (self.jitter)()),
                failures => lease::after_failure(left, ttl, failures, (self.jitter)()),
            };
            let pause = match step {
                Next::Renew(pause) | Next::Login(pause) => pause,
                Next::Never => IDLE,
            };
            tokio::select! {
                () = self.denied.notified() => return,
                () = self.replaced_externally(token) => return,
                () = sleep(pause) => {}
            }
            match step {
                Next::Login(_) => return,
                Next::Never => continue,
                Next::Renew(_) => {}
            }
            let sent_at = Instant::now();
            match self.auth.renew(token).await {
                // A lease of zero would mean that the token never expires, which a renewable one does.
                Ok(renewed) if renewed.ttl.is_zero() => return,
                Ok(renewed) => {
                    self.counts.renewals.fetch_add(1, Ordering::Relaxed);
                    failures = 0;
                    previous_ttl = Some(ttl);
                    (ttl, renewable, since) = (renewed.ttl, renewed.renewable, sent_at);
                    self.extend(since + ttl);
                }
                Err(error) => {
                    self.counts.renewal_failures.fetch_add(1, Ordering::Relaxed);
                    failures += 1;
                    if error == Error::Denied {
                        return;
                    }
                    if failures == 1 {
                        warn!(%error, "Cannot renew the Vault token; trying again until it expires");
                    }
                }
            }
        }
    }

    fn extend(&self, expires_at: Instant) {
        self.current.send_modify(|now| {
            if let Some(token) = &mut now.token {
                token.expires_at = Some(expires_at);
            }
        });
    }

    /// Waits until another process has replaced the token; never returns with other methods.
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
    fn log_out(&mut self, why: &str) {
        self.token = None;
        self.state = SessionState::LoggedOut(why.to_owned());
    }
}

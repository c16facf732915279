//! Shared Vault login of the process: renews the token while Vault allows it, then logs in again.
//!
//! Requests wait for the login in progress and never start another. While a new login fails, the previous
//! token is used until it expires.

mod renewal;
mod request;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};

use self::renewal::{Current, CurrentToken, Renewal, Reported};
pub(super) use self::request::{Denial, UNKNOWN_TOKEN_PATIENCE, UNKNOWN_TOKEN_PAUSE, look_up};
use super::{
    auth_method::{ConfiguredAuth, LoginMethod},
    client::VaultClient,
    error::Error,
};
use crate::config;
use leadsd_base::{
    supervise::Supervisor,
    task::Task,
    time::{SystemClock, Timestamp, WallClock as _},
};

/// Login state of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionState {
    /// Not logged in, with the cause.
    LoggedOut(String),
    /// Logged in.
    LoggedIn,
}

/// Status of a session, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// Name of the auth method, as in the configuration.
    pub method: &'static str,
    /// Login state.
    pub state: SessionState,
    /// Cause of the last failed login; `None` after a login. The previous token may still be in use.
    pub login_error: Option<String>,
    /// Time until the token expires; `None` if it does not expire or there is no token.
    pub expires_in: Option<Duration>,
    /// False if the token expires and an operator has to replace it.
    pub is_replaced: bool,
    /// Time until the secret id of the AppRole expires; `None` if that is unknown, or if it does not
    /// expire.
    pub secret_id_expires_in: Option<Duration>,
    /// Expiry of the client certificate for connections to Vault; `None` without one.
    pub certificate_expires: Option<Timestamp>,
    /// Number of successful logins.
    pub logins: u64,
    /// Number of failed logins.
    pub login_failures: u64,
    /// Number of successful renewals.
    pub renewals: u64,
    /// Number of failed renewals.
    pub renewal_failures: u64,
}

/// Handle to the session, cheap to clone. The renewal task ends when the last clone is dropped.
#[derive(Clone)]
pub struct Session {
    client: VaultClient,
    renewal: Arc<Renewal>,
    _task: Arc<Task>,
}

/// Counters of a session.
#[derive(Default)]
struct SessionCounters {
    logins: AtomicU64,
    login_failures: AtomicU64,
    renewals: AtomicU64,
    renewal_failures: AtomicU64,
}

/// Returns random numbers in `[0, 1)`.
type JitterSource = fn() -> f64;

// === impl SessionStatus ===

impl SessionStatus {
    /// Seconds until the client certificate expires, negative after that; `None` without one.
    pub fn certificate_expires_in_s(&self) -> Option<f64> {
        let left = |expires: Timestamp| expires.duration_since(SystemClock.now()).as_secs_f64();
        self.certificate_expires.map(left)
    }
}

// === impl Session ===

impl Session {
    /// Starts the session; does not wait for the login.
    pub fn start(config: &config::Vault) -> Result<Self, Error> {
        let client = VaultClient::new(config)?;
        let auth = ConfiguredAuth::new(client.clone(), config.auth.clone());
        Ok(Self::with_auth(client, config.auth.method(), Box::new(auth), rand::random))
    }

    pub(super) fn with_auth(
        client: VaultClient,
        method: &'static str,
        auth: Box<dyn LoginMethod>,
        jitter: JitterSource,
    ) -> Self {
        let state = SessionState::LoggedOut("not logged in yet".to_owned());
        let current = Current {
            generation: 0,
            state,
            token: None,
            dropped: None,
            login_error: None,
            secret_id_expires_at: None,
        };
        let renewal = Arc::new(Renewal {
            method,
            auth,
            jitter,
            current: watch::Sender::new(current),
            denied: Notify::new(),
            counts: SessionCounters::default(),
            reported: Reported::default(),
        });
        let runs = Arc::clone(&renewal);
        // The current token stays in use while the loop restarts after a panic.
        let task = Supervisor::new("vault-session", "").spawn(move || Arc::clone(&runs).run());
        Self { client, renewal, _task: Arc::new(task) }
    }

    /// Current status.
    pub fn status(&self) -> SessionStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let SessionCounters { logins, login_failures, renewals, renewal_failures } =
            &self.renewal.counts;
        let current = self.renewal.current.borrow();
        let expires_at = current.token.as_ref().and_then(|token| token.expires_at);
        let is_replaced = current.token.as_ref().is_none_or(|token| token.is_replaced);
        let left = |at: Instant| at.saturating_duration_since(Instant::now());
        SessionStatus {
            method: self.renewal.method,
            state: current.state.clone(),
            login_error: current.login_error.as_ref().map(ToString::to_string),
            expires_in: expires_at.map(left),
            is_replaced,
            secret_id_expires_in: current.secret_id_expires_at.map(left),
            certificate_expires: self.client.certificate_expires(),
            logins: count(logins),
            login_failures: count(login_failures),
            renewals: count(renewals),
            renewal_failures: count(renewal_failures),
        }
    }

    /// HTTP client of the session.
    pub(super) fn client(&self) -> &VaultClient {
        &self.client
    }

    /// Returns the current token and its generation; waits for the login in progress until `deadline`.
    async fn token(&self, deadline: Instant) -> Result<(CurrentToken, u64), Error> {
        let mut current = self.renewal.current.subscribe();
        let logged_in = timeout_at(deadline, current.wait_for(|now| now.token.is_some())).await;
        if let Ok(Ok(now)) = logged_in
            && let Some(token) = &now.token
        {
            return Ok((token.clone(), now.generation));
        }
        let now = self.renewal.current.borrow();
        Err(match (&now.state, &now.login_error) {
            // A rejected login has another remedy than a Vault that is unavailable.
            (SessionState::LoggedOut(_), Some(error)) if error.is_of_login() => error.clone(),
            (SessionState::LoggedOut(cause), _) => Error::Unavailable(cause.clone()),
            (SessionState::LoggedIn, _) => Error::Unavailable("the login timed out".to_owned()),
        })
    }

    /// Reports that Vault denied the token of `generation`; the next [`Session::token`] waits for a new
    /// one. Repeated reports about one token are ignored.
    fn report_denied(&self, generation: u64) {
        self.renewal.report_denied(generation);
    }

    /// Revokes the token if the session created it. Waits at most until `deadline`.
    pub async fn close(&self, deadline: Instant) {
        let token = self.renewal.current.borrow().token.clone();
        if let Some(token) = token.filter(|token| token.owned) {
            self.renewal.revoke(&token.secret, deadline).await;
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("status", &self.status()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

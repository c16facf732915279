//! One login for the whole process, renewed for as long as Vault allows and repeated after that.
//!
//! Everything that needs a token waits for the login in progress and never starts another. While a new
//! login fails, the previous token serves until it expires.

mod renewal;

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

use self::renewal::{Current, CurrentToken, Renewal};
use super::{
    auth_method::{AuthMethod, ConfiguredAuth},
    client::Client,
    error::Error,
};
use crate::config;
use leadsd_base::{secret::Secret, supervise::Supervisor, task::Task};

/// Whether the session has a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionState {
    /// Not logged in, for this reason.
    LoggedOut(String),
    /// Logged in.
    LoggedIn,
}

/// The session as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// Name of the auth method, as in the configuration.
    pub method: &'static str,
    /// Whether it is logged in, or why not.
    pub state: SessionState,
    /// Time until the token expires; `None` if it does not expire, or there is none.
    pub expires_in: Option<Duration>,
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins that failed.
    pub login_failures: u64,
    /// Renewals that succeeded.
    pub renewals: u64,
    /// Renewals that failed.
    pub renewal_failures: u64,
}

/// The session; cheap to clone. Its task ends when the last clone is dropped.
#[derive(Clone)]
pub struct Session {
    client: Client,
    renewal: Arc<Renewal>,
    _task: Arc<Task>,
}

/// Counters of a session.
#[derive(Default)]
struct Counts {
    logins: AtomicU64,
    login_failures: AtomicU64,
    renewals: AtomicU64,
    renewal_failures: AtomicU64,
}

/// Returns random numbers in `[0, 1)`.
type Jitter = fn() -> f64;

// === impl Session ===

impl Session {
    /// Starts to log in; does not wait for it.
    pub fn start(config: &config::Vault) -> Result<Self, Error> {
        let client = Client::new(config)?;
        let auth = ConfiguredAuth::new(client.clone(), config.auth.clone());
        Ok(Self::with_auth(client, config.auth.method(), Box::new(auth), rand::random))
    }

    pub(super) fn with_auth(
        client: Client,
        method: &'static str,
        auth: Box<dyn AuthMethod>,
        jitter: Jitter,
    ) -> Self {
        let state = SessionState::LoggedOut("has not logged in yet".to_owned());
        let current = Current { generation: 0, state, token: None };
        let renewal = Arc::new(Renewal {
            method,
            auth,
            jitter,
            current: watch::Sender::new(current),
            denied: Notify::new(),
            counts: Counts::default(),
        });
        let runs = Arc::clone(&renewal);
        // The current token serves while the loop restarts after a panic.
        let task = Supervisor::new("vault-session", "").spawn(move || Arc::clone(&runs).run());
        Self { client, renewal, _task: Arc::new(task) }
    }

    /// Its state now.
    pub fn status(&self) -> SessionStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { logins, login_failures, renewals, renewal_failures } = &self.renewal.counts;
        let current = self.renewal.current.borrow();
        let expires_at = current.token.as_ref().and_then(|token| token.expires_at);
        SessionStatus {
            method: self.renewal.method,
            state: current.state.clone(),
            expires_in: expires_at.map(|at| at.saturating_duration_since(Instant::now())),
            logins: count(logins),
            login_failures: count(login_failures),
            renewals: count(renewals),
            renewal_failures: count(renewal_failures),
        }
    }

    /// The client that sends requests.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The current token and its generation; waits for the login in progress until `deadline`.
    pub(super) async fn token(&self, deadline: Instant) -> Result<(Secret, u64), Error> {
        let mut current = self.renewal.current.subscribe();
        let logged_in = timeout_at(deadline, current.wait_for(|now| now.token.is_some())).await;
        if let Ok(Ok(now)) = logged_in
            && let Some(CurrentToken { secret, .. }) = &now.token
        {
            return Ok((secret.clone(), now.generation));
        }
        match self.status().state {
            SessionState::LoggedOut(why) => Err(Error::Unavailable(why)),
            SessionState::LoggedIn => Err(Error::Unavailable("the login came too late".to_owned())),
        }
    }

    /// Reports that Vault denied the token of `generation`; the next [`Session::token`] waits for
    /// another. Many reports about one token count once.
    pub(super) fn report_denied(&self, generation: u64) {
        self.renewal.report_denied(generation);
    }

    /// Revokes the token if the session created it; waits until `deadline` at most.
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

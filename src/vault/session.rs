//! One login for the whole process, renewed for as long as Vault allows and made again when it does
//! not. Whoever needs Vault waits for the one login that is under way, never starts a second. While
//! a new login fails, the old token serves until its end.

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
    time::{Instant, sleep, timeout_at},
};
use tracing::{info, warn};
use vaultrs::client::VaultClient;

use super::{
    authority::{Authority, Lease, Login, Vault},
    connection::Connection,
    error::Error,
    lease::{self, Next},
};
use crate::config;
use leadsd_base::{secret::Secret, supervise::Supervisor, task::Task};

/// How often a token that somebody else keeps fresh is looked at.
const GIVEN_INTERVAL: Duration = Duration::from_secs(5);

/// How long the end of a token that was replaced may take.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How the session is doing, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionState {
    /// Not logged in; says why.
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
    /// Life left in the token; none if it does not expire, or there is none.
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

/// The session; cheap to clone. The task behind it ends when the last clone is dropped.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

/// Gives numbers in `[0, 1)`.
type Dice = fn() -> f64;

struct Shared {
    connection: Connection,
    method: &'static str,
    authority: Box<dyn Authority>,
    dice: Dice,
    current: watch::Sender<Current>,
    /// Wakes the task: the token of the current generation does not work.
    doubted: Notify,
    counts: Counts,
}

#[derive(Clone)]
struct Current {
    generation: u64,
    client: Option<Arc<VaultClient>>,
    state: SessionState,
    held: Option<Held>,
}

/// The token in use.
#[derive(Clone)]
struct Held {
    token: Secret,
    ours: bool,
    /// None if it never ends.
    expires_at: Option<Instant>,
}

#[derive(Default)]
struct Counts {
    logins: AtomicU64,
    login_failures: AtomicU64,
    renewals: AtomicU64,
    renewal_failures: AtomicU64,
}

// === impl Session ===

impl Session {
    /// Starts to log in; does not wait for it.
    pub fn start(config: &config::Vault) -> Result<Self, Error> {
        let connection = Connection::new(config)?;
        let authority = Vault::new(connection.clone(), config.auth.clone());
        let method = config.auth.method();
        Ok(Self::with(connection, method, Box::new(authority), rand::random))
    }

    fn with(
        connection: Connection,
        method: &'static str,
        authority: Box<dyn Authority>,
        dice: Dice,
    ) -> Self {
        let state = SessionState::LoggedOut("has not logged in yet".to_owned());
        let current = Current { generation: 0, client: None, state, held: None };
        let shared = Arc::new(Shared {
            connection,
            method,
            authority,
            dice,
            current: watch::Sender::new(current),
            doubted: Notify::new(),
            counts: Counts::default(),
        });
        let runs = Arc::clone(&shared);
        // The token in use serves while the loop restarts after a panic.
        let task = Supervisor::new("vault-session", "").spawn(move || keep(Arc::clone(&runs)));
        Self { shared, _task: Arc::new(task) }
    }

    /// How it is doing now.
    pub fn status(&self) -> SessionStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { logins, login_failures, renewals, renewal_failures } = &self.shared.counts;
        let current = self.shared.current.borrow();
        let expires_at = current.held.as_ref().and_then(|held| held.expires_at);
        SessionStatus {
            method: self.shared.method,
            state: current.state.clone(),
            expires_in: expires_at.map(|at| at.saturating_duration_since(Instant::now())),
            logins: count(logins),
            login_failures: count(login_failures),
            renewals: count(renewals),
            renewal_failures: count(renewal_failures),
        }
    }

    /// The logged-in client and the generation of its token; waits for the login under way.
    pub(super) async fn client(&self, deadline: Instant) -> Result<(Arc<VaultClient>, u64), Error> {
        let mut current = self.shared.current.subscribe();
        let logged_in = timeout_at(deadline, current.wait_for(|now| now.client.is_some())).await;
        if let Ok(Ok(now)) = logged_in
            && let Some(client) = &now.client
        {
            return Ok((Arc::clone(client), now.generation));
        }
        match self.status().state {
            SessionState::LoggedOut(why) => Err(Error::Unavailable(why)),
            SessionState::LoggedIn => Err(Error::Unavailable("the login came too late".to_owned())),
        }
    }

    /// Says that the token of `generation` was refused; the next [`Session::client`] waits for
    /// another. Many reports about one token count once.
    pub(super) fn doubt(&self, generation: u64) {
        let doubted = self.shared.current.send_if_modified(|now| {
            let same = now.generation == generation && now.client.is_some();
            if same {
                now.log_out("the token was refused");
            }
            same
        });
        if doubted {
            self.shared.doubted.notify_one();
        }
    }

    /// Revokes the token if the session created it; at most until `deadline`.
    pub async fn close(&self, deadline: Instant) {
        let held = self.shared.current.borrow().held.clone();
        if let Some(held) = held.filter(|held| held.ours) {
            self.shared.revoke(&held.token, deadline).await;
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Logs in and keeps the login alive, for ever.
async fn keep(shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        match shared.authority.log_in().await {
            Ok(login) => {
                failures = 0;
                shared.counts.logins.fetch_add(1, Ordering::Relaxed);
                info!(
                    vault.method = shared.method,
                    vault.ttl_s = login.lease.ttl.as_secs(),
                    "Logged in to Vault"
                );
                let lease = login.lease;
                let token = login.token.clone();
                if let Some(old) = shared.publish(login) {
                    shared.revoke(&old.token, Instant::now() + REVOKE_TIMEOUT).await;
                }
                shared.until_over(&token, lease).await;
            }
            Err(error) => {
                failures += 1;
                shared.counts.login_failures.fetch_add(1, Ordering::Relaxed);
                if failures == 1 {
                    warn!(%error, "Cannot log in to Vault; trying again");
                }
                shared.failed(&error);
                sleep(lease::login_pause(failures, (shared.dice)())).await;
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Makes a token the one in use; gives the one before if that is ours, still lives, and so has
    /// to be revoked.
    fn publish(&self, login: Login) -> Option<Held> {
        let Login { token, lease, ours } = login;
        let client = Arc::new(self.connection.with_token(&token));
        let expires_at = (!lease.ttl.is_zero()).then(|| Instant::now() + lease.ttl);
        let mut old = None;
        self.current.send_modify(|now| {
            old = now.held.replace(Held { token: token.clone(), ours, expires_at });
            now.generation += 1;
            now.client = Some(client);
            now.state = SessionState::LoggedIn;
        });
        old.filter(|old| old.ours && old.token != token)
    }

    /// A login failed: a token that lives on is kept, one that has ended is not.
    fn failed(&self, error: &Error) {
        self.current.send_modify(|now| {
            let ended = |held: &Held| held.expires_at.is_some_and(|at| at <= Instant::now());
            if now.client.is_none() || now.held.as_ref().is_none_or(ended) {
                now.log_out(&error.to_string());
            }
        });
    }

    async fn revoke(&self, token: &Secret, deadline: Instant) {
        if !matches!(timeout_at(deadline, self.authority.revoke(token)).await, Ok(Ok(()))) {
            warn!("Cannot revoke a Vault token; it will expire by itself");
        }
    }

    /// Renews while that helps; returns when it is time to log in again.
    async fn until_over(&self, token: &Secret, lease: Lease) {
        let Lease { mut ttl, mut renewable } = lease;
        let mut since = Instant::now();
        let (mut before, mut failures) = (None, 0);
        loop {
            let now = Instant::now();
            let left = (since + ttl).saturating_duration_since(now);
            let step = match failures {
                0 => lease::next(ttl, renewable, before, (self.dice)()),
                failures => lease::after_failure(left, ttl, failures, (self.dice)()),
            };
            let pause = match step {
                Next::Renew(pause) | Next::Login(pause) => pause,
                Next::Never => Duration::from_secs(86_400),
            };
            tokio::select! {
                () = self.doubted.notified() => return,
                () = self.replaced(token) => return,
                () = sleep(pause) => {}
            }
            match step {
                Next::Login(_) => return,
                Next::Never => continue,
                Next::Renew(_) => {}
            }
            let asked = Instant::now();
            match self.authority.renew(token).await {
                // What had an end and has no time left does not live for ever.
                Ok(renewed) if renewed.ttl.is_zero() => return,
                Ok(renewed) => {
                    self.counts.renewals.fetch_add(1, Ordering::Relaxed);
                    failures = 0;
                    before = Some(ttl);
                    (ttl, renewable, since) = (renewed.ttl, renewed.renewable, asked);
                    self.renewed(since + ttl);
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

    fn renewed(&self, expires_at: Instant) {
        self.current.send_modify(|now| {
            if let Some(held) = &mut now.held {
                held.expires_at = Some(expires_at);
            }
        });
    }

    /// Waits until somebody has replaced the token that was given; for ever with other methods.
    async fn replaced(&self, token: &Secret) {
        loop {
            sleep(GIVEN_INTERVAL).await;
            if self.authority.given().await.is_some_and(|given| given != *token) {
                return;
            }
        }
    }
}

// === impl Current ===

impl Current {
    fn log_out(&mut self, why: &str) {
        self.client = None;
        self.held = None;
        self.state = SessionState::LoggedOut(why.to_owned());
    }
}

#[cfg(test)]
mod tests;

//! One login for the whole process, renewed for as long as Vault allows and made again when it does
//! not. Whoever needs Vault waits for the one login that is under way, never starts a second.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout_at},
};
use tracing::{info, warn};
use vaultrs::{api::AuthInfo, auth::approle, client::VaultClient, error::ClientError, token};

use super::{
    connection::{Connection, read_secret},
    error::Error,
    lease::{self, Next},
};
use crate::{
    config::{self, VaultAuth},
    secret::Secret,
    task::{self, Task},
};

/// How often a token file is looked at.
const FILE_INTERVAL: Duration = Duration::from_secs(5);

/// How the session is doing, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionState {
    /// Not logged in; says why.
    LoggedOut(String),
    /// Logged in.
    LoggedIn,
}

/// The session; cheap to clone. The task behind it ends when the last clone is dropped.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

struct Shared {
    connection: Connection,
    auth: VaultAuth,
    current: watch::Sender<Current>,
    /// Wakes the task: the token of the current generation does not work.
    doubted: Notify,
}

#[derive(Clone)]
struct Current {
    generation: u64,
    client: Option<Arc<VaultClient>>,
    state: SessionState,
    /// Whether the token is ours, so that we revoke it at the end.
    ours: bool,
}

/// A token and how long it lives; zero for ever.
struct Login {
    token: Secret,
    ttl: Duration,
    renewable: bool,
    ours: bool,
}

// === impl Session ===

impl Session {
    /// Starts to log in; does not wait for it.
    pub fn start(config: &config::Vault) -> Result<Self, Error> {
        let current = Current {
            generation: 0,
            client: None,
            state: SessionState::LoggedOut("has not logged in yet".to_owned()),
            ours: false,
        };
        let shared = Arc::new(Shared {
            connection: Connection::new(config)?,
            auth: config.auth.clone(),
            current: watch::channel(current).0,
            doubted: Notify::new(),
        });
        let task = task::spawn("vault-session", "", keep(Arc::clone(&shared)));
        Ok(Self { shared, _task: Arc::new(task) })
    }

    /// How it is doing now.
    pub fn state(&self) -> SessionState {
        self.shared.current.borrow().state.clone()
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
        match self.state() {
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
                now.client = None;
                now.state = SessionState::LoggedOut("the token was refused".to_owned());
            }
            same
        });
        if doubted {
            self.shared.doubted.notify_one();
        }
    }

    /// Revokes the token if the session created it; at most until `deadline`.
    pub async fn close(&self, deadline: Instant) {
        let now = self.shared.current.borrow().clone();
        if let (Some(client), true) = (now.client, now.ours)
            && !matches!(timeout_at(deadline, token::revoke_self(&*client)).await, Ok(Ok(())))
        {
            warn!("Cannot revoke the Vault token; it will expire by itself");
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// Logs in and keeps the login alive, for ever.
async fn keep(shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        match shared.log_in().await {
            Ok(login) => {
                failures = 0;
                let client = Arc::new(shared.connection.with_token(&login.token));
                shared.current.send_modify(|now| {
                    now.generation += 1;
                    now.client = Some(Arc::clone(&client));
                    now.state = SessionState::LoggedIn;
                    now.ours = login.ours;
                });
                info!(vault.ttl_s = login.ttl.as_secs(), "Logged in to Vault");
                shared.until_over(&client, login).await;
            }
            Err(error) => {
                failures += 1;
                let pause = lease::backoff(failures, rand::random());
                if failures == 1 {
                    warn!(%error, "Cannot log in to Vault; trying again");
                }
                shared.current.send_modify(|now| {
                    if now.client.is_none() {
                        now.state = SessionState::LoggedOut(error.to_string());
                    }
                });
                sleep(pause).await;
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    async fn log_in(&self) -> Result<Login, Error> {
        match &self.auth {
            VaultAuth::Token { file } | VaultAuth::TokenFile { file } => {
                let token = read_secret(file).await?;
                let client = self.connection.with_token(&token);
                let found = token::lookup_self(&client).await.map_err(|error| refused(&error))?;
                let (ttl, renewable) = (found.ttl, found.renewable.unwrap_or(false));
                // The token's own keeper renews a token file.
                let renewable = renewable && matches!(self.auth, VaultAuth::Token { .. });
                Ok(Login { token, ttl: Duration::from_secs(ttl), renewable, ours: false })
            }
            VaultAuth::AppRole { mount, role_id_file, secret_id_file } => {
                let role_id = read_secret(role_id_file).await?;
                let secret_id = match secret_id_file {
                    Some(file) => read_secret(file).await?,
                    None => Secret::default(),
                };
                let client = self.connection.with_token(&Secret::default());
                let login =
                    approle::login(&client, mount, role_id.expose(), secret_id.expose()).await;
                Ok(Login::of(login.map_err(|error| refused(&error))?))
            }
        }
    }

    /// Renews while that helps; returns when it is time to log in again.
    async fn until_over(&self, client: &VaultClient, login: Login) {
        let Login { token, ttl, renewable, ours: _ } = login;
        let (mut ttl, mut renewable, mut last) = (ttl, renewable, None);
        let mut expiry = Instant::now() + ttl;
        let mut failures = 0;
        loop {
            let step = lease::next(ttl, renewable, last, rand::random());
            let pause = match step {
                Next::Renew(pause) | Next::Login(pause) => pause,
                Next::Never => Duration::from_secs(86_400),
            };
            tokio::select! {
                () = self.doubted.notified() => return,
                () = self.file_changed(&token) => return,
                () = sleep(pause) => {}
            }
            match step {
                Next::Login(_) => return,
                Next::Never => continue,
                Next::Renew(_) => {}
            }
            match token::renew_self(client, None).await {
                Ok(renewed) => {
                    failures = 0;
                    last = Some(ttl);
                    ttl = Duration::from_secs(renewed.lease_duration);
                    renewable = renewed.renewable;
                    expiry = Instant::now() + ttl;
                }
                Err(error) => {
                    failures += 1;
                    let error = Error::of(&error);
                    let left = expiry.saturating_duration_since(Instant::now());
                    if matches!(error, Error::Denied) || left.is_zero() {
                        return;
                    }
                    if failures == 1 {
                        warn!(%error, "Cannot renew the Vault token; trying again until it expires");
                    }
                    // The next step waits two thirds of this.
                    ttl = lease::backoff(failures, rand::random()).min(left).mul_f64(1.5);
                    last = None;
                }
            }
        }
    }

    /// Waits until the token file holds another token; for ever with other methods.
    async fn file_changed(&self, token: &Secret) {
        let file: PathBuf = match &self.auth {
            VaultAuth::TokenFile { file } => file.clone(),
            VaultAuth::Token { .. } | VaultAuth::AppRole { .. } => std::future::pending().await,
        };
        loop {
            sleep(FILE_INTERVAL).await;
            if read_secret(&file).await.is_ok_and(|now| now != *token) {
                return;
            }
        }
    }
}

// === impl Login ===

impl Login {
    fn of(auth: AuthInfo) -> Self {
        Self {
            token: Secret::new(auth.client_token),
            ttl: Duration::from_secs(auth.lease_duration),
            renewable: auth.renewable,
            ours: true,
        }
    }
}

/// A login that fails for good says so; anything else is an outage.
fn refused(error: &ClientError) -> Error {
    match Error::of(error) {
        Error::Invalid => Error::LoginRefused(400),
        Error::Denied => Error::LoginRefused(403),
        other => other,
    }
}

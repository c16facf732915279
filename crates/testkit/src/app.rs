//! One replica of the service between its fakes.
//!
//! The service runs on a separate thread ([`Host`]), and so do the fakes. A test may therefore
//! block in `drop` while the service stops, and a slow test does not slow down the fakes.

mod checks;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, mpsc},
    time::Duration,
};

use leadsd_base::{secret::Secret, time::SystemClock};
use leadsd_hubspot_fake::{CONTACTS_READ, CONTACTS_WRITE, FakeHubspot, OWNERS, READ, WRITE};
use leadsd_vault_fake::FakeVault;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::{sync::oneshot, task::spawn_blocking};
use tracing::Dispatch;
use tracing_subscriber::EnvFilter;

use crate::{host::Host, logs::LogCapture, wait::wait_ready};

/// Starts the service with configuration keys such as `LEADSD_GRPC__LISTEN`. The service stops when
/// the receiver resolves.
pub type Launch = fn(
    Vec<(String, String)>,
    oneshot::Receiver<()>,
) -> Pin<Box<dyn Future<Output = Launched> + Send>>;

/// A service that listens.
pub struct Launched {
    /// Address of the gRPC port.
    pub grpc: SocketAddr,
    /// Address of the admin endpoints.
    pub admin: SocketAddr,
    /// Serves until it is stopped.
    pub run: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// One running replica. Dropping it stops the service and checks that nothing leaked.
#[derive(Debug)]
pub struct TestApp {
    /// The fake HubSpot.
    pub hubspot: Arc<FakeHubspot>,
    /// The fake Vault.
    pub vault: Arc<FakeVault>,
    /// Address of the gRPC port.
    pub grpc: String,
    /// URL of the admin endpoints.
    pub admin: String,
    /// Id of a contact that leads can belong to.
    pub contact: String,
    /// Static access tokens by portal.
    pub tokens: BTreeMap<String, Secret>,
    /// Log lines of this replica.
    pub logs: LogCapture,
    peers: Peers,
    service: Service,
}

/// Configuration of a [`TestApp`] before it starts.
#[derive(Debug)]
pub struct Builder {
    launch: Launch,
    log_filter: fn() -> EnvFilter,
    api_version: &'static str,
    oauth: bool,
    settings: Vec<(String, String)>,
    portals: Vec<String>,
    wait_ready: bool,
    omitted: Vec<&'static str>,
    secrets: Vec<(&'static str, Value)>,
    peers: Option<Peers>,
}

/// Fakes and credentials that replicas of one service share.
#[derive(Debug, Clone)]
pub struct Peers {
    hubspot: Arc<FakeHubspot>,
    vault: Arc<FakeVault>,
    contact: String,
    tokens: BTreeMap<String, Secret>,
    token_file: Arc<NamedTempFile>,
    /// The thread of the fakes; the last replica ends it.
    host: Arc<Host>,
}

/// The service on its thread.
#[derive(Debug)]
struct Service {
    host: Option<Host>,
    stop: Option<oneshot::Sender<()>>,
    /// Receives once the service has ended.
    ended: Mutex<mpsc::Receiver<()>>,
    launch: Launch,
    log_filter: fn() -> EnvFilter,
}

// === impl TestApp ===

impl TestApp {
    /// Configures another replica of this service, with the same HubSpot and Vault.
    pub fn replica(&self) -> Builder {
        let Service { launch, log_filter, .. } = self.service;
        Builder { peers: Some(self.peers.clone()), ..Builder::new(launch, log_filter) }
    }

    /// Replaces the Vault token in the file that all replicas read.
    ///
    /// # Panics
    ///
    /// If the file cannot be written.
    pub fn set_vault_token(&self, token: &str) {
        std::fs::write(self.peers.token_file.path(), token).expect("a file");
    }

    /// Creates a lead with this name in HubSpot, bypassing the service; gives its id.
    ///
    /// # Panics
    ///
    /// If the fake rejects the lead.
    pub fn lead(&self, name: &str) -> String {
        self.hubspot.add_lead(&self.contact, &json!({"hs_lead_name": name})).expect("a good lead")
    }

    /// Method and path of each completed HubSpot request, without token requests and token checks.
    pub fn hubspot_calls(&self) -> Vec<String> {
        let log = self.hubspot.log().into_iter();
        let of_credentials = ["/oauth/", "/account-info/"];
        log.filter(|call| !of_credentials.iter().any(|path| call.path.starts_with(path)))
            .map(|call| format!("{} {}", call.method, call.path))
            .collect()
    }

    /// Stops the service as a signal does, and checks that nothing leaked.
    ///
    /// # Panics
    ///
    /// If the service does not stop, or if something leaked.
    pub async fn stop(self) {
        // The runtime of the test must go on: clients on it see the end of their streams.
        let stopped = spawn_blocking(move || drop(self)).await;
        if let Err(panic) = stopped {
            std::panic::resume_unwind(panic.into_panic());
        }
    }
}

// === impl Builder ===

impl Builder {
    /// A replica with one portal, `default`, and a static token. `log_filter` selects the log lines
    /// that are captured.
    pub fn new(launch: Launch, log_filter: fn() -> EnvFilter) -> Self {
        Self {
            launch,
            log_filter,
            api_version: "2026-09",
            oauth: false,
            settings: Vec::new(),
            portals: vec!["default".to_owned()],
            wait_ready: true,
            omitted: Vec::new(),
            secrets: Vec::new(),
            peers: None,
        }
    }

    /// Uses this version of the HubSpot API.
    #[must_use]
    pub fn api_version(mut self, version: &'static str) -> Self {
        self.api_version = version;
        self
    }

    /// Uses OAuth credentials instead of a static token.
    #[must_use]
    pub fn oauth(mut self) -> Self {
        self.oauth = true;
        self
    }

    /// Configures these portals.
    #[must_use]
    pub fn portals(mut self, names: &[&str]) -> Self {
        self.portals = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Sets a configuration key, such as `QUOTA__BURST`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Omits a key that the harness would set.
    #[must_use]
    pub fn without(mut self, key: &'static str) -> Self {
        self.omitted.push(key);
        self
    }

    /// Stores a secret in Vault.
    #[must_use]
    pub fn secret(mut self, path: &'static str, content: Value) -> Self {
        self.secrets.push((path, content));
        self
    }

    /// Does not wait until the service is ready.
    #[must_use]
    pub fn unready(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    /// Starts the service, and its fakes unless it is a further replica.
    ///
    /// # Panics
    ///
    /// If the service does not start.
    pub async fn start(self) -> TestApp {
        let peers = match self.peers.clone() {
            Some(peers) => peers,
            None => self.start_peers().await,
        };
        let logs = LogCapture::default();
        let host = Host::start("leadsd", logs.dispatch((self.log_filter)()));
        let (stop, stopped) = oneshot::channel();
        let settings = self.settings(&peers);
        let launch = self.launch;
        let launched = host.spawn(async move { launch(settings, stopped).await });
        let Launched { grpc, admin, run } = launched.await.expect("the service starts");
        let (ending, ended) = mpsc::channel();
        drop(host.spawn(async move {
            run.await;
            // An error means that the test has ended.
            let _ = ending.send(());
        }));
        let app = TestApp {
            hubspot: Arc::clone(&peers.hubspot),
            vault: Arc::clone(&peers.vault),
            grpc: grpc.to_string(),
            admin: format!("http://{admin}"),
            contact: peers.contact.clone(),
            tokens: peers.tokens.clone(),
            logs,
            peers,
            service: Service {
                host: Some(host),
                stop: Some(stop),
                ended: Mutex::new(ended),
                launch,
                log_filter: self.log_filter,
            },
        };
        if self.wait_ready {
            wait_ready(&app.admin).await;
            if self.peers.is_none() && !self.oauth {
                // Checks of the static tokens are no calls of the test.
                app.hubspot.clear_log();
            }
        }
        app
    }

    async fn start_peers(&self) -> Peers {
        let host = Host::start("fakes", Dispatch::none());
        let started = host.spawn(async {
            let free = SocketAddr::from(([127, 0, 0, 1], 0));
            let hubspot = FakeHubspot::start(free, Arc::new(SystemClock)).await;
            (hubspot.expect("a port"), FakeVault::start(free).await.expect("a port"))
        });
        let (hubspot, vault) = started.await.expect("the fakes start");
        // Tests search for leads that they have just written.
        hubspot.behave(|behaviour| behaviour.index_lag = Duration::ZERO);
        let contact = hubspot.add_contact("ada@example.com");
        let mut tokens = BTreeMap::new();
        for portal in &self.portals {
            let secret = if self.oauth {
                let (client_id, client_secret, refresh_token) = hubspot.oauth_app();
                json!({"client_id": client_id, "client_secret": client_secret.expose(),
                       "refresh_token": refresh_token.expose()})
            } else {
                let token =
                    hubspot.static_token(&[READ, WRITE, OWNERS, CONTACTS_READ, CONTACTS_WRITE]);
                let secret = json!({"access_token": token.expose()});
                tokens.insert(portal.clone(), token);
                secret
            };
            vault.put(&format!("hubspot/{portal}"), secret);
        }
        for (path, content) in &self.secrets {
            vault.put(path, content.clone());
        }
        let mut token_file = NamedTempFile::new().expect("a file");
        writeln!(token_file, "{}", vault.root_token().expose()).expect("a file");
        Peers {
            hubspot: Arc::new(hubspot),
            vault: Arc::new(vault),
            contact,
            tokens,
            token_file: Arc::new(token_file),
            host: Arc::new(host),
        }
    }

    /// Keys of the configuration; keys of the test come last and take precedence.
    fn settings(&self, peers: &Peers) -> Vec<(String, String)> {
        let Peers { hubspot, vault, token_file, .. } = peers;
        let mut settings = vec![
            ("GRPC__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            ("GRPC__DRAIN_DELAY".to_owned(), "0s".to_owned()),
            // The thread of a test that drops its app is blocked: no client on it closes a connection.
            ("GRPC__SHUTDOWN_GRACE".to_owned(), "50ms".to_owned()),
            ("ADMIN__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            ("VAULT__ADDRESS".to_owned(), format!("http://{}", vault.address())),
            ("VAULT__AUTH__METHOD".to_owned(), "token".to_owned()),
            ("VAULT__AUTH__FILE".to_owned(), token_file.path().display().to_string()),
            ("VAULT__POLL_INTERVAL".to_owned(), "1s".to_owned()),
            ("HUBSPOT__BASE_URL".to_owned(), format!("http://{}", hubspot.address())),
            ("HUBSPOT__API_VERSION".to_owned(), self.api_version.to_owned()),
            // Tests of readiness set "any"; all others wait for each of their portals.
            ("CREDENTIALS__READINESS".to_owned(), "all".to_owned()),
            // Tests of retries set a number; all others expect each failure.
            ("HUBSPOT__MAX_ATTEMPTS".to_owned(), "1".to_owned()),
        ];
        for portal in &self.portals {
            settings.push((format!("PORTALS__{portal}__SECRET"), format!("hubspot/{portal}")));
        }
        settings.retain(|(key, _)| !self.omitted.contains(&key.as_str()));
        settings.extend(self.settings.iter().cloned());
        settings.into_iter().map(|(key, value)| (format!("LEADSD_{key}"), value)).collect()
    }
}

// === impl Peers ===

impl Peers {
    /// True if no other replica uses these.
    fn is_last(&self) -> bool {
        Arc::strong_count(&self.host) == 1
    }
}

// === impl Launched ===

impl std::fmt::Debug for Launched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { grpc, admin, run: _ } = self;
        f.debug_struct("Launched").field("grpc", grpc).field("admin", admin).finish()
    }
}

//! Credentials of the egress proxy: a secret with the keys `username` and `password`.
//!
//! Vault itself is reached directly, or through the proxy without credentials: they are in Vault.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{AdminClient, KvStore, SecretData};
use leadsd_base::{
    net::egress::{Egress, ProxyCredentials},
    secret::Secret,
    supervise::Supervisor,
    task::Task,
};
use leadsd_credentials::{SecretPath, SecretStore as _, StoreError};

/// Minimum time between two reads, also if the proxy rejects the credentials.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum pause after a failed read.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Error of reading the credentials. Contains no part of them.
#[derive(Debug, thiserror::Error)]
pub enum ProxyCredentialsError {
    /// The secret cannot be read.
    #[error(transparent)]
    Vault(#[from] super::Error),
    /// The secret does not exist, or its newest version is deleted.
    #[error("there is no secret")]
    NotFound,
    /// The secret contains no valid credentials.
    #[error("{0}")]
    Malformed(String),
}

/// Keeps the credentials of `egress` up to date: reads the secret again within `interval`, and at once if
/// the proxy rejects them. While reading fails, the last credentials stay in use.
pub fn watch_proxy_credentials(
    store: Arc<KvStore>,
    path: SecretPath,
    interval: Duration,
    egress: Egress,
) -> Task {
    let supervisor = Supervisor::new("proxy-credentials", "");
    supervisor.spawn(move || run(Arc::clone(&store), path.clone(), interval, egress.clone()))
}

async fn run(store: Arc<KvStore>, path: SecretPath, interval: Duration, egress: Egress) {
    let mut failures = 0_u32;
    loop {
        let started = Instant::now();
        let pause = match read(&store, &path).await {
            Ok(credentials) => {
                if egress.set_credentials(credentials) {
                    info!("Loaded proxy credentials");
                }
                failures = 0;
                interval
            }
            Err(error) => {
                if failures == 0 {
                    warn!(%error, "Reading proxy credentials failed; the last ones stay in use");
                }
                failures += 1;
                let pause = MIN_INTERVAL.saturating_mul(1 << (failures - 1).min(10));
                pause.min(MAX_RETRY).min(interval)
            }
        };
        select! {
            () = sleep(pause) => {}
            () = egress.credentials_rejected() => {
                sleep(MIN_INTERVAL.saturating_sub(started.elapsed())).await;
            }
        }
    }
}

async fn read(store: &KvStore, path: &SecretPath) -> Result<ProxyCredentials, StoreError> {
    let keys = store.read_strings(path).await?;
    let text = |name: &str| keys.get(name).cloned();
    parse(text("username"), text("password")).map_err(StoreError::Malformed)
}

/// Reads the credentials with an existing login, for the command line.
pub async fn read_proxy_credentials(
    client: &AdminClient,
    path: &SecretPath,
) -> Result<ProxyCredentials, ProxyCredentialsError> {
    let stored = client.read(path).await?;
    let data: SecretData =
        stored.and_then(|stored| stored.data).ok_or(ProxyCredentialsError::NotFound)?;
    let text = |name: &str| data.text(name).map(Secret::new);
    parse(text("username"), text("password")).map_err(ProxyCredentialsError::Malformed)
}

fn parse(username: Option<Secret>, password: Option<Secret>) -> Result<ProxyCredentials, String> {
    let (Some(username), Some(password)) = (username, password) else {
        return Err("expected username and password".to_owned());
    };
    // A line break at the end comes from the tool that stored the secret.
    let [username, password] =
        [username, password].map(|text| Secret::new(text.expose().trim_end_matches(['\r', '\n'])));
    ProxyCredentials::new(username, password).map_err(|error| error.to_string())
}

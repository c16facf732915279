//! Connections to Vault, which end before they lead to a node that no longer serves.
//!
//! A connection is kept at the address that the name had when it was opened. After a failover that address
//! may belong to a node that is sealed or in standby and keeps its connections. So a pool is replaced after
//! a response of such a node, and after a maximum age; then the name is resolved, and the client certificate
//! read, again.

use std::{path::Path, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use super::{error::Error, secret_file};
use crate::config;
use leadsd_base::net::http::{ClientBuilder, Identity, InvalidPem};

/// Maximum age of a pool: at most the time that DNS servers usually let names be cached.
const MAX_AGE: Duration = Duration::from_secs(30);

/// Minimum age of a pool that is replaced: a cluster without an active node answers every request with
/// such a status.
const MIN_AGE: Duration = Duration::from_secs(1);

/// The pool in use, and the configuration of the next one.
pub(super) struct ConnectionPool {
    config: config::Vault,
    current: Mutex<Current>,
}

struct Current {
    client: reqwest::Client,
    /// Time of the last attempt to replace it.
    since: Instant,
    /// True if a node answered that it does not serve.
    suspect: bool,
}

// === impl ConnectionPool ===

impl ConnectionPool {
    pub(super) fn new(config: &config::Vault) -> Result<Self, Error> {
        let client = build(config)?;
        let current = Current { client, since: Instant::now(), suspect: false };
        Ok(Self { config: config.clone(), current: Mutex::new(current) })
    }

    /// The HTTP client for the next request.
    pub(super) fn client(&self) -> reqwest::Client {
        let mut current = self.current.lock();
        let max_age = if current.suspect { MIN_AGE } else { MAX_AGE };
        if current.since.elapsed() >= max_age {
            current.since = Instant::now();
            match build(&self.config) {
                Ok(client) => {
                    current.client = client;
                    current.suspect = false;
                }
                // A file that is being written: the connections in use are the best there are.
                Err(error) => warn!(%error, "Connections to Vault could not be replaced; retrying"),
            }
        }
        current.client.clone()
    }

    /// Takes note of a response's status. The next pool resolves the name again if a node is sealed, in
    /// standby or throttling.
    pub(super) fn observe(&self, status: u16) {
        if matches!(status, 429 | 472 | 473 | 503) {
            self.current.lock().suspect = true;
        }
    }
}

fn build(config: &config::Vault) -> Result<reqwest::Client, Error> {
    let builder = ClientBuilder::new(config.timeout);
    let mut builder = builder.egress(&config.egress, &config.address);
    if let Some(file) = &config.ca_file {
        builder = builder.ca_file("vault.ca_file", file);
    }
    if let (Some(cert), Some(key)) = (&config.client_cert_file, &config.client_key_file) {
        let (chain, key) = (secret_file::read_bytes(cert)?, secret_file::read_bytes(key)?);
        let what = "not a PEM certificate that matches the key in client_key_file";
        let identity = Identity::from_pem(&chain, &key).map_err(pem_error(cert, what))?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| Error::Setup(error.to_string()))
}

fn pem_error<'a>(file: &'a Path, what: &'a str) -> impl FnOnce(InvalidPem) -> Error + 'a {
    move |InvalidPem| Error::File { file: file.display().to_string(), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::tests::config;

    #[tokio::test(start_paused = true)]
    async fn a_pool_is_replaced_after_its_maximum_age_or_a_response_of_another_node() {
        let pool = ConnectionPool::new(&config("http://vault:8200")).unwrap();
        let age = || pool.current.lock().since.elapsed();
        let after = async |time: Duration| {
            tokio::time::sleep(time).await;
            drop(pool.client());
            age()
        };
        assert_eq!(after(MAX_AGE / 2).await, MAX_AGE / 2, "kept");
        assert_eq!(after(MAX_AGE / 2).await, Duration::ZERO, "replaced at its maximum age");
        for status in [429, 472, 473, 503] {
            pool.observe(status);
            assert_eq!(after(MIN_AGE / 2).await, MIN_AGE / 2, "{status}: at most once a second");
            assert_eq!(after(MIN_AGE / 2).await, Duration::ZERO, "{status}: replaced");
        }
        for status in [200, 204, 307, 400, 403, 404, 412, 500, 502] {
            pool.observe(status);
            drop(pool.client());
            assert!(!pool.current.lock().suspect, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_survives_a_client_certificate_that_is_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let pair = rcgen::generate_simple_self_signed(["leadsd".to_owned()]).unwrap();
        let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        std::fs::write(&cert, pair.cert.pem()).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        let mut config = config("https://vault:8200");
        (config.client_cert_file, config.client_key_file) = (Some(cert.clone()), Some(key));
        let pool = ConnectionPool::new(&config).unwrap();
        std::fs::write(&cert, "").unwrap();
        tokio::time::advance(MAX_AGE).await;
        drop(pool.client());
        assert_eq!(pool.current.lock().since.elapsed(), Duration::ZERO, "tried");
        std::fs::write(&cert, pair.cert.pem()).unwrap();
        pool.observe(503);
        tokio::time::advance(MIN_AGE).await;
        drop(pool.client());
        assert!(!pool.current.lock().suspect, "replaced");
    }
}

//! Connections to Vault, which end before they lead to a node that no longer serves.
//!
//! A connection is kept at the address that the name had when it was opened. After a failover that address
//! may belong to a node that is sealed or in standby and keeps its connections. So a pool is replaced after
//! a response of such a node, after a change of the files of the client certificate, and after a maximum age;
//! then the name is resolved, and the client certificate read, again.

use std::{path::Path, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use super::{error::Error, secret_file};
use crate::config;
use leadsd_base::{
    net::http::{ClientBuilder, Identity, InvalidPem},
    time::Timestamp,
};

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
    /// Expiry of the client certificate in use; `None` without one.
    certificate_expires: Option<Timestamp>,
    /// Stamps of the files of the client certificate, from before they were read.
    stamps: [Stamp; 2],
}

/// Identity, size and time of modification of a file; `None` if there is none.
type Stamp = Option<(u64, u64, i64, i64)>;

// === impl ConnectionPool ===

impl ConnectionPool {
    pub(super) fn new(config: &config::Vault) -> Result<Self, Error> {
        let stamps = stamps(config);
        let (client, certificate_expires) = build(config)?;
        let since = Instant::now();
        let current = Current { client, since, suspect: false, certificate_expires, stamps };
        Ok(Self { config: config.clone(), current: Mutex::new(current) })
    }

    /// The HTTP client for the next request.
    pub(super) fn client(&self) -> reqwest::Client {
        let mut current = self.current.lock();
        let age = current.since.elapsed();
        if age < MIN_AGE {
            return current.client.clone();
        }
        let stamps = stamps(&self.config);
        if age >= MAX_AGE || current.suspect || current.stamps != stamps {
            current.since = Instant::now();
            match build(&self.config) {
                Ok((client, certificate_expires)) => {
                    (current.client, current.certificate_expires) = (client, certificate_expires);
                    (current.suspect, current.stamps) = (false, stamps);
                }
                // A file that is being written: the connections in use are the best there are.
                Err(error) => warn!(%error, "Connections to Vault could not be replaced; retrying"),
            }
        }
        current.client.clone()
    }

    /// Expiry of the client certificate in use; `None` without one.
    pub(super) fn certificate_expires(&self) -> Option<Timestamp> {
        self.current.lock().certificate_expires
    }

    /// Takes note of a response's status. The next pool resolves the name again if a node is sealed, in
    /// standby or throttling.
    pub(super) fn observe(&self, status: u16) {
        if matches!(status, 429 | 472 | 473 | 503) {
            self.current.lock().suspect = true;
        }
    }
}

/// Stamps of the files of the client certificate.
fn stamps(config: &config::Vault) -> [Stamp; 2] {
    use std::os::unix::fs::MetadataExt as _;
    [&config.client_cert_file, &config.client_key_file].map(|file| {
        let found = std::fs::metadata(file.as_ref()?).ok()?;
        Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    })
}

/// Builds a client. Returns the expiry of its client certificate as well.
fn build(config: &config::Vault) -> Result<(reqwest::Client, Option<Timestamp>), Error> {
    let builder = ClientBuilder::new(config.timeout);
    let mut builder = builder.egress(&config.egress, &config.address);
    if let Some(file) = &config.ca_file {
        builder = builder.ca_file("vault.ca_file", file);
    }
    let mut expires = None;
    if let (Some(cert), Some(key)) = (&config.client_cert_file, &config.client_key_file) {
        let (chain, key) = (secret_file::read_bytes(cert)?, secret_file::read_bytes(key)?);
        let what = "not a PEM certificate that matches the key in client_key_file";
        let identity = Identity::from_pem(&chain, &key).map_err(pem_error(cert, what))?;
        expires = identity.expires();
        builder = builder.identity(identity);
    }
    let client = builder.build().map_err(|error| Error::Setup(error.to_string()))?;
    Ok((client, expires))
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
    async fn a_pool_follows_the_client_certificate_and_survives_one_that_is_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let write = |year: i32| {
            let mut params = rcgen::CertificateParams::new(vec!["leadsd".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let pair = rcgen::KeyPair::generate().unwrap();
            std::fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
            std::fs::write(&key, pair.serialize_pem()).unwrap();
        };
        let expires = |pool: &ConnectionPool| {
            pool.certificate_expires().map(|expires| expires.to_string()[..4].to_owned())
        };
        write(2040);
        let mut config = config("https://vault:8200");
        assert_eq!(expires(&ConnectionPool::new(&config).unwrap()), None, "without a certificate");
        (config.client_cert_file, config.client_key_file) = (Some(cert.clone()), Some(key.clone()));
        let pool = ConnectionPool::new(&config).unwrap();
        assert_eq!(expires(&pool).as_deref(), Some("2040"));
        std::fs::write(&cert, "").unwrap();
        tokio::time::advance(MIN_AGE).await;
        drop(pool.client());
        assert_eq!(pool.current.lock().since.elapsed(), Duration::ZERO, "tried");
        assert_eq!(expires(&pool).as_deref(), Some("2040"), "of the certificate in use");
        // Within a second of the change, and also if a node answered that it does not serve.
        for (year, status) in [(2041, 200), (2042, 503)] {
            write(year);
            pool.observe(status);
            assert_ne!(expires(&pool), Some(year.to_string()));
            tokio::time::advance(MIN_AGE).await;
            drop(pool.client());
            assert!(!pool.current.lock().suspect, "replaced");
            assert_eq!(expires(&pool), Some(year.to_string()));
        }
        tokio::time::advance(MIN_AGE).await;
        drop(pool.client());
        assert_eq!(pool.current.lock().since.elapsed(), MIN_AGE, "unchanged files are not read");
    }
}

//! Builds every HTTP client of the process: HubSpot, its token endpoint, Vault, key sets of token
//! issuers.
//!
//! What all clients have in common is decided here and nowhere else:
//! - the public root certificates are compiled in, so that an image without a CA store starts;
//! - redirects are never followed, since a token must not reach another host;
//! - requests follow the [egress policy](super::egress): proxy, exceptions and additional CAs. reqwest
//!   never reads a proxy from the environment;
//! - every client has a timeout for the whole exchange, unless its caller bounds each exchange;
//! - the user agent names this version.
//!
//! ```
//! use std::time::Duration;
//! use leadsd_base::net::http::ClientBuilder;
//!
//! let client = ClientBuilder::new(Duration::from_secs(10))
//!     .connect_timeout(Duration::from_secs(2))
//!     .build()?;
//! # drop(client);
//! # Ok::<(), leadsd_base::net::http::BuildError>(())
//! ```

use std::{path::PathBuf, sync::Arc, time::Duration};

use reqwest::{Client, redirect, retry};
use rustls::{
    ClientConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tower::{BoxError, filter::AsyncFilterLayer};
use url::Url;

use super::{
    certificate,
    egress::Egress,
    trust::{CaError, CaSource, Trust},
};
use crate::time::Timestamp;

/// Idle connections are closed after this time: sooner than servers close them, so that a request
/// rarely meets a connection that is about to close.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// User agent of every request.
const USER_AGENT: &str = concat!("leadsd/", env!("CARGO_PKG_VERSION"));

/// Part of the timeout for connecting for which a connection waits for the credentials of the proxy.
/// The rest is left to report their absence.
const CREDENTIALS_WAIT: f64 = 0.8;

/// Configures an HTTP client.
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    /// `None` if the caller bounds each exchange.
    request_timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    egress: Egress,
    /// True if connections wait for the credentials of the proxy.
    awaits_credentials: bool,
    ca_sources: Vec<CaSource>,
    identity: Option<Identity>,
    protocols: Protocols,
}

/// Client certificate chain with its key. `Debug` shows neither.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Versions of HTTP that are offered over TLS. Plain text always uses HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 if the peer has it, else HTTP/1.1.
    Http2OrHttp1,
    /// HTTP/2 alone.
    Http2,
}

/// Reason why a client could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A file with CAs is invalid.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// Any other reason.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
}

/// Error for a PEM text without the certificates or the key that it should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid PEM")]
pub struct InvalidPem;

/// Reads all certificates of a PEM text; other sections are skipped.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidPem> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| InvalidPem)
}

// === impl ClientBuilder ===

impl ClientBuilder {
    /// A client whose exchanges, from connecting to the last byte of the body, take at most
    /// `request_timeout`.
    pub fn new(request_timeout: Duration) -> Self {
        Self { request_timeout: Some(request_timeout), ..Self::without_timeout() }
    }

    /// Creates a builder without a timeout, for a caller that bounds each exchange by a deadline. A
    /// second timer for each request would cost time and never fire.
    pub fn without_timeout() -> Self {
        Self {
            request_timeout: None,
            connect_timeout: None,
            egress: Egress::default(),
            awaits_credentials: false,
            ca_sources: Vec::new(),
            identity: None,
            protocols: Protocols::Http2OrHttp1,
        }
    }

    /// Sets the timeout for connecting, TLS handshake included.
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout: Some(connect_timeout), ..self }
    }

    /// Follows this egress policy. `peer` is the URL of the peer, or of the usual one of several.
    pub fn egress(self, egress: &Egress, peer: &Url) -> Self {
        let awaits_credentials = egress.awaits_credentials(peer);
        Self { egress: egress.clone(), awaits_credentials, ..self }
    }

    /// Trusts the CAs of this PEM file as well. `key` names the file in errors.
    pub fn ca_file(mut self, key: &str, file: impl Into<PathBuf>) -> Self {
        self.ca_sources.push(CaSource::file(key, file));
        self
    }

    /// Presents a client certificate.
    pub fn identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Sets the versions of HTTP that are offered over TLS; default: both.
    pub fn protocols(self, protocols: Protocols) -> Self {
        Self { protocols, ..self }
    }

    /// Builds the client.
    pub fn build(self) -> Result<Client, BuildError> {
        let Self {
            request_timeout,
            connect_timeout,
            egress,
            awaits_credentials,
            ca_sources,
            identity,
            protocols,
        } = self;
        let all = egress.settings().ca_sources.iter().cloned().chain(ca_sources);
        let trust = Trust::load(all.collect())?;
        let tls = tls_config(&trust, identity, protocols)?;
        let mut client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(USER_AGENT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .redirect(redirect::Policy::none())
            // Retries are the caller's decision. The client would copy each request for them.
            .retry(retry::never().max_retries_per_request(0))
            .no_proxy();
        if let Some(request_timeout) = request_timeout {
            client = client.timeout(request_timeout);
        }
        if let Some(connect_timeout) = connect_timeout {
            client = client.connect_timeout(connect_timeout);
        }
        if egress.has_proxy() {
            let policy = egress.clone();
            client = client.proxy(reqwest::Proxy::custom(move |url| policy.proxy_url(url)));
        }
        if awaits_credentials {
            let limits = [request_timeout, connect_timeout].into_iter().flatten();
            let wait = limits.min().unwrap_or(POOL_IDLE_TIMEOUT).mul_f64(CREDENTIALS_WAIT);
            client = client.connector_layer(AsyncFilterLayer::new(move |connection| {
                let egress = egress.clone();
                async move {
                    egress.await_credentials(wait).await?;
                    Ok::<_, BoxError>(connection)
                }
            }));
        }
        client.build().map_err(|error| BuildError::Client(error.to_string()))
    }
}

/// TLS settings of all clients.
pub(super) fn tls_config(
    trust: &Arc<Trust>,
    identity: Option<Identity>,
    protocols: Protocols,
) -> Result<ClientConfig, BuildError> {
    let failed = |error: rustls::Error| BuildError::Client(error.to_string());
    let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        // It verifies by webpki, and reloads the CAs.
        .with_custom_certificate_verifier(Arc::<Trust>::clone(trust));
    let mut tls = match identity {
        None => tls.with_no_client_auth(),
        Some(Identity { chain, key }) => tls.with_client_auth_cert(chain, key).map_err(failed)?,
    };
    tls.alpn_protocols = match protocols {
        Protocols::Http1 => vec![b"http/1.1".to_vec()],
        Protocols::Http2OrHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Protocols::Http2 => vec![b"h2".to_vec()],
    };
    Ok(tls)
}

// === impl Identity ===

impl Identity {
    /// Reads a certificate chain and its key from PEM texts.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, InvalidPem> {
        let chain = certificates(chain)?;
        if chain.is_empty() {
            return Err(InvalidPem);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| InvalidPem)?;
        Ok(Self { chain, key })
    }

    /// Expiry of the certificate, or of one of its chain that expires earlier; `None` if none can be parsed.
    pub fn expires(&self) -> Option<Timestamp> {
        self.chain.iter().filter_map(certificate::expires).min()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_built_with_and_without_http_2() {
        for protocols in [Protocols::Http1, Protocols::Http2OrHttp1] {
            let builder = ClientBuilder::new(Duration::from_secs(1)).protocols(protocols);
            builder.build().expect("the defaults are valid");
        }
    }

    #[test]
    fn invalid_pem_is_an_error_that_does_not_quote_it() {
        assert_eq!(certificates(b"no pem").unwrap(), Vec::new());
        let cut = b"-----BEGIN CERTIFICATE-----\nhunter2";
        assert_eq!(certificates(cut), Err(InvalidPem));
        assert_eq!(Identity::from_pem(b"", b"").err(), Some(InvalidPem));
    }
}

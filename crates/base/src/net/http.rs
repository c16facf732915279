//! Builds every HTTP client of the process: HubSpot, its token endpoint, Vault, key sets of token
//! issuers.
//!
//! What all clients have in common is decided here and nowhere else:
//! - the public root certificates are compiled in, so that an image without a CA store starts;
//! - redirects are never followed, since a token must not reach another host;
//! - no proxy is used, and none is read from the environment. An egress proxy would be added in
//!   [`ClientBuilder::build`];
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

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{Client, redirect};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// Idle connections are closed after this time: sooner than servers close them, so that a request
/// rarely meets a connection that is about to close.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// User agent of every request.
const USER_AGENT: &str = concat!("leadsd/", env!("CARGO_PKG_VERSION"));

/// Configures an HTTP client.
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    /// `None` if the caller bounds each exchange.
    request_timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    extra_roots: Vec<CertificateDer<'static>>,
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
}

/// Reason why a client could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct BuildError(String);

/// Error for a PEM text without the certificates or the key that it should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid PEM")]
pub struct InvalidPem;

/// Reads all certificates of a PEM text; other sections are skipped.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidPem> {
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
            extra_roots: Vec::new(),
            identity: None,
            protocols: Protocols::Http2OrHttp1,
        }
    }

    /// Sets the timeout for connecting, TLS handshake included.
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout: Some(connect_timeout), ..self }
    }

    /// Trusts these CA certificates beside the public ones.
    pub fn extra_roots(self, extra_roots: Vec<CertificateDer<'static>>) -> Self {
        Self { extra_roots, ..self }
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
        let Self { request_timeout, connect_timeout, extra_roots, identity, protocols } = self;
        let tls = tls(extra_roots, identity, protocols)?;
        let mut client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(USER_AGENT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy();
        if let Some(request_timeout) = request_timeout {
            client = client.timeout(request_timeout);
        }
        if let Some(connect_timeout) = connect_timeout {
            client = client.connect_timeout(connect_timeout);
        }
        client.build().map_err(|error| BuildError(error.to_string()))
    }
}

fn tls(
    extra_roots: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
    protocols: Protocols,
) -> Result<ClientConfig, BuildError> {
    let failed = |error: rustls::Error| BuildError(error.to_string());
    let mut roots = Arc::clone(public_roots());
    if !extra_roots.is_empty() {
        let all = Arc::make_mut(&mut roots);
        for root in extra_roots {
            all.add(root).map_err(failed)?;
        }
    }
    let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots);
    let mut tls = match identity {
        None => tls.with_no_client_auth(),
        Some(Identity { chain, key }) => tls.with_client_auth_cert(chain, key).map_err(failed)?,
    };
    tls.alpn_protocols = match protocols {
        Protocols::Http1 => vec![b"http/1.1".to_vec()],
        Protocols::Http2OrHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(tls)
}

/// The public roots, parsed once.
fn public_roots() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        Arc::new(roots)
    })
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
    fn the_public_roots_are_compiled_in() {
        assert!(public_roots().len() > 100);
    }

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

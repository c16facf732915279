//! Reads certificate files and builds the TLS configuration.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use leadsd_base::{file_error, net::certificate, time::Timestamp};

/// Maximum size of a file in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Paths of the certificate files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// PEM file with the CAs of client certificates, and whether a client certificate is required; `None`
    /// if none is requested.
    pub client_ca: Option<(PathBuf, bool)>,
}

/// Error of a certificate file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}: {what}", file.display())]
pub struct TlsError {
    file: PathBuf,
    what: String,
}

/// Content of the certificate files.
pub(crate) struct CertContent {
    cert: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

/// Valid certificates and their TLS configuration.
pub(crate) struct LoadedCerts {
    pub(crate) config: Arc<ServerConfig>,
    /// Fingerprint of the content.
    pub(crate) fingerprint: u64,
    /// Expiry of the certificate; `None` if it cannot be parsed.
    pub(crate) expires: Option<Timestamp>,
    /// Expiry of the certificate, or of one of its chain that expires earlier; `None` if none can be parsed.
    pub(crate) chain_expires: Option<Timestamp>,
    /// CAs of client certificates.
    pub(crate) trusted: HashSet<CertificateDer<'static>>,
}

/// Verifier of client certificates, and its trusted CAs.
type ClientCas = (Arc<dyn ClientCertVerifier>, HashSet<CertificateDer<'static>>);

// === impl TlsError ===

impl TlsError {
    fn new(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), what: what.into() }
    }
}

// === impl CertContent ===

impl CertContent {
    /// Reads the files.
    pub(crate) async fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let TlsFiles { cert, key, client_ca } = files;
        let client_ca = match client_ca {
            Some((file, _)) => Some(read_file(file).await?),
            None => None,
        };
        let (cert, key) = (read_file(cert).await?, read_file(key).await?);
        Ok(Self { cert, key: key.into(), client_ca })
    }
}

impl Hash for CertContent {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { cert, key, client_ca } = self;
        (cert, &**key, client_ca).hash(hasher);
    }
}

// === impl LoadedCerts ===

impl LoadedCerts {
    /// Parses and validates the content.
    pub(crate) fn parse(
        files: &TlsFiles,
        content: &CertContent,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let chain = certificates(&files.cert, &content.cert)?;
        let expires = chain.first().and_then(certificate::expires);
        let chain_expires = chain.iter().filter_map(certificate::expires).min();
        if expires.is_some_and(|expires| expires <= now) {
            return Err(TlsError::new(&files.cert, "has expired"));
        }
        let key = PrivateKeyDer::from_pem_slice(&content.key)
            .map_err(|_| TlsError::new(&files.key, "contains no PEM private key"))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new(&files.cert, error.to_string()))?;
        let (builder, trusted) = match client_cas(files, content)? {
            Some((verifier, trusted)) => (builder.with_client_cert_verifier(verifier), trusted),
            None => (builder.with_no_client_auth(), HashSet::new()),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            let key = files.key.display();
            TlsError::new(&files.cert, format!("does not match the key in {key}: {error}"))
        })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not be verified against the current CAs.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let fingerprint = fingerprint(content);
        Ok(Self { config: Arc::new(config), fingerprint, expires, chain_expires, trusted })
    }
}

/// Computes a fingerprint of the content of the files or of an error.
pub(crate) fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn client_cas(files: &TlsFiles, content: &CertContent) -> Result<Option<ClientCas>, TlsError> {
    let (Some((file, required)), Some(pem)) = (&files.client_ca, &content.client_ca) else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    let mut trusted = HashSet::new();
    for ca in certificates(file, pem)? {
        roots.add(ca.clone()).map_err(|error| TlsError::new(file, error.to_string()))?;
        trusted.insert(ca);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
    let verifier = if *required { verifier } else { verifier.allow_unauthenticated() }.build();
    let verifier = verifier.map_err(|error| TlsError::new(file, error.to_string()))?;
    Ok(Some((verifier, trusted)))
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| TlsError::new(file, "is not a PEM file"))?;
    if all.is_empty() { Err(TlsError::new(file, "contains no certificate")) } else { Ok(all) }
}

async fn read_file(file: &Path) -> Result<Vec<u8>, TlsError> {
    let read = async {
        let size = tokio::fs::metadata(file).await?.len();
        if size > MAX_BYTES { Ok(None) } else { tokio::fs::read(file).await.map(Some) }
    };
    let bytes =
        read.await.map_err(|error: io::Error| TlsError::new(file, file_error::describe(&error)))?;
    bytes.ok_or_else(|| TlsError::new(file, "is too large (limit 1 MiB)"))
}

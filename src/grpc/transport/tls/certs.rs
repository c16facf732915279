//! Certificate files: read, parsed and turned into a TLS configuration.

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

use crate::auth::certificate;
use leadsd_base::time::Timestamp;

/// Maximum size of a file.
const MAX_BYTES: u64 = 1 << 20;

/// Where the certificates are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// PEM file with the CAs of client certificates, and whether clients need one; `None` requests no
    /// client certificate.
    pub client_ca: Option<(PathBuf, bool)>,
}

/// Why certificate files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}: {what}", file.display())]
pub struct TlsError {
    file: PathBuf,
    what: String,
}

/// The content of the files.
pub(crate) struct Content {
    cert: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

/// Certificates that can be served.
pub(crate) struct LoadedCerts {
    pub(crate) config: Arc<ServerConfig>,
    /// Fingerprint of the content.
    pub(crate) fingerprint: u64,
    /// When the certificate expires; `None` if it does not say.
    pub(crate) expires: Option<Timestamp>,
    /// CAs of client certificates.
    pub(crate) trusted: HashSet<CertificateDer<'static>>,
}

/// A verifier of client certificates, and the CAs that it trusts.
type ClientCas = (Arc<dyn ClientCertVerifier>, HashSet<CertificateDer<'static>>);

// === impl TlsError ===

impl TlsError {
    fn new(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), what: what.into() }
    }
}

// === impl Content ===

impl Content {
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

impl Hash for Content {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { cert, key, client_ca } = self;
        (cert, &**key, client_ca).hash(hasher);
    }
}

// === impl LoadedCerts ===

impl LoadedCerts {
    /// Parses the content and checks that it can be served now.
    pub(crate) fn parse(
        files: &TlsFiles,
        content: &Content,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let chain = certificates(&files.cert, &content.cert)?;
        let expires = chain.first().and_then(certificate::expires);
        if expires.is_some_and(|expires| expires <= now) {
            return Err(TlsError::new(&files.cert, "has expired"));
        }
        let key = PrivateKeyDer::from_pem_slice(&content.key)
            .map_err(|_| TlsError::new(&files.key, "holds no private key"))?;
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
        // A resumed session would not be checked against the CAs that are trusted now.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let fingerprint = fingerprint(content);
        Ok(Self { config: Arc::new(config), fingerprint, expires, trusted })
    }
}

/// Distinguishes one content of the files, or one error, from another.
pub(crate) fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn client_cas(files: &TlsFiles, content: &Content) -> Result<Option<ClientCas>, TlsError> {
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
    if all.is_empty() { Err(TlsError::new(file, "holds no certificate")) } else { Ok(all) }
}

async fn read_file(file: &Path) -> Result<Vec<u8>, TlsError> {
    let read = async {
        let size = tokio::fs::metadata(file).await?.len();
        if size > MAX_BYTES { Ok(None) } else { tokio::fs::read(file).await.map(Some) }
    };
    let bytes =
        read.await.map_err(|error: io::Error| TlsError::new(file, error.kind().to_string()))?;
    bytes.ok_or_else(|| TlsError::new(file, "is too large (limit 1 MiB)"))
}

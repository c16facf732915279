//! Trusted CAs: the public ones, which are compiled in, and those of files.
//!
//! Files are read again when they have changed, at the next TLS handshake. Then a new CA needs no
//! restart, and a file that is being written, or is gone, leaves the previous CAs in use.

use std::{
    collections::HashSet,
    fmt, fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::time::Instant;
use tracing::{info, warn};

use super::certificate;
use crate::{file_error::describe, time::Timestamp};

/// Maximum size of a file with CAs in bytes. All public CAs take a quarter of a MiB.
const MAX_BYTES: u64 = 4 << 20;

/// Maximum number of files of a directory.
const MAX_FILES: usize = 2_000;

/// Minimum time between two looks at the files: many handshakes may happen at once.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// File or directory with CA certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaSource {
    /// Key or variable with the path.
    pub key: String,
    /// Path.
    pub path: PathBuf,
    /// Format.
    pub kind: CaSourceKind,
}

/// Format of a [`CaSource`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaSourceKind {
    /// PEM file with private CAs, all of which must be valid.
    File,
    /// PEM file such as the store of the operating system; invalid certificates are skipped.
    Bundle,
    /// Directory of PEM files; files without certificates are skipped.
    Directory,
}

/// Error of a [`CaSource`]. Names the key, and quotes nothing of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {path} {what}")]
pub struct CaError {
    /// Key or variable with the path.
    pub key: String,
    /// Path.
    pub path: String,
    /// Error, as a predicate of the path.
    pub what: String,
}

/// Verifier of server certificates by the public CAs and those of files.
pub struct Trust {
    sources: Vec<CaSource>,
    current: ArcSwap<WebPkiServerVerifier>,
    state: Mutex<ReloadState>,
}

/// State of reloads.
struct ReloadState {
    checked: Instant,
    /// Size and modification of each file when it was last read.
    stamps: Vec<Stamp>,
}

/// Identity, size and time of modification of a file; `None` if it cannot be read.
pub(super) type Stamp = Option<(u64, u64, i64, i64)>;

// === impl CaSource ===

impl CaSource {
    /// A PEM file with private CAs, named by this key.
    pub fn file(key: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { key: key.into(), path: path.into(), kind: CaSourceKind::File }
    }

    /// Reads the certificates; at least one.
    pub fn read(&self) -> Result<Vec<CertificateDer<'static>>, CaError> {
        let certificates = match self.kind {
            CaSourceKind::File => self.read_file(&self.path)?,
            CaSourceKind::Bundle => {
                let mut certificates = self.read_file(&self.path)?;
                certificates.retain(is_anchor);
                certificates
            }
            CaSourceKind::Directory => {
                let files = self.files()?.into_iter();
                let all = files.filter_map(|file| self.read_file(&file).ok()).flatten();
                all.filter(is_anchor).collect()
            }
        };
        if certificates.is_empty() {
            return Err(self.error("contains no certificates"));
        }
        if let Some(index) = certificates.iter().position(|one| !is_anchor(one)) {
            return Err(
                self.error(format!("contains an invalid certificate (number {})", index + 1))
            );
        }
        Ok(certificates)
    }

    /// Expiry of the certificate that expires first; `None` if no expiry can be parsed.
    pub fn earliest_expiry(&self) -> Result<Option<Timestamp>, CaError> {
        Ok(self.read()?.iter().filter_map(certificate::expires).min())
    }

    fn read_file(&self, path: &Path) -> Result<Vec<CertificateDer<'static>>, CaError> {
        let unreadable = |error: io::Error| self.unreadable(&error);
        let file = fs::File::open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(self.error("is not a file"));
        }
        let mut pem = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut pem).map_err(unreadable)?;
        if pem.len() as u64 > MAX_BYTES {
            return Err(self.error(format!("exceeds {MAX_BYTES} bytes")));
        }
        let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>();
        certificates.map_err(|_| self.error("is not a PEM file"))
    }

    /// Files of a directory.
    fn files(&self) -> Result<Vec<PathBuf>, CaError> {
        let entries = fs::read_dir(&self.path).map_err(|error| self.unreadable(&error))?;
        let mut files: Vec<_> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).take(MAX_FILES).collect();
        files.sort();
        Ok(files)
    }

    /// Stamp of the file or directory. A file that is added to a directory changes the directory.
    pub(super) fn stamp(&self) -> Stamp {
        use std::os::unix::fs::MetadataExt as _;
        let found = fs::metadata(&self.path).ok()?;
        Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    }

    fn unreadable(&self, error: &io::Error) -> CaError {
        self.error(format!("cannot be read: {}", describe(error)))
    }

    fn error(&self, what: impl Into<String>) -> CaError {
        let path = self.path.display().to_string();
        CaError { key: self.key.clone(), path, what: what.into() }
    }
}

fn is_anchor(certificate: &CertificateDer<'_>) -> bool {
    RootCertStore::empty().add(certificate.clone()).is_ok()
}

// === impl Trust ===

impl Trust {
    /// Trusts the public CAs and those of `sources`.
    pub fn load(sources: Vec<CaSource>) -> Result<Arc<Self>, CaError> {
        if sources.is_empty() {
            static PUBLIC: OnceLock<Arc<Trust>> = OnceLock::new();
            if let Some(public) = PUBLIC.get() {
                return Ok(Arc::clone(public));
            }
            let trust = Arc::new(Self::read(sources)?);
            return Ok(Arc::clone(PUBLIC.get_or_init(|| trust)));
        }
        Ok(Arc::new(Self::read(sources)?))
    }

    fn read(sources: Vec<CaSource>) -> Result<Self, CaError> {
        let stamps = sources.iter().map(CaSource::stamp).collect();
        let current = ArcSwap::new(verifier(&sources)?);
        let state = ReloadState { checked: Instant::now(), stamps };
        Ok(Self { sources, current, state: Mutex::new(state) })
    }

    /// Reads the files again if they have changed. If they are invalid, the previous CAs stay in use.
    fn reload_if_changed(&self) {
        if self.sources.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        if state.checked.elapsed() < MIN_INTERVAL {
            return;
        }
        state.checked = Instant::now();
        let stamps: Vec<Stamp> = self.sources.iter().map(CaSource::stamp).collect();
        if stamps == state.stamps {
            return;
        }
        state.stamps = stamps;
        match verifier(&self.sources) {
            Ok(verifier) => {
                self.current.store(verifier);
                info!("Reloaded CA files for outgoing connections");
            }
            Err(error) => {
                warn!(%error, "Reload of CA files for outgoing connections failed; the previous CAs stay in use");
            }
        }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.reload_if_changed();
        let current = self.current.load();
        current.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current.load().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current.load().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current.load().supported_verify_schemes()
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// Builds a verifier by the public CAs and those of `sources`.
fn verifier(sources: &[CaSource]) -> Result<Arc<WebPkiServerVerifier>, CaError> {
    let provider = aws_lc_rs::default_provider().into();
    let built = WebPkiServerVerifier::builder_with_provider(roots(sources)?, provider).build();
    built.map_err(|error| CaError {
        key: "TLS".to_owned(),
        path: "the list of CAs".to_owned(),
        what: format!("is invalid: {error}"),
    })
}

/// The public CAs and those of `sources`.
fn roots(sources: &[CaSource]) -> Result<Arc<RootCertStore>, CaError> {
    let mut roots = Arc::clone(public_roots());
    if !sources.is_empty() {
        let all = Arc::make_mut(&mut roots);
        // The store of the operating system contains the public CAs as well.
        let mut known: HashSet<CertificateDer<'static>> =
            webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned().collect();
        for source in sources {
            let new = source.read()?.into_iter().filter(|one| known.insert(one.clone()));
            all.add_parsable_certificates(new);
        }
    }
    Ok(roots)
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

#[cfg(test)]
mod tests;

//! TLS of the gRPC port: certificates that are read again when their files change, and the handshake.
//!
//! New files serve from the next connection on, if they are good; if not, the old ones stay and the
//! trouble is reported once. Connections that are open go on: only those made with a certificate whose
//! CA is no longer trusted are asked to end.

use std::{
    collections::HashSet,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{info, warn};

use crate::auth::{Identity, certificate};
use leadsd_base::{
    task::{self, Task},
    time::{Timestamp, WallClock},
};

/// How often the files are looked at. They are small, and Kubernetes swaps whole folders of them,
/// which no notification tells reliably.
const LOOK: Duration = Duration::from_secs(1);

/// Pause before the files are looked at again after a panic.
const RESTART: Duration = Duration::from_secs(10);

/// Largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Where the certificates are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
    /// PEM file with the CAs of callers' certificates, and whether a caller needs one; `None` asks
    /// for none.
    pub client_ca: Option<(PathBuf, bool)>,
}

/// Why certificates cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}: {what}", file.display())]
pub struct TlsError {
    file: PathBuf,
    what: String,
}

/// The certificates in use.
pub struct Tls {
    files: TlsFiles,
    clock: Arc<dyn WallClock>,
    current: ArcSwap<LoadedCerts>,
    state: Mutex<State>,
    /// Counts up when a CA of callers is no longer trusted.
    trust_changes: watch::Sender<u64>,
}

/// What one reading of the files has come to.
struct LoadedCerts {
    config: Arc<ServerConfig>,
    /// Tells one content of the files from another.
    content: u64,
    expires: Option<Timestamp>,
    /// Callers' CAs.
    trusted: HashSet<CertificateDer<'static>>,
}

#[derive(Debug, Default)]
struct State {
    reloads: u64,
    failures: u64,
    /// Content that could not be used when it was seen first: a file may be half written.
    suspect: Option<u64>,
    /// Content that could not be used twice, and was reported.
    bad: Option<u64>,
}

/// How the certificates are.
#[derive(Debug, Clone, Copy)]
pub struct TlsStatus {
    /// When the certificate in use ends, from now; negative if it has ended.
    pub expires_in_s: Option<f64>,
    /// Times that new files were taken.
    pub reloads: u64,
    /// Times that new files could not be used.
    pub failures: u64,
    /// Whether what the files hold now cannot be used.
    pub in_trouble: bool,
}

/// A connection after its handshake.
pub(crate) struct TlsAccepted {
    pub(crate) wire: MaybeTlsStream,
    pub(crate) client: Option<Client>,
}

/// The caller's certificate.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Whose it is; `None` for a certificate that names no one.
    pub(crate) identity: Option<Identity>,
    /// When it ends.
    pub(crate) expires: Option<Instant>,
}

/// The bytes of a connection.
#[derive(Debug)]
pub(crate) enum MaybeTlsStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The three files as they were read.
struct Content {
    cert: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

// === impl Tls ===

impl Tls {
    /// Reads the files for the first time.
    pub async fn load(files: TlsFiles, clock: Arc<dyn WallClock>) -> Result<Self, TlsError> {
        let served = served(&files, &read(&files).await?, clock.now())?;
        announce(&served);
        let current = ArcSwap::from_pointee(served);
        Ok(Self {
            files,
            clock,
            current,
            state: Mutex::default(),
            trust_changes: watch::Sender::new(0),
        })
    }

    /// How it stands.
    pub fn status(&self) -> TlsStatus {
        let expires = self.current.load().expires;
        let left = |expires: Timestamp| expires.duration_since(self.clock.now()).as_secs_f64();
        let state = self.state.lock();
        TlsStatus {
            expires_in_s: expires.map(left),
            reloads: state.reloads,
            failures: state.failures,
            in_trouble: state.bad.is_some(),
        }
    }

    /// Looks after the files as long as the task lives.
    pub(crate) fn watch(self: Arc<Self>) -> Task {
        task::spawn("certificates", "", async move {
            loop {
                // Should it ever panic, the next one takes over.
                let look = Arc::clone(&self).look_on();
                task::spawn("certificates loop", "", look).ended().await;
                sleep(RESTART).await;
            }
        })
    }

    async fn look_on(self: Arc<Self>) {
        loop {
            sleep(LOOK).await;
            let content = read(&self.files).await;
            self.look(content);
        }
    }

    /// Tells when callers' certificates should be looked at again.
    pub(crate) fn trust_changes(&self) -> watch::Receiver<u64> {
        self.trust_changes.subscribe()
    }

    /// The handshake. Whoever calls this bounds its time.
    pub(crate) async fn accept(&self, socket: TcpStream) -> io::Result<TlsAccepted> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.load().config));
        let stream = acceptor.accept(socket).await?;
        let (_, connection) = stream.get_ref();
        let client = connection.peer_certificates().and_then(|chain| chain.first());
        let client = client.map(|client| Client {
            identity: certificate::identity(client),
            expires: certificate::expires(client).map(|expires| {
                let left = expires.duration_since(self.clock.now());
                Instant::now() + Duration::try_from(left).unwrap_or_default()
            }),
        });
        Ok(TlsAccepted { wire: MaybeTlsStream::Tls(Box::new(stream)), client })
    }

    fn look(&self, content: Result<Content, TlsError>) {
        let current = self.current.load_full();
        let number = match &content {
            Ok(content) => content.number(),
            Err(error) => hashed(|hasher| error.hash(hasher)),
        };
        let mut state = self.state.lock();
        if number == current.content {
            // Somebody has put the old files back.
            (state.suspect, state.bad) = (None, None);
            return;
        }
        if state.bad == Some(number) {
            return;
        }
        let new = content.and_then(|content| served(&self.files, &content, self.clock.now()));
        match new {
            Ok(new) => {
                (state.suspect, state.bad) = (None, None);
                state.reloads += 1;
                drop(state);
                announce(&new);
                let trusts_less = !current.trusted.is_subset(&new.trusted);
                self.current.store(Arc::new(new));
                if trusts_less {
                    info!(
                        "A CA of callers' certificates is no longer trusted: connections made with one are asked to end"
                    );
                    self.trust_changes.send_modify(|times| *times += 1);
                }
            }
            Err(_) if state.suspect != Some(number) => state.suspect = Some(number),
            Err(error) => {
                state.failures += 1;
                state.bad = Some(number);
                warn!(%error, "New certificate cannot be used; the old one serves on");
            }
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

fn announce(served: &LoadedCerts) {
    let expires = served.expires.map(|expires| expires.to_string());
    info!(tls.expires = expires, tls.client_cas = served.trusted.len(), "Certificate loaded");
}

async fn read(files: &TlsFiles) -> Result<Content, TlsError> {
    let client_ca = match &files.client_ca {
        Some((file, _)) => Some(read_one(file).await?),
        None => None,
    };
    let (cert, key) = (read_one(&files.cert).await?, read_one(&files.key).await?);
    Ok(Content { cert, key: key.into(), client_ca })
}

async fn read_one(file: &Path) -> Result<Vec<u8>, TlsError> {
    let fault = |what: String| TlsError { file: file.to_owned(), what };
    let read = async {
        let size = tokio::fs::metadata(file).await?.len();
        if size > MAX_BYTES { Ok(None) } else { tokio::fs::read(file).await.map(Some) }
    };
    let bytes = read.await.map_err(|error: io::Error| fault(error.kind().to_string()))?;
    bytes.ok_or_else(|| fault("is too large".to_owned()))
}

fn served(files: &TlsFiles, content: &Content, now: Timestamp) -> Result<LoadedCerts, TlsError> {
    let fault = |file: &Path, what: &str| TlsError { file: file.to_owned(), what: what.to_owned() };
    let chain = certificates(&files.cert, &content.cert)?;
    let expires = chain.first().and_then(certificate::expires);
    if expires.is_some_and(|expires| expires <= now) {
        return Err(fault(&files.cert, "has expired"));
    }
    let key = PrivateKeyDer::from_pem_slice(&content.key)
        .map_err(|_| fault(&files.key, "holds no private key"))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(&files.cert, &error.to_string()))?;
    let mut trusted = HashSet::new();
    let builder = match (&files.client_ca, &content.client_ca) {
        (Some((file, required)), Some(pem)) => {
            let mut roots = RootCertStore::empty();
            for ca in certificates(file, pem)? {
                roots.add(ca.clone()).map_err(|error| fault(file, &error.to_string()))?;
                trusted.insert(ca);
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier =
                if *required { verifier } else { verifier.allow_unauthenticated() }.build();
            let verifier = verifier.map_err(|error| fault(file, &error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        (_, _) => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        fault(&files.cert, &format!("does not go with the key in {}: {error}", files.key.display()))
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would not be checked against what is trusted now.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(LoadedCerts { config: Arc::new(config), content: content.number(), expires, trusted })
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = |what: &str| TlsError { file: file.to_owned(), what: what.to_owned() };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| fault("is no PEM file"))?;
    if all.is_empty() { Err(fault("holds no certificate")) } else { Ok(all) }
}

fn hashed(feed: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    feed(&mut hasher);
    hasher.finish()
}

// === impl Content ===

impl Content {
    fn number(&self) -> u64 {
        hashed(|hasher| (&self.cert, &*self.key, &self.client_ca).hash(hasher))
    }
}

// === impl MaybeTlsStream ===

impl AsyncRead for MaybeTlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for MaybeTlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

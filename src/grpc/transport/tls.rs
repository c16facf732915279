//! TLS of the gRPC port: handshake, and certificates that are reloaded when their files change.
//!
//! Valid new files are used from the next connection on. If they are invalid, the previous certificate
//! stays in use and the error is logged once. When a client CA is removed, connections with client
//! certificates are closed gracefully.

mod certs;

use std::{fmt, io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;
use tracing::{info, warn};

use self::certs::{CertContent, LoadedCerts, fingerprint};
pub use self::certs::{TlsError, TlsFiles};
use super::listener::Socket;
use crate::auth::{self, Identity};
use leadsd_base::{
    net::certificate,
    supervise::Supervisor,
    task::Task,
    time::{Timestamp, WallClock},
};

/// Interval at which the files are read. Polling is used because Kubernetes replaces whole folders, which
/// file notifications do not report reliably.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Certificates of the gRPC port.
pub struct ServerTls {
    files: TlsFiles,
    clock: Arc<dyn WallClock>,
    current: ArcSwap<LoadedCerts>,
    state: Mutex<ReloadState>,
    /// Wakes the task that reads the files.
    reload: Notify,
    /// Counts the reloads that removed a CA of client certificates.
    trust_changes: watch::Sender<u64>,
}

/// State of reloads.
#[derive(Debug, Default)]
struct ReloadState {
    reloads: u64,
    failures: u64,
    /// Fingerprint of content that was invalid once: the write of a file may be incomplete.
    pending: Option<u64>,
    /// Fingerprint of content that was invalid twice; the error is logged.
    rejected: Option<u64>,
}

/// Cause of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReloadCause {
    /// The interval of polls has passed.
    Poll,
    /// An operator requested it, and reads the result in the log.
    Request,
}

/// Status of the certificates.
#[derive(Debug, Clone, Copy)]
pub struct TlsStatus {
    /// Seconds until the first certificate of the chain expires; negative after expiry; `None` if the expiry
    /// is unknown.
    pub expires_in_s: Option<f64>,
    /// Number of successful reloads.
    pub reloads: u64,
    /// Number of failed reloads.
    pub failures: u64,
    /// True if the last reload failed and the previous certificate is still served.
    pub reload_failed: bool,
}

/// Byte stream of a connection: plain, or with TLS.
pub(crate) type MaybeTlsStream = Either<Socket, Box<TlsStream<Socket>>>;

/// Connection after the TLS handshake.
pub(crate) struct TlsAccepted {
    pub(crate) stream: MaybeTlsStream,
    pub(crate) client: Option<ClientCertificate>,
}

/// Client certificate of a connection.
#[derive(Debug, Clone)]
pub(crate) struct ClientCertificate {
    /// Identity; `None` if the certificate names no caller.
    pub(crate) identity: Option<Identity>,
    /// Expiry; `None` if it cannot be parsed.
    pub(crate) expires: Option<Instant>,
}

// === impl ServerTls ===

impl ServerTls {
    /// Loads the certificates at startup.
    pub async fn load(files: TlsFiles, clock: Arc<dyn WallClock>) -> Result<Self, TlsError> {
        let content = CertContent::read(&files).await?;
        let certs = LoadedCerts::parse(&files, &content, clock.now())?;
        log_loaded(&certs);
        let current = ArcSwap::from_pointee(certs);
        let trust_changes = watch::Sender::new(0);
        let (state, reload) = (Mutex::default(), Notify::new());
        Ok(Self { files, clock, current, state, reload, trust_changes })
    }

    /// Status of the certificates.
    pub fn status(&self) -> TlsStatus {
        let current = self.current.load();
        let left = |expires: Timestamp| expires.duration_since(self.clock.now()).as_secs_f64();
        let state = self.state.lock();
        TlsStatus {
            expires_in_s: current.chain_expires.map(left),
            reloads: state.reloads,
            failures: state.failures,
            reload_failed: state.rejected.is_some(),
        }
    }

    /// Starts the task that reloads the files.
    pub(crate) fn watch(self: Arc<Self>) -> Task {
        Supervisor::new("certificates", "").spawn(move || Arc::clone(&self).poll_files())
    }

    async fn poll_files(self: Arc<Self>) {
        loop {
            let requested = timeout(POLL_INTERVAL, self.reload.notified()).await;
            let cause = requested.map_or(ReloadCause::Poll, |()| ReloadCause::Request);
            let content = CertContent::read(&self.files).await;
            self.reload(content, cause);
        }
    }

    /// Reloads the files at once, and logs the result even if a poll has logged the same before.
    pub fn reload_now(&self) {
        self.reload.notify_one();
    }

    /// Returns a receiver that changes when a CA of client certificates is removed.
    pub(crate) fn trust_changes(&self) -> watch::Receiver<u64> {
        self.trust_changes.subscribe()
    }

    /// Performs the TLS handshake. The caller applies the timeout.
    pub(crate) async fn accept(&self, socket: Socket) -> io::Result<TlsAccepted> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.load().config));
        let stream = acceptor.accept(socket).await?;
        let (_, connection) = stream.get_ref();
        let client = connection.peer_certificates().and_then(|chain| chain.first());
        let client = client.map(|client| ClientCertificate {
            identity: auth::certificate::identity(client),
            expires: certificate::expires(client).map(|expires| {
                let left = expires.duration_since(self.clock.now());
                Instant::now() + Duration::try_from(left).unwrap_or_default()
            }),
        });
        Ok(TlsAccepted { stream: Either::Right(Box::new(stream)), client })
    }

    fn reload(&self, content: Result<CertContent, TlsError>, cause: ReloadCause) {
        let current = self.current.load_full();
        let number = match &content {
            Ok(content) => fingerprint(content),
            Err(error) => fingerprint(error),
        };
        let is_requested = cause == ReloadCause::Request;
        let mut state = self.state.lock();
        if number == current.fingerprint {
            // The files are unchanged, or the previous ones were restored.
            (state.pending, state.rejected) = (None, None);
            if is_requested {
                info!("Certificate files are unchanged");
            }
            return;
        }
        let is_known = state.rejected == Some(number);
        if is_known && !is_requested {
            return;
        }
        let parse = |content| LoadedCerts::parse(&self.files, &content, self.clock.now());
        match content.and_then(parse) {
            Ok(certs) => {
                (state.pending, state.rejected) = (None, None);
                state.reloads += 1;
                drop(state);
                self.replace(&current, certs);
            }
            Err(_) if state.pending != Some(number) && !is_requested => {
                state.pending = Some(number);
            }
            Err(error) => {
                state.failures += u64::from(!is_known);
                state.rejected = Some(number);
                warn!(%error, "Certificate reload failed; the previous certificate is still served");
            }
        }
    }

    fn replace(&self, current: &LoadedCerts, certs: LoadedCerts) {
        log_loaded(&certs);
        let removed_ca = !current.trusted.is_subset(&certs.trusted);
        self.current.store(Arc::new(certs));
        if removed_ca {
            info!(
                "Removed a CA of client certificates; closing connections with client certificates"
            );
            self.trust_changes.send_modify(|times| *times += 1);
        }
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

fn log_loaded(certs: &LoadedCerts) {
    let expires = certs.expires.map(|expires| expires.to_string());
    info!(tls.expires = expires, tls.client_cas = certs.trusted.len(), "Loaded certificate");
}

#[cfg(test)]
mod tests;

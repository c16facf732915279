//! Serves a connection from accept to close, with a timeout for each phase.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::{Request, Response};
use hyper::{
    body::{Body, Bytes, Incoming},
    server::conn::http2,
    service::HttpService,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::either::Either;
use tonic::Status;
use tracing::debug;

use super::{
    admission::Admission,
    authority::ValidAuthority,
    cancellation_limit::CancellationLimit,
    conn_info::ConnInfo,
    connection_guard::ConnectionGuard,
    connection_stage::StageChange,
    connection_stats::CloseReason,
    goaway::GoAwayOnDrop,
    held_messages::HeldMessages,
    lifetime::Lifetime,
    listener::{self, PeerAddress, Socket},
    preface::{self, PrefacedIo},
    receive_window::ReceiveWindow,
    reset_status::ResetStatus,
    send_deadline::SEND_GRACE,
    stream_executor::{StreamExecutor, StreamHandover},
    tls::{ClientCertificate, MaybeTlsStream, ServerTls, TlsAccepted},
};
use crate::auth::Identity;

/// Timeout for the TLS handshake and the HTTP/2 preface together: long enough for TCP retransmissions.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout for the handshake of a connection accepted during shutdown.
const DRAIN_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// Minimum of the number of streams that a client may reset before the service has accepted them; beyond
/// it, the connection is closed. A client may cancel all its calls at once.
const MIN_PENDING_RESETS: usize = 256;

/// Maximum time for the calls of a connection that is idle or over the limit, which has no long calls, or
/// whose client does not read.
const SHORT_GRACE: Duration = Duration::from_secs(60);

/// Maximum number of streams that HTTP/2 resets during the life of a connection, per permitted concurrent
/// stream: mostly for data that a client has sent before it learned that its call had ended.
const ERROR_RESETS_PER_STREAM: usize = 64;

/// Maximum number of bytes per response that HTTP/2 buffers for the client.
const SEND_BUFFER: usize = 64 * 1024;

/// Timeout longer than any grace period.
const NO_DEADLINE: Duration = Duration::from_secs(86_400);

/// Lifetime and capacity of connections.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Age at which a connection is closed gracefully, with 10 % jitter.
    pub max_age: Duration,
    /// Time that calls have to finish after that.
    pub age_grace: Duration,
    /// Time without calls after which a connection is closed gracefully.
    pub max_idle: Duration,
    /// Idle time after which a keepalive ping is sent.
    pub keepalive_interval: Duration,
    /// Timeout for the response to a keepalive ping.
    pub keepalive_timeout: Duration,
    /// Maximum number of concurrent calls per connection.
    pub max_streams: u32,
}

/// Phase of the server's shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Connections and calls are accepted.
    Open,
    /// Connections are closed gracefully.
    Draining,
    /// Connections are closed at once.
    Abort,
}

/// Factory of the service of a connection.
pub(crate) trait NewService: Send + Sync + 'static {
    /// Service of the calls of one connection.
    type Service: HttpService<
            Incoming,
            ResBody = Self::Body,
            Error = Infallible,
            Future: Future<Output = Result<Response<Self::Body>, Infallible>> + Send + 'static,
        > + hyper::service::Service<Request<Incoming>>
        + Send;
    /// Body of responses.
    type Body: Body<Data = Bytes, Error = Status> + Send + 'static;

    /// Creates the service of a connection. It puts the state of each call into `handover`.
    fn new_service(&self, connection: Arc<ConnInfo>, handover: StreamHandover) -> Self::Service;
}

/// Server of connections, shared by all connections.
#[derive(Debug)]
pub(crate) struct ConnectionServer<N> {
    pub(crate) new_service: N,
    /// `None` serves without TLS.
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// True if callers have no identity but their address.
    pub(crate) identifies_by_address: bool,
    pub(crate) admission: Arc<Admission>,
    pub(crate) lifetimes: Lifetimes,
}

// === impl ConnectionServer ===

impl<N: NewService> ConnectionServer<N> {
    /// Serves one connection until it is closed.
    pub(crate) async fn run(
        self: Arc<Self>,
        socket: Socket,
        peer: PeerAddress,
        mut guard: ConnectionGuard,
        mut phase: watch::Receiver<Phase>,
    ) {
        if let Err(error) = listener::set_nodelay(&socket) {
            debug!(%error, "Setting TCP_NODELAY failed");
        }
        let handshake = select! {
            handshake = handshake(self.tls.as_deref(), socket, &mut phase) => Some(handshake),
            () = guard.evicted() => None,
        };
        let reason = match handshake {
            Some(Ok((io, client))) => self.serve(io, client, peer, guard, phase).await,
            Some(Err(error)) => {
                debug!(net.peer = %peer, %error, "Rejected connection before the HTTP/2 handshake completed");
                CloseReason::Handshake
            }
            None => CloseReason::OverLimit,
        };
        self.admission.on_connection_closed(reason);
        debug!(net.peer = %peer, connection.close_reason = reason.as_str(), "Closed connection");
    }

    async fn serve(
        &self,
        io: PrefacedIo<MaybeTlsStream>,
        client: Option<ClientCertificate>,
        peer: PeerAddress,
        mut guard: ConnectionGuard,
        mut phase: watch::Receiver<Phase>,
    ) -> CloseReason {
        let (close, closing) = watch::channel(false);
        // Only a connection with a client certificate depends on the trusted CAs.
        let trust_changes =
            self.tls.as_ref().filter(|_| client.is_some()).map(|tls| tls.trust_changes());
        let mut trust_changed = pin!(wait_for_change(trust_changes));
        let mut lifetime = Lifetime::new(
            self.lifetimes.max_age.mul_f64(rand::random_range(0.9..1.1)),
            client.as_ref().and_then(|client| client.expires),
            self.lifetimes.max_idle,
        );
        let window = self.admission.receive_window(&guard.address);
        let certificate = client.and_then(|client| client.identity);
        let info = new_info(peer, certificate, &guard, window.window, self.lifetimes, closing);
        self.identify(&info);
        let handover = StreamHandover::default();
        let service = self.new_service.new_service(Arc::clone(&info), handover.clone());
        let http2 = self.http2(window.window, StreamExecutor::new(handover));
        let (io, sends_goaway) = GoAwayOnDrop::new(ResetStatus::new(ValidAuthority::new(io)));
        let mut connection = pin!(http2.serve_connection(TokioIo::new(io), service));
        let mut reason = None;
        let mut last_phase = Phase::Open;
        let mut grace_end = None;
        loop {
            let close_reason = select! {
                closed = connection.as_mut() => return match (reason, closed) {
                    (Some(reason), _) => reason,
                    (None, Ok(())) => CloseReason::Client,
                    (None, Err(error)) => {
                        debug!(net.peer = %peer, %error, "Connection failed");
                        CloseReason::Error
                    }
                },
                () = sleep_until(grace_end.unwrap_or_else(|| {
                    lifetime.next_check().min(info.held.next_check())
                })) => match reason {
                    Some(CloseReason::Unread) => return CloseReason::Unread,
                    Some(_) => return CloseReason::Forced,
                    None if info.held.is_overdue() => CloseReason::Unread,
                    None => match lifetime.check(&info) {
                        Some(reason) => reason,
                        None => continue,
                    },
                },
                change = guard.changed() => match change {
                    Some(StageChange::Cancellations) => {
                        sends_goaway.store(true, Ordering::Relaxed);
                        return CloseReason::Cancellations;
                    }
                    Some(change @ (StageChange::Identified | StageChange::OverLimit)) => {
                        lifetime.on_change(change);
                        continue;
                    }
                    None => return CloseReason::OverLimit,
                },
                () = trust_changed.as_mut(), if reason.is_none() => CloseReason::Certificate,
                phase = phase.wait_for(|phase| *phase != last_phase) => match phase.as_deref() {
                    Ok(Phase::Draining) => CloseReason::Drain,
                    // An error means that the server was dropped.
                    Ok(Phase::Open | Phase::Abort) | Err(_) => return CloseReason::Forced,
                },
            };
            if close_reason == CloseReason::Drain {
                last_phase = Phase::Draining;
            }
            grace_end = Some(Instant::now() + self.grace(close_reason));
            reason.get_or_insert(close_reason);
            close.send_replace(true);
            connection.as_mut().graceful_shutdown();
        }
    }

    /// Time that calls have after the connection is closed gracefully.
    fn grace(&self, reason: CloseReason) -> Duration {
        match reason {
            // The accept loop bounds the drain.
            CloseReason::Drain => NO_DEADLINE,
            CloseReason::OverLimit | CloseReason::Idle | CloseReason::Unread => {
                self.lifetimes.age_grace.min(SHORT_GRACE)
            }
            CloseReason::Client
            | CloseReason::Age
            | CloseReason::Certificate
            | CloseReason::Handshake
            | CloseReason::Error
            // The response of a call that began last is sent until then.
            | CloseReason::Cancellations
            | CloseReason::Forced => self.lifetimes.age_grace + SEND_GRACE,
        }
    }

    /// Identifies the caller of a connection before its first call, where that is possible. A connection
    /// over the limit serves probes, and its calls get an error.
    fn identify(&self, connection: &ConnInfo) {
        let caller = match &connection.certificate {
            Some(identity) => self.admission.identity_account(identity),
            None if self.identifies_by_address => Arc::clone(&connection.peer_account),
            None => return,
        };
        if let Err(error) = connection.stage.identify(&caller) {
            debug!(net.peer = %connection.peer, %error, "Rejected connection over the limit");
        }
    }

    fn http2(
        &self,
        window: ReceiveWindow,
        executor: StreamExecutor,
    ) -> http2::Builder<StreamExecutor> {
        let Lifetimes { keepalive_interval, keepalive_timeout, max_streams, .. } = self.lifetimes;
        let streams = max_streams as usize;
        // Twice the limit: admission control rejects metadata with a reason, HTTP/2 without.
        let max_header_list = self.admission.max_metadata().saturating_mul(2);
        let mut http2 = http2::Builder::new(executor);
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(keepalive_interval)
            .keep_alive_timeout(keepalive_timeout)
            .max_concurrent_streams(max_streams)
            .max_header_list_size(u32::try_from(max_header_list).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(streams.max(MIN_PENDING_RESETS))
            .max_local_error_reset_streams(ERROR_RESETS_PER_STREAM * streams.max(16))
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(window.stream)
            .initial_connection_window_size(window.connection);
        http2
    }
}

/// Creates the info of a connection.
fn new_info(
    peer: PeerAddress,
    certificate: Option<Identity>,
    guard: &ConnectionGuard,
    window: ReceiveWindow,
    lifetimes: Lifetimes,
    closing: watch::Receiver<bool>,
) -> Arc<ConnInfo> {
    Arc::new(ConnInfo {
        peer: peer.peer(),
        certificate,
        stage: Arc::clone(&guard.stage),
        calls: AtomicU64::new(0),
        probe_slots: Admission::probe_slots(),
        peer_account: Arc::clone(&guard.address),
        last_identity: ArcSwapOption::empty(),
        window,
        // The grace period is at least the longest deadline.
        held: HeldMessages::new(lifetimes.age_grace + SEND_GRACE),
        cancellations: CancellationLimit::new(lifetimes.max_streams),
        closing,
    })
}

/// Waits for the value to change; never completes if there is no value or no sender.
async fn wait_for_change(value: Option<watch::Receiver<u64>>) {
    if let Some(mut value) = value
        && value.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Performs the TLS handshake and reads the HTTP/2 preface, with a shorter timeout during shutdown.
async fn handshake(
    tls: Option<&ServerTls>,
    socket: Socket,
    phase: &mut watch::Receiver<Phase>,
) -> Result<(PrefacedIo<MaybeTlsStream>, Option<ClientCertificate>), preface::Error> {
    let drained = async {
        // An error means that the server was dropped.
        let _ = phase.wait_for(|phase| *phase != Phase::Open).await;
        tokio::time::sleep(DRAIN_HANDSHAKE_TIMEOUT).await;
    };
    let handshake = async {
        let TlsAccepted { stream, client } = match tls {
            None => TlsAccepted { stream: Either::Left(socket), client: None },
            Some(tls) => tls.accept(socket).await.map_err(preface::Error::Tls)?,
        };
        Ok((preface::read(stream).await?, client))
    };
    select! {
        done = timeout(HANDSHAKE_TIMEOUT, handshake) => done.unwrap_or(Err(preface::Error::Timeout)),
        () = drained => Err(preface::Error::Timeout),
    }
}

//! Serves a connection from accept to close, with a timeout for each phase.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{
    body::{Body, Bytes, Incoming},
    server::conn::http2,
    service::HttpService,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    select,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tonic::Status;
use tracing::debug;

use super::{
    admission::{Admission, ConnectionGuard},
    conn_info::ConnInfo,
    connection_stats::CloseReason,
    preface::{self, PrefacedIo},
    send_deadline::SEND_GRACE,
    stream_executor::{StreamExecutor, StreamHandover},
    tls::{ClientCertificate, MaybeTlsStream, ServerTls, TlsAccepted},
};

/// Timeout for the TLS handshake and the HTTP/2 preface together: long enough for TCP retransmissions.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout for the handshake of a connection accepted during shutdown.
const DRAIN_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum age of a connection over the limit.
const OVER_LIMIT_AGE: Duration = Duration::from_secs(2);

/// Maximum time after that: such a connection has no long calls.
const OVER_LIMIT_GRACE: Duration = Duration::from_secs(60);

/// Maximum number of streams that a client resets before the service has accepted them; beyond it, the
/// connection is closed. A client may legitimately cancel many calls at once.
const MAX_PENDING_RESETS: usize = 256;

/// Flow-control window of a stream for received data, in bytes: the largest batch message fits.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// Flow-control window of a connection for received data, in bytes.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

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
    pub(crate) admission: Arc<Admission>,
    pub(crate) lifetimes: Lifetimes,
}

// === impl ConnectionServer ===

impl<N: NewService> ConnectionServer<N> {
    /// Serves one connection until it is closed.
    pub(crate) async fn run(
        self: Arc<Self>,
        socket: TcpStream,
        peer: SocketAddr,
        guard: ConnectionGuard,
        mut phase: watch::Receiver<Phase>,
    ) {
        if let Err(error) = socket.set_nodelay(true) {
            debug!(%error, "Setting TCP_NODELAY failed");
        }
        let reason = match handshake(self.tls.as_deref(), socket, &mut phase).await {
            Ok((io, client)) => self.serve(io, client, peer, &guard, phase).await,
            Err(error) => {
                debug!(net.peer = %peer, %error, "Rejected connection before the HTTP/2 handshake completed");
                CloseReason::Handshake
            }
        };
        self.admission.on_connection_closed(reason);
        debug!(net.peer = %peer, connection.close_reason = reason.as_str(), "Closed connection");
    }

    async fn serve(
        &self,
        io: PrefacedIo<MaybeTlsStream>,
        client: Option<ClientCertificate>,
        peer: SocketAddr,
        guard: &ConnectionGuard,
        mut phase: watch::Receiver<Phase>,
    ) -> CloseReason {
        let (close, closing) = watch::channel(false);
        let over_limit = guard.over_limit;
        // Only a connection with a client certificate depends on the trusted CAs.
        let trust_changes =
            self.tls.as_ref().filter(|_| client.is_some()).map(|tls| tls.trust_changes());
        let mut trust_changed = pin!(wait_for_change(trust_changes));
        let expires = client.as_ref().and_then(|client| client.expires);
        let connection = Arc::new(ConnInfo {
            peer: peer.ip(),
            certificate: client.and_then(|client| client.identity),
            over_limit,
            probe_slots: Admission::probe_slots(),
            closing,
        });
        let handover = StreamHandover::default();
        let service = self.new_service.new_service(connection, handover.clone());
        let http2 = self.http2(StreamExecutor::new(handover));
        let mut connection = pin!(http2.serve_connection(TokioIo::new(io), service));
        let mut reason = None;
        let mut last_phase = Phase::Open;
        let age = Instant::now() + self.max_age(over_limit);
        let mut until = expires.unwrap_or(age).min(age);
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
                () = sleep_until(until) => match reason {
                    Some(_) => return CloseReason::Forced,
                    None if over_limit => CloseReason::OverLimit,
                    None if until < age => CloseReason::Certificate,
                    None => CloseReason::Age,
                },
                () = trust_changed.as_mut(), if reason.is_none() => CloseReason::Certificate,
                phase = phase.wait_for(|phase| *phase != last_phase) => match phase.as_deref() {
                    Ok(Phase::Draining) => CloseReason::Drain,
                    // An error means that the server was dropped.
                    Ok(Phase::Open | Phase::Abort) | Err(_) => return CloseReason::Forced,
                },
            };
            let grace = if close_reason == CloseReason::Drain {
                // The accept loop bounds the drain.
                last_phase = Phase::Draining;
                NO_DEADLINE
            } else if over_limit {
                self.lifetimes.age_grace.min(OVER_LIMIT_GRACE)
            } else {
                // The response of a call that began last is sent until then.
                self.lifetimes.age_grace + SEND_GRACE
            };
            until = Instant::now() + grace;
            reason.get_or_insert(close_reason);
            close.send_replace(true);
            connection.as_mut().graceful_shutdown();
        }
    }

    /// Maximum age with jitter, so that connections do not close at the same time.
    fn max_age(&self, over_limit: bool) -> Duration {
        if over_limit {
            return OVER_LIMIT_AGE;
        }
        self.lifetimes.max_age.mul_f64(rand::random_range(0.9..1.1))
    }

    fn http2(&self, executor: StreamExecutor) -> http2::Builder<StreamExecutor> {
        let Lifetimes { keepalive_interval, keepalive_timeout, max_streams, .. } = self.lifetimes;
        // Twice the limit: admission control rejects metadata with a reason, HTTP/2 without.
        let max_header_list = self.admission.max_metadata().saturating_mul(2);
        let mut http2 = http2::Builder::new(executor);
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(keepalive_interval)
            .keep_alive_timeout(keepalive_timeout)
            .max_concurrent_streams(max_streams)
            .max_header_list_size(u32::try_from(max_header_list).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        http2
    }
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
    socket: TcpStream,
    phase: &mut watch::Receiver<Phase>,
) -> Result<(PrefacedIo<MaybeTlsStream>, Option<ClientCertificate>), preface::Error> {
    let drained = async {
        // An error means that the server was dropped.
        let _ = phase.wait_for(|phase| *phase != Phase::Open).await;
        tokio::time::sleep(DRAIN_HANDSHAKE_TIMEOUT).await;
    };
    let handshake = async {
        let TlsAccepted { stream, client } = match tls {
            None => TlsAccepted { stream: MaybeTlsStream::Plain(socket), client: None },
            Some(tls) => tls.accept(socket).await.map_err(preface::Error::Tls)?,
        };
        Ok((preface::read(stream).await?, client))
    };
    select! {
        done = timeout(HANDSHAKE_TIMEOUT, handshake) => done.unwrap_or(Err(preface::Error::Timeout)),
        () = drained => Err(preface::Error::Timeout),
    }
}

//! One connection, from its first byte to its last: each phase of its life has a bound.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    select,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tonic::service::Routes;
use tracing::debug;

use crate::grpc::middleware::{
    authz::Authorizer,
    observe::{CallLayer, CallPolicy},
};

use super::{
    admission::{Admission, CloseReason, ConnectionGuard},
    call_state::ConnInfo,
    preface::{self, PrefacedIo},
    response_body::StreamExecutor,
    tls::{Client, MaybeTlsStream, Tls, TlsAccepted},
};

/// Longest time from a connection to the end of its preface, with the TLS handshake: a slow caller gets one packet here by
/// then.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The same for one that comes while the service stops.
const LAST_HANDSHAKE: Duration = Duration::from_secs(1);

/// How long those stay that are one too many.
const CROWDED_AGE: Duration = Duration::from_secs(2);

/// Streams that a caller resets before the service has seen them. One that gives up on many calls at
/// once does nothing wrong; past this the connection is ended.
const MAX_RESETS: usize = 256;

/// Receive windows: a full batch message fits into a stream's.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Most bytes of one answer that wait in the connection for the caller to read.
const SEND_BUFFER: usize = 64 * 1024;

/// Longer than any grace.
const NO_DEADLINE: Duration = Duration::from_secs(86_400);

/// How long connections live, and what fits on one.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// When a connection is asked to end, give or take a tenth.
    pub max_age: Duration,
    /// How long its calls may go on after that.
    pub age_grace: Duration,
    /// A connection that was quiet for this long is asked whether it is still there.
    pub keepalive_interval: Duration,
    /// How long the answer to that may take.
    pub keepalive_timeout: Duration,
    /// Calls at the same time on one connection.
    pub max_streams: u32,
}

/// How far the server is in its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Connections and calls are taken.
    Open,
    /// Connections are asked to end.
    Draining,
    /// Connections end now.
    Abort,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct ConnectionServer {
    pub(crate) routes: Routes,
    pub(crate) gate: Arc<Authorizer>,
    /// `None` for connections without TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) rules: Arc<CallPolicy>,
    pub(crate) load: Arc<Admission>,
    pub(crate) lifetimes: Lifetimes,
}

// === impl ConnectionServer ===

impl ConnectionServer {
    /// Serves one connection to its end.
    pub(crate) async fn run(
        self: Arc<Self>,
        socket: TcpStream,
        peer: SocketAddr,
        place: ConnectionGuard,
        mut phase: watch::Receiver<Phase>,
    ) {
        if let Err(error) = socket.set_nodelay(true) {
            debug!(%error, "Cannot set TCP_NODELAY");
        }
        let ending = match handshake(self.tls.as_deref(), socket, &mut phase).await {
            Ok((io, client)) => self.serve(io, client, peer, &place, phase).await,
            Err(error) => {
                debug!(net.peer = %peer, %error, "Connection is none");
                CloseReason::Handshake
            }
        };
        self.load.closed(ending);
        debug!(net.peer = %peer, connection.ending = ending.as_str(), "Connection ended");
    }

    async fn serve(
        &self,
        io: PrefacedIo<MaybeTlsStream>,
        client: Option<Client>,
        peer: SocketAddr,
        place: &ConnectionGuard,
        mut phase: watch::Receiver<Phase>,
    ) -> CloseReason {
        let (close, closing) = watch::channel(false);
        let over_limit = place.over_limit;
        // Those without a certificate have nothing that could be distrusted.
        let trust_changes =
            self.tls.as_ref().filter(|_| client.is_some()).map(|tls| tls.trust_changes());
        let mut distrusted = pin!(once_changed(trust_changes));
        let expires = client.as_ref().and_then(|client| client.expires);
        let certificate = client.and_then(|client| client.identity);
        let line =
            ConnInfo { peer: peer.ip(), certificate, over_limit, probes: Arc::default(), closing };
        let observe = CallLayer {
            inner: self.routes.clone(),
            gate: Arc::clone(&self.gate),
            rules: Arc::clone(&self.rules),
            load: Arc::clone(&self.load),
            line: Arc::new(line),
        };
        let connection = self.http2().serve_connection(TokioIo::new(io), observe);
        let mut connection = pin!(connection);
        let mut ending = None;
        let mut last = Phase::Open;
        let age = Instant::now() + self.age(over_limit);
        let mut until = expires.unwrap_or(age).min(age);
        loop {
            let why = select! {
                done = connection.as_mut() => return match (ending, done) {
                    (Some(ending), _) => ending,
                    (None, Ok(())) => CloseReason::Caller,
                    (None, Err(error)) => {
                        debug!(net.peer = %peer, %error, "Connection broke");
                        CloseReason::Error
                    }
                },
                () = sleep_until(until) => match ending {
                    Some(_) => return CloseReason::Cut,
                    None if over_limit => CloseReason::Crowded,
                    None if until < age => CloseReason::Certificate,
                    None => CloseReason::Age,
                },
                () = distrusted.as_mut(), if ending.is_none() => CloseReason::Certificate,
                now = phase.wait_for(|phase| *phase != last) => match now.as_deref() {
                    Ok(Phase::Draining) => CloseReason::Drain,
                    // An error means that the server is gone.
                    Ok(Phase::Open | Phase::Abort) | Err(_) => return CloseReason::Cut,
                },
            };
            // The server ends its drain itself.
            let grace = match why {
                CloseReason::Drain => {
                    last = Phase::Draining;
                    NO_DEADLINE
                }
                CloseReason::Caller
                | CloseReason::Age
                | CloseReason::Crowded
                | CloseReason::Certificate
                | CloseReason::Handshake
                | CloseReason::Error
                | CloseReason::Cut => self.lifetimes.age_grace,
            };
            until = Instant::now() + grace;
            ending.get_or_insert(why);
            close.send_replace(true);
            connection.as_mut().graceful_shutdown();
        }
    }

    /// All replicas' connections must not end together.
    fn age(&self, over_limit: bool) -> Duration {
        if over_limit {
            return CROWDED_AGE;
        }
        self.lifetimes.max_age.mul_f64(rand::random_range(0.9..1.1))
    }

    fn http2(&self) -> http2::Builder<StreamExecutor> {
        let Lifetimes { keepalive_interval, keepalive_timeout, max_streams, .. } = self.lifetimes;
        // What is a little too large is refused by the layer, with a reason; HTTP/2 itself has none.
        let max_header_list = self.rules.max_metadata.saturating_mul(2);
        let mut http2 = http2::Builder::new(StreamExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(keepalive_interval)
            .keep_alive_timeout(keepalive_timeout)
            .max_concurrent_streams(max_streams)
            .max_header_list_size(u32::try_from(max_header_list).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        http2
    }
}

/// Ready once the value has changed; never if there is none, or nobody who could change it.
async fn once_changed(value: Option<watch::Receiver<u64>>) {
    if let Some(mut value) = value
        && value.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Waits for the TLS handshake and the preface, with less patience once the service stops.
async fn handshake(
    tls: Option<&Tls>,
    socket: TcpStream,
    phase: &mut watch::Receiver<Phase>,
) -> Result<(PrefacedIo<MaybeTlsStream>, Option<Client>), preface::Error> {
    let hurry = async {
        // An error means that the server is gone.
        let _ = phase.wait_for(|phase| *phase != Phase::Open).await;
        tokio::time::sleep(LAST_HANDSHAKE).await;
    };
    let begins = async {
        let TlsAccepted { wire, client } = match tls {
            None => TlsAccepted { wire: MaybeTlsStream::Plain(socket), client: None },
            Some(tls) => tls.accept(socket).await.map_err(preface::Error::Tls)?,
        };
        Ok((preface::read(wire).await?, client))
    };
    select! {
        begun = timeout(HANDSHAKE, begins) => begun.unwrap_or(Err(preface::Error::Late)),
        () = hurry => Err(preface::Error::Late),
    }
}

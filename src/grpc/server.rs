//! The listener, what is served on it, and how it ends.
//!
//! The accept loop is ours and not tonic's: tonic answers an expired deadline with CANCELLED before
//! a layer can say better.

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{body::Body, codec::CompressionEncoding, service::Routes};
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

use super::{
    DESCRIPTORS,
    call::{Peer, Portals},
    health,
    layer::Observe,
    leads::Leads,
    pb::{leads_service_server::LeadsServiceServer, quota_service_server::QuotaServiceServer},
    quota::Quotas,
};
use crate::{
    leads,
    quota::Quota,
    task::{self, Task},
};

/// Pings on quiet connections, so that half-open ones are found within 50 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Calls at the same time on one connection; clients queue past it.
const MAX_STREAMS: u32 = 1_000;

/// Headers of one call: room for a traceparent, a token and some metadata.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Receive windows: a full batch message fits into a stream's.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Pause after a failed accept: the usual cause is a lack of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server needs beside the domain.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The portals callers may name.
    pub portals: Portals,
    /// Their quotas.
    pub quota: Arc<Quota>,
    /// Largest request message, in bytes.
    pub max_request_bytes: usize,
    /// Most inputs of one batch call.
    pub max_batch_inputs: usize,
    /// Ceiling of the deadline of calls for one lead or one page.
    pub max_deadline: Duration,
    /// Ceiling of the deadline of batches.
    pub max_batch_deadline: Duration,
    /// How long calls in flight may go on once the server was told to stop.
    pub shutdown_grace: Duration,
    /// Where the reasons of errors are explained; empty for nowhere.
    pub error_catalogue: Arc<str>,
    /// Whether the service can do its work.
    pub serving: watch::Receiver<bool>,
}

/// A server that holds its address and has not begun to accept.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    observed: Observe<Routes>,
    shutdown_grace: Duration,
    /// Ends the streams that would go on.
    stopping: watch::Sender<bool>,
    _health: Task,
}

// === impl Bound ===

impl Bound {
    /// Takes the address.
    pub async fn bind(service: leads::Service, settings: Settings) -> io::Result<Self> {
        let Settings {
            listen,
            portals,
            quota,
            max_request_bytes,
            max_batch_inputs,
            max_deadline,
            max_batch_deadline,
            shutdown_grace,
            error_catalogue,
            serving,
        } = settings;
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (health, task) = health::service(serving).await;
        let (stopping, stops) = watch::channel(false);
        let quota = Quotas { quota, portals: portals.clone(), stopping: stops };
        let leads = LeadsServiceServer::new(Leads { service, portals, max_batch_inputs })
            .max_decoding_message_size(max_request_bytes)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip);
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let routes = Routes::new(leads)
            .add_service(QuotaServiceServer::new(quota))
            .add_service(health)
            .add_service(reflection().build_v1().map_err(io::Error::other)?)
            .add_service(reflection().build_v1alpha().map_err(io::Error::other)?)
            .prepare();
        let observed =
            Observe { inner: routes, max_deadline, max_batch_deadline, catalogue: error_catalogue };
        Ok(Self { listener, address, observed, shutdown_grace, stopping, _health: task })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is ready, then finishes the calls in flight within the grace.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, address, observed, shutdown_grace, stopping, _health } = self;
        info!(grpc.address = %address, "Serving gRPC");
        let connections = GracefulShutdown::new();
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    serve_connection(socket, peer, observed.clone(), &connections);
                }
                Err(error) => {
                    warn!(%error, "Cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        stopping.send_replace(true);
        let open = connections.count();
        info!(grpc.connections = open, "Finishing the calls in flight");
        if timeout(shutdown_grace, connections.shutdown()).await.is_err() {
            warn!("Some calls did not finish within the grace and are cut off");
        }
    }
}

fn serve_connection(
    socket: TcpStream,
    peer: SocketAddr,
    observed: Observe<Routes>,
    connections: &GracefulShutdown,
) {
    let service = observed.map_request(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer.ip()));
        request
    });
    let service = TowerToHyperService::new(service);
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "Cannot set TCP_NODELAY");
    }
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let connection = http2.serve_connection(TokioIo::new(socket), service);
    let connection = connections.watch(connection);
    task::spawn("connection", "", async move {
        if let Err(error) = connection.await {
            debug!(net.peer = %peer, %error, "Connection ended early");
        }
    })
    .detach();
}

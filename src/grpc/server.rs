//! The listener, what is served on it, and how it ends.
//!
//! The accept loop is ours and not tonic's: tonic answers an expired deadline with CANCELLED before
//! a layer can say better.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    net::{TcpListener, TcpStream},
    pin, select,
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{codec::CompressionEncoding, service::Routes};
use tracing::{info, warn};

use super::{
    DESCRIPTORS, health_service as health,
    leads_service::LeadsHandler,
    methods::Methods,
    middleware::{authz::Authorizer, observe::CallPolicy},
    pb::{leads_service_server::LeadsServiceServer, quota_service_server::QuotaServiceServer},
    quota_service::QuotaHandler,
    transport::{
        admission::{Admission, Limits},
        call_state::Portals,
        connection::{ConnectionServer, Lifetimes, Phase},
        tls::Tls,
    },
};
use crate::{auth::Auth, leads, telemetry::spans::SpanSink};
use leadsd_base::task::{self, Task};
use leadsd_quota::Quota;

/// Pause after a failed accept: the usual cause is a lack of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections that are cut off may take to notice.
const CUT: Duration = Duration::from_secs(1);

/// What the server needs beside the domain.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The portals callers may name.
    pub portals: Portals,
    /// Their quotas.
    pub quota: Arc<Quota>,
    /// Knows callers; `None` lets everybody in.
    pub auth: Option<Arc<Auth>>,
    /// Certificates; `None` serves without TLS.
    pub tls: Option<Arc<Tls>>,
    /// Largest request message, in bytes.
    pub max_request_bytes: usize,
    /// Largest metadata of a call, in bytes.
    pub max_header_bytes: usize,
    /// What is taken on at the same time.
    pub most: Limits,
    /// How long connections live.
    pub lifetimes: Lifetimes,
    /// Most inputs of one batch call.
    pub max_batch_inputs: usize,
    /// Ceiling of the deadline of calls for one lead or one page.
    pub max_deadline: Duration,
    /// Ceiling of the deadline of batches.
    pub max_batch_deadline: Duration,
    /// How long calls are still taken once the server was told to stop.
    pub drain_delay: Duration,
    /// How long calls in flight may go on after that.
    pub shutdown_grace: Duration,
    /// Where the reasons of errors are explained; empty for nowhere.
    pub error_catalogue: Arc<str>,
    /// Where spans are handed over.
    pub spans: SpanSink,
    /// Whether the service can do its work.
    pub serving: watch::Receiver<bool>,
}

/// A server that holds its address and has not begun to accept.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    lines: Arc<ConnectionServer>,
    phases: watch::Sender<Phase>,
    drain_delay: Duration,
    shutdown_grace: Duration,
    _tasks: (Task, Option<Task>),
}

// === impl Bound ===

impl Bound {
    /// Takes the address.
    pub async fn bind(service: leads::Service, settings: Settings) -> io::Result<Self> {
        let Settings {
            listen,
            portals,
            quota,
            auth,
            tls,
            max_request_bytes,
            max_header_bytes,
            most,
            lifetimes,
            max_batch_inputs,
            max_deadline,
            max_batch_deadline,
            drain_delay,
            shutdown_grace,
            error_catalogue,
            spans,
            serving,
        } = settings;
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (health, task) = health::service(serving).await;
        let certificates = tls.clone().map(Tls::watch);
        let gate = Arc::new(Authorizer { auth, portals: portals.clone() });
        let quota = QuotaHandler { quota, portals: portals.clone() };
        let mut leads =
            LeadsServiceServer::new(LeadsHandler { service, portals, max_batch_inputs })
                .max_decoding_message_size(max_request_bytes);
        let mut quota = QuotaServiceServer::new(quota).max_decoding_message_size(max_request_bytes);
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
            leads = leads.accept_compressed(encoding).send_compressed(encoding);
            quota = quota.accept_compressed(encoding).send_compressed(encoding);
        }
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let routes = Routes::new(leads)
            .add_service(quota)
            .add_service(health)
            .add_service(reflection().build_v1().map_err(io::Error::other)?)
            .add_service(reflection().build_v1alpha().map_err(io::Error::other)?)
            .prepare();
        let rules = Arc::new(CallPolicy {
            max_deadline,
            max_batch_deadline,
            max_message: max_request_bytes,
            max_metadata: max_header_bytes,
            catalogue: error_catalogue,
            spans,
        });
        let load = Arc::new(Admission::new(most, Methods::known()));
        let lines = Arc::new(ConnectionServer { routes, gate, tls, rules, load, lifetimes });
        let (phases, _) = watch::channel(Phase::Open);
        let _tasks = (task, certificates);
        Ok(Self { listener, address, lines, phases, drain_delay, shutdown_grace, _tasks })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has in hand.
    pub fn load(&self) -> Arc<Admission> {
        Arc::clone(&self.lines.load)
    }

    /// Serves until `stop` is ready and whoever sends calls had time to notice, then finishes the
    /// calls in flight within the grace.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let tls = self.lines.tls.is_some();
        info!(grpc.address = %self.address, grpc.tls = tls, "Serving gRPC");
        self.accept_until(stop).await;
        if !self.drain_delay.is_zero() {
            info!(drain.delay_ms = ms(self.drain_delay), "Still taking calls until callers notice");
            self.accept_until(sleep(self.drain_delay)).await;
        }
        let Self { listener, lines, phases, shutdown_grace, .. } = self;
        // Those who are connected and not accepted yet would be cut off with the listener.
        while let Some(Ok((socket, peer))) = listener.accept().now_or_never() {
            connect(&lines, &phases, socket, peer);
        }
        drop(listener);
        phases.send_replace(Phase::Draining);
        let open = lines.load.connections.used();
        info!(grpc.connections = open, "Finishing the calls in flight");
        if timeout(shutdown_grace, phases.closed()).await.is_err() {
            warn!("Some calls did not finish within the grace and are cut off");
            phases.send_replace(Phase::Abort);
            // Whatever is left ends with the process.
            let _ = timeout(CUT, phases.closed()).await;
        }
    }

    async fn accept_until(&self, end: impl Future<Output = ()>) {
        pin!(end);
        loop {
            let accepted = select! {
                () = &mut end => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => connect(&self.lines, &self.phases, socket, peer),
                Err(error) => {
                    warn!(%error, "Cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn connect(
    lines: &Arc<ConnectionServer>,
    phases: &watch::Sender<Phase>,
    socket: TcpStream,
    peer: SocketAddr,
) {
    // If even the spare places are taken, the socket is closed.
    let Some(place) = lines.load.connect() else { return };
    let serve = Arc::clone(lines).run(socket, peer, place, phases.subscribe());
    task::spawn("connection", "", serve).detach();
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

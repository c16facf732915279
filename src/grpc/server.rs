//! The gRPC server: assembles the services and layers, and serves them until it is stopped.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tracing::info;

use super::{
    health_service,
    leads_service::LeadsHandler,
    methods::{MethodSnapshot, Methods},
    middleware::{
        authz::Authorizer,
        call_policy::CallPolicy,
        deadline::DeadlinePolicy,
        observe::{CallServer, SharedLayers},
        portals::Portals,
    },
    quota_service::QuotaHandler,
    services::ServerServices,
    transport::{
        accept::Acceptor,
        admission::{Admission, AdmissionSnapshot, Limits},
        connection::{ConnectionServer, Lifetimes},
        tls::Tls,
    },
};
use crate::{auth::Auth, leads, telemetry::spans::SpanSink};
use leadsd_base::task::Task;
use leadsd_quota::Quota;

/// What the server needs beside the domain.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// The portals of this service.
    pub portals: Portals,
    /// Their quotas.
    pub quota: Arc<Quota>,
    /// Authenticates callers; `None` if callers have no identity and may do everything.
    pub auth: Option<Arc<Auth>>,
    /// Certificates; `None` serves without TLS.
    pub tls: Option<Arc<Tls>>,
    /// Maximum request message, in bytes.
    pub max_request_bytes: usize,
    /// What is accepted at the same time.
    pub limits: Limits,
    /// Lifetime of connections.
    pub lifetimes: Lifetimes,
    /// Maximum number of inputs of one batch call.
    pub max_batch_inputs: usize,
    /// Ceiling of the deadline of calls for one lead or one page.
    pub max_deadline: Duration,
    /// Ceiling of the deadline of batches.
    pub max_batch_deadline: Duration,
    /// Time for which calls are still accepted after the server is told to stop.
    pub drain_delay: Duration,
    /// Time that calls in flight have after that.
    pub shutdown_grace: Duration,
    /// Page that explains the reasons of errors; empty for none.
    pub error_docs_url: Arc<str>,
    /// Receives the spans of sampled traces.
    pub spans: SpanSink,
    /// True while the service can do its work.
    pub serving: watch::Receiver<bool>,
}

/// A server that has bound its address and does not accept connections yet.
#[derive(Debug)]
pub struct Bound {
    acceptor: Acceptor<CallServer>,
    stats: ServerStats,
    drain_delay: Duration,
    shutdown_grace: Duration,
    _tasks: (Task, Option<Task>),
}

/// The counters of a server.
#[derive(Debug, Clone)]
pub struct ServerStats {
    admission: Arc<Admission>,
    methods: Arc<Methods>,
}

/// The counters of a server at one moment.
#[derive(Debug, Clone)]
pub struct ServerSnapshot {
    /// Limits, rejections and connections.
    pub admission: AdmissionSnapshot,
    /// The methods that can be called.
    pub methods: Vec<MethodSnapshot>,
}

// === impl Bound ===

impl Bound {
    /// Assembles the server and binds its address.
    pub async fn bind(service: leads::Service, settings: Settings) -> io::Result<Self> {
        let Settings {
            listen,
            portals,
            quota,
            auth,
            tls,
            max_request_bytes,
            limits,
            lifetimes,
            max_batch_inputs,
            max_deadline,
            max_batch_deadline,
            drain_delay,
            shutdown_grace,
            error_docs_url,
            spans,
            serving,
        } = settings;
        let (health, health_task) = health_service::service(serving).await;
        let reload_task = tls.clone().map(Tls::watch);
        let leads = LeadsHandler { service, max_batch_inputs };
        let quota = QuotaHandler { quota };
        let services = ServerServices::new(leads, quota, health, max_request_bytes)?;
        let methods = Arc::new(Methods::all());
        let admission = Arc::new(Admission::new(limits));
        let policy = Arc::new(CallPolicy {
            methods: Arc::clone(&methods),
            deadlines: DeadlinePolicy { max_unary: max_deadline, max_batch: max_batch_deadline },
            max_message: max_request_bytes,
            error_docs_url,
            spans,
        });
        let shared = Arc::new(SharedLayers {
            services: Box::new(services),
            authorizer: Authorizer { auth, portals },
            policy,
            admission: Arc::clone(&admission),
        });
        let new_service = CallServer { shared };
        let stats = ServerStats { admission: Arc::clone(&admission), methods };
        let server = ConnectionServer { new_service, tls, admission, lifetimes };
        let acceptor = Acceptor::bind(listen, server).await?;
        let _tasks = (health_task, reload_task);
        Ok(Self { acceptor, stats, drain_delay, shutdown_grace, _tasks })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.acceptor.address()
    }

    /// The counters of the server.
    pub fn stats(&self) -> ServerStats {
        self.stats.clone()
    }

    /// Serves until `stop` is ready and clients had time to notice, then finishes the calls in flight
    /// within the grace period.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { acceptor, stats: _, drain_delay, shutdown_grace, _tasks } = self;
        info!(grpc.address = %acceptor.address(), grpc.tls = acceptor.is_tls(), "Serving gRPC");
        acceptor.accept_until(stop).await;
        if !drain_delay.is_zero() {
            let delay_ms = u64::try_from(drain_delay.as_millis()).unwrap_or(u64::MAX);
            info!(drain.delay_ms = delay_ms, "Accepting calls until clients notice the shutdown");
            acceptor.accept_until(sleep(drain_delay)).await;
        }
        acceptor.drain(shutdown_grace).await;
    }
}

// === impl ServerStats ===

impl ServerStats {
    /// The counters now.
    pub fn snapshot(&self) -> ServerSnapshot {
        let Self { admission, methods } = self;
        ServerSnapshot { admission: admission.snapshot(), methods: methods.snapshot() }
    }
}

//! Assembles services and layers to the gRPC server, and runs it until it is stopped.

use std::{future::Future, io, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tracing::info;

use super::{
    health_service::Serving,
    leads_service::LeadsHandler,
    methods::{MethodSnapshot, Methods},
    middleware::{
        authz::Authorizer,
        call_log_limit::{CallLogLimit, LimitedEvents},
        call_policy::{AccessLogLimits, CallPolicy},
        deadline::DeadlinePolicy,
        observe::{CallServer, SharedLayers},
        portals::PortalResolver,
    },
    quota_service::QuotaHandler,
    schema_service::SchemaHandler,
    services::ServerServices,
    transport::{
        accept::Acceptor,
        admission::{Admission, AdmissionLimits, AdmissionSnapshot},
        connection::{ConnectionServer, Lifetimes},
        tls::ServerTls,
    },
};
use crate::{auth::Authenticator, leads, telemetry::spans::SpanSink};
use leadsd_base::{
    memory::{MemoryPressure, resident_bytes},
    net::listen_address::ListenAddress,
    task::Task,
};
use leadsd_quota::Quota;

/// Settings and dependencies of the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Listen address.
    pub listen: ListenAddress,
    /// Resolver of portals.
    pub portals: PortalResolver,
    /// Quotas of the portals.
    pub quota: Arc<Quota>,
    /// Authenticator; `None` if every call is allowed without authentication.
    pub auth: Option<Arc<Authenticator>>,
    /// TLS certificates; `None` serves without TLS.
    pub tls: Option<Arc<ServerTls>>,
    /// Maximum size of a request message in bytes.
    pub max_request_bytes: usize,
    /// Maximum size of a response message in bytes.
    pub max_response_bytes: usize,
    /// Limits of admission control.
    pub limits: AdmissionLimits,
    /// Memory limit of the process in bytes; `None` sheds no load.
    pub memory_limit: Option<u64>,
    /// Lifetime of connections.
    pub lifetimes: Lifetimes,
    /// Maximum number of inputs of one batch call.
    pub max_batch_inputs: usize,
    /// Maximum timeout of calls for one lead or one page.
    pub max_deadline: Duration,
    /// Maximum timeout of batches.
    pub max_batch_deadline: Duration,
    /// Time for which new calls are accepted after the stop signal.
    pub drain_delay: Duration,
    /// Time that calls in flight have to finish after the drain delay.
    pub shutdown_grace: Duration,
    /// URL of the page that documents error reasons; empty if there is none.
    pub error_docs_url: Arc<str>,
    /// Sink for spans of sampled traces.
    pub spans: SpanSink,
    /// Ability to serve calls, for health checks.
    pub serving: watch::Receiver<Serving>,
}

/// Server that has bound its address and does not accept connections yet.
#[derive(Debug)]
pub struct BoundServer {
    acceptor: Acceptor<CallServer>,
    stats: ServerStats,
    drain_delay: Duration,
    shutdown_grace: Duration,
    log_limits: [CallLogLimit; 3],
    _tasks: Vec<Task>,
}

/// Handle to the metrics of a server.
#[derive(Debug, Clone)]
pub struct ServerStats {
    admission: Arc<Admission>,
    methods: Arc<Methods>,
    service: leads::Service,
}

/// Snapshot of the metrics of a server.
#[derive(Debug, Clone)]
pub struct ServerSnapshot {
    /// Limits, rejections and connections.
    pub admission: AdmissionSnapshot,
    /// Metrics per method.
    pub methods: Vec<MethodSnapshot>,
    /// Memory of the results kept for request ids, in bytes.
    pub kept_result_bytes: usize,
    /// Statistics of request ids.
    pub request_ids: leads::idempotency::RequestIdStats,
    /// Counts of exports.
    pub exports: leads::export::ExportCounts,
    /// Counts of imports.
    pub imports: leads::import::ImportCounts,
    /// Memory of the copies of schemas, in bytes.
    pub schema_bytes: usize,
    /// Counts of validated writes.
    pub validation: leads::ValidationSnapshot,
}

// === impl BoundServer ===

impl BoundServer {
    /// Assembles the server and binds its address.
    pub async fn bind(service: leads::Service, settings: Settings) -> io::Result<Self> {
        let Settings {
            listen,
            portals,
            quota,
            auth,
            tls,
            max_request_bytes,
            max_response_bytes,
            limits,
            memory_limit,
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
        let is_authenticated = auth.is_some();
        let reload_task = tls.clone().map(ServerTls::watch);
        let kept = service.clone();
        let leads = LeadsHandler { service, max_batch_inputs, max_response_bytes };
        let quota = QuotaHandler { quota };
        let schema = SchemaHandler {
            schemas: kept.schemas().clone(),
            portals: portals.clone(),
            max_response_bytes,
        };
        let services = ServerServices::new(leads, quota, schema, serving, max_request_bytes)?;
        let methods = Arc::new(Methods::new(max_batch_inputs));
        let watch = |limit| MemoryPressure::watch(limit, resident_bytes);
        let (pressure, memory_task) = memory_limit.map(watch).unzip();
        let admission = Admission::new(limits).with_memory_pressure(pressure.unwrap_or_default());
        let admission = Arc::new(admission);
        let log_limits =
            [LimitedEvents::RefusedCalls, LimitedEvents::RefusedWrites, LimitedEvents::Calls]
                .map(CallLogLimit::new);
        let [refused_calls, refused_writes, calls] = log_limits.clone();
        let policy = Arc::new(CallPolicy {
            methods: Arc::clone(&methods),
            deadlines: DeadlinePolicy { max_unary: max_deadline, max_batch: max_batch_deadline },
            max_message: max_request_bytes,
            error_docs_url,
            log_limits: AccessLogLimits { refused: refused_calls, others: calls },
            spans,
        });
        let shared = Arc::new(SharedLayers {
            services: Box::new(services),
            authorizer: Authorizer { auth, portals, refused_writes },
            policy,
            admission: Arc::clone(&admission),
        });
        let new_service = CallServer { shared };
        let identifies_by_address = !is_authenticated;
        let stats = ServerStats { admission: Arc::clone(&admission), methods, service: kept };
        let server =
            ConnectionServer { new_service, tls, identifies_by_address, admission, lifetimes };
        let acceptor = Acceptor::bind(&listen, server).await?;
        let tasks = [reload_task, memory_task];
        let summaries = log_limits.iter().map(CallLogLimit::start);
        let _tasks = tasks.into_iter().flatten().chain(summaries).collect();
        Ok(Self { acceptor, stats, drain_delay, shutdown_grace, log_limits, _tasks })
    }

    /// Bound address.
    pub fn address(&self) -> &ListenAddress {
        self.acceptor.address()
    }

    /// Handle to the metrics of the server.
    pub fn stats(&self) -> ServerStats {
        self.stats.clone()
    }

    /// Serves until `stop` completes and the drain delay has passed, then drains: finishes the calls in
    /// flight within the grace period.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { acceptor, stats: _, drain_delay, shutdown_grace, log_limits, _tasks } = self;
        info!(grpc.address = %acceptor.address(), grpc.tls = acceptor.is_tls(), "Started gRPC server");
        acceptor.accept_until(stop).await;
        if !drain_delay.is_zero() {
            let delay_ms = u64::try_from(drain_delay.as_millis()).unwrap_or(u64::MAX);
            info!(
                drain.delay_ms = delay_ms,
                "Started drain delay: accepting calls until clients have left"
            );
            acceptor.accept_until(sleep(drain_delay)).await;
        }
        acceptor.drain(shutdown_grace).await;
        log_limits.iter().for_each(CallLogLimit::log_summaries);
    }
}

// === impl ServerStats ===

impl ServerStats {
    /// Current metrics.
    pub fn snapshot(&self) -> ServerSnapshot {
        let Self { admission, methods, service } = self;
        ServerSnapshot {
            admission: admission.snapshot(),
            methods: methods.snapshot(),
            kept_result_bytes: service.kept_result_bytes(),
            schema_bytes: service.schemas().bytes(),
            validation: service.validation(),
            request_ids: service.request_id_stats(),
            exports: service.export_counts(),
            imports: service.import_counts(),
        }
    }
}

//! Composition root: the only place that connects ports with their implementations. `serve`, `dev` and
//! the tests run the service assembled here.
//!
//! It knows every part and holds no rule: those are in the parts.

mod readiness;

use std::{collections::BTreeMap, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use crate::pipeline::{self, BreakerSettings, PipelineSettings};
use crate::{
    admin,
    auth::{self, Authenticator},
    config::{self, Config},
    grpc, hubspot, leads,
    telemetry::{self, spans::SpanSink},
    vault,
};
use leadsd_base::{
    memory::cgroup_limit,
    task::{self, Task},
    time::{SystemClock, WallClock as _},
};
use leadsd_credentials::{self, Credentials};
use leadsd_quota::{Quota, redis_ledger::RedisLedger};

/// Timeout for the final requests to Vault and Redis: write back refresh tokens, revoke the Vault token,
/// leave the ledger.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Error of starting the service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Address.
        address: SocketAddr,
        /// Cause.
        source: io::Error,
    },
    /// The Vault client cannot be built.
    #[error("vault: {0}")]
    Vault(#[from] vault::Error),
    /// The HubSpot client cannot be built.
    #[error("hubspot: {0}")]
    Hubspot(#[from] hubspot::BuildError),
    /// The span exporter cannot start.
    #[error(transparent)]
    Trace(#[from] telemetry::ExportError),
    /// The certificates cannot be loaded.
    #[error("certificates: {0}")]
    Tls(#[from] grpc::TlsError),
    /// A portal has an invalid name.
    #[error(transparent)]
    Portal(#[from] leadsd_base::portal_name::InvalidPortalName),
}

/// Service with bound addresses, before it accepts calls.
#[derive(Debug)]
pub struct BoundService {
    grpc: grpc::BoundServer,
    admin: admin::BoundAdmin,
    credentials: Arc<Credentials>,
    quota: Arc<Quota>,
    session: vault::Session,
    readiness: Task,
    /// True while draining: then the service is not ready.
    draining: watch::Sender<bool>,
    spans: SpanSink,
    /// Reads the credentials of the egress proxy; `None` if it has none.
    proxy: Option<Task>,
}

// === impl BoundService ===

impl BoundService {
    /// Assembles the service and binds its addresses. Vault and HubSpot need not be available yet.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let Config {
            grpc,
            admin,
            vault,
            hubspot,
            egress,
            credentials,
            quota,
            auth,
            policy,
            portals,
            portal_discovery,
            trace,
            log: _,
            process: _,
        } = config;
        let spans = telemetry::start_export(&trace)?;
        let ids = request_id_properties(&portals, portal_discovery.as_ref());
        let batching = quota.batching;
        let quota = quota_settings(quota, grpc.max_caller_share, &portals);
        let quota = Arc::new(Quota::new(quota, Arc::new(SystemClock)));
        let session = vault::Session::start(&vault)?;
        let settings = credential_settings(&vault, &hubspot, credentials, portal_discovery);
        let callers = auth_settings(auth, policy, grpc.tls.as_ref(), &vault);
        let store = Arc::new(vault::KvStore::new(session.clone(), vault.mount, vault.timeout));
        let proxy = watch_proxy_credentials(egress, &store, vault.poll_interval);
        let auth = callers.map(|callers| start_auth(callers, Arc::clone(&store)));
        let times = (vault.poll_interval, vault.timeout.saturating_mul(2));
        let admin_keys = admin::start_keys(&admin, Arc::clone(&store), times);
        let secrets = portals.into_iter().map(|(name, portal)| (name.to_string(), portal.secret));
        let credentials = Arc::new(Credentials::start(
            settings,
            store,
            Arc::new(hubspot::OAuth::new(&hubspot)?),
            Arc::new(SystemClock),
            secrets,
        )?);
        let client = hubspot::HubspotClient::new(&hubspot)?;
        let settings = pipeline_settings(ids, batching, &hubspot);
        let (quotas, handles) = (Arc::clone(&quota), Arc::clone(&credentials));
        let portals =
            Arc::new(pipeline::Portals::new(settings, client, quotas, handles, spans.clone()));
        let service = leads::Service::new(&service_settings(&hubspot, &grpc));

        let (draining, drains) = watch::channel(false);
        let (unmet, serving, readiness) =
            readiness::watch(credentials.ready(), auth.as_deref(), drains);
        let listen = |address| move |source| Error::Listen { address, source };
        let resolver = portal_resolver(Arc::clone(&portals));
        let (quotas, tls) = (Arc::clone(&quota), certificates(grpc.tls.as_ref()).await?);
        let mut settings = grpc_settings(&grpc, resolver, quotas, auth.clone(), serving);
        (settings.spans, settings.tls) = (spans.clone(), tls.clone());
        let grpc = grpc::BoundServer::bind(service, settings).await.map_err(listen(grpc.listen))?;
        let sources = admin::Sources {
            readiness: unmet,
            credentials: Arc::clone(&credentials),
            vault: session.clone(),
            portals,
            quota: Arc::clone(&quota),
            grpc: grpc.stats(),
            spans: spans.clone(),
            auth,
            tls,
            started: SystemClock.now(),
        };
        let bound = admin::BoundAdmin::bind(&admin, admin_keys, sources).await;
        let admin = bound.map_err(listen(admin.listen))?;
        Ok(Self { grpc, admin, credentials, quota, session, readiness, draining, spans, proxy })
    }

    /// Bound address of the gRPC port.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.address()
    }

    /// Bound address of the admin port.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Serves until `stop` completes, drains, and shuts down all parts.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { grpc, admin, credentials, quota, session, readiness, draining, spans, proxy } =
            self;
        info!(admin.address = %admin.address(), "Started admin server");
        let (stop_admin, stopped) = watch::channel(false);
        let admin = task::spawn("admin", "", async move {
            let mut stopped = stopped;
            let stop = async move {
                // An error means that the sender was dropped, which stops the server as well.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            admin.run(stop).await;
        });
        let stop = async {
            stop.await;
            draining.send_replace(true);
        };
        grpc.run(stop).await;
        drop(readiness);
        stop_admin.send_replace(true);
        admin.ended().await;
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        quota.leave_ledger(deadline).await;
        if !credentials.close(deadline).await {
            warn!("Some credentials did not finish their requests before the shutdown timeout");
        }
        drop(proxy);
        session.close(deadline).await;
        spans.shut_down(deadline).await;
        info!("Stopped");
    }
}

fn service_settings(hubspot: &config::Hubspot, grpc: &config::Grpc) -> leads::Settings {
    leads::Settings {
        batch_concurrency: hubspot.batch_concurrency,
        response: leads::ResponseLimit {
            max_bytes: grpc.max_response_bytes,
            lead_size: grpc::lead_size,
        },
        rejection_cache_ttl: hubspot.rejection_cache_ttl,
    }
}

fn grpc_settings(
    config: &config::Grpc,
    portals: grpc::PortalResolver,
    quota: Arc<Quota>,
    auth: Option<Arc<Authenticator>>,
    serving: watch::Receiver<bool>,
) -> grpc::Settings {
    let memory_limit = config.memory_limit.bytes(cgroup_limit());
    grpc::Settings {
        listen: config.listen,
        portals,
        quota,
        auth,
        tls: None,
        max_request_bytes: config.max_request_bytes,
        max_response_bytes: config.max_response_bytes,
        limits: grpc::AdmissionLimits {
            connections: config.max_connections,
            connections_per_address: config.max_connections_per_address,
            in_flight: config.max_in_flight,
            memory: config.request_memory(memory_limit),
            metadata: config.max_header_bytes,
            caller_share: grpc::CallerShare(config.max_caller_share),
        },
        memory_limit,
        lifetimes: grpc::Lifetimes {
            max_age: config.max_connection_age,
            age_grace: config.max_connection_age_grace,
            max_idle: config.max_connection_idle,
            keepalive_interval: config.keepalive_interval,
            keepalive_timeout: config.keepalive_timeout,
            max_streams: config.max_streams,
        },
        max_batch_inputs: config.max_batch_inputs,
        max_deadline: config.max_deadline,
        max_batch_deadline: config.max_batch_deadline,
        drain_delay: config.drain_delay,
        shutdown_grace: config.shutdown_grace,
        error_docs_url: config.error_docs_url.as_str().into(),
        spans: SpanSink::default(),
        serving,
    }
}

fn credential_settings(
    vault: &config::Vault,
    hubspot: &config::Hubspot,
    credentials: config::Credentials,
    portal_discovery: Option<config::PortalDiscovery>,
) -> leadsd_credentials::Settings {
    let poll_interval = vault.poll_interval;
    let folder = |from: config::PortalDiscovery| leadsd_credentials::Discovery {
        path: from.path,
        interval: poll_interval,
    };
    leadsd_credentials::Settings {
        poll_interval,
        store_timeout: vault.timeout.saturating_mul(2),
        grant_timeout: hubspot.request_timeout.min(Duration::from_secs(10)),
        suspended_retry_interval: credentials.suspended_retry_interval,
        start: credentials.start,
        start_concurrency: credentials.start_concurrency,
        discovery: portal_discovery.map(folder),
    }
}

/// Converts the configuration to settings of the quota.
pub(crate) fn quota_settings(
    config: config::Quota,
    max_caller_share: f64,
    portals: &BTreeMap<leads::PortalName, config::Portal>,
) -> leadsd_quota::Settings {
    let zone = |(name, portal): (&leads::PortalName, &config::Portal)| {
        Some((name.to_string(), portal.zone.clone()?))
    };
    leadsd_quota::Settings {
        burst: config.burst,
        burst_window: config.burst_window,
        search_per_second: config.search_per_second,
        daily: config.daily,
        max_queue: config.max_queue,
        max_caller_share,
        weights: config.weights,
        ledger: config.shared.map(ledger_config),
        zones: portals.iter().filter_map(zone).collect(),
        zone: config.zone,
    }
}

/// Settings of the shared ledger. The replica id is random: a restarted replica is a new one.
fn ledger_config(config: config::SharedQuota) -> leadsd_quota::LedgerConfig {
    let config::SharedQuota { redis, expected_replicas } = config;
    let replica = uuid::Uuid::new_v4().to_string();
    leadsd_quota::LedgerConfig::new(Arc::new(RedisLedger::new(redis)), &replica, expected_replicas)
}

/// Settings of the pipeline with the request id properties.
fn request_id_properties(
    portals: &BTreeMap<leads::PortalName, config::Portal>,
    from: Option<&config::PortalDiscovery>,
) -> PipelineSettings {
    let named = |(name, portal): (&leads::PortalName, &config::Portal)| {
        (name.clone(), portal.request_id_property.clone())
    };
    PipelineSettings {
        batching: true,
        max_attempts: 1,
        breaker: BreakerSettings::default(),
        request_id_properties: portals.iter().map(named).collect(),
        default_request_id_property: from.and_then(|from| from.request_id_property.clone()),
    }
}

/// Settings of the pipeline from those of HubSpot calls.
fn pipeline_settings(
    ids: PipelineSettings,
    batching: bool,
    hubspot: &config::Hubspot,
) -> PipelineSettings {
    let breaker =
        BreakerSettings { min_wait: hubspot.breaker_min_wait, max_wait: hubspot.breaker_max_wait };
    PipelineSettings { batching, max_attempts: hubspot.max_attempts, breaker, ..ids }
}

/// Resolver over configured and discovered portals.
fn portal_resolver(portals: Arc<pipeline::Portals>) -> grpc::PortalResolver {
    let all = Arc::clone(&portals);
    grpc::PortalResolver::new(move |name| portals.get(name), move || all.names())
}

/// Loads the certificates of the gRPC port; `None` without TLS.
async fn certificates(
    config: Option<&config::Tls>,
) -> Result<Option<Arc<grpc::ServerTls>>, grpc::TlsError> {
    let Some(config::Tls { cert_file, key_file, client_ca }) = config.cloned() else {
        return Ok(None);
    };
    let client_ca = client_ca.map(|ca| (ca.file, ca.required));
    let files = grpc::TlsFiles { cert: cert_file, key: key_file, client_ca };
    Ok(Some(Arc::new(grpc::ServerTls::load(files, Arc::new(SystemClock)).await?)))
}

fn start_auth(settings: auth::Settings, store: Arc<vault::KvStore>) -> Arc<Authenticator> {
    Arc::new(Authenticator::start(settings, store, Arc::new(SystemClock)))
}

/// Keeps the credentials of the egress proxy up to date; `None` without a secret for them.
fn watch_proxy_credentials(
    egress: config::EgressConfig,
    store: &Arc<vault::KvStore>,
    interval: Duration,
) -> Option<Task> {
    let config::EgressConfig { policy, credentials_secret } = egress;
    let path = credentials_secret?;
    Some(vault::watch_proxy_credentials(Arc::clone(store), path, interval, policy))
}

/// Settings of authentication; `None` if no method is configured.
fn auth_settings(
    auth: config::Auth,
    policy: BTreeMap<String, config::Policy>,
    tls: Option<&config::Tls>,
    vault: &config::Vault,
) -> Option<auth::Settings> {
    let config::Auth { jwt, api_keys } = auth;
    let certificates = tls.is_some_and(|tls| tls.client_ca.is_some());
    let any = certificates || jwt.is_some() || api_keys.is_some();
    any.then(|| auth::Settings {
        jwt,
        api_keys: api_keys.map(|keys| keys.secret),
        poll_interval: vault.poll_interval,
        store_timeout: vault.timeout.saturating_mul(2),
        policy,
    })
}

//! Composition root: the only place that connects ports with their implementations. `serve`, `dev` and
//! the tests run the service assembled here.
//!
//! It knows every part and holds no rule: those are in the parts.

mod readiness;
mod settings;

use std::{collections::BTreeMap, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use self::settings::{
    auth_settings, base_urls, credential_settings, grpc_settings, pipeline_settings,
    service_settings,
};
pub(crate) use self::settings::{quota_settings, redis_client};
use crate::{
    admin,
    auth::{self, Authenticator},
    config::{self, Config},
    grpc, hubspot, leads, pipeline,
    request_ids::RedisRequestIds,
    telemetry::{self, spans::SpanSink},
    vault,
};
use leadsd_base::{
    net::{ca_files::CaFiles, listen_address::ListenAddress},
    task::{self, Task},
    time::{SystemClock, WallClock as _},
};
use leadsd_credentials::Credentials;
use leadsd_quota::Quota;
use leadsd_redis::RedisClient;

/// Timeout for the final requests to Vault and Redis: write back refresh tokens, revoke the Vault token,
/// leave the ledger.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Error of starting the service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be bound.
    #[error("{key}: cannot listen on {address}: {source}; {}", remedy(key, address, source))]
    Listen {
        /// Configuration key of the address.
        key: &'static str,
        /// Address.
        address: ListenAddress,
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
        let ca_files = Arc::new(CaFiles::new(config.ca_files()));
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
        let (spans, base_urls) = (telemetry::start_export(&trace)?, base_urls(&portals));
        let service = service_settings(&hubspot, &grpc, &portals, portal_discovery.as_ref());
        let (batching, redis) = (quota.batching, quota.shared.as_ref().map(redis_client));
        let pipelines = pipeline_settings(&portals, portal_discovery.as_ref(), batching, &hubspot);
        let quota = start_quota(quota, redis.clone(), grpc.max_caller_share, &portals);
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
            Arc::new(hubspot::OAuth::new(&hubspot, &base_urls, Arc::clone(&quota))?),
            Arc::new(SystemClock),
            secrets,
        )?);
        let clients = hubspot::PortalClients::new(&hubspot, &base_urls)?;
        let (quotas, handles) = (Arc::clone(&quota), Arc::clone(&credentials));
        let portals =
            Arc::new(pipeline::Portals::new(pipelines, clients, quotas, handles, spans.clone()));
        let service = leads_service(&service, redis);

        let (draining, drains) = watch::channel(false);
        let (report, serving, readiness) =
            readiness::watch(credentials.ready(), auth.as_deref(), drains);
        let resolver = portal_resolver(Arc::clone(&portals), Arc::clone(&credentials));
        let (quotas, tls) = (Arc::clone(&quota), certificates(grpc.tls.as_ref()).await?);
        let mut settings = grpc_settings(&grpc, resolver, quotas, auth.clone(), serving);
        (settings.spans, settings.tls) = (spans.clone(), tls.clone());
        let bound = grpc::BoundServer::bind(service, settings).await;
        let grpc = bound.map_err(listen_error("grpc.listen", grpc.listen))?;
        let sources = admin::Sources {
            readiness: report,
            credentials: Arc::clone(&credentials),
            vault: session.clone(),
            portals,
            quota: Arc::clone(&quota),
            grpc: grpc.stats(),
            spans: spans.clone(),
            auth,
            tls,
            ca_files,
            started: SystemClock.now(),
        };
        let bound = admin::BoundAdmin::bind(&admin, admin_keys, sources).await;
        let admin = bound.map_err(listen_error("admin.listen", admin.listen))?;
        Ok(Self { grpc, admin, credentials, quota, session, readiness, draining, spans, proxy })
    }

    /// Bound address of the gRPC port.
    pub fn grpc_address(&self) -> &ListenAddress {
        self.grpc.address()
    }

    /// Bound address of the admin port.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Readiness of the service.
    pub fn readiness(&self) -> watch::Receiver<admin::ReadinessReport> {
        self.admin.readiness()
    }

    /// Returns a function that reloads the certificates of the gRPC port.
    pub fn certificate_reload(&self) -> impl Fn() + Send + use<> {
        let tls = self.admin.certificates();
        move || {
            if let Some(tls) = &tls {
                tls.reload_now();
            }
        }
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

fn start_quota(
    config: config::Quota,
    redis: Option<Arc<RedisClient>>,
    max_caller_share: f64,
    portals: &BTreeMap<leads::PortalName, config::Portal>,
) -> Arc<Quota> {
    let settings = quota_settings(config, redis, max_caller_share, portals);
    Arc::new(Quota::new(settings, Arc::new(SystemClock)))
}

/// The use cases. Replicas share their request ids through Redis if there is one.
fn leads_service(settings: &leads::Settings, redis: Option<Arc<RedisClient>>) -> leads::Service {
    let service = leads::Service::new(settings);
    match redis {
        Some(redis) => service.sharing_request_ids(Arc::new(RedisRequestIds::new(redis))),
        None => service,
    }
}

/// Error of an address that cannot be bound.
fn listen_error(key: &'static str, address: ListenAddress) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Listen { key, address, source }
}

/// Remedy for an address that cannot be bound.
fn remedy(key: &str, address: &ListenAddress, error: &io::Error) -> String {
    let kind = error.kind();
    let is_denied = matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
    if is_denied && address.is_unix() {
        "create the directory, and let the user of the process write to it".to_owned()
    } else if kind == io::ErrorKind::AlreadyExists {
        format!("remove the file, or set {key} to another path")
    } else if kind == io::ErrorKind::AddrInUse {
        format!("stop the process that uses it, or set {key} to another address")
    } else if kind == io::ErrorKind::AddrNotAvailable {
        format!("set {key} to an address of this machine")
    } else if kind == io::ErrorKind::PermissionDenied {
        format!("set {key} to a port from 1024 up")
    } else {
        format!("set {key} to another address")
    }
}

/// Resolver over configured and discovered portals.
fn portal_resolver(
    portals: Arc<pipeline::Portals>,
    credentials: Arc<Credentials>,
) -> grpc::PortalResolver {
    let all = Arc::clone(&portals);
    let state = move |name: &leads::PortalName| {
        let status = credentials.status(name.as_str())?;
        let credential_state = status.state.as_str();
        Some(grpc::PortalState { usable: status.usable, credential_state })
    };
    grpc::PortalResolver::new(move |name| portals.get(name), move || all.names(), state)
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

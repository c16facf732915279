//! Admin endpoints over HTTP, for orchestrators and operators.
//!
//! | Endpoint | Does |
//! |---|---|
//! | `/live`, `/ready` | liveness and readiness probes |
//! | `/metrics` | metrics, as OpenMetrics or as Prometheus text |
//! | `/vault`, `/portals` | status of the Vault session and the credentials, without secrets |
//! | `POST /portals/{name}/refresh` | re-reads a portal's secret and refreshes its token |
//! | `/log` | reads or replaces the log filter |
//!
//! `request_head` and `guard` check each request before a handler sees it.
//! The endpoints return snapshots of [`Sources`] and do not know leads.

mod guard;
pub mod metrics;
mod portals;
mod refresh;
mod request_head;
mod serve;
mod sources;

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE, VARY},
    },
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch};
use tracing::warn;

pub use self::sources::{ReadinessReport, Sources};
use self::{
    guard::Guard,
    metrics::{Metrics, ScrapeFormat},
    portals::PortalView,
    refresh::Refreshes,
};
use crate::{auth::ApiKeyVerifier, config, grpc::ServerTls, telemetry, vault::SessionState};
use leadsd_credentials::SecretStore;

/// Admin server with a bound address, before it accepts connections.
#[derive(Debug)]
pub struct BoundAdmin {
    listener: TcpListener,
    address: SocketAddr,
    guard: Guard,
    sources: Sources,
}

/// Starts loading the keys for changes; `None` if changes need no key. `times` are the interval between
/// two reads and the timeout of a read. The service is ready without them.
pub fn start_keys(
    config: &config::Admin,
    store: Arc<impl SecretStore>,
    times: (Duration, Duration),
) -> Option<ApiKeyVerifier> {
    let (path, (interval, timeout)) = (config.api_keys.clone()?, times);
    let missing = watch::Sender::default();
    Some(ApiKeyVerifier::start("admin:api_keys", store, path, interval, timeout, missing))
}

// === impl BoundAdmin ===

impl BoundAdmin {
    /// Binds the address. With `keys`, changes need one of them.
    pub async fn bind(
        config: &config::Admin,
        keys: Option<ApiKeyVerifier>,
        sources: Sources,
    ) -> io::Result<Self> {
        let config::Admin { listen, hosts, api_keys: _ } = config;
        let listener = listen.bind().await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, guard: Guard::new(hosts, keys), sources })
    }

    /// Bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Readiness of the service.
    pub fn readiness(&self) -> watch::Receiver<ReadinessReport> {
        self.sources.readiness.clone()
    }

    /// Certificates of the gRPC port; `None` without TLS.
    pub fn certificates(&self) -> Option<Arc<ServerTls>> {
        self.sources.tls.clone()
    }

    /// Serves until `stop` completes.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let metrics = Arc::new(Metrics::new(&self.sources));
        let refreshes = Refreshes::new(Arc::clone(&self.sources.credentials));
        let router = Router::new()
            .route("/live", get(|| async { "live\n" }))
            .route("/ready", get(ready))
            .route("/metrics", get(scrape).with_state(metrics))
            .route("/vault", get(session))
            .route("/portals", get(list))
            .route("/portals/{name}/refresh", post(refresh::refresh).with_state(refreshes))
            .route("/log", get(log_filter).put(set_log_filter))
            .with_state(self.sources);
        serve::serve(self.listener, router, self.guard, stop).await;
    }
}

async fn ready(State(sources): State<Sources>) -> (StatusCode, Json<ReadinessReport>) {
    let now = sources.readiness.borrow().clone();
    let status =
        if now.unmet.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(now))
}

async fn scrape(State(metrics): State<Arc<Metrics>>, headers: HeaderMap) -> Response {
    let accept: Vec<&str> =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = ScrapeFormat::negotiate(&accept.join(","));
    match metrics.scrape(format) {
        Ok(text) => {
            ([(CONTENT_TYPE, format.content_type()), (VARY, "accept")], text).into_response()
        }
        Err(error) => {
            warn!(%error, "Encoding the metrics failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// JSON of `/vault`.
#[derive(Debug, Serialize)]
struct VaultView {
    method: &'static str,
    logged_in: bool,
    /// Cause if not logged in.
    error: Option<String>,
    /// Cause of the last failed login, also while the previous token is in use; null after a login.
    login_error: Option<String>,
    expires_in_s: Option<f64>,
    /// False if an operator has to replace the token before it expires.
    is_replaced: bool,
    secret_id_expires_in_s: Option<f64>,
    /// Negative after the expiry.
    client_certificate_expires_in_s: Option<f64>,
    logins: u64,
    login_failures: u64,
    renewals: u64,
    renewal_failures: u64,
}

async fn session(State(sources): State<Sources>) -> Json<VaultView> {
    let status = sources.vault.status();
    let client_certificate_expires_in_s = status.certificate_expires_in_s();
    let error = match status.state {
        SessionState::LoggedIn => None,
        SessionState::LoggedOut(cause) => Some(cause),
    };
    Json(VaultView {
        method: status.method,
        logged_in: error.is_none(),
        error,
        login_error: status.login_error,
        expires_in_s: status.expires_in.map(|left| left.as_secs_f64()),
        is_replaced: status.is_replaced,
        secret_id_expires_in_s: status.secret_id_expires_in.map(|left| left.as_secs_f64()),
        client_certificate_expires_in_s,
        logins: status.logins,
        login_failures: status.login_failures,
        renewals: status.renewals,
        renewal_failures: status.renewal_failures,
    })
}

async fn list(State(sources): State<Sources>) -> Json<Vec<PortalView>> {
    Json(sources.credentials.snapshot().into_iter().map(PortalView::from).collect())
}

async fn log_filter() -> (StatusCode, String) {
    match telemetry::log_filter() {
        Some(filter) => (StatusCode::OK, format!("{filter}\n")),
        None => (StatusCode::NOT_FOUND, "this process has no log filter\n".to_owned()),
    }
}

/// Replaces the log filter until the next change or the end of the process.
async fn set_log_filter(filter: String) -> (StatusCode, String) {
    let filter = filter.trim();
    match telemetry::set_log_filter(filter) {
        Ok(()) => (StatusCode::OK, format!("{filter}\n")),
        Err(error @ telemetry::Error::Filter(_)) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
        Err(error) => (StatusCode::NOT_FOUND, format!("{error}\n")),
    }
}

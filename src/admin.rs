//! The admin endpoints over HTTP, for orchestrators and operators.
//!
//! - `/live` and `/ready`: probes
//! - `/metrics`: a scrape in the OpenMetrics format
//! - `/vault` and `/portals`: the Vault session and the credentials, without secrets
//! - `POST /portals/{name}/refresh`: reads a portal's secret and refreshes its token
//! - `/log`: reads or replaces the log filter
//!
//! The endpoints show snapshots of [`Sources`] and know nothing of leads.

pub mod metrics;
mod portals;
mod serve;
mod sources;

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde::Serialize;
use tokio::net::TcpListener;
use tracing::warn;

pub use self::sources::{Readiness, Sources};
use self::{metrics::Metrics, portals::Portal};
use crate::{telemetry, vault::SessionState};

/// A listener that has its address and has not begun to serve.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    sources: Sources,
}

// === impl Bound ===

impl Bound {
    /// Takes the address.
    pub async fn bind(listen: SocketAddr, sources: Sources) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, sources })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is ready.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let metrics = Arc::new(Metrics::new(&self.sources));
        let router = Router::new()
            .route("/live", get(|| async { "live\n" }))
            .route("/ready", get(ready))
            .route("/metrics", get(scrape).with_state(metrics))
            .route("/vault", get(session))
            .route("/portals", get(list))
            .route("/portals/{name}/refresh", post(refresh))
            .route("/log", get(log_filter).put(set_log_filter))
            .with_state(self.sources);
        serve::serve(self.listener, router, stop).await;
    }
}

async fn ready(State(sources): State<Sources>) -> (StatusCode, Json<Readiness>) {
    let now = sources.readiness.borrow().clone();
    let status =
        if now.unmet.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(now))
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> Response {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics.scrape() {
        Ok(text) => ([(CONTENT_TYPE, FORMAT)], text).into_response(),
        Err(error) => {
            warn!(%error, "Cannot write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The Vault session, for people.
#[derive(Debug, Serialize)]
struct VaultView {
    method: &'static str,
    logged_in: bool,
    /// Why it is not logged in.
    trouble: Option<String>,
    expires_in_s: Option<f64>,
    logins: u64,
    login_failures: u64,
    renewals: u64,
    renewal_failures: u64,
}

async fn session(State(sources): State<Sources>) -> Json<VaultView> {
    let status = sources.vault.status();
    let trouble = match status.state {
        SessionState::LoggedIn => None,
        SessionState::LoggedOut(why) => Some(why),
    };
    Json(VaultView {
        method: status.method,
        logged_in: trouble.is_none(),
        trouble,
        expires_in_s: status.expires_in.map(|left| left.as_secs_f64()),
        logins: status.logins,
        login_failures: status.login_failures,
        renewals: status.renewals,
        renewal_failures: status.renewal_failures,
    })
}

async fn list(State(sources): State<Sources>) -> Json<Vec<Portal>> {
    Json(sources.credentials.snapshot().into_iter().map(Portal::from).collect())
}

/// Has a portal's secret read and its token refreshed, even if it is parked; does not wait for it.
async fn refresh(State(sources): State<Sources>, Path(name): Path<String>) -> StatusCode {
    if sources.credentials.refresh_now(&name) {
        StatusCode::ACCEPTED
    } else {
        StatusCode::NOT_FOUND
    }
}

async fn log_filter() -> (StatusCode, String) {
    match telemetry::log_filter() {
        Some(filter) => (StatusCode::OK, format!("{filter}\n")),
        None => (StatusCode::NOT_FOUND, "logs are not written by this service\n".to_owned()),
    }
}

/// Changes what is logged from now on, until the process ends or the next change.
async fn set_log_filter(filter: String) -> (StatusCode, String) {
    let filter = filter.trim();
    match telemetry::set_log_filter(filter) {
        Ok(()) => (StatusCode::OK, format!("{filter}\n")),
        Err(error @ telemetry::Error::Filter(_)) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
        Err(error) => (StatusCode::NOT_FOUND, format!("{error}\n")),
    }
}

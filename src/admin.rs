//! The admin endpoints over HTTP, for orchestrators and operators: `/live` and `/ready`.

use std::{future::Future, io, net::SocketAddr};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch};

/// What still keeps the service from its work; nothing means ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Names of the conditions that are not met, such as `credential:default`.
    pub unmet: Vec<String>,
}

/// A listener that has its address and has not begun to serve.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    readiness: watch::Receiver<Readiness>,
}

// === impl Bound ===

impl Bound {
    /// Takes the address.
    pub async fn bind(
        listen: SocketAddr,
        readiness: watch::Receiver<Readiness>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, readiness })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is ready.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let router = Router::new()
            .route("/live", get(|| async { "live\n" }))
            .route("/ready", get(ready))
            .with_state(self.readiness);
        axum::serve(self.listener, router).with_graceful_shutdown(stop).await
    }
}

async fn ready(
    State(readiness): State<watch::Receiver<Readiness>>,
) -> (StatusCode, Json<Readiness>) {
    let now = readiness.borrow().clone();
    let status =
        if now.unmet.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(now))
}

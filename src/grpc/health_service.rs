//! `grpc.health.v1`: the health of the server, of each reflected service, and of the service of each
//! portal.
//!
//! | Name | SERVING while |
//! |---|---|
//! | empty, and each service that reflection lists | the replica is ready |
//! | `leadsd.v1.LeadsService/PORTAL` | the portal is usable and the replica does not drain |
//!
//! Watchers are bounded by the probe slots of admission control. Each holds one receiver: a change is read
//! when the client takes it, so that a client that does not read has nothing queued.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::Pin,
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};

use super::status;

/// Prefix of the name of a portal's service.
const PORTAL_PREFIX: &str = "leadsd.v1.LeadsService/";

/// Ability of the server and of each portal to serve calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serving {
    /// True if the replica is ready.
    pub ready: bool,
    /// All portals, and whether each can be used now.
    pub portals: BTreeMap<Arc<str>, bool>,
}

/// The health service.
#[derive(Debug)]
pub(crate) struct HealthHandler {
    serving: watch::Receiver<Serving>,
    services: Arc<BTreeSet<String>>,
}

/// A service that a client watches.
#[derive(Debug)]
struct Watched {
    serving: watch::Receiver<Serving>,
    services: Arc<BTreeSet<String>>,
    name: String,
    /// The last status that the client got.
    sent: Option<ServingStatus>,
}

// === impl HealthHandler ===

impl HealthHandler {
    /// `services` are the names of all services of the server.
    pub(crate) fn new(
        serving: watch::Receiver<Serving>,
        services: impl IntoIterator<Item = String>,
    ) -> Self {
        Self { serving, services: Arc::new(services.into_iter().collect()) }
    }

    /// Status of the server and of each service, by name. The names of portals are not listed: probes
    /// are not authenticated.
    pub(crate) fn statuses(&self) -> HashMap<String, HealthCheckResponse> {
        let serving = self.serving.borrow();
        let names = [String::new()].into_iter().chain(self.services.iter().cloned());
        let status = |name: String| {
            let status = serving_status(&serving, &self.services, &name)?;
            Some((name, response(status)))
        };
        names.filter_map(status).collect()
    }
}

#[async_trait]
impl Health for HealthHandler {
    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let name = request.into_inner().service;
        let known = serving_status(&self.serving.borrow(), &self.services, &name);
        let status = known.ok_or_else(status::unknown_health_service)?;
        Ok(Response::new(response(status)))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watched = Watched {
            serving: self.serving.clone(),
            services: Arc::clone(&self.services),
            name: request.into_inner().service,
            sent: None,
        };
        let changes = stream::unfold(watched, |mut watched| async {
            let status = watched.next().await;
            Some((Ok(response(status)), watched))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

// === impl Watched ===

impl Watched {
    /// Waits for a status other than the last one.
    async fn next(&mut self) -> ServingStatus {
        loop {
            let now = serving_status(&self.serving.borrow_and_update(), &self.services, &self.name)
                .unwrap_or(ServingStatus::ServiceUnknown);
            if self.sent != Some(now) {
                self.sent = Some(now);
                return now;
            }
            if self.serving.changed().await.is_err() {
                // The process is about to end; the connection ends the stream.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Status of a name; `None` if there is no such service or portal.
fn serving_status(
    serving: &Serving,
    services: &BTreeSet<String>,
    name: &str,
) -> Option<ServingStatus> {
    let is_serving = match name.strip_prefix(PORTAL_PREFIX) {
        Some(portal) => serving.portals.get(portal).copied()?,
        None if name.is_empty() || services.contains(name) => serving.ready,
        None => return None,
    };
    Some(if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[cfg(test)]
mod tests;

//! `grpc.health.v1`: reports SERVING while the service is ready.

use tokio::sync::watch;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

use leadsd_base::task::{self, Task};

/// Services with a health status. The empty name is the whole server.
const SERVICES: [&str; 2] = ["", "leadsd.v1.LeadsService"];

/// Creates the health service, and the task that updates its status.
pub(crate) async fn service(
    mut serving: watch::Receiver<bool>,
) -> (HealthServer<impl Health>, Task) {
    let (reporter, server) = tonic_health::server::health_reporter();
    // The reporter starts with SERVING; set the real status before the first probe.
    let now = *serving.borrow_and_update();
    report(&reporter, now).await;
    let task = task::spawn("health", "", async move {
        while serving.changed().await.is_ok() {
            let now = *serving.borrow_and_update();
            report(&reporter, now).await;
        }
        // The sender was dropped: the process is about to end.
        report(&reporter, false).await;
        std::future::pending::<()>().await;
    });
    (server, task)
}

async fn report(reporter: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

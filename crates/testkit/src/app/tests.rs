//! Leaks that are planted in a service: each fails the test that uses it.

use std::{collections::BTreeMap, future::pending, panic::AssertUnwindSafe, sync::Arc};

use axum::{Router, routing::get};
use leadsd_base::{
    secret::SECRET_MARKER,
    time::{SystemClock, Zone},
};
use leadsd_hubspot_fake::ScriptedResponse;
use leadsd_quota::{BucketName, Caller, Priority, Quota, Requester, Settings};
use tokio::net::TcpListener;
use tracing::info;

use super::*;

/// Metrics of a service that holds nothing.
const IDLE: &str = "leadsd_grpc_in_flight{grpc_service=\"s\",grpc_method=\"m\"} 0\n\
    leadsd_admission_used{limit=\"in_flight\"} 0\n\
    leadsd_quota_waiting{portal=\"a\",bucket=\"burst\"} 0\n";

/// Metrics of a service without calls that has not released an admission slot.
const LEAKED_SLOT: &str = "leadsd_grpc_in_flight{grpc_service=\"s\",grpc_method=\"m\"} 0\n\
    leadsd_admission_used{limit=\"in_flight\"} 1\n";

/// Metrics of a service without calls that has a request in a queue.
const LEAKED_REQUEST: &str = "leadsd_grpc_in_flight{grpc_service=\"s\",grpc_method=\"m\"} 0\n\
    leadsd_quota_waiting{portal=\"a\",bucket=\"burst\"} 1\n";

type Starting = Pin<Box<dyn Future<Output = Launched> + Send>>;

/// A service of nothing but admin endpoints that shows these metrics and runs `plant` at its start.
async fn launch(metrics: &'static str, plant: fn(), stopped: oneshot::Receiver<()>) -> Launched {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let pages = Router::new()
        .route("/ready", get(|| async { "ready" }))
        .route("/metrics", get(move || async move { metrics }));
    let run = async move {
        plant();
        let stopped = async move { drop(stopped.await) };
        axum::serve(listener, pages).with_graceful_shutdown(stopped).await.expect("it serves");
    };
    Launched { grpc: address, admin: address, run: Box::pin(run) }
}

fn sound(_: Vec<(String, String)>, stopped: oneshot::Receiver<()>) -> Starting {
    Box::pin(launch(IDLE, || {}, stopped))
}

fn leaks_a_slot(_: Vec<(String, String)>, stopped: oneshot::Receiver<()>) -> Starting {
    Box::pin(launch(LEAKED_SLOT, || {}, stopped))
}

fn leaks_a_request(_: Vec<(String, String)>, stopped: oneshot::Receiver<()>) -> Starting {
    Box::pin(launch(LEAKED_REQUEST, || {}, stopped))
}

fn leaks_a_secret(_: Vec<(String, String)>, stopped: oneshot::Receiver<()>) -> Starting {
    Box::pin(launch(IDLE, || info!("Refreshed token {SECRET_MARKER}-1"), stopped))
}

fn leaks_a_task(_: Vec<(String, String)>, stopped: oneshot::Receiver<()>) -> Starting {
    #[expect(clippy::disallowed_methods, reason = "a task without an owner is what is planted")]
    let plant = || drop(tokio::spawn(pending::<()>()));
    Box::pin(launch(IDLE, plant, stopped))
}

fn leaks_a_permit(_: Vec<(String, String)>, stopped: oneshot::Receiver<()>) -> Starting {
    let plant = || {
        let settings = Settings {
            burst: 10,
            burst_window: std::time::Duration::from_secs(10),
            search_per_second: 5,
            daily: None,
            max_queue: 10,
            max_concurrency: 1_000,
            max_caller_share: 1.0,
            weights: BTreeMap::new(),
            zones: BTreeMap::new(),
            zone: Zone::default(),
            ledger: None,
        };
        let account = Quota::new(settings, Arc::new(SystemClock)).account("default");
        let requester = Requester { caller: Caller::new("test"), priority: Priority::Interactive };
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        let permit = account.try_acquire(BucketName::Burst, &requester, until).expect("no limit");
        std::mem::forget(permit.expect("a free permit"));
    };
    Box::pin(launch(IDLE, plant, stopped))
}

async fn start(launch: Launch) -> TestApp {
    Builder::new(launch, || EnvFilter::new("info")).start().await
}

/// The message of the panic when this app is dropped; `None` without a panic.
fn fault(app: TestApp) -> Option<String> {
    let panic = std::panic::catch_unwind(AssertUnwindSafe(|| drop(app))).err()?;
    panic.downcast_ref::<String>().cloned()
}

#[tokio::test]
async fn a_service_without_leaks_passes() {
    assert_eq!(fault(start(sound).await), None);
}

#[tokio::test]
async fn each_leak_of_the_service_fails_the_test() {
    let leaks: [(Launch, &str); 5] = [
        (leaks_a_slot, "slots: 1.0"),
        (leaks_a_request, "queued: 1.0"),
        (leaks_a_secret, "secrets in the log"),
        (leaks_a_task, "1 tasks outlive the service"),
        (leaks_a_permit, "1 tasks outlive the service"),
    ];
    for (launch, expected) in leaks {
        let message = fault(start(launch).await).expect("the leak fails the test");
        assert!(message.contains(expected), "{message} without {expected}");
    }
}

#[tokio::test]
async fn a_secret_fails_the_test_that_leaked_it_and_no_other() {
    let (leaky, other) = (start(leaks_a_secret).await, start(sound).await);
    assert_eq!(fault(other), None);
    assert!(fault(leaky).is_some());
}

#[tokio::test]
async fn an_unused_script_fails_the_last_replica() {
    let app = start(sound).await;
    app.hubspot.script("GET", "/nowhere", ScriptedResponse::empty(500));
    let replica = app.replica().start().await;
    assert_eq!(fault(app), None, "another replica may still use it");
    let message = fault(replica).expect("the script fails the test");
    assert!(message.contains("1 scripted responses"), "{message}");
}

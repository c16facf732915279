//! Certificates of both sides and their CA rotated under load: no call fails.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use rustls::ClientConfig;
use tonic::Request;

use super::{
    World, metric,
    peers::{self, Authority, Names},
    until,
};

/// Calls that go on while certificates change.
struct Traffic {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

// === impl Traffic ===

impl Traffic {
    /// Some callers on one connection each, and some who make a new one for every few calls.
    fn start(address: &str, config: &Arc<Mutex<ClientConfig>>) -> Self {
        let mut traffic = Self {
            stop: Arc::default(),
            calls: Arc::default(),
            connections: Arc::default(),
            failures: Arc::default(),
            callers: Vec::new(),
        };
        for reconnecting in [false, false, true, true] {
            let (stop, calls) = (Arc::clone(&traffic.stop), Arc::clone(&traffic.calls));
            let connections = Arc::clone(&traffic.connections);
            let failures = Arc::clone(&traffic.failures);
            let (address, config) = (address.to_owned(), Arc::clone(config));
            traffic.callers.push(tokio::spawn(async move {
                let connect = || {
                    let (config, connections) = (Arc::clone(&config), Arc::clone(&connections));
                    peers::channel(&address, move || {
                        connections.fetch_add(1, Ordering::Relaxed);
                        config.lock().unwrap().clone()
                    })
                };
                let mut leads = LeadsServiceClient::new(connect());
                let mut made = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    if reconnecting && made % 5 == 4 {
                        leads = LeadsServiceClient::new(connect());
                    }
                    made += 1;
                    let call = || {
                        let mut leads = leads.clone();
                        let mut request = Request::new(pb::ListLeadsRequest::default());
                        request.set_timeout(Duration::from_secs(20));
                        async move { leads.list_leads(request).await }
                    };
                    match peers::unless_unsent(call).await {
                        Ok(_) => drop(calls.fetch_add(1, Ordering::Relaxed)),
                        Err(status) => failures.lock().unwrap().push(format!("{status:?}")),
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }));
        }
        traffic
    }

    async fn end(self) -> (u64, u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.unwrap();
        }
        let failures = std::mem::take(&mut *self.failures.lock().unwrap());
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (count(&self.calls), count(&self.connections), failures)
    }
}

async fn reload(world: &World, wanted: u8) {
    let line = "leadsd_tls_reloads_total{outcome=\"ok\"}";
    let wanted = Some(f64::from(wanted));
    until("the reload", async || metric(&world.app, line).await >= wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_rotate_under_load_and_no_call_fails() {
    let world = World::start().await;
    world.app.hubspot.limit(|limits| limits.burst = 1_000_000);
    let folder = world.folder.path();
    let next = Authority::new("next");
    let names = || Names::uri("spiffe://test/everywhere");
    // Clients trust both CAs from the start, as one does before a CA changes.
    let config =
        |client: &peers::Certified| peers::client_trusting(&[&world.ca, &next], Some(client));
    let current = Arc::new(Mutex::new(config(&world.ca.client(&names()))));
    let traffic = Traffic::start(&world.app.grpc, &current);
    let started = Instant::now();
    let mut reloads = 0;
    // The server's certificate, three times, cert and key written one after the other.
    for _ in 0..3 {
        world.ca.server().write(folder, "tls");
        reloads += 1;
        reload(&world, reloads).await;
    }
    // The CA: trust both, change the certificates of clients and server, trust the new one alone.
    std::fs::write(folder.join("ca.crt"), world.ca.pem() + &next.pem()).unwrap();
    reloads += 1;
    reload(&world, reloads).await;
    *current.lock().unwrap() = config(&next.client(&names()));
    next.server().write(folder, "tls");
    reloads += 1;
    reload(&world, reloads).await;
    std::fs::write(folder.join("ca.crt"), next.pem()).unwrap();
    reloads += 1;
    reload(&world, reloads).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (calls, connections, failures) = traffic.end().await;
    assert!(
        failures.is_empty(),
        "{} of {calls} calls failed: {:#?}",
        failures.len(),
        failures.first()
    );
    assert!(calls > 200 && connections > 20, "{calls} calls on {connections} connections");
    tracing::info!(calls, connections, took = ?started.elapsed(), "Certificates rotated");
}

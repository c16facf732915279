//! Rotation of server and client certificates and of their CA under load: no call fails.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use leadsd::grpc::pb::{
    self, leads_service_client::LeadsServiceClient, quota_service_client::QuotaServiceClient,
};
use leadsd_hubspot_fake::FakeHubspot;
use leadsd_testkit::Process;
use leadsd_vault_fake::FakeVault;
use rustls::ClientConfig;
use tonic::{Request, Status, transport::Channel};

use super::{
    issuers::{self, Authority, Names},
    scraped, until,
};
use crate::binary;
use crate::harness::LEADSD;

/// Load during the rotation.
struct Traffic {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

/// Mostly cheap calls, so that connections are under load instead of HubSpot's limits.
async fn call(channel: Channel, number: u64) -> Result<(), Status> {
    let patience = Duration::from_secs(20);
    if number.is_multiple_of(50) {
        let mut request = Request::new(pb::ListLeadsRequest::default());
        request.set_timeout(patience);
        return LeadsServiceClient::new(channel).list_leads(request).await.map(|_| ());
    }
    let mut request = Request::new(pb::GetQuotaRequest {});
    request.metadata_mut().insert("leadsd-portal", "default".parse().unwrap());
    request.set_timeout(patience);
    QuotaServiceClient::new(channel).get_quota(request).await.map(|_| ())
}

// === impl Traffic ===

impl Traffic {
    /// Callers with one connection each, and callers that reconnect every few calls.
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
                    issuers::channel(&address, move || {
                        connections.fetch_add(1, Ordering::Relaxed);
                        config.lock().unwrap().clone()
                    })
                };
                let mut channel = connect();
                let mut made = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    if reconnecting && made % 5 == 4 {
                        channel = connect();
                    }
                    made += 1;
                    match issuers::unless_unsent(|| call(channel.clone(), made)).await {
                        Ok(()) => drop(calls.fetch_add(1, Ordering::Relaxed)),
                        Err(status) => failures.lock().unwrap().push(format!("{status:?}")),
                    }
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

/// The binary with mTLS and one caller with all permissions.
struct Service {
    process: Process,
    grpc: String,
    admin: String,
    folder: tempfile::TempDir,
    _peers: (FakeHubspot, FakeVault),
}

// === impl Service ===

impl Service {
    async fn start(ca: &Authority) -> Self {
        let (folder, hubspot) = (tempfile::tempdir().unwrap(), binary::fake_hubspot().await);
        let (vault, auth) = binary::fake_vault(&folder, &hubspot).await;
        let vault_address = format!("http://{}", vault.address());
        let file = binary::config(&folder, &vault_address, &auth, &hubspot);
        ca.server().write(folder.path(), "tls");
        std::fs::write(folder.path().join("ca.crt"), ca.pem()).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let process = Process::serve(
            LEADSD,
            &file,
            &[
                ("LEADSD_LOG__LEVEL", "info"),
                ("LEADSD_GRPC__TLS__CERT_FILE", &path("tls.crt")),
                ("LEADSD_GRPC__TLS__KEY_FILE", &path("tls.key")),
                ("LEADSD_GRPC__TLS__CLIENT_CA_FILE", &path("ca.crt")),
                ("LEADSD_POLICY__ALL__CALLERS", "[\"spiffe://test/*\"]"),
                ("LEADSD_POLICY__ALL__PORTALS", "[\"*\"]"),
                ("LEADSD_POLICY__ALL__ACCESS", "write"),
                ("LEADSD_POLICY__ALL__QUOTA", "true"),
            ],
        );
        let grpc = process.ready().await;
        let admin = format!("http://{}", process.logged("admin.address").await);
        Self { process, grpc, admin, folder, _peers: (hubspot, vault) }
    }

    async fn reloaded(&self, wanted: u8) {
        let line = "leadsd_tls_reloads_total{outcome=\"ok\"}";
        let wanted = Some(f64::from(wanted));
        until("the reload", async || scraped(&self.admin, line).await >= wanted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_rotation_under_load_fails_no_call() {
    let (ca, next) = (Authority::new("ca"), Authority::new("next"));
    let service = Service::start(&ca).await;
    let folder = service.folder.path();
    let names = || Names::uri("spiffe://test/caller");
    // Clients trust both CAs from the start, as before a CA rotation.
    let config =
        |client: &issuers::Certified| issuers::client_trusting(&[&ca, &next], Some(client));
    let current = Arc::new(Mutex::new(config(&ca.client(&names()))));
    let traffic = Traffic::start(&service.grpc, &current);
    // Rotates the server certificate three times; certificate and key are written one after the
    // other.
    for reloads in 1..=3 {
        ca.server().write(folder, "tls");
        service.reloaded(reloads).await;
    }
    // Rotates the CA: trust both, replace the certificates of clients and server, then trust only
    // the new one.
    std::fs::write(folder.join("ca.crt"), ca.pem() + &next.pem()).unwrap();
    service.reloaded(4).await;
    *current.lock().unwrap() = config(&next.client(&names()));
    next.server().write(folder, "tls");
    service.reloaded(5).await;
    std::fs::write(folder.join("ca.crt"), next.pem()).unwrap();
    service.reloaded(6).await;
    // The old connections received GOAWAY; new ones use the new CA.
    let ended = "leadsd_connections_closed_total{reason=\"certificate\"}";
    until("the end", async || scraped(&service.admin, ended).await >= Some(2.0)).await;
    // Even on a busy machine there was load.
    until("enough calls", async || traffic.calls.load(Ordering::Relaxed) >= 300).await;
    let (calls, connections, failures) = traffic.end().await;
    assert!(failures.is_empty(), "{} of {calls} failed: {:?}", failures.len(), failures.first());
    assert!(connections > 20, "{calls} calls on {connections} connections");
    service.process.signal("TERM");
    let (code, log) = service.process.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

//! Shutdown of the service, and rolling updates under load: with processes, signals, and clients
//! that balance like gRPC clients.

use std::{
    io::Write as _,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use leadsd::grpc::pb::{
    self, leads_service_client::LeadsServiceClient, quota_service_client::QuotaServiceClient,
};
use leadsd_base::time::SystemClock;
use leadsd_hubspot_fake::{FakeHubspot, Gate, READ, ScriptedResponse, WRITE};
use leadsd_vault_fake::FakeVault;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::{Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use leadsd_testkit::{FREE, Process, found, silent_peer};

use crate::{
    harness::{LEADSD, PATIENCE, eventually, wait_ready},
    real_peers::{text, tool},
};

/// Log filter of replicas under load: no access events.
const QUIET: [(&str, &str); 1] =
    [("LEADSD_LOG__LEVEL", "warn,leadsd=info,leadsd::access=off,leadsd::audit=off")];

/// Number of calls between two replacements, so that each happens under load.
const CALLS_BETWEEN: u64 = 100;

/// SERVING.
const SERVING: i32 = 1;

/// Environment of replicas.
struct World {
    hubspot: FakeHubspot,
    lead: String,
    vault: FakeVault,
    folder: TempDir,
}

// === impl World ===

impl World {
    async fn start() -> Self {
        let hubspot =
            FakeHubspot::start(FREE.parse().unwrap(), Arc::new(SystemClock)).await.unwrap();
        hubspot.limit(|limits| limits.burst = 1_000_000);
        let contact = hubspot.add_contact("ada@example.com");
        let lead = hubspot.add_lead(&contact, &json!({"hs_lead_name": "Jane"})).unwrap();
        let vault = FakeVault::start(FREE.parse().unwrap()).await.unwrap();
        let token = hubspot.static_token(&[READ, WRITE]);
        vault.put("hubspot/default", json!({"access_token": token.expose()}));
        let folder = tempfile::tempdir().unwrap();
        let mut file = std::fs::File::create(folder.path().join("vault-token")).unwrap();
        writeln!(file, "{}", vault.root_token().expose()).unwrap();
        Self { hubspot, lead, vault, folder }
    }

    fn config(&self, name: &str, listen: &str, drain_delay: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let text = format!(
            "[grpc]\nlisten = \"{listen}\"\ndrain_delay = \"{drain_delay}\"\n\
             [admin]\nlisten = \"{FREE}\"\n\
             [vault]\naddress = \"http://{}\"\npoll_interval = \"1s\"\n[vault.auth]\nmethod = \"token\"\nfile = \"{}\"\n\
             [hubspot]\nbase_url = \"http://{}\"\n[quota]\nburst = 1000000\n[portals.default]\n",
            self.vault.address(),
            self.folder.path().join("vault-token").display(),
            self.hubspot.address(),
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn get(&self) -> pb::GetLeadRequest {
        pb::GetLeadRequest { id: self.lead.clone(), ..Default::default() }
    }

    /// Waits until HubSpot has received the request of its scripted response.
    async fn script_used(&self) {
        let used = async || self.hubspot.scripts_left() == 0;
        eventually("HubSpot receives the scripted request", used).await;
    }

    /// Waits until HubSpot has answered this many more requests.
    async fn answers(&self, more: u64) {
        let wanted = self.hubspot.counted() + more;
        eventually("HubSpot answers more requests", async || self.hubspot.counted() >= wanted)
            .await;
    }
}

async fn channel(address: &str) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .expect("a connection")
}

fn health(address: &str, more: &[&str]) -> Output {
    let mut command = Command::new(LEADSD);
    command.args(["health", "--address", address]).args(more).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_announces_the_stop_before_rejecting_calls_and_loses_no_call() {
    let world = World::start().await;
    let process = Process::serve(LEADSD, &world.config("leadsd.toml", FREE, "3s"), &[]);
    let grpc = process.ready().await;
    let admin = format!("http://{}", process.logged("admin.address").await);
    let mut watch = HealthClient::new(channel(&grpc).await);
    let mut states = watch.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(states.message().await.unwrap().unwrap().status, SERVING);
    let mut quotas = QuotaServiceClient::new(channel(&grpc).await);
    let mut quotas =
        quotas.watch_quota(pb::WatchQuotaRequest::default()).await.unwrap().into_inner();
    quotas.message().await.unwrap().expect("a first view");
    let mut leads = LeadsServiceClient::new(channel(&grpc).await);
    let gate = Gate::new();
    world.hubspot.script("GET", &format!("/{}", world.lead), ScriptedResponse::Held(gate.clone()));
    // Different properties: identical reads would share one call.
    let mut request = world.get();
    request.properties.push("hs_lead_label".to_owned());
    let mut caller = leads.clone();
    let in_flight = tokio::spawn(async move { caller.get_lead(request).await });
    world.script_used().await;

    process.signal("TERM");
    let state = tokio::time::timeout(PATIENCE, states.message()).await.expect("told at once");
    assert_ne!(state.unwrap().unwrap().status, SERVING);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready = http.get(format!("{admin}/ready")).send().await.unwrap();
    assert_eq!(ready.status().as_u16(), 503);
    let report = ready.json::<serde_json::Value>().await.unwrap();
    assert_eq!(report, json!({"unmet": ["draining"], "unusable": []}));
    // Load balancers may not have noticed yet: new calls and connections are accepted.
    leads.get_lead(world.get()).await.expect("a call on an old connection");
    let mut late = LeadsServiceClient::new(channel(&grpc).await);
    late.get_lead(world.get()).await.expect("a call on a new connection");

    gate.open();
    in_flight.await.unwrap().expect("what was in flight is finished");
    let over = async { while quotas.message().await.expect("no error").is_some() {} };
    tokio::time::timeout(PATIENCE, over).await.expect("a stream that would go on ends");
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"Stopped\""), "{log}");
    assert!(tokio::net::TcpStream::connect(&grpc).await.is_err(), "the listener is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_stops_immediately_and_is_logged() {
    let world = World::start().await;
    let process = Process::serve(LEADSD, &world.config("leadsd.toml", FREE, "1m"), &[]);
    process.ready().await;
    process.signal("TERM");
    process.logged("drain.delay_ms").await;
    process.signal("TERM");
    // The delay exceeds the timeout of a test.
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("Stopped before draining was complete") && log.contains("second signal"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_grace_period_are_aborted() {
    let world = World::start().await;
    let config = world.config("leadsd.toml", FREE, "0s");
    let process = Process::serve(LEADSD, &config, &[("LEADSD_GRPC__SHUTDOWN_GRACE", "300ms")]);
    let grpc = process.ready().await;
    world.hubspot.script("GET", &format!("/{}", world.lead), ScriptedResponse::Held(Gate::new()));
    let (mut leads, request) = (LeadsServiceClient::new(channel(&grpc).await), world.get());
    let call = tokio::spawn(async move { leads.get_lead(request).await });
    world.script_used().await;
    process.signal("TERM");
    call.await.unwrap().expect_err("cut off");
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("Aborted calls"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reloads_the_log_filter_and_never_ends_the_process() {
    let world = World::start().await;
    let config = world.config("leadsd.toml", FREE, "0s");
    let text = std::fs::read_to_string(&config).unwrap();
    let process = Process::serve(LEADSD, &config, &[]);
    let grpc = process.ready().await;
    let admin = process.logged("admin.address").await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let filter = async || {
        let answer = http.get(format!("http://{admin}/log")).send().await.unwrap();
        answer.text().await.unwrap().trim().to_owned()
    };
    let logged = async |what: &str| {
        let found = async || process.lines().iter().any(|line| line.contains(what));
        eventually(what, found).await;
    };
    assert_eq!(filter().await, "info");
    std::fs::write(&config, format!("{text}[log]\nlevel = \"info,leadsd=debug\"\n")).unwrap();
    process.signal("HUP");
    logged("Reloaded log filter").await;
    assert_eq!(filter().await, "info,leadsd=debug");
    // An invalid file changes nothing.
    std::fs::write(&config, format!("{text}[log]\nlevel = \"inf\"\n")).unwrap();
    process.signal("HUP");
    logged("did you mean").await;
    assert_eq!(filter().await, "info,leadsd=debug");
    let mut leads = LeadsServiceClient::new(channel(&grpc).await);
    leads.get_lead(world.get()).await.expect("it serves");
    process.signal("TERM");
    process.signal("HUP");
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reloads_the_certificates() {
    let world = World::start().await;
    let file = |name: &str| world.folder.path().join(name);
    let write = || {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(file("tls.key"), pair.signing_key.serialize_pem()).unwrap();
        std::fs::write(file("tls.crt"), pair.cert.pem()).unwrap();
    };
    write();
    let config = world.config("leadsd.toml", FREE, "0s");
    let mut text = std::fs::read_to_string(&config).unwrap();
    let tls = format!(
        "[grpc.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        file("tls.crt").display(),
        file("tls.key").display()
    );
    text.push_str(&tls);
    std::fs::write(&config, &text).unwrap();
    let process = Process::serve(LEADSD, &config, &[]);
    process.ready().await;
    let logged = async |what: &str, times: usize| {
        let count = || process.lines().iter().filter(|line| line.contains(what)).count();
        eventually(what, async || count() >= times).await;
    };
    logged("Loaded certificate", 1).await;
    // Polls log nothing about unchanged files, and invalid ones only once: what follows is by the signal.
    process.signal("HUP");
    logged("Certificate files are unchanged", 1).await;
    std::fs::write(file("tls.crt"), "nonsense").unwrap();
    logged("Certificate reload failed", 1).await;
    process.signal("HUP");
    logged("Certificate reload failed", 2).await;
    write();
    process.signal("HUP");
    logged("Loaded certificate", 2).await;
    process.signal("TERM");
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_command_checks_a_running_service() {
    let world = World::start().await;
    let config = world.config("leadsd.toml", FREE, "1m");
    // A second portal has no secret yet, so the service is running but not ready.
    let lost = [
        ("LEADSD_PORTALS__LATE__SECRET", "hubspot/late"),
        ("LEADSD_CREDENTIALS__READINESS", "all"),
    ];
    let process = Process::serve(LEADSD, &config, &lost);
    let grpc = process.logged("grpc.address").await;
    let unready = health(&grpc, &[]);
    assert_eq!(unready.status.code(), Some(1));
    assert!(text(&unready).contains("NOT_SERVING"), "{}", text(&unready));
    let admin = process.logged("admin.address").await;
    // The admin port reports the same state, as the image's health check reads it.
    let asked = ["--admin", &admin];
    let unready = health(&grpc, &asked);
    assert_eq!(unready.status.code(), Some(1));
    assert!(text(&unready).contains("NOT_SERVING"), "{}", text(&unready));
    let token = world.hubspot.static_token(&[READ, WRITE]);
    world.vault.put("hubspot/late", json!({"access_token": token.expose()}));
    process.ready().await;
    for service in ["", "leadsd.v1.LeadsService"] {
        let ready = health(&grpc, &["--service", service]);
        assert_eq!((ready.status.code(), text(&ready).trim()), (Some(0), "SERVING"));
    }
    let ready = health(&grpc, &asked);
    assert_eq!((ready.status.code(), text(&ready).trim()), (Some(0), "SERVING"));
    // Another server is not mistaken for the service.
    assert_eq!(health(&grpc, &["--admin", &grpc]).status.code(), Some(1));
    assert_eq!(health(&grpc, &["--service", "nope"]).status.code(), Some(1));
    process.signal("TERM");
    process.logged("drain.delay_ms").await;
    assert_eq!(health(&grpc, &[]).status.code(), Some(1), "it is about to go");
    assert_eq!(health(&grpc, &asked).status.code(), Some(1), "it is about to go");
    process.signal("TERM");
    process.ended().await;
    let gone = health(&grpc, &[]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone).contains("refused"), "{}", text(&gone));
    let gone = health(&grpc, &asked);
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone).contains("refused"), "{}", text(&gone));
    // A server that accepts the connection and sends nothing.
    let (_listener, silent) = silent_peer();
    let late = health(&silent.to_string(), &["--timeout-ms", "300"]);
    assert_eq!(late.status.code(), Some(1), "{}", text(&late));
    assert_eq!(health("no address", &[]).status.code(), Some(1));
    assert_eq!(health(&grpc, &["--ca-file", "x"]).status.code(), Some(64), "needs --tls");
}

/// Calls replicas like gRPC clients with health checking: one connection and one health watch per
/// replica, and each call to the next replica that is SERVING. No call is repeated.
struct Balancer {
    backends: Vec<Arc<Backend>>,
    next: AtomicU64,
    _watches: Vec<JoinHandle<()>>,
}

struct Backend {
    address: String,
    channel: Mutex<Option<Channel>>,
    /// True if the replica was removed from name resolution.
    is_removed: AtomicBool,
    /// Number of calls in progress on this replica.
    calls: AtomicU64,
}

/// Replica of one call.
struct Picked {
    backend: Arc<Backend>,
    channel: Channel,
}

// === impl Balancer ===

impl Balancer {
    fn new(addresses: &[String]) -> Self {
        let backend = |address: &String| {
            Arc::new(Backend {
                address: address.clone(),
                channel: Mutex::new(None),
                is_removed: AtomicBool::new(false),
                calls: AtomicU64::new(0),
            })
        };
        let backends: Vec<_> = addresses.iter().map(backend).collect();
        let watches = backends.iter().map(|backend| tokio::spawn(Arc::clone(backend).watch()));
        Self { _watches: watches.collect(), backends, next: AtomicU64::new(0) }
    }

    /// Next replica that is SERVING.
    async fn pick(&self) -> Picked {
        let pick = || {
            (0..self.backends.len()).find_map(|_| {
                let next = usize::try_from(self.next.fetch_add(1, Ordering::Relaxed)).unwrap();
                Picked::new(&self.backends[next % self.backends.len()])
            })
        };
        found("some replica serves", pick).await
    }

    /// Removes a replica from name resolution and waits for its calls.
    async fn remove(&self, number: usize) {
        let backend = &self.backends[number];
        backend.is_removed.store(true, Ordering::SeqCst);
        eventually("its calls end", async || backend.calls.load(Ordering::SeqCst) == 0).await;
    }

    fn restore(&self, number: usize) {
        self.backends[number].is_removed.store(false, Ordering::SeqCst);
    }
}

// === impl Picked ===

impl Picked {
    fn new(backend: &Arc<Backend>) -> Option<Self> {
        // Counted before the check, or a removal could miss it.
        backend.calls.fetch_add(1, Ordering::SeqCst);
        let channel = backend.channel.lock().unwrap().clone();
        match channel {
            Some(channel) if !backend.is_removed.load(Ordering::SeqCst) => {
                Some(Self { backend: Arc::clone(backend), channel })
            }
            _ => {
                backend.calls.fetch_sub(1, Ordering::SeqCst);
                None
            }
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.backend.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

// === impl Backend ===

impl Backend {
    async fn watch(self: Arc<Self>) {
        loop {
            if let Ok(channel) =
                Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await
            {
                let mut health = HealthClient::new(channel.clone());
                if let Ok(states) = health.watch(HealthCheckRequest::default()).await {
                    let mut states = states.into_inner();
                    while let Ok(Some(state)) = states.message().await {
                        let serving = state.status == SERVING;
                        *self.channel.lock().unwrap() = serving.then(|| channel.clone());
                    }
                }
            }
            *self.channel.lock().unwrap() = None;
            // Reconnect backoff of gRPC clients.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Free addresses below the ephemeral range: a restarted replica reuses its address.
fn addresses(number: usize) -> Vec<String> {
    // The tests of this process share the counter.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 8_000).unwrap();
    let mut found = Vec::new();
    while found.len() < number {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 32_000, "no port is free");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            found.push(format!("127.0.0.1:{port}"));
        }
    }
    found
}

/// Mechanism by which clients learn of a stop, as in the chart's `drain.wait`.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    /// Health status after the signal: the binary waits.
    Binary,
    /// Name resolution before the signal: the kubelet waits.
    PreStop,
}

/// Starts a replica at each address, and replaces one after the other. `balancer` removes a replica
/// before its signal.
async fn roll(
    world: &World,
    addresses: &[String],
    delay: &str,
    balancer: Option<&Balancer>,
) -> Vec<Process> {
    let config = |number: usize| world.config(&format!("{number}.toml"), &addresses[number], delay);
    let mut replicas = Vec::new();
    for number in 0..addresses.len() {
        let process = Process::serve(LEADSD, &config(number), &QUIET);
        process.ready().await;
        replicas.push(process);
    }
    for (number, replica) in replicas.iter_mut().enumerate() {
        world.answers(CALLS_BETWEEN).await;
        if let Some(balancer) = balancer {
            balancer.remove(number).await;
        }
        replica.signal("TERM");
        // As in a StatefulSet, the address is free once the old process has exited. Short calls do
        // not need the shutdown grace, which exceeds the timeout of a test.
        replica.wait().await;
        let successor = Process::serve(LEADSD, &config(number), &QUIET);
        successor.ready().await;
        if let Some(balancer) = balancer {
            balancer.restore(number);
        }
        let (code, log) = std::mem::replace(replica, successor).ended().await;
        assert_eq!(code, Some(0), "{log}");
    }
    world.answers(CALLS_BETWEEN).await;
    replicas
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_update_under_load_fails_no_call() {
    replaced_under_load(Wait::Binary).await;
}

/// Default of the chart.
#[tokio::test(flavor = "multi_thread")]
async fn rolling_update_with_pre_stop_delay_fails_no_call() {
    replaced_under_load(Wait::PreStop).await;
}

async fn replaced_under_load(wait: Wait) {
    let world = Arc::new(World::start().await);
    let addresses = addresses(3);
    let balancer = Arc::new(Balancer::new(&addresses));
    let stop = Arc::new(AtomicBool::new(false));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    for number in 0..16 {
        let (balancer, world, failures) =
            (Arc::clone(&balancer), Arc::clone(&world), Arc::clone(&failures));
        let stop = Arc::clone(&stop);
        callers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let picked = balancer.pick().await;
                let mut leads = LeadsServiceClient::new(picked.channel.clone());
                let done = if number % 4 == 0 {
                    let properties = [("hs_lead_label".to_owned(), "HOT".to_owned())].into();
                    let id = world.lead.clone();
                    let update = pb::UpdateLeadRequest { id, properties, ..Default::default() };
                    leads.update_lead(update).await.map(drop)
                } else {
                    // Different requests, because identical ones would share one HubSpot call.
                    let mut request = Request::new(world.get());
                    request
                        .metadata_mut()
                        .insert("leadsd-caller", number.to_string().parse().unwrap());
                    leads.get_lead(request).await.map(drop)
                };
                drop(picked);
                if let Err(status) = done {
                    failures.lock().unwrap().push(format!("{status:?}"));
                }
                // A load that leaves CPU time for other tests.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }));
    }
    let (delay, balancer) = match wait {
        Wait::Binary => ("2s", None),
        Wait::PreStop => ("0s", Some(&*balancer)),
    };
    let _replicas = roll(&world, &addresses, delay, balancer).await;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let failures = failures.lock().unwrap().clone();
    assert!(failures.is_empty(), "{} calls failed: {:#?}", failures.len(), failures.first());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with grpcio"]
async fn three_replicas_are_replaced_under_a_grpc_client_of_another_make() {
    replaced_under_grpcio("health", "2s").await;
}

/// The client learns of the stop only when the connection closes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with grpcio"]
async fn rolling_update_without_notice_fails_no_call_of_a_retrying_client() {
    replaced_under_grpcio("blind", "0s").await;
}

async fn replaced_under_grpcio(knows: &str, delay: &str) {
    let world = World::start().await;
    let addresses = addresses(3);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/round_robin.py");
    let mut client = Command::new(tool("LEADSD_TEST_PYTHON", "python3"))
        .args([script, &addresses.join(","), &world.lead, knows])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _replicas = roll(&world, &addresses, delay, None).await;
    // Closing its input stops the load.
    drop(client.stdin.take());
    let output = tokio::task::spawn_blocking(|| client.wait_with_output());
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends").unwrap().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[tokio::test]
async fn replica_is_not_ready_before_its_credentials() {
    let world = World::start().await;
    world.vault.set_sealed(true);
    let process = Process::serve(LEADSD, &world.config("leadsd.toml", FREE, "0s"), &[]);
    let grpc = process.logged("grpc.address").await;
    assert_eq!(health(&grpc, &[]).status.code(), Some(1));
    world.vault.set_sealed(false);
    wait_ready(&format!("http://{}", process.logged("admin.address").await)).await;
    assert_eq!(health(&grpc, &[]).status.code(), Some(0));
}

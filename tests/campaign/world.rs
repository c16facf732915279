//! The processes and peers of the campaign.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use leadsd::grpc::pb::leads_service_client::LeadsServiceClient;
use leadsd_base::time::{SystemClock, WallClock as _, http_date};
use leadsd_hubspot_fake::{FakeHubspot, Fault};
use leadsd_testkit::{ChaosProxy, FREE, Process, Redis, eventually, wait_ready};
use leadsd_vault_fake::FakeVault;
use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// Unique property in which creates store their request id.
const TAG: &str = "leadsd_request_id";

/// Unique property by which upserts find their leads.
pub(super) const EXTERNAL_ID: &str = "external_id";

/// Calls that HubSpot allows in ten seconds: more than the callers need.
const LIMIT: usize = 1_000;

/// Lifetime of an access token, so that each round needs a refresh.
const TOKEN_LIFE: Duration = Duration::from_secs(30);

/// Number of replicas.
pub(super) const REPLICAS: usize = 2;

/// Everything that runs.
pub(super) struct World {
    pub(super) hubspot: FakeHubspot,
    /// Network between the replicas and HubSpot.
    pub(super) hubspot_link: ChaosProxy,
    pub(super) vault: FakeVault,
    /// Network between the replicas and Vault.
    pub(super) vault_link: ChaosProxy,
    pub(super) redis: tokio::sync::Mutex<Redis>,
    /// A contact that leads can belong to.
    pub(super) contact: String,
    replicas: Mutex<Vec<Arc<Replica>>>,
    injected: Mutex<Vec<Fault>>,
    folder: TempDir,
}

/// One process.
pub(super) struct Replica {
    pub(super) leads: LeadsServiceClient<Channel>,
    /// Address of the admin endpoints.
    pub(super) admin: String,
    pub(super) process: Mutex<Process>,
    /// File with the offset of the wall clock of this process.
    clock: PathBuf,
}

// === impl World ===

impl World {
    /// Starts all peers and replicas, and waits until the replicas are ready.
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listen = FREE.parse().unwrap();
        let hubspot = FakeHubspot::start(listen, Arc::new(SystemClock)).await.unwrap();
        for name in [TAG, EXTERNAL_ID] {
            hubspot.add_unique_property(name);
        }
        hubspot.limit(|limits| limits.burst = LIMIT);
        hubspot.behave(|behaviour| behaviour.token_life = TOKEN_LIFE);
        let vault = FakeVault::start(listen).await.unwrap();
        let (client_id, client_secret, refresh_token) = hubspot.oauth_app();
        let secret = json!({"client_id": client_id, "client_secret": client_secret.expose(),
                            "refresh_token": refresh_token.expose()});
        vault.put("hubspot/default", secret);
        let (hubspot_link, vault_link) = (ChaosProxy::start().await, ChaosProxy::start().await);
        hubspot_link.connect_to(hubspot.address());
        vault_link.connect_to(vault.address());
        let contact = hubspot.add_contact("ada@example.com");
        let redis = Redis::start().await;
        std::fs::write(folder.path().join("token"), vault.root_token().expose()).unwrap();
        let config = config(folder.path(), &hubspot_link, &vault_link, &redis);
        std::fs::write(folder.path().join("leadsd.toml"), config).unwrap();
        let world = Self {
            hubspot,
            hubspot_link,
            vault,
            vault_link,
            redis: redis.into(),
            contact,
            replicas: Mutex::default(),
            injected: Mutex::default(),
            folder,
        };
        for index in 0..REPLICAS {
            let replica = world.start_replica(index).await;
            wait_ready(&replica.admin).await;
            replica.check_clock().await;
            world.replicas.lock().push(Arc::new(replica));
        }
        world
    }

    /// Starts a process, and waits until it listens.
    async fn start_replica(&self, index: usize) -> Replica {
        let clock = self.folder.path().join(format!("clock-{index}"));
        set_clock(&clock, 0);
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadsd"));
        command.args(["serve", "--config"]).arg(self.folder.path().join("leadsd.toml"));
        command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", &clock);
        // The file is read at each look at the clock, and only the wall clock jumps.
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let process = Process::start(&mut command);
        let grpc = process.logged("grpc.address").await;
        let admin = process.logged("admin.address").await;
        let channel = Endpoint::from_shared(format!("http://{grpc}")).unwrap();
        let leads = LeadsServiceClient::new(channel.connect_lazy());
        Replica { leads, admin, process: process.into(), clock }
    }

    pub(super) fn replica(&self, index: usize) -> Arc<Replica> {
        Arc::clone(&self.replicas.lock()[index])
    }

    /// Makes HubSpot fail in these ways for this time, beside others.
    pub(super) async fn inject(&self, faults: &[Fault], lasts: Duration) {
        let change = |change: &dyn Fn(&mut Vec<Fault>)| {
            let mut injected = self.injected.lock();
            change(&mut injected);
            self.hubspot.inject(injected.clone());
        };
        change(&|injected| injected.extend(faults));
        tokio::time::sleep(lasts).await;
        change(&|injected| injected.retain(|fault| !faults.contains(fault)));
    }

    /// Kills a replica, and starts another one in its place after this time.
    pub(super) async fn replace(&self, index: usize, after: Duration) {
        self.replica(index).signal("KILL");
        tokio::time::sleep(after).await;
        let replica = Arc::new(self.start_replica(index).await);
        self.replicas.lock()[index] = replica;
    }
}

// === impl Replica ===

impl Replica {
    /// Sends a signal such as `STOP`.
    pub(super) fn signal(&self, name: &str) {
        self.process.lock().signal(name);
    }

    /// Checks that the wall clock of the process can be set. Only forward: a thread of hyper keeps its `date`
    /// until the clock is later.
    async fn check_clock(&self) {
        const DAY: i64 = 86_400;
        self.set_clock(DAY);
        eventually("the clock jumps", async || {
            let response = reqwest::get(format!("http://{}/live", self.admin)).await.unwrap();
            let date = http_date(response.headers()["date"].to_str().unwrap()).unwrap();
            let ahead = date.as_second() - SystemClock.now().as_second();
            (ahead - DAY).abs() < 3_600
        })
        .await;
        self.set_clock(0);
    }

    /// Sets the wall clock forward, or back, from the one of the machine.
    pub(super) fn set_clock(&self, seconds: i64) {
        set_clock(&self.clock, seconds);
    }
}

/// The library that sets the wall clock of a process, where Debian's package has it.
fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    let library = |folder: std::io::Result<std::fs::DirEntry>| {
        folder.unwrap().path().join("faketime/libfaketimeMT.so.1")
    };
    folders.map(library).find(|library| library.exists()).expect("libfaketime is installed")
}

/// Replaces the file at once: it is read at any time.
fn set_clock(file: &Path, seconds: i64) {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}")).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// Configuration of all replicas.
fn config(folder: &Path, hubspot: &ChaosProxy, vault: &ChaosProxy, redis: &Redis) -> String {
    let mut text = String::new();
    let mut section = |name: &str, lines: &[String]| {
        writeln!(text, "[{name}]\n{}", lines.join("\n")).unwrap();
    };
    section("grpc", &[format!("listen = \"{FREE}\""), "drain_delay = \"0s\"".to_owned()]);
    section("admin", &[format!("listen = \"{FREE}\"")]);
    let address = format!("address = \"http://{}\"", vault.address());
    section("vault", &[address, "poll_interval = \"5s\"".to_owned()]);
    let file = folder.join("token");
    let file = format!("file = \"{}\"", file.display());
    section("vault.auth", &["method = \"token\"".to_owned(), file]);
    section("hubspot", &[format!("base_url = \"http://{}\"", hubspot.address())]);
    section("quota", &[format!("burst = {LIMIT}")]);
    section("quota.shared", &[format!("url = \"{}\"", redis.url())]);
    section("portals.default", &[format!("request_id_property = \"{TAG}\"")]);
    text
}

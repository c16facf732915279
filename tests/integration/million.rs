//! Export and import of many leads by processes: each lead once, bounded memory, kills and cut connections.
//!
//! `LEADSD_TEST_LEADS` is the number of leads: 20,000 by default, and a million by hand. `LEADSD_TEST_BINARY` is
//! the binary: that of the test by default, and a release build by hand.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_hubspot_fake::FakeHubspot;
use leadsd_testkit::{Process, wait_ready};
use leadsd_vault_fake::FakeVault;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, interval},
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    binary::{config, fake_hubspot, fake_vault},
    export_memory::status,
    harness::{LEADSD, PATIENCE, properties},
};

/// Maximum memory of a replica above that of its idle process in bytes.
const MAX_EXPORT: u64 = 40 << 20;
const MAX_IMPORT: u64 = 64 << 20;

/// The same of an import by a build without optimization: the futures of its rows are several times as large.
const MAX_IMPORT_UNOPTIMIZED: u64 = 128 << 20;

/// Maximum number of interruptions of an export, and of leads between two in the mean: a message has hundreds.
const INTERRUPTIONS: usize = 100;
const PART: usize = 2_000;

/// Number of interruptions after which a replica is killed.
const KILL_EVERY: usize = 5;

/// Number of cut connections of an import.
const CUTS: usize = 20;

/// Every row with a multiple of this number is bad.
const BAD: usize = 100;

/// Property with unique values.
const REQUEST_KEY: &str = "request_key";

fn number_of_leads() -> usize {
    let text = std::env::var("LEADSD_TEST_LEADS").unwrap_or_else(|_| "20000".to_owned());
    text.parse().expect("a number of leads")
}

/// Binary to test, and the maximum memory of an import.
fn binary() -> (String, u64) {
    match std::env::var("LEADSD_TEST_BINARY") {
        Ok(binary) => (binary, MAX_IMPORT),
        Err(_) => (LEADSD.to_owned(), MAX_IMPORT_UNOPTIMIZED),
    }
}

/// HubSpot, Vault, and replicas that are processes.
struct World {
    hubspot: FakeHubspot,
    _vault: FakeVault,
    config: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

/// A replica, its address, and its memory while it was idle.
struct Replica {
    process: Process,
    address: String,
    idle: u64,
}

// === impl World ===

impl World {
    async fn start() -> Self {
        let (folder, hubspot) = (tempfile::tempdir().unwrap(), fake_hubspot().await);
        hubspot.limit(|limits| {
            (limits.burst, limits.search_per_second) = (100_000_000, 1_000_000);
            limits.daily = 100_000_000;
        });
        hubspot.add_unique_property(REQUEST_KEY);
        let (vault, auth) = fake_vault(&folder, &hubspot).await;
        let config = config(&folder, &format!("http://{}", vault.address()), &auth, &hubspot);
        Self { hubspot, _vault: vault, config, _folder: folder }
    }

    async fn replica(&self) -> Replica {
        let environment = [
            ("LEADSD_LOG__LEVEL", "info"),
            ("LEADSD_QUOTA__BURST", "100000"),
            ("LEADSD_QUOTA__SEARCH_PER_SECOND", "10000"),
            ("LEADSD_PORTALS__default__REQUEST_ID_PROPERTY", REQUEST_KEY),
        ];
        let process = Process::serve(&binary().0, &self.config, &environment);
        wait_ready(&process.logged("admin.address").await).await;
        let address = process.logged("grpc.address").await;
        let idle = status(&process.child, "VmRSS:");
        Replica { process, address, idle }
    }
}

// === impl Replica ===

impl Replica {
    async fn client(&self) -> LeadsServiceClient<Channel> {
        let channel = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        LeadsServiceClient::new(channel.connect().await.expect("a connection"))
    }

    /// Peak of the memory above that of the idle process.
    fn above_idle(&self) -> u64 {
        status(&self.process.child, "VmHWM:").saturating_sub(self.idle)
    }
}

/// A stream of an export that ends after a number of leads. Returns true if it was complete.
async fn export_part(
    replica: &Replica,
    token: &mut String,
    ids: &mut Vec<u64>,
    leads: usize,
) -> Result<bool, Status> {
    let request = pb::ExportLeadsRequest {
        properties: vec!["hs_lead_name".to_owned()],
        resume_token: token.clone(),
        ..Default::default()
    };
    let mut client = replica.client().await;
    let mut messages = client.export_leads(request).await?.into_inner();
    let until = ids.len() + leads;
    while let Some(message) = messages.next().await {
        let message = message?;
        ids.extend(message.leads.iter().map(|lead| lead.id.parse::<u64>().unwrap()));
        token.clone_from(&message.resume_token);
        if message.complete {
            return Ok(true);
        }
        if ids.len() >= until {
            return Ok(false);
        }
    }
    Ok(false)
}

/// Creates, updates and archives leads of the first ones, until it is aborted. Returns those that it may have
/// archived.
fn churn(
    mut client: LeadsServiceClient<Channel>,
    contact: String,
    ids: Vec<u64>,
) -> (JoinHandle<()>, Arc<Mutex<BTreeSet<u64>>>) {
    let archived = Arc::new(Mutex::new(BTreeSet::new()));
    let known = Arc::clone(&archived);
    let work = async move {
        for (number, id) in ids.into_iter().enumerate() {
            let name = properties(&[("hs_lead_name", &format!("Churn {number}"))]);
            let create = pb::CreateLeadRequest {
                properties: name.clone(),
                primary_contact_id: contact.clone(),
                ..Default::default()
            };
            // A write fails if its replica is killed.
            let _ = client.create_lead(create).await;
            let update = pb::UpdateLeadRequest {
                id: id.to_string(),
                properties: name,
                ..Default::default()
            };
            let _ = client.update_lead(update).await;
            if number % 3 == 0 {
                known.lock().insert(id);
                let id = id.to_string();
                let _ =
                    client.archive_lead(pb::ArchiveLeadRequest { id, ..Default::default() }).await;
            }
        }
    };
    (tokio::spawn(work), archived)
}

#[expect(clippy::print_stdout, reason = "shows the figures of the run")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "exports 20,000 leads, or LEADSD_TEST_LEADS"]
#[cfg(target_os = "linux")]
async fn an_export_has_each_lead_once_under_writes_and_kills() {
    let leads = number_of_leads();
    let world = World::start().await;
    let contact = world.hubspot.add_contact("ada@example.com");
    let mut existing = BTreeSet::new();
    for number in 0..leads {
        let properties = json!({"hs_lead_name": format!("Lead {number}")});
        let id = world.hubspot.add_lead(&contact, &properties).expect("a valid lead");
        existing.insert(id.parse::<u64>().expect("an id"));
    }
    let mut replicas = vec![world.replica().await, world.replica().await, world.replica().await];
    // The writer has a replica that is not killed. It works on leads in all parts of the portal.
    let writer = replicas.remove(0);
    let step = existing.len().div_ceil(5_000);
    let targets = existing.iter().copied().step_by(step).collect();
    let (writes, archived) = churn(writer.client().await, contact, targets);
    let started = Instant::now();
    let (mut token, mut ids) = (String::new(), Vec::new());
    let mut interruptions = 0;
    let max_interruptions = INTERRUPTIONS.min(leads / (2 * PART));
    let part = leads / (max_interruptions + 1);
    loop {
        // Parts of different sizes, from a quarter of the mean to five quarters.
        let length = part / 4 + (interruptions * 7_919) % part;
        let length = if interruptions < max_interruptions { length } else { usize::MAX / 2 };
        let replica = interruptions % replicas.len();
        let is_complete = export_part(&replicas[replica], &mut token, &mut ids, length).await;
        if is_complete.expect("no error") {
            break;
        }
        interruptions += 1;
        if interruptions % KILL_EVERY == 0 {
            let above = replicas[replica].above_idle();
            assert!(above <= MAX_EXPORT, "{} MiB above idle", above >> 20);
            replicas[replica].process.child.kill().expect("a process");
            replicas[replica] = world.replica().await;
        }
    }
    let elapsed = started.elapsed();
    writes.abort();
    assert!(interruptions >= max_interruptions / 2, "{interruptions}");
    assert!(ids.is_sorted_by(|a, b| a < b), "each lead once, by its id");
    let archived = archived.lock().clone();
    assert!(!archived.is_empty(), "leads were archived meanwhile");
    let exported: BTreeSet<u64> = ids.iter().copied().collect();
    let lost: Vec<_> =
        existing.difference(&archived).filter(|id| !exported.contains(*id)).take(5).collect();
    assert!(lost.is_empty(), "{lost:?}");
    for replica in &replicas {
        let above = replica.above_idle();
        println!("replica: idle {} KiB, {} KiB above it", replica.idle >> 10, above >> 10);
        assert!(above <= MAX_EXPORT, "{} MiB above idle", above >> 20);
    }
    println!(
        "{} leads in {elapsed:?}, {interruptions} interruptions, {} archived meanwhile",
        ids.len(),
        archived.len()
    );
}

/// Front of the replicas, as a load balancer: new connections go to one target, and all can be cut.
struct Front {
    address: String,
    target: Arc<Mutex<String>>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    _accepting: JoinHandle<()>,
}

// === impl Front ===

impl Front {
    async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let target = Arc::new(Mutex::new(target.to_owned()));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (to, open) = (Arc::clone(&target), Arc::clone(&connections));
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let to = to.lock().clone();
                open.lock().push(tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(&to).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                }));
            }
        });
        Self { address, target, connections, _accepting: accepting }
    }

    /// Cuts all connections. Returns false if there was none.
    fn cut(&self) -> bool {
        let open: Vec<_> = self.connections.lock().drain(..).collect();
        let live = open.iter().filter(|connection| !connection.is_finished()).count();
        open.iter().for_each(JoinHandle::abort);
        live > 0
    }
}

/// Lines of a file that grows.
#[derive(Default)]
struct LineCount {
    file: Option<std::fs::File>,
    lines: usize,
}

// === impl LineCount ===

impl LineCount {
    /// Number of lines so far; zero before the file exists.
    fn update(&mut self, path: &Path) -> usize {
        self.file = self.file.take().or_else(|| std::fs::File::open(path).ok());
        let mut text = Vec::new();
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut text).expect("a readable file");
        }
        self.lines += text.iter().filter(|byte| **byte == b'\n').count();
        self.lines
    }
}

/// Starts `leadsd import`.
fn start_import(address: &str, file: &Path) -> Child {
    let mut command = Command::new(binary().0);
    command.args(["import", "--address", address]).arg(file);
    command.env_remove("HOME").env_remove("XDG_CONFIG_HOME");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("a process")
}

#[expect(clippy::print_stdout, reason = "shows the figures of the run")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "imports 20,000 rows, or LEADSD_TEST_LEADS"]
#[cfg(target_os = "linux")]
async fn an_import_writes_each_row_once_over_cut_connections_and_a_killed_replica() {
    let rows = number_of_leads();
    let world = World::start().await;
    let contact = world.hubspot.add_contact("ada@example.com");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leads.csv");
    let results = folder.path().join("leads.csv.results.ndjson");
    let mut text = "hs_lead_name,contact.id\n".to_owned();
    for row in 1..=rows {
        let contact = if row.is_multiple_of(BAD) { "4711" } else { &contact };
        writeln!(text, "Lead {row},{contact}").unwrap();
    }
    std::fs::write(&file, text).unwrap();
    let (mut killed, kept) = (world.replica().await, world.replica().await);
    let front = Front::start(&killed.address).await;
    let started = Instant::now();
    let mut child = start_import(&front.address, &file);
    let (mut cuts, mut peak) = (0, 0);
    let mut kill_at = Some(rows / 2);
    let (mut written, mut polls) = (LineCount::default(), interval(Duration::from_millis(20)));
    let ended = async {
        loop {
            if let Some(ended) = child.try_wait().expect("a process") {
                return ended;
            }
            let done = written.update(&results);
            if cuts < CUTS && done > (cuts + 1) * rows / (CUTS + 2) && front.cut() {
                cuts += 1;
            }
            if kill_at.is_some_and(|at| done > at) {
                kill_at = None;
                peak = killed.above_idle();
                *front.target.lock() = kept.address.clone();
                killed.process.child.kill().expect("a process");
            }
            polls.tick().await;
        }
    };
    let patience = PATIENCE + Duration::from_millis(rows as u64 * 5);
    let ended = tokio::time::timeout(patience, ended).await.expect("the import ends");
    let elapsed = started.elapsed();
    assert_eq!((ended.code(), cuts, kill_at), (Some(2), CUTS, None), "rows failed, and no others");
    let peak = peak.max(kept.above_idle());
    println!("{rows} rows in {elapsed:?}, {cuts} cuts, {} KiB above idle", peak >> 10);
    assert!(peak <= binary().1, "{} MiB above idle", peak >> 20);

    let mut answered = BTreeSet::new();
    let lines = BufReader::new(std::fs::File::open(&results).unwrap()).lines().skip(1);
    for line in lines {
        let result: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let row = result["row"].as_u64().unwrap();
        assert!(answered.insert(row), "row {row} has two results");
        let is_bad = row.is_multiple_of(BAD as u64);
        assert_eq!(result["status"], if is_bad { "failed" } else { "created" }, "{result}");
    }
    assert_eq!(answered.len(), rows);
    let names = world.hubspot.lead_names();
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), distinct.len()), (rows - rows / BAD, rows - rows / BAD));
    let status = kept.client().await.get_lead(pb::GetLeadRequest::default()).await;
    assert_eq!(status.unwrap_err().code(), Code::InvalidArgument, "the other replica serves");
}

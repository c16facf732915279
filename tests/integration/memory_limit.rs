//! The process stays below its memory limit while clients try to exhaust it, and recovers afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures_util::future::join_all;
use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_hubspot_fake::FakeHubspot;
use leadsd_testkit::{
    Process,
    http2::{DATA, END_HEADERS, END_STREAM, HEADERS, RawConnection, request_headers},
    metrics_page, wait_ready,
};
use leadsd_vault_fake::FakeVault;
use serde_json::json;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    binary::{config, fake_hubspot, fake_vault},
    harness::{LEADSD, eventually, leads_rpc},
};

/// Memory limit of the process in bytes.
const LIMIT: u64 = 256 << 20;

/// Size of a large request in bytes, below the maximum size of a request.
const LARGE: usize = 3_900_000;

/// Size of a property value in bytes.
const VALUE: usize = 60_000;

/// Service under a memory limit, and its peers.
struct World {
    process: Process,
    grpc: String,
    admin: String,
    lead: String,
    contact: String,
    /// `None` if this process may not create a cgroup.
    _cgroup: Option<Cgroup>,
    _peers: (FakeHubspot, FakeVault, tempfile::TempDir),
}

/// Cgroup with a memory limit, below the cgroup of this process; removed on drop.
struct Cgroup(PathBuf);

// === impl Cgroup ===

impl Cgroup {
    /// Creates a cgroup of version 1 or 2. `None` if it is not permitted.
    fn new(limit: u64) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path =
            |fields: &str| own.lines().find_map(|line| line.split_once(fields)).map(|(_, at)| at);
        let (root, at, file) = match path(":memory:") {
            Some(at) => ("/sys/fs/cgroup/memory", at, "memory.limit_in_bytes"),
            None => ("/sys/fs/cgroup", path("0::")?, "memory.max"),
        };
        let name = format!("leadsd-test-{}", std::process::id());
        let folder = Path::new(root).join(at.trim_start_matches('/')).join(name);
        fs::create_dir(&folder).ok()?;
        let cgroup = Self(folder);
        fs::write(cgroup.0.join(file), limit.to_string()).ok()?;
        Some(cgroup)
    }

    /// Moves a process into the cgroup.
    fn add(&self, process: u32) {
        fs::write(self.0.join("cgroup.procs"), process.to_string()).expect("the process moves");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel may not have removed the killed process yet; an empty cgroup costs nothing.
        let _ = fs::remove_dir(&self.0);
    }
}

// === impl World ===

impl World {
    async fn start() -> Self {
        let (folder, hubspot) = (tempfile::tempdir().unwrap(), fake_hubspot().await);
        let contact = hubspot.seed().remove(0);
        hubspot.limit(|limits| limits.burst = 1_000_000);
        (0..LARGE / VALUE).for_each(|number| hubspot.add_text_property(&format!("p{number}")));
        let lead = hubspot.add_lead(&contact, &json!({"hs_lead_name": "Jane"})).unwrap();
        let (vault, auth) = fake_vault(&folder, &hubspot).await;
        let file = config(&folder, &format!("http://{}", vault.address()), &auth, &hubspot);
        let process = Process::serve(
            LEADSD,
            &file,
            &[
                ("LEADSD_LOG__LEVEL", "info"),
                ("LEADSD_GRPC__MEMORY_LIMIT", "256MiB"),
                ("LEADSD_QUOTA__BURST", "10000"),
            ],
        );
        let cgroup = Cgroup::new(LIMIT);
        if let Some(cgroup) = &cgroup {
            cgroup.add(process.child.id());
        }
        let admin = process.logged("admin.address").await;
        wait_ready(&admin).await;
        let grpc = process.logged("grpc.address").await;
        let _peers = (hubspot, vault, folder);
        Self { process, grpc, admin, lead, contact, _cgroup: cgroup, _peers }
    }

    async fn client(&self) -> LeadsServiceClient<Channel> {
        let channel = Channel::from_shared(format!("http://{}", self.grpc)).unwrap();
        let client = LeadsServiceClient::new(channel.connect().await.expect("a connection"));
        client.max_decoding_message_size(64 << 20)
    }

    /// Largest resident memory of the process so far, in bytes.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.child.id()));
        let status = status.expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("a size");
        kib.parse::<u64>().unwrap() << 10
    }

    /// Asserts that the process lives below its limit and serves a small read.
    async fn assert_alive(&mut self, attack: &str) {
        let ended = self.process.child.try_wait().unwrap();
        assert_eq!(ended, None, "{attack} ended the process");
        let peak = self.peak() >> 20;
        assert!(peak < LIMIT >> 20, "{attack}: peak of {peak} MiB");
        let mut leads = self.client().await;
        let get = pb::GetLeadRequest { id: self.lead.clone(), ..Default::default() };
        leads.get_lead(get).await.unwrap_or_else(|status| panic!("{attack}: {status:?}"));
    }

    /// Creates a lead with properties of `LARGE` bytes.
    async fn create_large(&self, number: usize, request_id: bool) -> Result<(), Status> {
        let value = "x".repeat(VALUE);
        let names = 0..LARGE / VALUE;
        let mut properties: std::collections::BTreeMap<_, _> =
            names.map(|name| (format!("p{name}"), value.clone())).collect();
        properties.insert("hs_lead_name".to_owned(), format!("lead {number}"));
        let request = pb::CreateLeadRequest {
            properties,
            request_id: if request_id { format!("id-{number}") } else { String::new() },
            primary_contact_id: self.contact.clone(),
            ..Default::default()
        };
        self.client().await.create_lead(request).await.map(drop)
    }

    /// Searches with a filter group of two million empty filters, a few hundred bytes compressed. Returns
    /// the number of answers.
    async fn search_huge(&self) -> usize {
        let filters = [0x0a, 0].repeat(2_097_000);
        let mut message = vec![0x12];
        prost::encoding::encode_varint(filters.len() as u64, &mut message);
        message.extend(filters);
        let message = zstd::bulk::compress(&message, 3).expect("compressible");
        assert!(message.len() < 1_000, "{} bytes", message.len());
        let mut body = vec![1];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        let headers = request_headers(&leads_rpc("SearchLeads"), &[("grpc-encoding", "zstd")]);
        let search = || async {
            let mut connection = RawConnection::connect(&self.grpc, &[]).await;
            connection.acknowledge_settings().await;
            connection.frame(HEADERS, END_HEADERS, 1, &headers).await;
            connection.frame(DATA, END_STREAM, 1, &body).await;
            connection.until(|frame| frame.kind == HEADERS).await.is_some()
        };
        let answered = join_all((0..16).map(|_| search())).await;
        answered.into_iter().filter(|answered| *answered).count()
    }

    /// Sends large requests that never end.
    async fn send_unfinished(&self) -> Vec<RawConnection> {
        let connect = |_| async {
            let mut connection = RawConnection::connect(&self.grpc, &[]).await;
            connection.acknowledge_settings().await;
            for stream in [1, 3, 5, 7] {
                connection.call(stream, &leads_rpc("BatchCreateLeads"), 0).await;
                let length = u32::try_from(LARGE).unwrap().to_be_bytes();
                connection.frame(DATA, 0, stream, &[&[0], &length[..]].concat()).await;
                // As much as the windows permit.
                for _ in 0..4 {
                    connection.frame(DATA, 0, stream, &[0; 16_384]).await;
                }
            }
            connection
        };
        join_all((0..200).map(connect)).await
    }
}

/// True if a call was rejected for the memory of the process.
fn is_shed(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted
        && status.get_error_details().error_info().is_some_and(|info| {
            info.metadata.get("bucket").is_some_and(|on| on == "process_memory")
        })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "sends a gigabyte"]
#[cfg(target_os = "linux")]
async fn the_process_survives_attacks_on_its_memory_and_recovers() {
    let mut world = World::start().await;
    world.assert_alive("idle").await;
    assert_eq!(world.search_huge().await, 16);
    world.assert_alive("searches with two million filters").await;
    let unfinished = world.send_unfinished().await;
    world.assert_alive("unfinished requests").await;
    drop(unfinished);
    for (attack, with_id) in [("large creates", false), ("large creates with request_id", true)] {
        for round in 0..3 {
            let creates = (0..40).map(|number| world.create_large(round * 40 + number, with_id));
            let results = join_all(creates).await;
            assert!(results.iter().any(Result::is_ok), "{:?}", results[0]);
            world.assert_alive(attack).await;
        }
    }
    // Memory that the allocator retains must not count forever.
    let world = &world;
    eventually("the pressure ends", || async {
        let page = metrics_page(&world.admin).await.unwrap_or_default();
        let level = page.lines().find_map(|line| line.strip_prefix("leadsd_memory_pressure"));
        let level = level.and_then(|level| level.trim_start_matches("{}").trim().parse().ok());
        level == Some(0.0)
    })
    .await;
    let created = world.create_large(999, false).await;
    assert!(!created.as_ref().is_err_and(is_shed), "{created:?}");
}

//! The process stays below its memory limit while clients try to exhaust it, and recovers afterwards.

use std::{
    fs,
    net::Ipv4Addr,
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

/// Resident memory in bytes below which large requests are admitted again, with a margin: 70 % of the limit,
/// and shedding begins at 80 %.
const RECOVERED: f64 = 188e6;

/// Size of a large request in bytes, below the maximum size of a request.
const LARGE: usize = 3_900_000;

/// Address of a client that reads nothing.
const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// SETTINGS_INITIAL_WINDOW_SIZE.
const WINDOW: u16 = 4;

/// Size of a property value in bytes.
const VALUE: usize = 60_000;

/// Service under a memory limit, and its peers.
struct World {
    process: Process,
    grpc: String,
    admin: String,
    lead: String,
    /// Lead with one large property.
    large_lead: String,
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
        let large = json!({"hs_lead_name": "Joan", "p0": "x".repeat(VALUE)});
        let large_lead = hubspot.add_lead(&contact, &large).unwrap();
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
        Self { process, grpc, admin, lead, large_lead, contact, _cgroup: cgroup, _peers }
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

    /// Makes calls on connections whose windows are closed, and reads no response.
    async fn stall(&self, method: &str, flags: u8, frames: &[Vec<u8>]) -> Vec<RawConnection> {
        let connect = |_| async {
            // From another address than the calls that must be served: this one takes its share.
            let mut connection = RawConnection::silent_from(GREEDY, &self.grpc).await;
            connection.start(&[(WINDOW, 0)]).await;
            connection.acknowledge_settings().await;
            connection.call(1, method, 0).await;
            for frame in frames {
                connection.frame(DATA, flags, 1, frame).await;
            }
            connection
        };
        join_all((0..100).map(connect)).await
    }

    /// Reads batches that name one large lead again and again.
    async fn stall_batches(&self) -> Vec<RawConnection> {
        let request = pb::BatchGetLeadsRequest {
            ids: vec![self.large_lead.clone(); 2_500],
            properties: vec!["p0".to_owned()],
            ..Default::default()
        };
        let connections =
            self.stall(&leads_rpc("BatchGetLeads"), END_STREAM, &[framed(&request)]).await;
        eventually("responses are unread", || async { self.charged().await > Some(20e6) }).await;
        connections
    }

    /// Asks for the extensions of a type with a long name, on streams of reflection.
    async fn stall_reflection(&self) -> Vec<RawConnection> {
        const METHOD: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let name = [&[0x32, 0xf4, 0x03][..], &[b'x'; 500]].concat();
        let length = u32::try_from(name.len()).unwrap().to_be_bytes();
        let request = [&[0][..], &length, &name].concat();
        self.stall(METHOD, 0, &vec![request; 100]).await
    }

    /// Reads a large lead on many streams, never from a cache: each with another property besides.
    async fn stall_reads(&self) -> Vec<RawConnection> {
        let method = leads_rpc("GetLead");
        let connect = |number: u32| {
            let method = &method;
            async move {
                let mut connection = RawConnection::silent_from(GREEDY, &self.grpc).await;
                connection.start(&[(WINDOW, 0)]).await;
                connection.acknowledge_settings().await;
                for stream in 0..20 {
                    let other = format!("p{}", 1 + (number * 20 + stream) % 60);
                    let get = pb::GetLeadRequest {
                        id: self.large_lead.clone(),
                        properties: vec!["p0".to_owned(), other],
                        ..Default::default()
                    };
                    connection.call(2 * stream + 1, method, 0).await;
                    connection.frame(DATA, END_STREAM, 2 * stream + 1, &framed(&get)).await;
                }
                connection
            }
        };
        join_all((0..50).map(connect)).await
    }

    /// Sends the headers of many calls, with metadata, and no message.
    async fn send_headers(&self) -> Vec<RawConnection> {
        let metadata = "x".repeat(3_000);
        let headers = request_headers(&leads_rpc("GetLead"), &[("x-long", &metadata)]);
        let connect = |_| {
            let headers = &headers;
            async move {
                let mut connection = RawConnection::silent_from(GREEDY, &self.grpc).await;
                connection.start(&[]).await;
                connection.acknowledge_settings().await;
                for stream in 0..1_000 {
                    connection.frame(HEADERS, END_HEADERS, 2 * stream + 1, headers).await;
                }
                connection
            }
        };
        join_all((0..17).map(connect)).await
    }

    /// Opens connections and sends nothing.
    async fn stay_silent(&self) -> Vec<RawConnection> {
        let connect = |_| RawConnection::silent_from(GREEDY, &self.grpc);
        join_all((0..500).map(connect)).await
    }

    /// Waits until the calls of the last attack have given their bytes back and the process has memory
    /// for large requests: the allocator must not retain what is free.
    async fn recovers(&self) {
        eventually("memory is returned", || async {
            self.charged().await.is_some_and(|bytes| bytes < 1e6)
                && self.metric("leadsd_memory_pressure").await == Some(0.0)
                && self
                    .metric("process_resident_memory_bytes")
                    .await
                    .is_some_and(|bytes| bytes < RECOVERED)
        })
        .await;
    }

    /// Value of the metric whose name and labels are `series`.
    async fn metric(&self, series: &str) -> Option<f64> {
        let page = metrics_page(&self.admin).await?;
        page.lines().find_map(|line| {
            line.strip_prefix(series)?.trim_start_matches("{}").trim().parse().ok()
        })
    }

    /// Bytes that are charged to all calls.
    async fn charged(&self) -> Option<f64> {
        self.metric("leadsd_admission_used{limit=\"memory\"}").await
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

/// A message with its prefix.
fn framed(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat()
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
    let unread = world.stall_batches().await;
    world.assert_alive("unread batches").await;
    drop(unread);
    let unread = world.stall_reflection().await;
    world.assert_alive("unread reflection streams").await;
    drop(unread);
    let unread = world.stall_reads().await;
    world.assert_alive("unread reads").await;
    drop(unread);
    let headers = world.send_headers().await;
    world.assert_alive("headers without messages").await;
    drop(headers);
    let silent = world.stay_silent().await;
    world.assert_alive("silent connections").await;
    drop(silent);
    for (attack, with_id) in [("large creates", false), ("large creates with request_id", true)] {
        for round in 0..3 {
            world.recovers().await;
            let creates = (0..40).map(|number| world.create_large(round * 40 + number, with_id));
            let results = join_all(creates).await;
            assert!(results.iter().any(Result::is_ok), "{:?}", results[0]);
            world.assert_alive(attack).await;
        }
    }
    // All of them at once; those that send nothing last, since they compete with other handshakes.
    let all = [
        world.send_unfinished().await,
        world.stall_reads().await,
        world.stall_reflection().await,
        world.send_headers().await,
        world.stay_silent().await,
    ];
    assert_eq!(world.search_huge().await, 16);
    world.assert_alive("all of them at once").await;
    drop(all);
    world.recovers().await;
    let created = world.create_large(999, false).await;
    assert!(!created.as_ref().is_err_and(is_shed), "{created:?}");
}

//! The log of refused calls is bounded and counts every call.

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_hubspot_fake::FakeHubspot;
use leadsd_testkit::{
    Process,
    http2::{END_HEADERS, END_STREAM, HEADERS, RawConnection, frame, request_headers},
};
use leadsd_vault_fake::FakeVault;
use serde_json::{Value, json};
use tonic::{Code, Request, transport::Channel};

use crate::{
    authentication::issuers::sha256,
    binary::{config, fake_hubspot, fake_vault},
    harness::{LEADSD, leads_rpc},
};

/// Number of calls of a flood.
const CALLS: u32 = 3_000;

/// Number of calls at a time.
const CONCURRENT: u32 = 100;

/// API key of a caller that may only read.
const READER: &str = "reader-key-0123456789-0123456789";

/// Service with API keys and a log at `info`, and its peers.
struct World {
    process: Process,
    grpc: String,
    _peers: (FakeHubspot, FakeVault, tempfile::TempDir),
}

// === impl World ===

impl World {
    async fn start() -> Self {
        let (folder, hubspot) = (tempfile::tempdir().unwrap(), fake_hubspot().await);
        let (vault, auth) = fake_vault(&folder, &hubspot).await;
        vault.put("leadsd/api-keys", json!({"reader": sha256(READER)}));
        let file = config(&folder, &format!("http://{}", vault.address()), &auth, &hubspot);
        let process = Process::serve(
            LEADSD,
            &file,
            &[
                ("LEADSD_LOG__LEVEL", "info"),
                ("LEADSD_AUTH__API_KEYS__SECRET", "leadsd/api-keys"),
                ("LEADSD_POLICY__READER__CALLERS", r#"["reader"]"#),
                ("LEADSD_POLICY__READER__PORTALS", r#"["default"]"#),
                ("LEADSD_POLICY__READER__ACCESS", "read"),
            ],
        );
        let grpc = process.ready().await;
        Self { process, grpc, _peers: (hubspot, vault, folder) }
    }

    /// Stops the service; returns its access and audit events.
    async fn events(self) -> [Vec<Value>; 2] {
        self.process.signal("TERM");
        let (code, log) = self.process.ended().await;
        assert_eq!(code, Some(0), "{log}");
        ["leadsd::access", "leadsd::audit"].map(|target| {
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.filter(|line| line["target"] == target).collect()
        })
    }
}

/// Sum of the calls in summaries, and number of other events.
fn counted(events: &[Value]) -> (u64, u64) {
    let (summaries, single): (Vec<_>, Vec<_>) =
        events.iter().partition(|event| event["refused.calls"].is_u64());
    let summarised = summaries.iter().filter_map(|event| event["refused.calls"].as_u64()).sum();
    (summarised, single.len() as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_grow_the_log_by_less_than_the_bytes_that_they_send() {
    let world = World::start().await;
    let mut connection = RawConnection::connect(&world.grpc, &[]).await;
    connection.acknowledge_settings().await;
    let headers = request_headers(&leads_rpc("GetLead"), &[]);
    let mut sent = 0;
    let mut ids = (1..).step_by(2);
    for _ in 0..CALLS / CONCURRENT {
        for id in ids.by_ref().take(CONCURRENT as usize) {
            let call = frame(HEADERS, END_HEADERS | END_STREAM, id, &headers);
            sent += call.len();
            connection.send(&call).await;
        }
        for _ in 0..CONCURRENT {
            let ended = connection.until(|frame| frame.kind == HEADERS).await.expect("an answer");
            assert_eq!(ended.flags & END_STREAM, END_STREAM);
        }
    }
    // Draining waits for open connections.
    drop(connection);
    let [events, _] = world.events().await;
    let logged: usize = events.iter().map(|event| event.to_string().len()).sum();
    assert!(logged < sent / 10, "{logged} bytes logged for {sent} bytes");
    let (summarised, single) = counted(&events);
    assert_eq!(summarised + single, u64::from(CALLS));
    assert!(single < 10, "{single} single events");
    let is_named = |event: &Value| {
        event["net.peer"] == "127.0.0.1"
            && event["refused.reasons"].as_str().is_some_and(|all| all.contains("UNAUTHENTICATED="))
    };
    assert!(events.iter().any(is_named), "{events:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_writes_of_a_caller_are_summarised_in_both_logs() {
    let world = World::start().await;
    let channel = Channel::from_shared(format!("http://{}", world.grpc)).unwrap();
    let mut leads = LeadsServiceClient::new(channel.connect().await.unwrap());
    for _ in 0..50 {
        let mut request =
            Request::new(pb::ArchiveLeadRequest { id: "1".to_owned(), ..Default::default() });
        request.metadata_mut().insert("x-api-key", READER.parse().unwrap());
        let status = leads.archive_lead(request).await.expect_err("it may only read");
        assert_eq!(status.code(), Code::PermissionDenied);
    }
    let mut read = Request::new(pb::ListLeadsRequest::default());
    read.metadata_mut().insert("x-api-key", READER.parse().unwrap());
    leads.list_leads(read).await.expect("it may read");
    // The read is one more access event.
    for (events, wanted) in world.events().await.into_iter().zip([51, 50]) {
        let (summarised, single) = counted(&events);
        assert_eq!(summarised + single, wanted, "{events:#?}");
        assert!(single < 15, "{single} single events");
        assert!(events.iter().all(|event| event["caller"] == "reader"), "{events:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_of_a_known_caller_are_summarised() {
    let world = World::start().await;
    let channel = Channel::from_shared(format!("http://{}", world.grpc)).unwrap();
    let mut leads = LeadsServiceClient::new(channel.connect().await.unwrap());
    for _ in 0..200 {
        let mut request = Request::new(pb::GetLeadRequest::default());
        request.metadata_mut().insert("x-api-key", READER.parse().unwrap());
        let status = leads.get_lead(request).await.expect_err("it names no lead");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let [events, _] = world.events().await;
    let (summarised, single) = counted(&events);
    assert_eq!(summarised + single, 200);
    assert!(single < 15, "{single} single events");
}

//! Compressed requests and responses that expand to gibibytes: they fail with an error, and
//! decompression stops at the limit.

use std::{io::Write as _, sync::Arc};

use axum::{
    Router,
    http::header::{CONTENT_ENCODING, CONTENT_TYPE},
    response::IntoResponse as _,
};
use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_base::time::SystemClock;
use leadsd_hubspot_fake::FakeHubspot;
use leadsd_testkit::{FREE, Process};
use leadsd_vault_fake::FakeVault;
use serde_json::json;
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt as _;

use crate::harness::LEADSD;

/// Decompressed size.
const UNPACKED: usize = 1 << 30;

/// Maximum memory of the service: far below the decompressed size, and above its needs.
const MOST_MEMORY: u64 = 300 << 20;

/// A zstd frame (RFC 8878) of a gibibyte, in blocks of one repeated byte.
fn zstd(byte: u8) -> Vec<u8> {
    const BLOCK: usize = 128 << 10;
    // The magic number; no flags; a window of 8 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3];
    let blocks = UNPACKED / BLOCK;
    for number in 1..=blocks {
        let last = u32::from(number == blocks);
        let head = last | (1 << 1) | (u32::try_from(BLOCK).unwrap() << 3);
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.push(byte);
    }
    frame
}

/// The same content with gzip, as concatenated members.
fn gzip(byte: u8) -> Vec<u8> {
    const PART: usize = 4 << 20;
    gzip_member(&vec![byte; PART]).repeat(UNPACKED / PART)
}

fn gzip_member(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compresses repetitive content with gzip, as concatenated members. Equal parts are compressed once.
fn gzip_members(bytes: &[u8]) -> Vec<u8> {
    let (mut last, mut member, mut members) = (&[][..], Vec::new(), Vec::new());
    for part in bytes.chunks(128 << 10) {
        if part != last {
            (last, member) = (part, gzip_member(part));
        }
        members.extend_from_slice(&member);
    }
    members
}

/// Starts a HubSpot that answers every request with these bytes.
async fn hubspot(encoding: &'static str, bytes: Vec<u8>) -> String {
    let answer = move || {
        let headers = [(CONTENT_ENCODING, encoding), (CONTENT_TYPE, "application/json")];
        let answer = (headers, bytes.clone()).into_response();
        async move { answer }
    };
    let listener = tokio::net::TcpListener::bind(FREE).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    format!("http://{address}")
}

/// Peak memory of a process, in bytes.
fn most_memory(process: &Process) -> u64 {
    memory(process, "VmHWM:")
}

/// Memory of a process by its name in `/proc/PID/status`, in bytes.
#[cfg(target_os = "linux")]
fn memory(process: &Process, name: &str) -> u64 {
    let path = format!("/proc/{}/status", process.child.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[cfg(not(target_os = "linux"))]
fn memory(_: &Process, _: &str) -> u64 {
    0
}

/// Starts a service as a separate process, so that its memory can be measured.
async fn service(
    hubspot: &str,
    max_request_size: &str,
) -> (Process, LeadsServiceClient<Channel>, String, FakeVault) {
    let vault = FakeVault::start(FREE.parse().unwrap()).await.unwrap();
    let keys = FakeHubspot::start(FREE.parse().unwrap(), Arc::new(SystemClock)).await.unwrap();
    vault.put("hubspot/default", json!({"access_token": keys.static_token(&[]).expose()}));
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, vault.root_token().expose()).unwrap();
    let config = folder.path().join("leadsd.toml");
    let text = format!(
        "[grpc]\nlisten = \"{FREE}\"\nmax_request_size = \"{max_request_size}\"\ndrain_delay = \"0s\"\n\
         [admin]\nlisten = \"{FREE}\"\n[hubspot]\nbase_url = \"{hubspot}\"\nmax_response_size = \"1MiB\"\nmax_attempts = 1\n\
         [vault]\naddress = \"http://{}\"\n[vault.auth]\nmethod = \"token\"\nfile = \"{}\"\n[portals.default]\n",
        vault.address(),
        token.display(),
    );
    std::fs::write(&config, text).unwrap();
    let process = Process::serve(LEADSD, &config, &[]);
    let grpc = process.ready().await;
    let channel = Channel::from_shared(format!("http://{grpc}")).unwrap();
    (process, LeadsServiceClient::new(channel.connect().await.unwrap()), grpc, vault)
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_response_is_not_decompressed_beyond_the_limit() {
    for (encoding, bytes) in [("zstd", zstd(b' ')), ("gzip", gzip(b' '))] {
        let (process, mut leads, _, _vault) =
            service(&hubspot(encoding, bytes).await, "1MiB").await;
        for _ in 0..4 {
            let get = pb::GetLeadRequest { id: "7".to_owned(), ..Default::default() };
            let status = leads.get_lead(get).await.unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted, "{encoding}: {status:?}");
            let info = status.get_details_error_info().expect("a reason");
            assert_eq!(info.reason, "RESPONSE_TOO_LARGE", "{encoding}");
        }
        let most = most_memory(&process);
        assert!(most < MOST_MEMORY, "{encoding}: {} MiB", most >> 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_request_is_not_decompressed_beyond_the_limit() {
    let (process, mut leads, grpc, _vault) = service("http://127.0.0.1:1", "1MiB").await;
    let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    // Unknown fields with the number 15 and the value 0x78, both one byte: they are skipped.
    let gzip = gzip(b'x');
    // A valid message may be as large as the limit.
    let gzip = gzip[..gzip.len().min(900 << 10)].to_vec();
    for (encoding, bytes) in [("zstd", zstd(b'x')), ("gzip", gzip)] {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        let body = [&[1][..], &length, &bytes].concat();
        for _ in 0..4 {
            let answer = http
                .post(format!("http://{grpc}/leadsd.v1.LeadsService/GetLead"))
                .header(CONTENT_TYPE, "application/grpc")
                .header("te", "trailers")
                .header("grpc-encoding", encoding)
                .body(body.clone());
            let answer = answer.send().await.unwrap();
            let code = answer.headers()["grpc-status"].to_str().unwrap();
            // RESOURCE_EXHAUSTED
            assert_eq!(code, "8", "{encoding}: {:?}", answer.headers());
        }
    }
    let most = most_memory(&process);
    assert!(most < MOST_MEMORY, "{} MiB", most >> 20);
    let quiet = leads.list_leads(pb::ListLeadsRequest::default()).await.unwrap_err();
    assert_eq!(quiet.code(), Code::Unavailable, "it serves on: HubSpot is not there");
}

/// Maximum memory over that of the idle service for calls whose messages expand when they are decoded.
const MOST_DECODED: u64 = 64 << 20;

/// A field of wire type 2.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend(content);
    bytes
}

/// Messages of millions of empty elements: two bytes each, and up to 120 bytes decoded. The number is that of
/// the field with the elements.
fn expanding() -> Vec<(&'static str, Vec<u8>)> {
    const ELEMENTS: usize = 2_097_100;
    let empty = |number: u8| [number << 3 | 2, 0].repeat(ELEMENTS);
    let inside = |path: &[u8], number: u8| {
        path.iter().rev().fold(empty(number), |content, number| field(*number, &content))
    };
    // Parts of one create, which are merged when they are decoded.
    let part = field(2, &field(2, &[1 << 3 | 2, 0].repeat(1_000)));
    let parts = part.repeat(2 * ELEMENTS / part.len());
    vec![
        ("LeadsService/SearchLeads", inside(&[2], 1)),
        ("LeadsService/SearchLeads", inside(&[2, 1], 5)),
        ("LeadsService/SearchLeads", empty(2)),
        ("LeadsService/SearchLeads", empty(3)),
        ("LeadsService/SearchLeads", empty(7)),
        ("LeadsService/GetLead", empty(3)),
        ("LeadsService/GetLead", empty(5)),
        ("LeadsService/ListLeads", empty(4)),
        ("LeadsService/CreateLead", empty(3)),
        ("LeadsService/CreateLead", empty(9)),
        ("LeadsService/CreateLead", empty(15)),
        ("LeadsService/CreateLead", inside(&[15, 2, 7], 1)),
        ("LeadsService/UpdateLead", empty(3)),
        ("LeadsService/UpsertLead", empty(11)),
        ("LeadsService/AssociateLead", empty(4)),
        ("LeadsService/DissociateLead", empty(7)),
        ("LeadsService/BatchGetLeads", empty(1)),
        ("LeadsService/BatchCreateLeads", empty(1)),
        ("LeadsService/BatchCreateLeads", inside(&[1, 3], 3)),
        ("LeadsService/BatchUpdateLeads", inside(&[1, 15, 2, 7], 1)),
        ("LeadsService/BatchUpsertLeads", empty(1)),
        ("LeadsService/BatchAssociateLeads", inside(&[2], 4)),
        ("LeadsService/BatchDissociateLeads", empty(2)),
        ("LeadsService/BatchArchiveLeads", empty(1)),
        ("LeadsService/ExportLeads", inside(&[2, 1], 5)),
        ("LeadsService/ExportLeads", empty(3)),
        ("LeadsService/ImportLeads", inside(&[2, 2], 1)),
        ("LeadsService/ImportLeads", inside(&[2, 4], 9)),
        ("LeadsService/ImportLeads", parts),
        ("SchemaService/ListLeadProperties", empty(4)),
        ("SchemaService/ListAssociationTypes", empty(2)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_expand_when_decoded_are_rejected_before() {
    let (process, mut leads, grpc, _vault) = service("http://127.0.0.1:1", "4MiB").await;
    let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    leads.list_leads(pb::ListLeadsRequest::default()).await.unwrap_err();
    let idle = memory(&process, "VmRSS:");
    for (method, message) in expanding() {
        let zstd = zstd::encode_all(&*message, 3).unwrap();
        assert!(zstd.len() < 1_024, "{method}: {} bytes", zstd.len());
        let gzip = gzip_members(&message);
        for (encoding, flag, bytes) in
            [("zstd", 1, zstd), ("gzip", 1, gzip), ("identity", 0, message)]
        {
            let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
            let body = hyper::body::Bytes::from([&[flag][..], &length, &bytes].concat());
            let calls = (0..16).map(|_| {
                http.post(format!("http://{grpc}/leadsd.v1.{method}"))
                    .header(CONTENT_TYPE, "application/grpc")
                    .header("te", "trailers")
                    .header("grpc-encoding", encoding)
                    .body(body.clone())
                    .send()
            });
            for answer in futures_util::future::join_all(calls).await {
                let answer = answer.unwrap();
                let Some(status) = tonic::Status::from_header_map(answer.headers()) else {
                    // The error of a stream of requests is in trailers, which this client does not show.
                    assert_eq!(method, "LeadsService/ImportLeads");
                    assert!(answer.bytes().await.unwrap_or_default().is_empty());
                    continue;
                };
                assert_eq!(status.code(), Code::InvalidArgument, "{method} {encoding}: {status:?}");
                let details = status.get_error_details();
                let violation = &details.bad_request().unwrap().field_violations[0];
                assert!(violation.description.starts_with("must not exceed "), "{violation:?}");
            }
            let more = most_memory(&process).saturating_sub(idle);
            assert!(more < MOST_DECODED, "{method} {encoding}: {} MiB", more >> 20);
        }
    }
    let quiet = leads.list_leads(pb::ListLeadsRequest::default()).await.unwrap_err();
    assert_eq!(quiet.code(), Code::Unavailable, "it serves on: HubSpot is not there");
}

/// Bytes that are charged for each byte of a property value: the message, and twice the decoded value.
const CHARGED: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_take_no_more_memory_than_is_charged() {
    const PAIRS: usize = 1_950_000;
    const CALLS: u64 = 8;
    let hubspot = hubspot("identity", b"{}".to_vec()).await;
    let (process, leads, _, _vault) = service(&hubspot, "4MiB").await;
    // Whatever the outcome: the service has called HubSpot once.
    let _ = leads.clone().list_leads(pb::ListLeadsRequest::default()).await;
    let idle = memory(&process, "VmRSS:");
    let text = |number: u64| format!("{number} {}", "x\"".repeat(PAIRS));
    let calls = (0..CALLS).map(|number| {
        let mut leads = leads.clone();
        let properties = [("hs_lead_name".to_owned(), text(number))].into();
        let contact = "101".to_owned();
        let create =
            pb::CreateLeadRequest { properties, primary_contact_id: contact, ..Default::default() };
        async move { leads.create_lead(create).await }
    });
    for answer in futures_util::future::join_all(calls).await {
        // The response has no lead. A caller has a share of the memory.
        let code = answer.unwrap_err().code();
        assert!(
            matches!(code, Code::Unknown | Code::Unavailable | Code::ResourceExhausted),
            "{code}"
        );
    }
    let more = most_memory(&process).saturating_sub(idle);
    let charged = CALLS * CHARGED * u64::try_from(2 * PAIRS).unwrap();
    assert!(more < charged * 3 / 2, "{} MiB more, {} MiB charged", more >> 20, charged >> 20);
}

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

/// A zstd frame (RFC 8878) of a gibibyte of blanks, in blocks of one repeated byte.
fn zstd() -> Vec<u8> {
    const BLOCK: usize = 128 << 10;
    // The magic number; no flags; a window of 8 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3];
    let blocks = UNPACKED / BLOCK;
    for number in 1..=blocks {
        let last = u32::from(number == blocks);
        let head = last | (1 << 1) | (u32::try_from(BLOCK).unwrap() << 3);
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.push(b' ');
    }
    frame
}

/// The same content with gzip, as concatenated members.
fn gzip() -> Vec<u8> {
    const PART: usize = 4 << 20;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&vec![b' '; PART]).unwrap();
    encoder.finish().unwrap().repeat(UNPACKED / PART)
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
#[cfg(target_os = "linux")]
fn most_memory(process: &Process) -> u64 {
    let path = format!("/proc/{}/status", process.child.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[cfg(not(target_os = "linux"))]
fn most_memory(_: &Process) -> u64 {
    0
}

/// Starts a service as a separate process, so that its memory can be measured.
async fn service(hubspot: &str) -> (Process, LeadsServiceClient<Channel>, String, FakeVault) {
    let vault = FakeVault::start(FREE.parse().unwrap()).await.unwrap();
    let keys = FakeHubspot::start(FREE.parse().unwrap(), Arc::new(SystemClock)).await.unwrap();
    vault.put("hubspot/default", json!({"access_token": keys.static_token(&[]).expose()}));
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, vault.root_token().expose()).unwrap();
    let config = folder.path().join("leadsd.toml");
    let text = format!(
        "[grpc]\nlisten = \"{FREE}\"\nmax_request_size = \"1MiB\"\ndrain_delay = \"0s\"\n\
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
    for (encoding, bytes) in [("zstd", zstd()), ("gzip", gzip())] {
        let (process, mut leads, _, _vault) = service(&hubspot(encoding, bytes).await).await;
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
    let (process, mut leads, grpc, _vault) = service("http://127.0.0.1:1").await;
    let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let gzip = gzip();
    // A valid message may be as large as the limit.
    let gzip = gzip[..gzip.len().min(900 << 10)].to_vec();
    for (encoding, bytes) in [("zstd", zstd()), ("gzip", gzip)] {
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

//! Admin endpoint `/log`: the log filter changes at run time. The admin port bounds its clients.

use std::time::Duration;

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_testkit::Dev;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Request, transport::Channel};

use crate::harness::LEADSD;
use crate::harness::PATIENCE;

/// Debug event of each HubSpot call.
const DEBUG: &str = "HubSpot responded";

async fn put(admin: &str, filter: impl Into<reqwest::Body>) -> (u16, String) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.put(format!("http://{admin}/log")).header("leadsd-admin", "1");
    let answer = request.body(filter).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn current(admin: &str) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(format!("http://{admin}/log")).send().await.unwrap();
    answer.text().await.unwrap().trim().to_owned()
}

/// Makes a call and waits for its access event; returns true if debug events preceded it.
async fn call_logs_debug(dev: &Dev, leads: &mut LeadsServiceClient<Channel>, id: &str) -> bool {
    let before = dev.process.lines().len();
    let mut request = Request::new(pb::ListLeadsRequest::default());
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    leads.list_leads(request).await.unwrap();
    let logged = async {
        loop {
            let new = dev.process.lines().split_off(before);
            if new.iter().any(|line| line.contains("Call finished") && line.contains(id)) {
                return new.iter().any(|line| line.contains(DEBUG));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, logged).await.expect("an access event")
}

#[tokio::test(flavor = "multi_thread")]
async fn log_filter_is_replaced_and_an_invalid_one_is_rejected() {
    let dev = Dev::start(LEADSD).await;
    let admin = dev.address("admin");
    let channel = Channel::from_shared(format!("http://{}", dev.address("gRPC"))).unwrap();
    let mut leads = LeadsServiceClient::new(channel.connect().await.unwrap());
    assert_eq!(current(&admin).await, "info");
    assert!(!call_logs_debug(&dev, &mut leads, "first").await);

    assert_eq!(put(&admin, "info,leadsd=debug\n").await, (200, "info,leadsd=debug\n".to_owned()));
    assert_eq!(current(&admin).await, "info,leadsd=debug");
    assert!(call_logs_debug(&dev, &mut leads, "second").await);

    for bad in [
        "leadsd=loud",
        "a=b=c",
        "leadsd=debug,=[",
        "leadsd=d\u{e9}bug",
        "[{",
        "info, rustify::http=trace",
    ] {
        let (status, said) = put(&admin, bad).await;
        assert_eq!(status, 400, "{bad}: {said}");
        assert!(!said.trim().is_empty(), "{bad}");
    }
    assert_eq!(put(&admin, vec![0xff, 0xfe]).await.0, 400, "no text");
    assert_eq!(put(&admin, "x".repeat(17 * 1024)).await.0, 413, "past the bound");
    assert_eq!(current(&admin).await, "info,leadsd=debug", "nothing has changed");
    assert!(call_logs_debug(&dev, &mut leads, "third").await);

    assert_eq!(put(&admin, "info").await.0, 200);
    assert!(!call_logs_debug(&dev, &mut leads, "fourth").await);
    let log = dev.process.lines().join("\n");
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_filter_at_run_time_switches_the_audit_trail_off() {
    let dev = Dev::start(LEADSD).await;
    let admin = dev.address("admin");
    let channel = Channel::from_shared(format!("http://{}", dev.address("gRPC"))).unwrap();
    let mut leads = LeadsServiceClient::new(channel.connect().await.unwrap());
    let mut missing = async |id: &str| {
        let mut request =
            Request::new(pb::ArchiveLeadRequest { id: "404404".to_owned(), ..Default::default() });
        request.metadata_mut().insert("x-request-id", id.parse().unwrap());
        // Archiving an unknown lead is a write and is audited.
        let _ = leads.archive_lead(request).await;
    };
    let logged = async |what: &'static str, id: &str| {
        let found = async {
            while !dev.process.lines().iter().any(|line| line.contains(what) && line.contains(id)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{what} {id}"));
    };
    for (filter, id) in [("warn", "kept-warn"), ("off", "kept-off")] {
        assert_eq!(put(&admin, filter).await.0, 200);
        missing(id).await;
        logged("leadsd::audit", id).await;
    }
    logged("Replaced the log filter", "\"warn\"").await;
    logged("Replaced the log filter", "\"off\"").await;
    for filter in [
        "info,leadsd::audit=off",
        "info,leadsd::audit=WARN",
        "leadsd::audit=error,info",
        "info,leadsd::audit[{x}]=off",
        "leadsd::audit=0",
    ] {
        let (status, said) = put(&admin, filter).await;
        assert_eq!(status, 400, "{filter}: {said}");
        assert!(said.contains("the audit trail cannot be switched off at run time"), "{said}");
    }
    // Directives match targets by prefix.
    for (filter, id) in [
        ("info,leadsd::aud=off", "kept-prefix"),
        ("leadsd=off", "kept-parent"),
        ("info,leadsd::audit=debug", "kept-debug"),
    ] {
        assert_eq!(put(&admin, filter).await.0, 200);
        missing(id).await;
        logged("leadsd::audit", id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_admin_connections_do_not_block_liveness_probes() {
    let dev = Dev::start(LEADSD).await;
    let admin = dev.address("admin");
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(TcpStream::connect(&admin).await.unwrap());
    }
    let probe = "GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = sent(&admin, probe.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(held);
}

/// Response to these bytes, until the connection ends.
async fn sent(admin: &str, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(admin).await.unwrap();
    // The server may abort an oversized request.
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = socket.read_to_end(&mut answer);
    let _ = tokio::time::timeout(PATIENCE, read).await.expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_large_admin_requests_are_aborted() {
    let dev = Dev::start(LEADSD).await;
    let admin = dev.address("admin");
    let large =
        format!("GET /live HTTP/1.1\r\nhost: localhost\r\nx-large: {}\r\n\r\n", "x".repeat(40_000));
    let slow_body =
        "PUT /log HTTP/1.1\r\nhost: localhost\r\nleadsd-admin: 1\r\ncontent-length: 9\r\n\r\nin";
    let slow_head = "GET /live HTTP/1.1\r\nhost: localhost\r\n";
    let others = async {
        for _ in 0..50 {
            assert_eq!(current(&admin).await, "info");
        }
    };
    let (large, body, head, garbage, ()) = tokio::join!(
        sent(&admin, large.as_bytes()),
        sent(&admin, slow_body.as_bytes()),
        sent(&admin, slow_head.as_bytes()),
        sent(&admin, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
        others,
    );
    assert!(large.starts_with("HTTP/1.1 431"), "{large}");
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
    assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    assert_eq!(current(&admin).await, "info");
}

//! Signals and closed output during a `leadsd call`.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Stdio},
};

use hyper::body::Frame;
use leadsd::grpc::pb;
use leadsd_testkit::{Dev, eventually, metrics_page, send_signal};
use prost::Message as _;

use super::{
    Ran, leadsd_call,
    odd_servers::{framed, ok, responds, server},
    ran,
};
use crate::harness::{LEADSD, PATIENCE, to_f64};

/// Waits for the exit of a process.
async fn ended(mut child: Child) -> Ran {
    let wait = tokio::task::spawn_blocking(move || {
        let code = child.wait().unwrap().code();
        let (mut out, mut err) = (String::new(), String::new());
        if let Some(mut pipe) = child.stdout.take() {
            pipe.read_to_string(&mut out).unwrap();
        }
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        Ran { code, out, err }
    });
    tokio::time::timeout(PATIENCE, wait).await.expect("the process ends").unwrap()
}

/// Number of WatchQuota calls that the service has finished with this code.
async fn finished(admin: &str, code: &str) -> f64 {
    let page = metrics_page(&format!("http://{admin}")).await.unwrap_or_default();
    let is_row = |line: &&str| {
        line.starts_with("grpc_server_handled_total{")
            && line.contains("\"WatchQuota\"")
            && line.contains(&format!("\"{code}\""))
    };
    let row = page.lines().find(is_row);
    row.and_then(|row| row.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_cancels_the_call_at_the_service_and_sets_the_exit_code() {
    let dev = Dev::start(LEADSD).await;
    let address = dev.address("gRPC");
    for (cancelled, (signal, code)) in
        [("INT", 130), ("TERM", 143), ("HUP", 129)].iter().enumerate()
    {
        let mut command = leadsd_call(&["WatchQuota", "--json", "--address", &address]);
        let mut child = command.spawn().unwrap();
        // The first response has arrived.
        let mut out = BufReader::new(child.stdout.take().unwrap());
        assert!(out.read_line(&mut String::new()).unwrap() > 0);
        send_signal(&child, signal);
        let ran = ended(child).await;
        ran.failed(*code, &["leadsd: cancelled; a write may have taken effect\n"]);
        let (admin, expected) = (dev.address("admin"), to_f64(cancelled + 1));
        eventually("the service sees the cancellation", async || {
            finished(&admin, "Canceled").await >= expected
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_call_whose_output_is_not_read() {
    // Sixteen times what a pipe holds.
    let address = server(|| {
        let lead = pb::Lead { id: "x".repeat(1 << 20), ..Default::default() };
        let message = pb::GetLeadResponse { lead: Some(lead), labels_error: None }.encode_to_vec();
        responds(vec![Frame::data(framed(&message)), ok()])
    })
    .await;
    let mut child = leadsd_call(&["GetLead", "id=1", "--address", &address]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    // The process has begun to write, and cannot end.
    out.read_exact(&mut [0; 1]).unwrap();
    send_signal(&child, "INT");
    assert_eq!(ended(child).await.code, Some(130));
    drop(out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_wait_for_standard_input_and_for_a_connection() {
    let mut child = leadsd_call(&["GetLead", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than a pipe holds: the process reads it.
    stdin.write_all(&vec![b' '; 1 << 20]).unwrap();
    send_signal(&child, "INT");
    ended(child).await.failed(130, &["leadsd: cancelled; nothing was sent\n"]);
    drop(stdin);
    for arguments in [&["WatchQuota"][..], &["WatchQuota", "--tls"]] {
        let (listener, silent) = leadsd_testkit::silent_peer();
        let silent = silent.to_string();
        let child = leadsd_call(&[arguments, &["--address", &silent]].concat()).spawn().unwrap();
        let accepted = tokio::task::spawn_blocking(move || listener.accept().unwrap());
        let connection = accepted.await.unwrap();
        send_signal(&child, "INT");
        ended(child).await.failed(130, &["leadsd: cancelled; "]);
        drop(connection);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_output_ends_the_call_quietly() {
    let dev = Dev::start(LEADSD).await;
    let address = dev.address("gRPC");
    for arguments in [
        &["GetLead", "id=107"][..],
        &["WatchQuota", "interval=100ms"],
        &["WatchQuota", "interval=100ms", "--json"],
        &["--list"],
    ] {
        let arguments = if arguments[0] == "--list" {
            arguments.to_vec()
        } else {
            [arguments, &["--address", &address]].concat()
        };
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = leadsd_call(&arguments);
        command.stdout(writer);
        let ran = tokio::time::timeout(PATIENCE, ran(command)).await.expect("it ends");
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = leadsd_call(&["GetLead", "id=107", "--address", &address]);
    command.stdout(full);
    ran(command).await.failed(1, &["cannot write to standard output"]);
}

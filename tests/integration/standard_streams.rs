//! Closed or blocked standard output and standard error of the commands and the service.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use futures_util::{StreamExt as _, stream};
use leadsd::grpc::pb::{
    self, leads_service_client::LeadsServiceClient, quota_service_client::QuotaServiceClient,
};
use leadsd_testkit::{FREE, send_signal};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use crate::{
    harness::{LEADSD, PATIENCE, wait_ready},
    real_peers::{run, text},
};

/// A valid configuration.
const GOOD: &str = "[vault]\naddress = \"https://vault.example:8200\"\n[vault.auth]\n\
                    method = \"token_file\"\nfile = \"/vault/token\"\n[portals.default]\n";

#[tokio::test]
async fn commands_end_quietly_when_standard_output_closes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leadsd.toml");
    std::fs::write(&file, GOOD).unwrap();
    let file = file.display().to_string();
    for arguments in [
        &["config", "schema"][..],
        &["config", "print", "--config", &file],
        &["config", "check", "--config", &file],
        &["--help"],
        &["dev", "--grpc", FREE, "--admin", FREE, "--hubspot", FREE, "--vault", FREE],
    ] {
        // The reader closes before a byte is written.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(LEADSD);
        command.args(arguments).stdout(writer).stderr(Stdio::piped());
        let work = tokio::task::spawn_blocking(move || command.output().unwrap());
        let ended = tokio::time::timeout(PATIENCE, work).await.expect("it ends").unwrap();
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}: {}", text(&ended));
        assert!(!text(&ended).contains("panicked"), "{arguments:?}: {}", text(&ended));
    }
    let shell = format!("'{LEADSD}' config schema | head -n 1");
    let first = run(Command::new("sh").args(["-c", &shell])).await;
    assert_eq!(text(&first), "{\n");
}

#[tokio::test]
async fn failure_with_closed_output_sets_the_exit_code() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(LEADSD);
    command.args(["config", "check", "--config", "/nowhere"]).stderr(writer);
    let ended = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
    assert_eq!(ended.code(), Some(64));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn output_that_cannot_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(LEADSD);
    command.args(["config", "schema"]).stdout(full).stderr(Stdio::piped());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended).contains("cannot write to standard output"), "{}", text(&ended));
}

/// Starts a `leadsd dev` that logs at `level` to `log`; returns its admin and gRPC addresses. A pipe is
/// not read.
fn start_dev(level: &str, log: impl Into<Stdio>) -> (Child, String, String) {
    let mut command = Command::new(LEADSD);
    command.args(["dev", "--grpc", FREE, "--admin", FREE, "--hubspot", FREE, "--vault", FREE]);
    command.args(["--log", level]).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let banner: Vec<String> = lines.take_while(|line| !line.starts_with("Ctrl-C")).collect();
    let address = |name: &str| {
        let line = banner.iter().find_map(|line| line.strip_prefix(name)).expect("it is there");
        let address = line.split_whitespace().next().unwrap().trim_start_matches("http://");
        address.split('/').next().unwrap().to_owned()
    };
    (child, address("admin"), address("gRPC"))
}

async fn connect(grpc: &str) -> LeadsServiceClient<Channel> {
    let channel = Channel::from_shared(format!("http://{grpc}")).unwrap();
    LeadsServiceClient::new(channel.connect().await.unwrap())
}

/// Fills the pipe of a log at `trace`, and checks that calls and probes are answered.
async fn fill_log(admin: &str, grpc: &str) {
    let mut leads = connect(grpc).await;
    // Many times the capacity of a pipe; these calls use no quota of HubSpot.
    let mut quota = QuotaServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    for _ in 0..500 {
        quota.get_quota(pb::GetQuotaRequest {}).await.expect("served");
    }
    leads.list_leads(pb::ListLeadsRequest::default()).await.expect("served");
    let live = reqwest::Client::builder().no_proxy().build().unwrap();
    let live = live.get(format!("http://{admin}/live")).send().await.expect("an answer");
    assert!(live.status().is_success(), "{live:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_many_calls_leaves_a_blocked_log_to_others() {
    // Twice as many events as the buffer has room for.
    const CALLS: u64 = 12_000;
    const FEW_CALLS: u64 = 50;
    let (mut child, admin, grpc) = start_dev("info", Stdio::piped());
    wait_ready(&format!("http://{admin}")).await;
    let client = async |host: u8| {
        let endpoint = Endpoint::from_shared(format!("http://{grpc}")).unwrap();
        let endpoint = endpoint.local_address(Some([127, 0, 0, host].into()));
        QuotaServiceClient::new(endpoint.connect().await.unwrap())
    };
    let (greedy, mut modest) = (client(2).await, client(1).await);
    let calls = stream::iter(0..CALLS).for_each_concurrent(50, |_| {
        let mut greedy = greedy.clone();
        async move { drop(greedy.get_quota(pb::GetQuotaRequest {}).await.expect("served")) }
    });
    calls.await;
    for number in 0..FEW_CALLS {
        let mut request = Request::new(pb::GetQuotaRequest {});
        let id = format!("modest-{number:03}").parse().unwrap();
        request.metadata_mut().insert("x-request-id", id);
        modest.get_quota(request).await.expect("served");
    }
    // Only now the log is read.
    let log = BufReader::new(child.stderr.take().unwrap());
    let log = std::thread::spawn(move || log.lines().map_while(Result::ok).collect::<Vec<_>>());
    send_signal(&child, "TERM");
    assert_eq!(exit_code(child).await.0, Some(0));
    let log = log.join().unwrap();
    for number in 0..FEW_CALLS {
        let id = format!("modest-{number:03}");
        assert!(log.iter().any(|line| line.contains(&id)), "{id} is logged");
    }
    let of_greedy = || log.iter().filter(|line| line.contains("127.0.0.2"));
    let single = of_greedy().filter(|line| line.contains("Call finished")).count() as u64;
    let summarised = of_greedy().filter_map(|line| line.split_once("unlogged.calls"));
    let summarised = summarised.map(|(_, rest)| {
        let digits = rest.trim_start_matches(|next: char| !next.is_ascii_digit());
        let end = digits.find(|next: char| !next.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse::<u64>().expect("a number")
    });
    assert_eq!(single + summarised.sum::<u64>(), CALLS, "each call is logged or counted");
    assert!(single < CALLS / 2, "{single} single events");
}

/// Exit code, once the process has ended.
async fn exit_code(mut child: Child) -> (Option<i32>, Child) {
    let ended = tokio::task::spawn_blocking(move || (child.wait().unwrap().code(), child));
    tokio::time::timeout(PATIENCE, ended).await.expect("it ends in time").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_the_service_with_a_blocked_log() {
    let (child, admin, grpc) = start_dev("trace", Stdio::piped());
    wait_ready(&format!("http://{admin}")).await;
    fill_log(&admin, &grpc).await;
    // An open call delays the end of draining.
    let mut watch = QuotaServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    let mut updates = watch.watch_quota(pb::WatchQuotaRequest::default()).await.unwrap();
    assert!(updates.get_mut().message().await.unwrap().is_some());
    for _ in 0..2 {
        send_signal(&child, "TERM");
    }
    let (code, _child) = exit_code(child).await;
    // The call may end before the second signal arrives.
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(target_os = "linux")]
async fn service_serves_and_stops_while_its_log_cannot_be_written() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (child, admin, grpc) = start_dev("trace", full);
    wait_ready(&format!("http://{admin}")).await;
    fill_log(&admin, &grpc).await;
    send_signal(&child, "TERM");
    assert_eq!(exit_code(child).await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn service_serves_with_a_closed_log() {
    let (mut child, admin, grpc) = start_dev("debug", Stdio::piped());
    drop(child.stderr.take());
    wait_ready(&format!("http://{admin}")).await;
    let mut leads = connect(&grpc).await;
    for _ in 0..3 {
        leads.list_leads(pb::ListLeadsRequest::default()).await.expect("served");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn service_serves_and_stops_with_a_blocked_log() {
    let (child, admin, grpc) = start_dev("trace", Stdio::piped());
    wait_ready(&format!("http://{admin}")).await;
    fill_log(&admin, &grpc).await;
    send_signal(&child, "TERM");
    // The pipe is open, but not read.
    let (code, mut child) = exit_code(child).await;
    assert_eq!(code, Some(0));
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("leadsd")), "what was written can be read");
}

//! `leadsd export` against a running service: formats, interruption, resume, retries and errors.

mod at_terminal;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use flate2::read::MultiGzDecoder;
use leadsd_hubspot_fake::{Gate, ScriptedResponse};
use leadsd_testkit::{ChaosProxy, Direction, send_signal};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    call::{Ran, ran},
    harness::{LEADSD, PATIENCE, TestApp, eventually, metrics_page},
};

const LEADS: usize = 650;

/// Adds leads of which every second one is hot. Their names have what formats escape.
pub(crate) fn add_leads(app: &TestApp, leads: usize) {
    for number in 0..leads {
        let label = if number % 2 == 0 { "HOT" } else { "COLD" };
        let name = format!("00{number}, \"Ada\"\n\u{1f600}; {}", "x".repeat(200));
        let properties = json!({"hs_lead_name": name, "hs_lead_label": label});
        app.hubspot.add_lead(&app.contact, &properties).expect("a valid lead");
    }
}

/// A command that reads no profile of the machine that runs the test.
pub(crate) fn leadsd_export(address: &str, out: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(LEADSD);
    command.args(["export", "--address", address, "--out"]).arg(out).args(arguments);
    command.env_remove("HOME").env_remove("XDG_CONFIG_HOME");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Lets two pages of the list pass, and holds further ones.
pub(crate) fn hold_third_page(app: &TestApp) -> Gate {
    let gate = Gate::new();
    let passing = ScriptedResponse::Delayed(std::time::Duration::ZERO);
    app.hubspot.script_times(2, "GET", "/leads", passing);
    app.hubspot.script_times(1_000, "GET", "/leads", ScriptedResponse::Held(gate.clone()));
    gate
}

/// State of an interrupted export; `None` before there is one.
pub(crate) fn state(out: &Path) -> Option<Value> {
    let text = std::fs::read(beside(out, ".resume.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

fn beside(out: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", out.display()))
}

/// Waits until some leads can be resumed from.
pub(crate) async fn has_state(out: &Path) {
    eventually("a state", async || state(out).is_some()).await;
}

/// Content of a file, decompressed by its ending.
fn content(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap();
    let mut text = String::new();
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => {
            MultiGzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
        }
        Some("zst") => {
            text = String::from_utf8(zstd::stream::decode_all(&*bytes).unwrap()).unwrap();
        }
        Some(_) | None => text = String::from_utf8(bytes).unwrap(),
    }
    text
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits for the exit of a process.
async fn ended(child: Child) -> Ran {
    let wait = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap().into());
    tokio::time::timeout(PATIENCE, wait).await.expect("the process ends").unwrap()
}

#[track_caller]
fn succeeded(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

const COLUMNS: &[&str] = &["--properties", "hs_lead_name,hs_lead_label"];

#[tokio::test(flavor = "multi_thread")]
async fn all_leads_or_those_that_match_are_written_in_each_format() {
    let app = TestApp::start().await;
    add_leads(&app, 30);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let run = async |name: &str, arguments: &[&str]| {
        let ran = ran(leadsd_export(&app.grpc, &file(name), arguments)).await;
        succeeded(&ran);
        assert!(ran.out.starts_with("Exported "), "{ran:?}");
        content(&file(name))
    };
    let hot = ["--filter", "hs_lead_label = HOT", "--filter", "hs_lead_name~00*"];
    for (name, compressed) in
        [("a.ndjson", "b.ndjson.gz"), ("a.csv", "b.csv.zst"), ("c.csv", "d.csv.gz")]
    {
        let plain = run(name, COLUMNS).await;
        assert_eq!(run(compressed, COLUMNS).await, plain, "{name}");
    }
    let lines = content(&file("a.ndjson"));
    let leads: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(leads.len(), 30);
    let name = leads[7]["properties"]["hs_lead_name"].as_str().unwrap();
    assert!(name.starts_with("007, \"Ada\"\n\u{1f600}; x"), "{name}");
    let rows = |name: &str| -> Vec<Vec<String>> {
        let text = content(&file(name));
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let rows = reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect());
        rows.collect()
    };
    let all = rows("a.csv");
    assert_eq!(all[0], ["id", "hs_lead_name", "hs_lead_label", "create_time", "update_time"]);
    assert_eq!((all.len(), all[8][1].as_str()), (31, name));
    run("hot.csv", &[COLUMNS, &hot].concat()).await;
    assert_eq!(rows("hot.csv").len(), 16);
    let by_label = ["--filter", "labels.hs_lead_label = hot", "--filter", "hs_lead_name~00*"];
    run("label.csv", &[COLUMNS, &by_label].concat()).await;
    assert_eq!(rows("label.csv"), rows("hot.csv"));
    // The columns of all properties, and of the portal's default ones.
    run("star.csv", &["--properties", "*", "--associations", "contacts"]).await;
    let star = rows("star.csv");
    assert!(star[0].len() > 20 && star[0].iter().any(|name| name == "hs_lead_name"), "{star:?}");
    assert_eq!(star[1].last().unwrap(), &app.contact);
    run("default.csv", &["--history", "hs_lead_label"]).await;
    let default = rows("default.csv");
    assert!(default[0].iter().any(|name| name == "hs_lead_name"), "{:?}", default[0]);
    assert!(default[1].last().unwrap().contains("\"value\":\"HOT\""), "{:?}", default[1]);
    run("none.csv", &[COLUMNS, &["--filter", "hs_lead_name=nothing"]].concat()).await;
    assert_eq!(rows("none.csv").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_killed_continues_and_equals_one_that_was_not() {
    let app = TestApp::start().await;
    add_leads(&app, LEADS);
    for name in ["leads.ndjson", "leads.csv", "leads.ndjson.gz", "leads.csv.zst"] {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join(format!("whole.{name}"));
        succeeded(&ran(leadsd_export(&app.grpc, &whole, COLUMNS)).await);
        let out = folder.path().join(name);
        let gate = hold_third_page(&app);
        let mut child = leadsd_export(&app.grpc, &out, COLUMNS).spawn().unwrap();
        has_state(&out).await;
        child.kill().unwrap();
        child.wait().unwrap();
        // As a process leaves it that was killed while it wrote.
        let partial = beside(&out, ".partial");
        let mut bytes = std::fs::read(&partial).unwrap();
        bytes.extend_from_slice(b"\x1f\x8b half a row");
        std::fs::write(&partial, bytes).unwrap();
        assert!(!out.exists());
        app.hubspot.clear_scripts();
        gate.open();
        let again = ran(leadsd_export(&app.grpc, &out, COLUMNS)).await;
        again.failed(64, &["has an interrupted export; --resume continues it"]);
        let other = ran(leadsd_export(&app.grpc, &out, &["--resume"])).await;
        other.failed(64, &["other values of --properties"]);
        let lists = app.hubspot.log().len();
        let resumed = ran(leadsd_export(&app.grpc, &out, &[COLUMNS, &["--resume"]].concat())).await;
        succeeded(&resumed);
        assert!(app.hubspot.log().len() - lists < LEADS.div_ceil(100) + 3, "{resumed:?}");
        assert!(resumed.out.contains(&format!("Exported {LEADS} leads")), "{resumed:?}");
        assert!(content(&out) == content(&whole), "{name}");
        assert_eq!(names(&folder), [name.to_owned(), format!("whole.{name}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_leaves_a_state_and_prints_the_command_to_continue() {
    let app = TestApp::start().await;
    add_leads(&app, LEADS);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("Ada's leads.ndjson");
    let whole = folder.path().join("whole.ndjson");
    succeeded(&ran(leadsd_export(&app.grpc, &whole, &[])).await);
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let gate = hold_third_page(&app);
        let child = leadsd_export(&app.grpc, &out, &["--force"]).spawn().unwrap();
        eventually("two pages", async || {
            state(&out).is_some() && std::fs::metadata(beside(&out, ".partial")).is_ok()
        })
        .await;
        send_signal(&child, signal);
        let interrupted = ended(child).await;
        interrupted.failed(code, &["leadsd: interrupted\nKept ", " leads. To continue:\n  "]);
        app.hubspot.clear_scripts();
        gate.open();
        let command = interrupted.err.lines().last().unwrap().trim().to_owned();
        assert!(command.ends_with("--force --resume"), "{command}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).env_remove("HOME").env_remove("XDG_CONFIG_HOME");
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        succeeded(&ran(shell).await);
        assert!(content(&out) == content(&whole));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_replaced() {
    let app = TestApp::start().await;
    add_leads(&app, LEADS);
    let folder = tempfile::tempdir().unwrap();
    let [out, whole] = ["out.csv", "whole.csv"].map(|name| folder.path().join(name));
    succeeded(&ran(leadsd_export(&app.grpc, &whole, COLUMNS)).await);
    let proxy = ChaosProxy::start().await;
    proxy.connect_to(app.grpc.parse().unwrap());
    proxy.cut_after(Direction::Response, 90_000);
    let address = proxy.address().to_string();
    let ran = ran(leadsd_export(&address, &out, COLUMNS)).await;
    succeeded(&ran);
    assert!(proxy.cancel_cut(), "the connection was cut");
    assert!(content(&out) == content(&whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_continues_over_another_connection_when_the_service_ends_a_stream() {
    let app = TestApp::start().await;
    add_leads(&app, LEADS);
    let folder = tempfile::tempdir().unwrap();
    let [out, whole] = ["out.csv", "whole.csv"].map(|name| folder.path().join(name));
    succeeded(&ran(leadsd_export(&app.grpc, &whole, COLUMNS)).await);
    let replica = app.replica().set("GRPC__MAX_CONNECTION_AGE", "300ms").start().await;
    app.hubspot.set_latency(std::time::Duration::from_millis(150));
    succeeded(&ran(leadsd_export(&replica.grpc, &out, COLUMNS)).await);
    app.hubspot.set_latency(std::time::Duration::ZERO);
    assert!(content(&out) == content(&whole));
    let page = metrics_page(&replica.admin).await.unwrap();
    let paused =
        page.lines().find(|line| line.contains("leadsd_export_ended_total{end=\"paused\"}"));
    assert!(paused.is_some_and(|line| !line.ends_with(" 0.0")), "{paused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_leave_no_file_with_the_final_name() {
    let app = TestApp::start().await;
    add_leads(&app, 10);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("leads.csv");
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let six = ["--filter", "a=1"].repeat(6);
    for (address, arguments, code, part) in [
        (closed.as_str(), &[][..], 78, "cannot be reached"),
        (&app.grpc, &["--portal", "nowhere"], 67, "UNKNOWN_PORTAL"),
        (&app.grpc, &["--properties", "bad\u{7}name"], 67, "properties[0]"),
        (&app.grpc, &["--filter", "hs_lead_label"], 64, "use NAME, an operator"),
        (&app.grpc, &six, 64, "at most 5 --filter"),
        (&app.grpc, &["--format", "xml"], 64, "invalid value 'xml'"),
        (&app.grpc, &["--tls", "--ca-file", "/nowhere.pem"], 64, "/nowhere.pem cannot be"),
    ] {
        let ran = ran(leadsd_export(address, &out, arguments)).await;
        ran.failed(code, &[part]);
        assert!(names(&folder).is_empty(), "{:?} after {ran:?}", names(&folder));
    }
    let unnamed = ran(leadsd_export(&app.grpc, &folder.path().join("leads"), &[])).await;
    unnamed
        .failed(64, &["has no known ending: name it .ndjson, .csv or .parquet, or use --format"]);
    let nowhere = ran(leadsd_export(&app.grpc, Path::new("/nonexistent/a.csv"), COLUMNS)).await;
    nowhere.failed(1, &["cannot write /nonexistent/a.csv.partial"]);
    std::fs::write(&out, "earlier").unwrap();
    let exists = ran(leadsd_export(&app.grpc, &out, COLUMNS)).await;
    exists.failed(64, &["leads.csv exists; --force replaces it"]);
    assert_eq!(content(&out), "earlier");
    succeeded(&ran(leadsd_export(&app.grpc, &out, &[COLUMNS, &["--force"]].concat())).await);
    assert_eq!(content(&out).matches("\n\u{1f600}").count(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_export_and_keeps_its_leads() {
    let app = TestApp::start().await;
    add_leads(&app, LEADS);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("leads.ndjson");
    let gate = hold_third_page(&app);
    let ran = ran(leadsd_export(&app.grpc, &out, &["--deadline", "3s"])).await;
    app.hubspot.clear_scripts();
    gate.open();
    ran.failed(68, &["the export did not end within 3s", "To continue:"]);
    assert!(!out.exists() && state(&out).is_some());
}

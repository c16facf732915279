//! `leadsd import` against a running service: mapping, results, dry run, interruption, resume, cut connections.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use leadsd_hubspot_fake::{Gate, ScriptedResponse};
use leadsd_testkit::{ChaosProxy, Direction, send_signal};
use serde_json::{Value, json};

use crate::{
    call::{Ran, ran},
    export_command::leadsd_export,
    harness::{LEADSD, PATIENCE, TestApp, eventually, metrics_page},
};

/// A service without a bound that these tests reach.
async fn service() -> TestApp {
    let app = TestApp::builder().set("QUOTA__BURST", "10000").start().await;
    app.hubspot.limit(|limits| limits.burst = 1_000_000);
    app.hubspot.add_unique_property("crm_key");
    app
}

/// A command that reads no profile of the machine that runs the test.
fn leadsd_import(app: &TestApp, file: &Path, arguments: &[&str]) -> Command {
    leadsd_import_at(&app.grpc, file, arguments)
}

fn leadsd_import_at(address: &str, file: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(LEADSD);
    command.args(["import", "--address", address]).arg(file).args(arguments);
    command.env_remove("HOME").env_remove("XDG_CONFIG_HOME");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Lines of results by row, without the first one.
fn results(file: &Path) -> Vec<Value> {
    let mut rows: Vec<Value> = lines(file).lines().skip(1).map(parsed).collect();
    rows.sort_by_key(|row| row["row"].as_u64());
    rows
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// Text of the results; empty before there are any.
fn lines(file: &Path) -> String {
    std::fs::read_to_string(format!("{}.results.ndjson", file.display())).unwrap_or_default()
}

/// A file with a row for each number.
fn numbered(folder: &tempfile::TempDir, prefix: &str, rows: usize) -> PathBuf {
    let mut text = "hs_lead_name\n".to_owned();
    for row in 1..=rows {
        writeln!(text, "{prefix} {row}").unwrap();
    }
    written(folder, "leads.csv", &text)
}

/// Asserts that each row has one result, and each lead exists once.
fn assert_each_once(app: &TestApp, file: &Path, prefix: &str, rows: usize) {
    let results = results(file);
    let numbers: Vec<_> = results.iter().map(|row| row["row"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=rows as u64).collect::<Vec<_>>());
    let ids: BTreeSet<&str> = results.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(ids.len(), rows);
    let mut names = names(app);
    names.retain(|name| name.starts_with(&format!("{prefix} ")));
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), distinct.len()), (rows, rows));
}

fn written(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let file = folder.path().join(name);
    std::fs::write(&file, text).unwrap();
    file
}

/// Names of all leads.
fn names(app: &TestApp) -> Vec<String> {
    let name = |lead: &Value| lead["properties"]["hs_lead_name"].as_str().unwrap().to_owned();
    app.hubspot.leads().iter().map(name).collect()
}

async fn ended(child: Child) -> Ran {
    let wait = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap().into());
    tokio::time::timeout(PATIENCE, wait).await.expect("the process ends").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_created_and_each_has_a_result() {
    let app = service().await;
    let folder = tempfile::tempdir().unwrap();
    let text =
        "Name,hs_lead_label,Notes\n\"Ada, \"\"A\"\"\n\u{1f600}\",HOT,x\nBob,,y\nCyd,NO_SUCH,\n";
    let file = written(&folder, "leads.csv", text);
    let options =
        ["--map", "Name=hs_lead_name", "--map", "Notes=", "--contact-id", app.contact.as_str()];
    let imported = ran(leadsd_import(&app, &file, &options)).await;
    assert_eq!(imported.code, Some(2), "{imported:?}");
    assert!(imported.out.starts_with("3 rows: 2 created, 1 failed in "), "{imported:?}");
    let rows = results(&file);
    let part = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!(part("row"), [1, 2, 3]);
    assert_eq!(part("status"), ["created", "created", "failed"]);
    assert!(rows[0]["id"].is_string() && rows[2]["id"].is_null(), "{rows:?}");
    assert_eq!(
        (&rows[2]["code"], rows[2]["reason"].is_string()),
        (&json!("INVALID_ARGUMENT"), true)
    );
    assert_eq!(names(&app), ["Ada, \"A\"\n\u{1f600}", "Bob"]);
    // The file has results: nothing is imported twice by accident.
    let again = ran(leadsd_import(&app, &file, &options)).await;
    again.failed(64, &["exists; --resume continues its import"]);
    let resumed = ran(leadsd_import(&app, &file, &[&options[..], &["--resume"]].concat())).await;
    assert!(resumed.out.starts_with("3 rows: 2 created, 1 failed in "), "{resumed:?}");
    assert_eq!(names(&app).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_that_do_not_exist_are_created_and_columns_may_have_labels() {
    let app = service().await;
    let owner = app.hubspot.add_owner("ada@example.com");
    let folder = tempfile::tempdir().unwrap();
    let text = "hs_lead_name,Mail,First,Stage,Owner\n\
                a,Nell+1@example.com,Nell,Connected,ADA@example.com\n\
                b,nell+1@example.com,,new,\n";
    let file = written(&folder, "leads.csv", text);
    let map = [
        "--map",
        "Mail=contact.email",
        "--map",
        "Stage=labels.hs_pipeline_stage",
        "--map",
        "Owner=labels.hubspot_owner_id",
    ];
    let refused =
        ran(leadsd_import(&app, &file, &[&map[..], &["--create-contacts"]].concat())).await;
    refused.failed(64, &["the column \"First\" is no internal name of a property"]);
    let map = [&map[..], &["--map", "First=contact.firstname"]].concat();
    let refused = ran(leadsd_import(&app, &file, &map)).await;
    refused
        .failed(64, &["the column \"First\" sets a property of a contact: add --create-contacts"]);
    assert_eq!(names(&app), [""; 0]);
    let imported =
        ran(leadsd_import(&app, &file, &[&map[..], &["--create-contacts"]].concat())).await;
    assert!(imported.out.starts_with("2 rows: 2 created in "), "{imported:?}");
    let mut leads = app.hubspot.leads();
    leads.sort_by_key(|lead| lead["properties"]["hs_lead_name"].as_str().unwrap().to_owned());
    let value = |lead: &Value, name: &str| lead["properties"][name].as_str().map(str::to_owned);
    let stages = leads.iter().map(|lead| value(lead, "hs_pipeline_stage").unwrap());
    assert_eq!(stages.collect::<Vec<_>>(), ["connected-stage-id", "new-stage-id"]);
    assert_eq!(value(&leads[0], "hubspot_owner_id"), Some(owner));
    let contact = |lead: &Value| value(lead, "hs_primary_contact_id").unwrap();
    assert_eq!(contact(&leads[0]), contact(&leads[1]), "one contact for both spellings");
}

#[tokio::test(flavor = "multi_thread")]
async fn leads_are_found_by_a_unique_property_and_exported_files_are_read() {
    let app = service().await;
    let folder = tempfile::tempdir().unwrap();
    let lines = |name: &str| {
        let line =
            |key: u32| json!({"crm_key": key.to_string(), "hs_lead_name": format!("{name} {key}")});
        (1..=3).map(|key| format!("{}\n", line(key))).collect::<String>()
    };
    let options = ["--id-property", "crm_key", "--contact-id", app.contact.as_str(), "--force"];
    for (name, status) in [("First", "created"), ("Second", "updated")] {
        let file = written(&folder, "leads.ndjson", &lines(name));
        let imported = ran(leadsd_import(&app, &file, &options)).await;
        assert_eq!(imported.code, Some(0), "{imported:?}");
        assert!(imported.out.starts_with(&format!("3 rows: 3 {status} in ")), "{imported:?}");
        assert_eq!(names(&app), [1, 2, 3].map(|key| format!("{name} {key}")));
    }
    for name in ["all.csv.gz", "all.ndjson.zst"] {
        let out = folder.path().join(name);
        let columns = ["--properties", "hs_lead_name,crm_key", "--associations", "contacts"];
        let exported = ran(leadsd_export(&app.grpc, &out, &columns)).await;
        assert_eq!(exported.code, Some(0), "{exported:?}");
        let imported = ran(leadsd_import(&app, &out, &["--id-property", "hs_object_id"])).await;
        assert_eq!(imported.code, Some(0), "{imported:?}");
        assert!(imported.out.starts_with("3 rows: 3 updated in "), "{imported:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_validates_and_writes_nothing() {
    let app = service().await;
    let folder = tempfile::tempdir().unwrap();
    let text = "hs_lead_name,hs_lead_label\nAda,HOT\nBob,BURNING\n";
    let file = written(&folder, "leads.csv", text);
    let options = ["--contact-id", app.contact.as_str(), "--dry-run"];
    let checked = ran(leadsd_import(&app, &file, &options)).await;
    assert_eq!(checked.code, Some(2), "{checked:?}");
    assert!(checked.out.starts_with("2 rows: 1 valid, 1 failed in "), "{checked:?}");
    assert!(checked.out.trim().ends_with("leads.csv.dry-run.ndjson"), "{checked:?}");
    assert!(names(&app).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_or_mapped_has_no_effect() {
    let app = service().await;
    let folder = tempfile::tempdir().unwrap();
    for (name, text, arguments, expected) in [
        (
            "a.csv",
            "hs_lead_name,Company\nAda,x\n",
            &[][..],
            "the column \"Company\" is no internal",
        ),
        ("a.csv", "hs_lead_name\nAda\nx,y\n", &[], "row 2: CSV error"),
        ("a.ndjson", "{\"hs_lead_name\": \"Ada\"}\n{\n", &[], "row 2: EOF"),
        (
            "a.ndjson",
            "{\"hs_lead_name\": \"Ada\"}\n{\"B C\": 1}\n",
            &[],
            "row 2: the column \"B C\"",
        ),
        ("a.csv", "hs_lead_name\nAda\n", &["--id-property", "crm_key"], "no column has the value"),
        ("a.csv", "hs_lead_name\nAda\n", &["--map", "x=y"], "--map names the column \"x\""),
        ("a.txt", "", &[], "has no known ending"),
    ] {
        let file = written(&folder, name, text);
        let ran = ran(leadsd_import(&app, &file, arguments)).await;
        ran.failed(64, &[expected]);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{ran:?}");
    }
    let missing = ran(leadsd_import(&app, Path::new("/nonexistent/a.csv"), &[])).await;
    missing.failed(64, &["cannot read /nonexistent/a.csv"]);
    assert!(names(&app).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_interrupted_continues_and_writes_no_row_twice() {
    const ROWS: usize = 6_000;
    // The default quota: about 1,900 rows a second.
    let app = TestApp::start().await;
    for signal in ["KILL", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let file = numbered(&folder, signal, ROWS);
        let options = ["--contact-id", app.contact.as_str(), "--resume"];
        let child = leadsd_import(&app, &file, &options).spawn().unwrap();
        eventually("results", async || lines(&file).lines().count() > 500).await;
        let gate = Gate::new();
        for path in ["/leads", "/batch/create"] {
            let held = ScriptedResponse::Held(gate.clone());
            app.hubspot.script_times(10_000, "POST", path, held);
        }
        send_signal(&child, signal);
        let interrupted = ended(child).await;
        if signal == "INT" {
            interrupted.failed(130, &["interrupted\n", " rows have results. To continue:\n"]);
        }
        let before = lines(&file).lines().count();
        assert!((500..ROWS).contains(&before), "{before}");
        app.hubspot.clear_scripts();
        gate.open();
        let resumed = ran(leadsd_import(&app, &file, &options)).await;
        assert_eq!(resumed.code, Some(0), "{resumed:?}");
        assert!(resumed.out.starts_with("6,000 rows: 6,000 created in "), "{resumed:?}");
        assert_each_once(&app, &file, signal, ROWS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_and_ended_streams_cost_no_row() {
    const ROWS: usize = 8_000;
    // Streams end early with a summary, since connections are closed after a second.
    let app = TestApp::builder().set("GRPC__MAX_CONNECTION_AGE", "1s").start().await;
    let proxy = ChaosProxy::start().await;
    proxy.connect_to(app.grpc.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = numbered(&folder, "Lead", ROWS);
    let options = ["--contact-id", app.contact.as_str()];
    let child = leadsd_import_at(&proxy.address().to_string(), &file, &options).spawn().unwrap();
    for (number, direction) in [Direction::Response, Direction::Request].into_iter().enumerate() {
        let results = (number + 1) * 1_000;
        eventually("results", async || lines(&file).lines().count() > results).await;
        proxy.cut_after(direction, 5_000);
    }
    let ran = ended(child).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("8,000 rows: 8,000 created in "), "{ran:?}");
    assert_each_once(&app, &file, "Lead", ROWS);
    let metrics = metrics_page(&app.admin).await.expect("a page");
    for end in ["drained", "cancelled"] {
        let none = format!("leadsd_import_ended_total{{end=\"{end}\"}} 0.0\n");
        assert!(!metrics.contains(&none), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_errors_stop_an_import() {
    let app = service().await;
    let folder = tempfile::tempdir().unwrap();
    let file = numbered(&folder, "Lead", 6_000);
    let options = ["--contact-id", "4711", "--stop-on-error-ratio", "0.5"];
    let ran = ran(leadsd_import(&app, &file, &options)).await;
    ran.failed(73, &["too many rows failed: ", "--stop-on-error-ratio", "To continue:"]);
    let results = results(&file);
    assert!((100..6_000).contains(&results.len()), "{}", results.len());
    assert!(results.iter().all(|row| row["status"] == "failed"), "{:?}", results[0]);
    assert!(names(&app).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_too_large_ends_an_import_that_has_begun() {
    let app = TestApp::builder().set("GRPC__MAX_REQUEST_SIZE", "64KiB").start().await;
    let folder = tempfile::tempdir().unwrap();
    let text = format!("hs_lead_name\nAda\n{}\n", "x".repeat(100_000));
    let file = written(&folder, "leads.csv", &text);
    let ran = ran(leadsd_import(&app, &file, &["--contact-id", &app.contact])).await;
    ran.failed(72, &["after row ", "is too large", "To continue:"]);
}

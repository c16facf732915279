//! `leadsd import` against a running service: mapping, results, dry run, interruption and resume.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use leadsd_hubspot_fake::{Gate, ScriptedResponse};
use leadsd_testkit::send_signal;
use serde_json::{Value, json};

use crate::{
    call::{Ran, ran},
    export_command::leadsd_export,
    harness::{LEADSD, PATIENCE, TestApp, eventually},
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
    let mut command = Command::new(LEADSD);
    command.args(["import", "--address", &app.grpc]).arg(file).args(arguments);
    command.env_remove("HOME").env_remove("XDG_CONFIG_HOME");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Lines of results, without the first one.
fn results(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(format!("{}.results.ndjson", file.display())).unwrap();
    text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
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
    const ROWS: usize = 2_300;
    let app = service().await;
    for signal in ["KILL", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let before = names(&app).len();
        let mut text = "hs_lead_name\n".to_owned();
        for row in 0..ROWS {
            writeln!(text, "{signal} {row}").unwrap();
        }
        let file = written(&folder, "leads.csv", &text);
        let options = ["--contact-id", app.contact.as_str(), "--resume"];
        // The second chunk of 1,000 rows stays incomplete.
        let gate = Gate::new();
        let passing = ScriptedResponse::Delayed(Duration::ZERO);
        app.hubspot.script_times(13, "POST", "/batch/create", passing);
        let held = ScriptedResponse::Held(gate.clone());
        app.hubspot.script_times(1_000, "POST", "/batch/create", held);
        let child = leadsd_import(&app, &file, &options).spawn().unwrap();
        eventually("a part of the second chunk", async || names(&app).len() >= before + 1_300)
            .await;
        eventually("the results of the first chunk", async || {
            file.with_extension("csv.results.ndjson").exists() && results(&file).len() == 1_000
        })
        .await;
        send_signal(&child, signal);
        let interrupted = ended(child).await;
        if signal == "INT" {
            interrupted.failed(130, &["interrupted\n1,000 rows have results. To continue:\n"]);
        }
        app.hubspot.clear_scripts();
        gate.open();
        let resumed = ran(leadsd_import(&app, &file, &options)).await;
        assert_eq!(resumed.code, Some(0), "{resumed:?}");
        assert!(resumed.out.starts_with("2,300 rows: 2,300 created in "), "{resumed:?}");
        let rows = results(&file);
        let ids: BTreeSet<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
        assert_eq!((rows.len(), ids.len()), (ROWS, ROWS));
        let of_this = names(&app).into_iter().filter(|name| name.starts_with(signal));
        let all: Vec<String> = of_this.collect();
        assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (ROWS, ROWS));
    }
}

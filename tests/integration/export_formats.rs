//! Exports as Parquet and CSV, read back by other programs.

use serde_json::json;

use crate::{
    call::ran,
    export_command::leadsd_export,
    harness::TestApp,
    real_peers::{run, text, tool},
};

/// Text that formats escape and that spreadsheets change.
const NAME: &str = "007, \"Ada\"\r\nLovelace\n\u{1f600};";

const COLUMNS: [&str; 6] = [
    "--properties",
    "hs_lead_name,code,amount,is_new,seen,due,colors",
    "--associations",
    "contacts",
    "--history",
    "code",
];

/// A service whose portal has properties of all types, with one lead that has values and one that has none.
async fn service() -> TestApp {
    let app = TestApp::start().await;
    let option = |value: &str| json!({"value": value, "label": value, "hidden": false});
    let colors = json!([option("RED"), option("GREEN"), option("BLUE")]);
    for (name, kind, field) in [
        ("code", "string", "text"),
        ("amount", "number", "number"),
        ("is_new", "bool", "booleancheckbox"),
        ("seen", "datetime", "date"),
        ("due", "date", "date"),
        ("colors", "enumeration", "checkbox"),
    ] {
        let options = if field == "checkbox" { colors.clone() } else { json!([]) };
        app.hubspot.add_property(&json!({
            "name": name, "label": name, "type": kind, "fieldType": field, "options": options,
        }));
    }
    let full = json!({
        "hs_lead_name": NAME, "code": "007", "amount": "12.50", "is_new": "true",
        "seen": "2026-01-31T12:00:00.005Z", "due": "2026-02-28", "colors": "RED;BLUE",
    });
    for properties in [full, json!({"hs_lead_name": "Empty"})] {
        app.hubspot.add_lead(&app.contact, &properties).expect("a valid lead");
    }
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_is_complete_or_absent_and_is_not_continued() {
    let app = service().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for (name, arguments, expected) in [
        ("a.parquet", &["--resume"][..], "a Parquet file cannot be continued"),
        ("a.parquet.gz", &[], "Parquet is compressed by itself"),
        ("a.parquet", &["--compression", "zstd"], "Parquet is compressed by itself"),
    ] {
        let ran = ran(leadsd_export(&app.grpc, &file(name), arguments)).await;
        ran.failed(64, &[expected]);
    }
    // Named properties, all of them, and the default ones.
    for arguments in [&COLUMNS[..], &["--properties", "*"], &[]] {
        let out = file("leads.parquet");
        let arguments = [arguments, &["--force"]].concat();
        let exported = ran(leadsd_export(&app.grpc, &out, &arguments)).await;
        assert_eq!(exported.code, Some(0), "{exported:?}");
        assert!(!exported.err.contains("are not of the type"), "{exported:?}");
        let bytes = std::fs::read(&out).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{arguments:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pyarrow and DuckDB"]
async fn pyarrow_and_duckdb_read_what_was_exported() {
    let app = service().await;
    let folder = tempfile::tempdir().unwrap();
    let [csv, parquet] = ["leads.csv", "leads.parquet"].map(|name| folder.path().join(name));
    for out in [&csv, &parquet] {
        let exported = ran(leadsd_export(&app.grpc, out, &COLUMNS)).await;
        assert_eq!(exported.code, Some(0), "{exported:?}");
    }
    let mut python = std::process::Command::new(tool("LEADSD_TEST_PYTHON", "python3"));
    let python = python.arg("tests/clients/read_exports.py").args([&csv, &parquet]);
    let output = run(python.args([NAME, app.contact.as_str()])).await;
    assert!(text(&output).contains("exports: all as expected"), "{}", text(&output));
}

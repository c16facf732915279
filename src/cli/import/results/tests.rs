//! Tests of results: continued after the last whole line, and owned by one import.

use super::*;

fn options() -> Options {
    Options {
        file_bytes: 100,
        id_property: None,
        contact_id: None,
        create_contacts: false,
        clear_empty: false,
        dry_run: false,
        map: vec!["A=b".into()],
    }
}

fn result(row: u64, status: RowStatus) -> RowResult {
    let (code, reason, message) = (String::new(), String::new(), "a\n\"b\"".to_owned());
    RowResult { row, status, id: row.to_string(), code, reason, message }
}

#[test]
fn results_are_continued_after_the_last_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results");
    let mut results = Results::open(&path, &options(), false, false).unwrap();
    let id = results.import_id();
    results.add(&result(7, RowStatus::Created)).unwrap();
    results.add(&result(1, RowStatus::Failed)).unwrap();
    results.sync().unwrap();
    drop(results);
    let whole = std::fs::read(&path).unwrap();
    // The process was killed while it wrote a line; a second line of a row is dropped as well.
    let twice = serde_json::to_string(&result(7, RowStatus::Created)).unwrap() + "\n";
    for rest in ["", "{\"row\":4", "{\"row\":4}\n", "no JSON\n", &twice] {
        let mut text = whole.clone();
        text.extend_from_slice(rest.as_bytes());
        std::fs::write(&path, text).unwrap();
        let mut results = Results::open(&path, &options(), true, false).unwrap();
        let expected = Totals { rows: 2, created: 1, failed: 1, ..Totals::default() };
        assert_eq!((results.totals, results.import_id()), (expected, id.clone()));
        assert_eq!([1, 2, 7].map(|row| results.rows().contains(row)), [true, false, true]);
        assert_eq!(std::fs::read(&path).unwrap(), whole, "{rest:?}");
        results.add(&result(3, RowStatus::Updated)).unwrap();
        assert!(results.rows().contains(3));
    }
}

#[test]
fn results_belong_to_one_import() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results");
    let open = |options: &Options, resume, force| {
        Results::open(&path, options, resume, force).map_err(|error| error.to_string())
    };
    let first = open(&options(), true, false).unwrap();
    assert!(open(&options(), true, false).unwrap_err().starts_with("another import writes"));
    let first_id = first.import_id();
    drop(first);
    assert!(open(&options(), false, false).unwrap_err().contains("exists; --resume"));
    for (other, expected) in [
        (Options { file_bytes: 1, ..options() }, "another length of the file;"),
        (Options { id_property: Some("x".into()), ..options() }, "another --id-property;"),
        (Options { contact_id: Some("x".into()), ..options() }, "another --contact-id;"),
        (Options { create_contacts: true, ..options() }, "another --create-contacts;"),
        (Options { clear_empty: true, ..options() }, "another --clear-empty;"),
        (Options { dry_run: true, ..options() }, "another --dry-run;"),
        (Options { map: Vec::new(), ..options() }, "another --map;"),
    ] {
        let error = open(&other, true, false).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let second = open(&options(), false, true).unwrap();
    assert_ne!(second.import_id(), first_id);
    drop(second);
    std::fs::write(&path, "name,label\n").unwrap();
    assert!(open(&options(), true, false).unwrap_err().contains("has no results of an import"));
}

#[test]
fn results_have_the_outcome_of_the_service() {
    use pb::import_result::Outcome;
    let lead = |id: &str| Some(Outcome::Lead(pb::Lead { id: id.into(), ..Default::default() }));
    let error = tonic_types::Status { code: 3, message: "bad".into(), ..Default::default() };
    for (outcome, created, created_unknown, status, id, code) in [
        (lead("7"), true, false, RowStatus::Created, "7", ""),
        (lead("8"), false, false, RowStatus::Updated, "8", ""),
        (lead("9"), false, true, RowStatus::Written, "9", ""),
        (Some(Outcome::Error(error)), false, false, RowStatus::Failed, "", "INVALID_ARGUMENT"),
        (None, false, false, RowStatus::Valid, "", ""),
    ] {
        let result = pb::ImportResult { outcome, created, created_unknown, ..Default::default() };
        let result = RowResult::new(4, result);
        assert_eq!((result.row, result.status), (4, status));
        assert_eq!((result.id.as_str(), result.code.as_str()), (id, code), "{result:?}");
    }
}

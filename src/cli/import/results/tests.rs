//! Tests of results: continued after a whole chunk, and owned by one import.

use super::*;

fn options() -> Options {
    Options {
        file_bytes: 100,
        id_property: None,
        contact_id: None,
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
fn results_are_continued_after_the_last_whole_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results");
    let mut results = Results::open(&path, &options(), false, false).unwrap();
    let ids: Vec<_> = [1, 3].map(|row| results.request_id(row)).into();
    results.add(&[result(1, RowStatus::Created), result(2, RowStatus::Failed)]).unwrap();
    let whole = std::fs::read(&path).unwrap();
    results.add(&[result(3, RowStatus::Updated)]).unwrap();
    drop(results);
    // A chunk has two rows, and the process was killed while it wrote the second one.
    for rest in ["", "{\"row\":4", "{\"row\":4}\n", "no JSON\n"] {
        let mut text = std::fs::read(&path).unwrap();
        text.extend_from_slice(rest.as_bytes());
        std::fs::write(&path, text).unwrap();
        let mut results = Results::open(&path, &options(), true, false).unwrap();
        results.keep_chunks(|rows| rows.is_multiple_of(2)).unwrap();
        let expected = Totals { rows: 2, created: 1, failed: 1, ..Totals::default() };
        assert_eq!((results.totals, results.rows()), (expected, 2));
        assert_eq!(ids, [1, 3].map(|row| results.request_id(row)));
        assert_eq!(std::fs::read(&path).unwrap(), whole, "{rest:?}");
        results.add(&[result(3, RowStatus::Updated)]).unwrap();
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
    let first_id = first.request_id(1);
    drop(first);
    assert!(open(&options(), false, false).unwrap_err().contains("exists; --resume"));
    for (other, expected) in [
        (Options { file_bytes: 1, ..options() }, "another length of the file;"),
        (Options { id_property: Some("x".into()), ..options() }, "another --id-property;"),
        (Options { contact_id: Some("x".into()), ..options() }, "another --contact-id;"),
        (Options { clear_empty: true, ..options() }, "another --clear-empty;"),
        (Options { dry_run: true, ..options() }, "another --dry-run;"),
        (Options { map: Vec::new(), ..options() }, "another --map;"),
    ] {
        let error = open(&other, true, false).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let second = open(&options(), false, true).unwrap();
    assert_ne!(second.request_id(1), first_id);
    drop(second);
    std::fs::write(&path, "name,label\n").unwrap();
    assert!(open(&options(), true, false).unwrap_err().contains("has no results of an import"));
}

//! Tests of chunks: their bounds, requests and results.

use std::fmt::Write as _;

use pb::{contact_reference::Key, lead_upsert_result::Outcome};

use super::*;
use crate::cli::{
    file_kind::{Compression, Format},
    import::mapping::Pair,
};

fn options() -> Options {
    Options {
        file_bytes: 0,
        id_property: None,
        contact_id: Some("101".into()),
        clear_empty: false,
        dry_run: false,
        map: Vec::new(),
    }
}

fn chunks(text: &str, pairs: &[&str], id_property: Option<&str>, options: &Options) -> Vec<Chunk> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leads.csv");
    std::fs::write(&file, text).unwrap();
    let pairs: Vec<Pair> = pairs.iter().map(|pair| pair.parse().unwrap()).collect();
    let rows = Rows::open(&file, Format::Csv, Compression::None).unwrap();
    let mut chunks = Chunks::new(rows, Mapping::new(&pairs, id_property), options);
    let mut all = Vec::new();
    while let Some(chunk) = chunks.next().unwrap() {
        all.push(chunk);
    }
    all
}

#[test]
fn chunks_end_after_a_number_of_rows_or_bytes() {
    for (rows, value, expected) in [
        (0, "x", &[][..]),
        (1_000, "x", &[1_000]),
        (2_300, "x", &[1_000, 1_000, 300]),
        (25, &"x".repeat(100_000), &[11, 11, 3]),
    ] {
        let mut text = "hs_lead_name\n".to_owned();
        for _ in 0..rows {
            writeln!(text, "{value}").unwrap();
        }
        let chunks = chunks(&text, &[], None, &options());
        let lengths: Vec<_> = chunks.iter().map(|chunk| chunk.inputs.len()).collect();
        assert_eq!(lengths, expected);
        let mut first = 1;
        for chunk in chunks {
            assert_eq!(chunk.first_row, first);
            first += chunk.inputs.len() as u64;
        }
    }
}

#[test]
fn rows_become_inputs_of_creates_and_upserts() {
    let text = "key,Mail,hs_lead_name,label\nk1,ada@example.com,007,\nk2,,Bob,HOT\n";
    let pairs = ["Mail=contact.email", "label=hs_lead_label"];
    let chunk = chunks(text, &pairs, None, &options()).remove(0);
    let creates = chunk.creates("id".into(), true);
    assert!(creates.validate_only && creates.request_id == "id");
    let properties = |index: usize| -> Vec<(&str, &str)> {
        let all = creates.inputs[index].properties.iter();
        all.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    };
    assert_eq!(properties(0), [("hs_lead_name", "007"), ("key", "k1")]);
    assert_eq!(properties(1), [("hs_lead_label", "HOT"), ("hs_lead_name", "Bob"), ("key", "k2")]);
    let contact = |index: usize| creates.inputs[index].contact.clone().unwrap().key.unwrap();
    assert_eq!(contact(0), Key::Email("ada@example.com".into()));
    assert_eq!(contact(1), Key::Id("101".into()));

    let clearing = Options { clear_empty: true, ..options() };
    let chunk = chunks(text, &pairs, Some("key"), &clearing).remove(0);
    let upserts = chunk.upserts("key", "id".into(), false);
    let input = &upserts.inputs[0];
    assert_eq!((input.id.as_str(), input.id_property.as_str()), ("k1", "key"));
    assert_eq!(input.properties["hs_lead_label"], "");
    assert!(!input.properties.contains_key("key") && input.contact.is_some());
    // A record id names a lead that exists and has a contact.
    let updates = chunk.upserts(RECORD_ID, "id".into(), false);
    assert!(updates.inputs.iter().all(|input| input.contact.is_none()));
}

#[test]
fn results_name_their_rows() {
    let text = "key\n1\n2\n3\n4\n5\n";
    let chunk = chunks(text, &[], Some("key"), &options()).remove(0);
    let lead = |id: &str| Some(Outcome::Lead(pb::Lead { id: id.into(), ..Default::default() }));
    let error = tonic_types::Status { code: 3, message: "bad".into(), ..Default::default() };
    let result = |outcome, created, created_unknown| pb::LeadUpsertResult {
        outcome,
        created,
        created_unknown,
        ..Default::default()
    };
    let results = chunk.upserted(vec![
        result(lead("7"), true, false),
        result(lead("8"), false, false),
        result(lead("9"), false, true),
        result(Some(Outcome::Error(error)), false, false),
        result(None, false, false),
    ]);
    let found: Vec<_> =
        results.iter().map(|result| (result.row, result.status, result.id.as_str())).collect();
    assert_eq!(
        found,
        [
            (1, RowStatus::Created, "7"),
            (2, RowStatus::Updated, "8"),
            (3, RowStatus::Written, "9"),
            (4, RowStatus::Failed, ""),
            (5, RowStatus::Valid, ""),
        ]
    );
    assert_eq!(
        (results[3].code.as_str(), results[3].message.as_str()),
        ("INVALID_ARGUMENT", "bad")
    );
}

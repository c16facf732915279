//! Tests of rows: parts of a lead, and text that formats escape.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::cli::file_kind::Compression;

fn selection(format: Format) -> Selection {
    Selection {
        format,
        compression: Compression::None,
        properties: Vec::new(),
        history: vec!["hs_lead_label".into()],
        associations: vec!["contacts".into()],
        filters: Vec::new(),
        query: String::new(),
    }
}

fn lead(id: &str, properties: &[(&str, &str)]) -> pb::Lead {
    let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let properties = properties.iter().map(text).collect();
    pb::Lead { id: id.into(), properties, ..Default::default() }
}

/// Header and records of a CSV file with these leads.
fn csv(names: &[&str], leads: &[pb::Lead]) -> Result<Vec<Vec<String>>, RowError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let types = ColumnTypes::default();
    let mut rows = Rows::new(&selection(Format::Csv), &names, &types)?;
    let mut out = Vec::new();
    rows.begin(&mut out)?;
    rows.add(&mut out, leads)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&*out);
    let record = |record: Result<csv::StringRecord, csv::Error>| {
        record.map(|record| record.iter().map(str::to_owned).collect())
    };
    Ok(reader.records().map(record).collect::<Result<_, _>>()?)
}

#[test]
fn a_csv_file_has_all_parts_of_a_lead() {
    let object = |id: &str| pb::AssociatedObject { id: id.into(), ..Default::default() };
    let contacts = pb::AssociatedObjects {
        objects: vec![object("101"), object("102"), object("101")],
        next_cursor: "more".into(),
    };
    let time = Some(prost_types::Timestamp { seconds: 86_400, nanos: 0 });
    let version = pb::PropertyVersion { value: Some("HOT".into()), time, ..Default::default() };
    let history = pb::PropertyHistory { versions: vec![version] };
    let full = pb::Lead {
        associations: [("contacts".to_owned(), contacts)].into(),
        property_history: [("hs_lead_label".to_owned(), history)].into(),
        create_time: time,
        ..lead("1", &[("b", "007"), ("id", "own")])
    };
    let id_only = pb::Lead { id_only: true, ..lead("2", &[]) };
    let leads = [full, id_only];
    let found = csv(&["b", "id", "b"], &leads).unwrap();
    let json = "[{\"source_id\":\"\",\"source_type\":\"\",\"time\":\"1970-01-02T00:00:00Z\",\
                \"value\":\"HOT\"}]";
    assert_eq!(
        found,
        [
            vec![
                "id",
                "b",
                "properties.id",
                "create_time",
                "update_time",
                "associations.contacts",
                "history.hs_lead_label"
            ],
            vec!["1", "007", "own", "1970-01-02T00:00:00Z", "", "101;102", json],
            vec!["2", "", "", "", "", "", ""],
        ]
    );
    let mut counts = Counts::default();
    counts.add(&leads);
    assert_eq!(counts, Counts { leads: 2, id_only: 1, truncated: 1, other_types: 0 });
}

#[test]
fn a_property_without_a_column_is_not_lost_silently() {
    let error = csv(&["a"], &[lead("7", &[("a", "1"), ("b", "2")])]).unwrap_err().to_string();
    assert!(error.starts_with("lead 7 has the property b, "), "{error}");
}

/// Values that formats escape, among arbitrary ones.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\"',;\\r\\n\\t =\\\\\u{1f600}\u{0}\u{feff}0-9]{0,12}",
        Just(String::new()),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_equal(
        values in prop::collection::vec((value(), value()), 0..8)
    ) {
        let leads: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(id, (a, b))| lead(&id.to_string(), &[("a", a), ("b", b)]))
            .collect();
        let records = csv(&["a", "b"], &leads).unwrap();
        prop_assert_eq!(records.len(), leads.len() + 1);
        for (record, (a, b)) in records[1..].iter().zip(&values) {
            prop_assert_eq!((&record[1], &record[2]), (a, b));
        }
        let mut out = Vec::new();
        let rows = Rows::new(&selection(Format::Ndjson), &[], &ColumnTypes::default());
        rows.unwrap().add(&mut out, &leads).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.split_terminator('\n').collect();
        prop_assert_eq!(lines.len(), leads.len());
        for (line, lead) in lines.into_iter().zip(&leads) {
            let value: Value = serde_json::from_str(line).unwrap();
            let read: BTreeMap<String, String> =
                serde_json::from_value(value["properties"].clone()).unwrap();
            prop_assert_eq!(&read, &lead.properties);
        }
    }
}

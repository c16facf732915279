//! Tests of Parquet: files are read back by another part of the library.

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use prost::bytes::Bytes;

use super::*;
use crate::cli::{
    export::{columns::columns_of, state::Selection},
    file_kind::{Compression as FileCompression, Format},
};

fn selection() -> Selection {
    Selection {
        format: Format::Parquet,
        compression: FileCompression::None,
        properties: Vec::new(),
        history: vec!["hs_lead_label".into()],
        associations: vec!["contacts".into()],
        filters: Vec::new(),
        query: String::new(),
    }
}

/// Properties with a column, and their types.
fn types() -> ColumnTypes {
    [
        ("name", ColumnType::Text),
        ("amount", ColumnType::Number),
        ("is_new", ColumnType::Boolean),
        ("seen", ColumnType::Time),
        ("due", ColumnType::Date),
        ("colors", ColumnType::List),
    ]
    .map(|(name, kind)| (name.to_owned(), kind))
    .into()
}

fn rows() -> ParquetRows {
    let names: Vec<String> = types().into_keys().collect();
    ParquetRows::new(columns_of(&selection(), &names), &types()).unwrap()
}

fn lead(id: &str, properties: Vec<(&str, Kind)>) -> pb::Lead {
    let typed = |(name, kind): (&str, Kind)| (name.to_owned(), pb::TypedValue { kind: Some(kind) });
    let typed_properties = properties.into_iter().map(typed).collect();
    pb::Lead { id: id.into(), typed_properties, ..Default::default() }
}

fn time(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 5_000_000 }
}

/// Number of row groups, and the rows as text.
fn read(file: Vec<u8>) -> (usize, Vec<String>) {
    let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string());
    (reader.metadata().num_row_groups(), rows.collect())
}

#[test]
fn a_file_has_the_types_of_the_schema_and_lists() {
    let object = |id: &str| pb::AssociatedObject { id: id.into(), ..Default::default() };
    let contacts = pb::AssociatedObjects {
        objects: vec![object("101"), object("102"), object("101")],
        next_cursor: String::new(),
    };
    let version = |value: Option<&str>, time| pb::PropertyVersion {
        value: value.map(str::to_owned),
        time,
        source_type: "CRM_UI".into(),
        source_id: "7".into(),
        ..Default::default()
    };
    let history = pb::PropertyHistory {
        versions: vec![version(Some("HOT"), Some(time(60))), version(None, None)],
    };
    let colors = pb::EnumValues { values: vec!["RED".into(), "BLUE".into()] };
    let full = pb::Lead {
        create_time: Some(time(1)),
        associations: [("contacts".to_owned(), contacts)].into(),
        property_history: [("hs_lead_label".to_owned(), history)].into(),
        ..lead(
            "1",
            vec![
                ("name", Kind::StringValue("007, \"Ada\"\n\u{1f600}".into())),
                ("amount", Kind::DecimalValue("12.50".into())),
                ("is_new", Kind::BoolValue(true)),
                ("seen", Kind::TimestampValue(time(86_400))),
                ("due", Kind::DateValue(pb::Date { year: 2026, month: 2, day: 28 })),
                ("colors", Kind::EnumValues(colors)),
            ],
        )
    };
    let empty = pb::Lead {
        associations: [("contacts".to_owned(), pb::AssociatedObjects::default())].into(),
        ..lead("2", Vec::new())
    };
    let other = lead(
        "3",
        vec![("amount", Kind::StringValue("many".into())), ("name", Kind::Int64Value(7))],
    );
    let mut rows = rows();
    let mut out = Vec::new();
    for lead in [&full, &empty, &other] {
        rows.add(&mut out, lead).unwrap();
    }
    assert!(out.is_empty(), "the row group is not full");
    rows.end(&mut out).unwrap();
    assert_eq!(rows.other_types, 2);
    let (groups, found) = read(out);
    assert_eq!(groups, 1);
    let expected = [
        "{id: \"1\", amount: 12.5, colors: [\"RED\", \"BLUE\"], due: 2026-02-28, is_new: true, \
         name: \"007, \"Ada\"\n\u{1f600}\", seen: 1970-01-02 00:00:00.005 +00:00, \
         create_time: 1970-01-01 00:00:01.005 +00:00, update_time: null, \
         associations.contacts: [\"101\", \"102\"], history.hs_lead_label: [{value: \"HOT\", \
         time: 1970-01-01 00:01:00.005 +00:00, source_type: \"CRM_UI\", source_id: \"7\"}, \
         {value: null, time: null, source_type: \"CRM_UI\", source_id: \"7\"}]}",
        "{id: \"2\", amount: null, colors: null, due: null, is_new: null, name: null, seen: null, \
         create_time: null, update_time: null, associations.contacts: [], \
         history.hs_lead_label: null}",
        "{id: \"3\", amount: null, colors: null, due: null, is_new: null, name: null, seen: null, \
         create_time: null, update_time: null, associations.contacts: null, \
         history.hs_lead_label: null}",
    ];
    assert_eq!(found, expected);
}

#[test]
fn row_groups_are_bounded_in_bytes() {
    let mut rows = rows();
    let mut out = Vec::new();
    let text = "x".repeat(64 << 10);
    for number in 0..600 {
        let name = Kind::StringValue(format!("{number}{text}"));
        rows.add(&mut out, &lead(&number.to_string(), vec![("name", name)])).unwrap();
        assert!(rows.bytes < ROW_GROUP, "{number}");
    }
    assert!(!out.is_empty(), "full row groups are written at once");
    rows.end(&mut out).unwrap();
    let (groups, found) = read(out);
    assert_eq!((groups, found.len()), (3, 600));
}

#[test]
fn a_file_without_leads_has_its_columns() {
    let mut rows = rows();
    let mut out = Vec::new();
    rows.end(&mut out).unwrap();
    let reader = SerializedFileReader::new(Bytes::from(out)).unwrap();
    let fields = reader.metadata().file_metadata().schema().get_fields().len();
    assert_eq!((fields, reader.get_row_iter(None).unwrap().count()), (11, 0));
}

#[test]
fn a_value_that_is_no_time_or_date_is_counted_and_left_out() {
    let date = |month| Kind::DateValue(pb::Date { year: 2026, month, day: 1 });
    let time = |seconds| Kind::TimestampValue(prost_types::Timestamp { seconds, nanos: 0 });
    for (column, kind, is_valid) in [
        (ColumnType::Date, date(2), true),
        (ColumnType::Date, date(13), false),
        (ColumnType::Time, time(1), true),
        (ColumnType::Time, time(i64::MAX), false),
        (ColumnType::Number, time(1), false),
    ] {
        let mut leaf = Leaf::optional(column);
        assert_eq!(push_property(&mut leaf, column, Some(&kind)), is_valid, "{kind:?}");
    }
}

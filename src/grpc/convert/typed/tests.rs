//! Typed values of messages: their text, their encoded size, and the paths of errors about them.

use proptest::prelude::*;

use super::*;
use crate::grpc::validate::FieldFaults;
use crate::leads::schema::PropertyDefinition;
use crate::{grpc::convert::response::lead_in, grpc::convert::size::lead_size_in, leads::Lead};
use leadsd_base::time::Timestamp;

/// Types of properties that the tests use: name, type and field type.
const TYPES: [(&str, &str, &str); 7] = [
    ("text", "string", "text"),
    ("flag", "bool", "booleancheckbox"),
    ("choice", "enumeration", "booleancheckbox"),
    ("count", "number", "number"),
    ("moment", "datetime", "date"),
    ("day", "date", "date"),
    ("list", "enumeration", "checkbox"),
];

fn form() -> PropertyForm {
    let definition = |(name, type_name, field_type): (&str, &str, &str)| PropertyDefinition {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        field_type: field_type.to_owned(),
        ..PropertyDefinition::default()
    };
    let all = TYPES.map(definition).to_vec();
    PropertyForm::Typed(Some(Arc::new(PropertyCopy::new(Timestamp::UNIX_EPOCH, all))))
}

/// Text of a typed value in a write.
fn typed_text(value: pb::TypedValue) -> Result<String, String> {
    let mut faults = FieldFaults::default();
    let typed = BTreeMap::from([("x".to_owned(), value)]);
    let text = faults.typed_properties(BTreeMap::new(), typed).remove("x");
    faults.finish(text).map_err(|error| error.message().to_owned())
}

fn value(kind: Kind) -> pb::TypedValue {
    pb::TypedValue { kind: Some(kind) }
}

/// A value of the type of one property, with the name of the property.
fn values() -> impl Strategy<Value = (&'static str, pb::TypedValue)> {
    let time = (-62_135_596_800_i64..253_402_207_200, 0..1_000).prop_map(|(seconds, millis)| {
        prost_types::Timestamp { seconds, nanos: millis * 1_000_000 }
    });
    let date =
        (1..=9_999, 1..=12, 1..=28).prop_map(|(year, month, day)| pb::Date { year, month, day });
    let list = prop::collection::btree_set("[a-zäß ]{1,200}", 1..9);
    prop_oneof![
        ".{0,200}".prop_map(|text| ("text", Kind::StringValue(text))),
        any::<bool>().prop_map(|flag| ("flag", Kind::BoolValue(flag))),
        any::<bool>().prop_map(|flag| ("choice", Kind::BoolValue(flag))),
        any::<i64>().prop_map(|number| ("count", Kind::Int64Value(number))),
        "-?0?[0-9]{1,40}\\.[0-9]{0,40}".prop_map(|text| ("count", Kind::DecimalValue(text))),
        "[0-9]{1,3}e-?[0-9]{1,3}".prop_map(|text| ("count", Kind::DecimalValue(text))),
        time.prop_map(|time| ("moment", Kind::TimestampValue(time))),
        date.prop_map(|date| ("day", Kind::DateValue(date))),
        list.prop_map(|values| {
            let values = values.into_iter().collect();
            ("list", Kind::EnumValues(pb::EnumValues { values }))
        }),
    ]
    .prop_map(|(name, kind)| (name, value(kind)))
}

proptest! {
    #[test]
    fn every_typed_value_that_is_written_is_read_back((name, written) in values()) {
        let text = typed_text(written.clone()).unwrap();
        let (plain, typed) = form().split(BTreeMap::from([(name.to_owned(), text)]));
        prop_assert!(plain.is_empty());
        prop_assert_eq!(typed, BTreeMap::from([(name.to_owned(), written)]));
    }

    #[test]
    fn the_size_of_a_typed_lead_is_that_of_its_message(
        values in prop::collection::vec(values(), 0..12),
        texts in prop::collection::btree_map("[a-z]{0,9}", ".{0,200}", 0..5),
        has_schema in any::<bool>(),
    ) {
        let form = if has_schema { form() } else { PropertyForm::Typed(None) };
        let typed = values.into_iter().map(|(name, value)| (name.to_owned(), typed_text(value).unwrap()));
        let properties: BTreeMap<String, String> = typed.chain(texts).collect();
        let count = properties.len();
        let lead = Lead { id: "1".to_owned(), properties, ..Lead::default() };
        let size = lead_size_in(&lead, &form);
        let message = lead_in(lead, &form);
        prop_assert_eq!(size, message.encoded_len());
        prop_assert_eq!((message.properties.len(), message.typed_properties.len()), (0, count));
    }
}

#[test]
fn a_value_of_another_type_stays_text() {
    for (name, text) in [
        ("flag", "yes"),
        ("count", "many"),
        ("moment", "soon"),
        ("day", "2026-11-30T10:00:00Z"),
        ("list", "a;;b"),
        ("unknown", "1"),
        ("count", ""),
    ] {
        let properties = BTreeMap::from([(name.to_owned(), text.to_owned())]);
        let expected =
            BTreeMap::from([(name.to_owned(), value(Kind::StringValue(text.to_owned())))]);
        assert_eq!(form().split(properties.clone()).1, expected, "{name}");
        assert_eq!(PropertyForm::Typed(None).split(properties.clone()).1, expected);
        let (plain, typed) = PropertyForm::Text.split(properties.clone());
        assert_eq!((plain, typed.len()), (properties, 0));
    }
}

#[test]
fn values_without_text_are_refused() {
    let list = |values: &[&str]| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Some(Kind::EnumValues(pb::EnumValues { values }))
    };
    for kind in [
        None,
        Some(Kind::DecimalValue(String::new())),
        Some(Kind::DecimalValue("1,5".to_owned())),
        Some(Kind::DecimalValue("inf".to_owned())),
        Some(Kind::TimestampValue(prost_types::Timestamp { seconds: 0, nanos: 1_000 })),
        Some(Kind::DateValue(pb::Date { year: 2026, month: 2, day: 30 })),
        Some(Kind::DateValue(pb::Date::default())),
        list(&["a;b"]),
        list(&["a", "a"]),
        list(&[""]),
    ] {
        assert!(typed_text(pb::TypedValue { kind: kind.clone() }).is_err(), "{kind:?}");
    }
    assert_eq!(typed_text(pb::TypedValue { kind: list(&[]) }), Ok(String::new()));
}

#[test]
fn errors_name_the_map_of_each_property() {
    let odd = "größe \"x\"";
    let names =
        [odd, "budget", &"n".repeat(200)].map(|name| (name.to_owned(), pb::TypedValue::default()));
    let write = pb::LeadUpdate { typed_properties: names.into(), ..Default::default() };
    let names = TypedNames::new(&write);
    let fields = |error: &Error| -> Vec<String> {
        error.fields().iter().map(|fault| fault.field.clone()).collect()
    };
    let faults =
        ["budget", odd, "hs_lead_name"].map(|name| FieldFault::for_property(name, "is wrong"));
    let error = names.rename(Error::invalid(faults.to_vec()));
    assert_eq!(
        fields(&error),
        [
            "typed_properties[\"budget\"]",
            "typed_properties[\"größe \\\"x\\\"\"]",
            "properties[\"hs_lead_name\"]",
        ]
    );
    assert!(error.message().starts_with("typed_properties[\"budget\"]: is wrong; "), "{error:?}");
    // The path of a long name is shortened.
    let long = FieldFault::for_property(&"n".repeat(128), "is too long");
    assert_eq!(
        fields(&names.rename(Error::invalid(vec![long])))[0].len(),
        "typed_properties[\"\"]".len() + 128
    );
    let faults = vec![FieldFault::for_property("budget", "is odd")];
    let rejected =
        Error::new(Reason::ValidationFailed, "HubSpot says no: properties[\"budget\"]: is odd");
    let rejected = names.rename(rejected.with_fields(faults));
    assert_eq!(rejected.message(), "HubSpot says no: typed_properties[\"budget\"]: is odd");
    assert_eq!(fields(&rejected), ["typed_properties[\"budget\"]"]);
    let other = Error::invalid(vec![FieldFault::new("id", "must not be empty")]);
    assert_eq!(names.rename(other.clone()), other);
    assert_eq!(TypedNames::default().rename(error.clone()), error);
}

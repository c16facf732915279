//! Trees of valid and of odd messages.

use prost::Message;
use prost_types::Any;

use super::*;
use crate::{cli::call::render::json_line, grpc::pb};

fn json(name: &str, message: &impl Message) -> String {
    let descriptor = find_message(name).unwrap();
    let message = DynamicMessage::decode(descriptor, &*message.encode_to_vec()).unwrap();
    json_line(&tree(&message, FieldNames::Json))
}

#[test]
fn fields_are_in_order_and_integers_of_64_bits_are_text() {
    let lead = pb::Lead {
        id: "1".into(),
        properties: [("b", "2"), ("a", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        create_time: Some(prost_types::Timestamp { seconds: 0, nanos: 5_000_000 }),
        archived: true,
        ..Default::default()
    };
    assert_eq!(
        json("leadsd.v1.Lead", &lead),
        r#"{"id":"1","properties":{"a":"1","b":"2"},"createTime":"1970-01-01T00:00:00.005Z","archived":true}"#
    );
    let bucket = pb::QuotaBucket {
        name: "burst".into(),
        limit: Some(i64::MAX),
        remaining: Some(0),
        window: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        callers: vec![pb::QuotaCaller { weight: 2, used: 0.5, ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(
        json("leadsd.v1.QuotaBucket", &bucket),
        r#"{"name":"burst","limit":"9223372036854775807","window":"10s","remaining":"0","callers":[{"weight":2,"used":0.5}]}"#
    );
    let filter = pb::Filter { operator: 8, ..Default::default() };
    assert_eq!(json("leadsd.v1.Filter", &filter), r#"{"operator":"FILTER_OPERATOR_IN"}"#);
    let filter = pb::Filter { operator: 99, ..Default::default() };
    assert_eq!(json("leadsd.v1.Filter", &filter), r#"{"operator":99}"#);
}

#[test]
fn times_and_durations_that_json_does_not_have_are_shown_as_fields() {
    for (seconds, nanos, expected) in [
        (i64::MIN, 0, r#"{"seconds":"-9223372036854775808"}"#),
        (i64::MAX, -1, r#"{"seconds":"9223372036854775807","nanos":-1}"#),
        (0, i32::MIN, r#"{"nanos":-2147483648}"#),
        (1, -1, r#"{"seconds":"1","nanos":-1}"#),
    ] {
        let time = prost_types::Timestamp { seconds, nanos };
        assert_eq!(json("google.protobuf.Timestamp", &time), expected);
        let duration = prost_types::Duration { seconds, nanos };
        assert_eq!(json("google.protobuf.Duration", &duration), expected);
    }
    for (value, expected) in
        [(f64::NAN, "NaN"), (f64::INFINITY, "Infinity"), (f64::NEG_INFINITY, "-Infinity")]
    {
        let caller = pb::QuotaCaller { used: value, ..Default::default() };
        assert_eq!(json("leadsd.v1.QuotaCaller", &caller), format!(r#"{{"used":"{expected}"}}"#));
    }
}

#[test]
fn details_are_decoded_if_their_type_is_known_and_their_bytes_are_valid() {
    let any = |url: &str, value: &[u8]| Any { type_url: url.into(), value: value.to_vec() };
    let info = tonic_types::pb::ErrorInfo { reason: "X".into(), ..Default::default() };
    for (detail, expected) in [
        (
            any("type.googleapis.com/google.rpc.ErrorInfo", &info.encode_to_vec()),
            r#"{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"X"}"#,
        ),
        (
            any("google.protobuf.Duration", &[8, 1]),
            r#"{"@type":"google.protobuf.Duration","value":"1s"}"#,
        ),
        (any("example.com/Other", b"\xff\x00"), r#"{"@type":"example.com/Other","@value":"/wA="}"#),
        (
            any("x/google.rpc.ErrorInfo", b"\xff"),
            r#"{"@type":"x/google.rpc.ErrorInfo","@value":"/w=="}"#,
        ),
        (any("", b""), r#"{"@type":"","@value":""}"#),
    ] {
        assert_eq!(json("google.protobuf.Any", &detail), expected);
    }
}

#[test]
fn details_nested_without_end_are_cut() {
    let mut any = Any { type_url: "end".into(), value: Vec::new() };
    for _ in 0..10_000 {
        any = Any { type_url: "x/google.protobuf.Any".into(), value: any.encode_to_vec() };
    }
    let json = json("google.protobuf.Any", &any);
    assert_eq!(json.matches("@type").count(), MAX_ANY_DEPTH + 1);
    assert_eq!(json.matches("@value").count(), 1);
}

#[test]
fn contract_has_no_type_with_a_special_json_form_that_is_not_handled() {
    for name in ["LeadsService", "QuotaService"] {
        let service =
            crate::cli::call::contract::services().find(|service| service.name() == name).unwrap();
        for file in service.parent_file().parent_pool().files() {
            if !file.name().starts_with("google/protobuf/") {
                continue;
            }
            let handled = ["timestamp", "duration", "any", "descriptor"];
            let is_handled =
                handled.iter().any(|part| file.name() == format!("google/protobuf/{part}.proto"));
            assert!(is_handled, "{} needs a form in tree.rs and scalar.rs", file.name());
        }
    }
}

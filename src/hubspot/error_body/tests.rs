//! Inputs that errors name beside their context, as lists in texts, and by paths.

use serde_json::json;

use super::*;
use crate::leads::AffectedInputs;

/// Inputs that an error object with these fields names.
fn named(fields: Value) -> AffectedInputs {
    let mut error = json!({"category": "VALIDATION_ERROR", "message": "no", "id": "77"});
    let Value::Object(fields) = fields else { panic!("no object: {fields}") };
    error.as_object_mut().unwrap().extend(fields);
    ErrorBody::from_value(error).affected_inputs()
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_trace_id_or_position_beside_the_context_names_the_input_and_an_id_does_not() {
    assert_eq!(named(json!({})), AffectedInputs::default());
    for fields in [
        json!({"objectWriteTraceId": "t2"}),
        json!({"object_write_trace_id": ["t2"]}),
        json!({"errors": [{"message": "no", "objectWriteTraceId": "t2"}]}),
    ] {
        let expected = AffectedInputs { trace_ids: texts(&["t2"]), ..AffectedInputs::default() };
        assert_eq!(named(fields.clone()), expected, "{fields}");
    }
    for fields in [json!({"index": 1}), json!({"errors": [{"index": "1", "id": "7"}]})] {
        let expected = AffectedInputs { positions: vec![1], ..AffectedInputs::default() };
        assert_eq!(named(fields.clone()), expected, "{fields}");
    }
}

#[test]
fn an_id_in_any_form_names_the_input() {
    for fields in [
        json!({"objectId": "3"}),
        json!({"record_id": 3}),
        json!({"objectIds": ["3"]}),
        json!({"INVALID_OBJECT_IDS": ["3"]}),
        json!({"failedInput": {"id": "3"}}),
        json!({"input": {"objectId": 3}}),
        json!({"errors": [{"message": "no", "objectId": "3", "id": "9"}]}),
        json!({"errors": [{"message": "no", "failedInput": {"id": 3}}]}),
        json!({"context": {"failedInput": {"id": "3"}}}),
        json!({"context": {"failedInputs": [{"id": "3"}]}}),
        json!({"context": {"failedInput": {"record": {"recordId": 3}}}}),
        json!({"context": {"ids": [{"recordId": "3"}]}}),
        json!({"context": [{"key": "objectId", "value": "3"}]}),
        json!({"context": [{"name": "objectIds", "values": [3]}]}),
        json!({"context": {"entries": [{"key": "objectId", "value": "3"}]}}),
        json!({"context": [{"objectId": "3"}]}),
        json!({"context": [{"key": "failedKey", "value": "3"}]}),
        json!({"context": ["3"]}),
    ] {
        let expected = AffectedInputs { ids: texts(&["3"]), ..AffectedInputs::default() };
        assert_eq!(named(fields.clone()), expected, "{fields}");
    }
    for fields in [
        json!({"input": {"objectWriteTraceId": "t2"}}),
        json!({"context": {"failedInput": {"objectWriteTraceId": "t2"}}}),
        json!({"context": [{"key": "objectWriteTraceId", "value": "t2"}]}),
    ] {
        let expected = AffectedInputs { trace_ids: texts(&["t2"]), ..AffectedInputs::default() };
        assert_eq!(named(fields.clone()), expected, "{fields}");
    }
    let position = json!({"context": {"invalidInputs": [{"index": 2, "reason": "no"}]}});
    assert_eq!(named(position).positions, [2]);
    // Neither the parts of an input nor those of a link name one.
    for fields in [
        json!({"links": {"id": "3"}, "documentation": {"id": "3"}}),
        json!({"context": {"failedInput": {"properties": {"hs_lead_name": "3"}}}}),
        json!({"context": {"links": {"knowledge": {"id": "3"}}}}),
    ] {
        assert_eq!(named(fields.clone()), AffectedInputs::default(), "{fields}");
    }
}

#[test]
fn the_id_of_an_existing_record_in_any_form_names_no_input() {
    for fields in [
        json!({"existingId": "77"}),
        json!({"context": {"existingObject": {"id": "77"}}}),
        json!({"conflictingRecord": {"recordId": 77}}),
        json!({"context": [{"key": "existingId", "value": "77"}]}),
    ] {
        let mut error = json!({"category": "CONFLICT", "message": "no"});
        let Value::Object(own) = fields.clone() else { panic!("no object: {fields}") };
        error.as_object_mut().unwrap().extend(own);
        let body = ErrorBody::from_value(error);
        assert_eq!(body.existing_id().as_deref(), Some("77"), "{fields}");
        assert_eq!(body.affected_inputs(), AffectedInputs::default(), "{fields}");
    }
}

#[test]
fn a_deep_context_is_read_to_a_depth() {
    let mut context = json!({"id": "3"});
    for _ in 0..100 {
        context = json!({ "input": context });
    }
    assert_eq!(named(json!({ "context": context })), AffectedInputs::default());
}

#[test]
fn a_list_in_one_text_or_of_objects_names_each_of_its_ids() {
    for (context, expected) in [
        (json!({"ids": "2,3"}), &["2", "3"][..]),
        (json!({"ids": "[2, 3]"}), &["2", "3"]),
        (json!({"ids": ["[\"2\", \"3\"]"]}), &["2", "3"]),
        (json!({"ids": [{"id": "2"}, {"objectId": 3}]}), &["2", "3"]),
        (json!({"ids": {"id": 2}}), &["2"]),
        (json!({"ids": ["key-1, key-2"]}), &["key-1, key-2"]),
        (json!({"ids": "[]"}), &[]),
        (json!({"ids": [{"name": "2"}, null, ","]}), &[","]),
    ] {
        assert_eq!(named(json!({"context": context})).ids, texts(expected), "{context}");
    }
    assert_eq!(named(json!({"context": {"index": "0,2"}})).positions, [0, 2]);
    assert_eq!(named(json!({"context": {"traceId": "[a, b]"}})).trace_ids, texts(&["a", "b"]));
    // Several ids stay hidden from the callers of the others.
    let several = json!({"message": "no", "context": {"ids": "1001,1002"}});
    assert!(ErrorBody::from_value(several).record_ids().is_empty());
}

#[test]
fn a_path_in_any_notation_names_the_input_and_its_property() {
    for path in [
        "inputs[2].properties.hs_lead_label",
        "/inputs/2/properties/hs_lead_label",
        "inputs.2.properties.hs_lead_label",
    ] {
        let error = json!({"message": "not valid", "errors": [{"message": "no", "in": path}]});
        let body = ErrorBody::from_value(error);
        assert_eq!(body.affected_inputs().positions, [2], "{path}");
        assert_eq!(body.fields()[0].field, r#"properties["hs_lead_label"]"#, "{path}");
    }
    for path in ["/inputs/2/id", "inputs[2].id", "$.inputs[2]"] {
        let error = json!({"message": "not valid", "errors": [{"message": "no", "in": path}]});
        let body = ErrorBody::from_value(error);
        assert_eq!((body.affected_inputs().positions, body.fields().len()), (vec![2], 0), "{path}");
    }
    for path in ["inputs", "inputs[]", "inputs/x/2", "outputs/2"] {
        let error = json!({"message": "not valid", "errors": [{"message": "no", "in": path}]});
        let positions = ErrorBody::from_value(error).affected_inputs().positions;
        assert!(positions.is_empty(), "{path}: {positions:?}");
    }
}

#[test]
fn a_trace_id_anywhere_in_an_error_is_read() {
    const TRACE: &str = "42fcd913-a832-458e-a10e-1ea2b660b842";
    for fields in [
        json!({"message": format!("input {TRACE} is not valid")}),
        json!({"detail": format!("trace={TRACE}")}),
        json!({"subCategory": {"of": [TRACE]}}),
        json!({"context": format!("objectWriteTraceId={TRACE}")}),
        json!({"context": {"someKey": {"other": [[TRACE]]}}}),
        json!({"context": {TRACE: ["no such option"]}}),
        json!({"errors": [{"message": "no", "in": TRACE}]}),
        json!({"errors": [{"message": format!("({TRACE})")}]}),
    ] {
        assert_eq!(named(fields.clone()).uuids, [TRACE], "{fields}");
    }
    for fields in [
        json!({"context": {"objectWriteTraceId": [[TRACE]]}}),
        json!({"context": {"objectWriteTraceId": {"value": TRACE}}}),
        json!({"context": {"objectWriteTraceId": format!("trace {TRACE}")}}),
        json!({"context": {"objectWriteTraceId": {"value": [{"id": TRACE}]}}}),
    ] {
        assert_eq!(named(fields.clone()).trace_ids, [TRACE], "{fields}");
    }
    for fields in [
        json!({"correlationId": TRACE}),
        json!({"message": format!("x{TRACE}")}),
        json!({"message": format!("{TRACE}-1")}),
        json!({"message": TRACE.replace('-', "_")}),
    ] {
        assert_eq!(named(fields.clone()), AffectedInputs::default(), "{fields}");
    }
    let fields = json!({"errors": [{"message": "no", "in": TRACE}]});
    let body = ErrorBody::from_value(fields);
    assert!(body.fields().is_empty(), "a trace id is no property");
    assert!(!body.names_inputs(), "a UUID may be the id of a request");
}

#[test]
fn an_id_in_a_list_of_lists_in_an_object_or_with_a_fraction_names_the_input() {
    for context in [
        json!({"ids": [["3"]]}),
        json!({"objectId": {"value": "3"}}),
        json!({"objectId": {"values": [3]}}),
        json!({"objectId": 3.0}),
        json!({"objectIds": [{"id": [3]}]}),
    ] {
        assert_eq!(named(json!({"context": context.clone()})).ids, ["3"], "{context}");
    }
    assert_eq!(named(json!({"context": {"objectId": 3.5}})).ids, ["3.5"]);
    assert_eq!(named(json!({"context": {"inputIndexes": [1]}})).positions, [1]);
}

#[test]
fn the_record_that_has_a_unique_value_already_is_no_input() {
    for key in
        ["existingIds", "existing_lead_id", "conflictingId", "duplicateId", "existingContactId"]
    {
        let error = json!({"category": "CONFLICT", "message": "m", "context": {key: ["77"]}});
        assert_eq!(named(error.clone()).ids, [""; 0], "{key}");
        assert_eq!(ErrorBody::from_value(error).existing_id().as_deref(), Some("77"), "{key}");
    }
}

#[test]
fn a_number_of_the_account_or_a_plan_is_nothing_of_the_content() {
    for error in [
        json!({"message": "account 12345678 is suspended"}),
        json!({"message": "The portal with id 12345678 is suspended"}),
        json!({"message": "hub_id: 12345678"}),
        json!({"message": "no", "context": {"requestId": ["r"]}}),
        json!({"message": "no", "context": {"plan": ["starter"], "feature": ["leads"]}}),
    ] {
        assert!(!ErrorBody::from_value(error.clone()).names_content(), "{error}");
    }
    for error in [
        json!({"message": "lead 12345678 is locked"}),
        json!({"message": "no", "context": {"someKey": ["12"]}}),
    ] {
        assert!(ErrorBody::from_value(error.clone()).names_content(), "{error}");
    }
}

#[test]
fn a_limit_of_a_day_is_read_from_any_field() {
    for error in [
        json!({"policyName": "TWENTY_FOUR_HOURLY"}),
        json!({"policyName": "24_HOUR"}),
        json!({"errorType": "DailyRateLimit"}),
        json!({"subCategory": "limits.DAILY"}),
        json!({"message": "500,000 calls in 24 hrs"}),
        json!({"message": "too many", "errors": [{"message": "You have reached your daily limit."}]}),
    ] {
        assert!(ErrorBody::from_value(error.clone()).is_daily_limit(), "{error}");
    }
    for error in [
        json!({"policyName": "HOURLY", "message": "today"}),
        json!({"policyName": "TEN_SECONDLY_ROLLING", "message": "see the daily limit"}),
        json!({"message": "Monday; four calls an hour"}),
        json!({"message": "wait 24 minutes"}),
    ] {
        assert!(!ErrorBody::from_value(error.clone()).is_daily_limit(), "{error}");
    }
}

#[test]
fn categories_of_missing_records_are_those_of_leads_only() {
    for (category, expected) in [
        ("NOT_FOUND", Some((404, Reason::LeadNotFound))),
        ("RESOURCE_NOT_FOUND", Some((404, Reason::LeadNotFound))),
        ("OBJECT_DELETED", Some((404, Reason::LeadNotFound))),
        ("PIPELINE_NOT_FOUND", None),
        ("PROPERTY_NOT_FOUND", None),
    ] {
        let body = ErrorBody::from_value(json!({"category": category, "message": "no"}));
        assert_eq!(body.classify(), expected, "{category}");
    }
}

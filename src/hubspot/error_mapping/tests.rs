//! Recorded shapes of HubSpot's errors, and arbitrary bytes.

use proptest::prelude::*;

use super::*;
use crate::{
    hubspot::error_body::{ErrorBody, MAX_MESSAGE, Unauthorized},
    leads::AffectedInputs,
};

fn mapped(operation: Operation, status: u16, body: &str) -> Error {
    error_of(operation, StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
}

/// Maps the response to a short request.
fn error_of(operation: Operation, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    error(operation, RequestSize::default(), status, headers, body)
}

#[test]
fn every_status_maps_with_any_body() {
    let table = [
        // HubSpot's JSON is missing: a proxy may have sent these.
        (400, Reason::UpstreamInvalidResponse),
        (403, Reason::UpstreamInvalidResponse),
        (404, Reason::UpstreamInvalidResponse),
        (409, Reason::UpstreamInvalidResponse),
        (422, Reason::UpstreamInvalidResponse),
        (407, Reason::UpstreamInvalidResponse),
        // Statuses that are not known to be about an input.
        (402, Reason::UpstreamInvalidResponse),
        (405, Reason::UpstreamInvalidResponse),
        (410, Reason::UpstreamInvalidResponse),
        (415, Reason::UpstreamInvalidResponse),
        (418, Reason::UpstreamInvalidResponse),
        (451, Reason::UpstreamInvalidResponse),
        (499, Reason::UpstreamInvalidResponse),
        (401, Reason::CredentialRejected),
        (408, Reason::UpstreamUnavailable),
        (413, Reason::UpstreamInvalidResponse),
        (414, Reason::UpstreamInvalidResponse),
        (425, Reason::UpstreamUnavailable),
        (488, Reason::WrongDataCenter),
        (423, Reason::AccountLocked),
        (429, Reason::RateLimited),
        (477, Reason::AccountMigrating),
        (500, Reason::UpstreamUnavailable),
        (502, Reason::UpstreamUnavailable),
        (503, Reason::UpstreamUnavailable),
        (504, Reason::UpstreamUnavailable),
        (521, Reason::UpstreamUnavailable),
        (524, Reason::UpstreamUnavailable),
        (530, Reason::CredentialRejected),
        (302, Reason::UpstreamInvalidResponse),
    ];
    for (status, reason) in table {
        for body in ["", "<html><body>no</body></html>", "[]", "null", "{}", "\u{0}"] {
            let error = mapped(Operation::Get, status, body);
            assert_eq!(error.reason(), reason, "{status} {body:?}");
            assert!(!error.message().is_empty());
            assert!(!error.message().contains("html"));
        }
    }
}

#[test]
fn a_status_of_hubspot_is_distinguished_from_that_of_a_proxy() {
    let mut headers = HeaderMap::new();
    headers.insert("x-hubspot-correlation-id", "c-1".parse().unwrap());
    let none = HeaderMap::new();
    let json = r#"{"status":"error","message":"no"}"#;
    let bare = r#"{"correlationId":"c"}"#;
    for (status, reason) in [
        (400, Reason::ValidationFailed),
        (403, Reason::UpstreamForbidden),
        (404, Reason::LeadNotFound),
        (409, Reason::Conflict),
        (422, Reason::ValidationFailed),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        for (headers, body) in [(&none, json), (&none, bare), (&headers, ""), (&headers, "{}")] {
            let error = error_of(Operation::Get, status, headers, body.as_bytes());
            assert_eq!(error.reason(), reason, "{status} {body}");
        }
        let page = error_of(Operation::Get, status, &headers, b"<html>");
        assert_eq!(page.reason(), Reason::UpstreamInvalidResponse, "{status}");
        for gateway in [
            r#"{"error":"denied"}"#,
            r#"{"message":"no Route matched with those values"}"#,
            r#"{"status":404,"error":"Not Found","message":"no","path":"/crm"}"#,
        ] {
            let foreign = error_of(Operation::Get, status, &none, gateway.as_bytes());
            assert_eq!(foreign.reason(), Reason::UpstreamInvalidResponse, "{gateway}");
        }
    }
}

#[test]
fn an_account_in_another_data_centre_names_it() {
    let body = r#"{"status":"error","message":"the hub is served elsewhere","correlationId":"c","correctHublet":"eu1"}"#;
    let context = r#"{"status":"error","message":"elsewhere","context":{"correctHublet":["eu1"]}}"#;
    let mut headers = HeaderMap::new();
    headers.insert("x-hubspot-correct-hublet", "eu1".parse().unwrap());
    let status = StatusCode::from_u16(488).unwrap();
    for (headers, body) in [
        (&HeaderMap::new(), body),
        (&HeaderMap::new(), context),
        (&headers, r#"{"status":"error"}"#),
        (&headers, "<html>"),
    ] {
        for operation in [Operation::Get, Operation::BatchCreate] {
            let error = error_of(operation, status, headers, body.as_bytes());
            assert_eq!(error.reason(), Reason::WrongDataCenter);
            assert_eq!(error.upstream().correct_hublet.as_deref(), Some("eu1"));
            assert!(error.message().contains("eu1"), "{error}");
            assert_eq!(error.side_effect(), SideEffect::None);
        }
    }
    let odd = r#"{"correctHublet":"<script>"}"#;
    assert_eq!(mapped(Operation::Get, 488, odd).upstream().correct_hublet, None);
}

#[test]
fn a_request_that_hubspot_did_not_receive_is_repeated_if_that_is_safe() {
    assert_eq!(mapped(Operation::List, 408, "").reason(), Reason::UpstreamUnavailable);
    assert_eq!(mapped(Operation::Update, 408, "").reason(), Reason::UpstreamUnavailable);
    assert_eq!(mapped(Operation::Create, 408, "").reason(), Reason::WriteOutcomeUnknown);
    assert_eq!(mapped(Operation::Create, 425, "").reason(), Reason::UpstreamUnavailable);
}

#[test]
fn a_create_with_an_unknown_outcome_has_its_own_reason() {
    for status in [500, 502, 503, 504, 520, 522, 524] {
        let error = mapped(Operation::Create, status, "");
        assert_eq!(error.reason(), Reason::WriteOutcomeUnknown, "{status}");
        assert_eq!(error.side_effect(), SideEffect::Possible);
    }
    for status in [521, 523, 525, 526] {
        let error = mapped(Operation::Create, status, "");
        assert_eq!(error.reason(), Reason::UpstreamUnavailable, "{status}");
        assert_eq!(error.side_effect(), SideEffect::None);
    }
}

#[test]
fn a_413_or_414_is_about_the_request_if_hubspot_sent_it_or_the_request_is_long() {
    let short = RequestSize { url: 300, body: 500 };
    let long_url = RequestSize { url: 3_000, ..short };
    let long_body = RequestSize { body: 100_000, ..short };
    let of_hubspot = r#"{"status":"error","message":"no","correlationId":"c"}"#;
    for (status, size, body, is_about_request) in [
        (414, short, "<html>", false),
        (414, short, "", false),
        (414, long_body, "<html>", false),
        (414, long_url, "<html>", true),
        (414, short, of_hubspot, true),
        (413, short, "<html>", false),
        (413, long_url, r#"{"message":"too large"}"#, false),
        (413, long_body, "<html>", true),
        (413, short, of_hubspot, true),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        for operation in [Operation::Get, Operation::BatchCreate] {
            let error = error(operation, size, status, &HeaderMap::new(), body.as_bytes());
            let expected = if is_about_request {
                Reason::ValidationFailed
            } else {
                Reason::UpstreamInvalidResponse
            };
            assert_eq!(error.reason(), expected, "{status} {size:?} {body}");
            assert!(!error.message().contains("properties"), "a body may be too long: {error}");
            assert_eq!(error.side_effect(), SideEffect::None);
        }
    }
}

#[test]
fn a_category_that_is_not_about_content_says_more_than_the_status() {
    for (category, reason) in [
        ("RATE_LIMITS", Reason::RateLimited),
        ("MISSING_SCOPES", Reason::MissingScopes),
        ("FORBIDDEN", Reason::UpstreamForbidden),
        ("INVALID_AUTHENTICATION", Reason::CredentialRejected),
        ("INTERNAL_ERROR", Reason::UpstreamUnavailable),
    ] {
        let body = format!(r#"{{"status":"error","category":"{category}","message":"why"}}"#);
        for status in [400, 404, 409, 422] {
            for operation in [Operation::Get, Operation::Update, Operation::BatchArchive] {
                let error = mapped(operation, status, &body);
                assert_eq!(error.reason(), reason, "{status} {category}");
                let is_limited = reason == Reason::RateLimited;
                assert_eq!(error.retry_after().is_some(), is_limited, "{status} {category}");
                assert_eq!(error.upstream().http_status, Some(status), "no status is invented");
            }
        }
    }
    let daily = r#"{"category":"RATE_LIMITS","message":"daily limit","policyName":"DAILY"}"#;
    assert_eq!(mapped(Operation::Get, 400, daily).reason(), Reason::DailyLimitReached);
    let internal = r#"{"category":"INTERNAL_ERROR","message":"why"}"#;
    assert_eq!(mapped(Operation::Create, 400, internal).reason(), Reason::WriteOutcomeUnknown);
    for (status, category, reason) in [
        (400, "VALIDATION_ERROR", Reason::ValidationFailed),
        (400, "A_NEW_ONE", Reason::UpstreamInvalidResponse),
        (409, "A_NEW_ONE", Reason::UpstreamInvalidResponse),
        (400, "VALIDATION_FAILURE", Reason::ValidationFailed),
        (400, "BAD_REQUEST", Reason::ValidationFailed),
        (400, "INVALID_PARAMETERS", Reason::ValidationFailed),
        (400, "MISSING_REQUIRED_FIELD", Reason::ValidationFailed),
        (400, "OBJECT_NOT_FOUND", Reason::ValidationFailed),
        (409, "VALIDATION_ERROR", Reason::Conflict),
        (409, "CONFLICT", Reason::Conflict),
        (422, "A_NEW_ONE", Reason::UpstreamInvalidResponse),
        (404, "OBJECT_NOT_FOUND", Reason::LeadNotFound),
    ] {
        let body = format!(r#"{{"category":"{category}","message":"why"}}"#);
        assert_eq!(mapped(Operation::Update, status, &body).reason(), reason, "{body}");
    }
}

#[test]
fn an_unknown_category_is_about_content_only_if_the_error_names_some() {
    for (rest, is_about_content) in [
        (r#""message":"the account is suspended""#, false),
        (r#""message":"no","context":{"portalId":["424242"]}"#, false),
        (r#""message":"no","context":{"hubId":[424242],"limit":["5"]}"#, false),
        (r#""message":"no","errors":[{"message":"the plan has ended","code":"NO_PLAN"}]"#, false),
        (r#""message":"no","context":{}"#, false),
        (r#""message":"no","context":{"ids":["7"]}"#, true),
        (r#""message":"no","context":{"objectWriteTraceId":["t-1"]}"#, true),
        (r#""message":"no","context":{"someKey":["k-7"]}"#, true),
        (r#""message":"no","context":{"propertyName":["budget"]}"#, true),
        (r#""message":"no","errors":[{"message":"too long","in":"budget"}]"#, true),
        (r#""message":"record 123456789 is locked""#, true),
        (r#""message":"the value already exists""#, true),
    ] {
        let body = format!(r#"{{"status":"error","category":"A_NEW_ONE",{rest}}}"#);
        for status in [400, 422] {
            for operation in [Operation::Create, Operation::BatchUpdate, Operation::Search] {
                let error = mapped(operation, status, &body);
                let is_invalid = error.reason() == Reason::UpstreamInvalidResponse;
                assert_eq!(is_invalid, !is_about_content, "{body}");
                assert_eq!(error.side_effect(), SideEffect::None);
                assert_eq!(error.upstream().category.as_deref(), Some("A_NEW_ONE"));
            }
        }
    }
}

#[test]
fn a_page_that_is_not_found_is_an_invalid_response() {
    let bare = r#"{"status":"error","message":"resource not found","correlationId":"c"}"#;
    let named = r#"{"category":"OBJECT_NOT_FOUND","message":"no","context":{"ids":["2"]}}"#;
    for body in [bare, named] {
        for operation in [Operation::List, Operation::Search, Operation::ReadAssociations] {
            let error = mapped(operation, 404, body);
            assert_eq!(error.reason(), Reason::UpstreamInvalidResponse, "{operation:?}");
            assert_eq!(error.upstream().http_status, Some(404));
        }
        for operation in [Operation::Get, Operation::Update, Operation::ListAssociations] {
            assert_eq!(mapped(operation, 404, body).reason(), Reason::LeadNotFound);
        }
    }
    // A batch names the leads that it does not find.
    for operation in [Operation::BatchRead, Operation::BatchUpdate, Operation::BatchArchive] {
        assert_eq!(mapped(operation, 404, named).reason(), Reason::LeadNotFound);
        let error = mapped(operation, 404, bare);
        assert_eq!(error.reason(), Reason::UpstreamInvalidResponse, "{operation:?}");
        assert!(error.message().ends_with("resource not found"), "{error}");
    }
    let carried = |operation| carried_error(operation, StatusCode::OK, None, named.as_bytes());
    assert_eq!(carried(Operation::List).unwrap().reason(), Reason::UpstreamInvalidResponse);
}

#[test]
fn not_found_for_a_create_is_a_validation_error() {
    let body = r#"{"category":"OBJECT_NOT_FOUND","message":"no such contact"}"#;
    for operation in [Operation::Create, Operation::BatchCreate] {
        assert_eq!(mapped(operation, 404, body).reason(), Reason::ValidationFailed);
        let item = item_error(operation, None, serde_json::from_str(body).unwrap());
        assert_eq!(item.reason(), Reason::ValidationFailed);
    }
    let item = item_error(Operation::BatchUpdate, None, serde_json::from_str(body).unwrap());
    assert_eq!(item.reason(), Reason::LeadNotFound);
}

#[test]
fn invalid_properties_become_field_violations_and_unknown_ones_are_listed() {
    let body = r#"{"status":"error","category":"VALIDATION_ERROR","correlationId":"c-9",
        "message":"Property values were not valid: [{\"isValid\":false,\"message\":\"Property \\\"nope\\\" does not exist\",\"error\":\"PROPERTY_DOESNT_EXIST\",\"name\":\"nope\"}]",
        "errors":[{"message":"BOILING was not one of the allowed options","code":"INVALID_OPTION","context":{"propertyName":["hs_lead_label"]}}]}"#;
    let error = mapped(Operation::Create, 400, body);
    assert_eq!(error.reason(), Reason::ValidationFailed);
    assert_eq!(
        error.message(),
        r#"Property values were not valid: properties["hs_lead_label"]: BOILING was not one of the allowed options"#
    );
    let fields: Vec<&str> = error.fields().iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, [r#"properties["hs_lead_label"]"#, r#"properties["nope"]"#]);
    assert_eq!(error.affected_inputs().unknown_properties, ["nope"]);
    assert_eq!(error.upstream().correlation_id.as_deref(), Some("c-9"));
    assert_eq!(error.side_effect(), SideEffect::None);
}

#[test]
fn rate_limits_are_classified_by_policy() {
    let body = |policy: &str| {
        format!(
            r#"{{"status":"error","message":"limit","errorType":"RATE_LIMIT","policyName":"{policy}"}}"#
        )
    };
    let window = mapped(Operation::Get, 429, &body("TEN_SECONDLY_ROLLING"));
    assert_eq!(window.retry_after(), Some(WINDOW_WAIT));
    let second = mapped(Operation::Get, 429, &body("SECONDLY"));
    assert_eq!(second.retry_after(), Some(SECOND_WAIT));
    let daily = mapped(Operation::Get, 429, &body("DAILY"));
    assert_eq!((daily.reason(), daily.retry_after()), (Reason::DailyLimitReached, None));
    for policy in ["PER_DAY", "daily", "DAILY_LIMIT"] {
        let reason = mapped(Operation::Get, 429, &body(policy)).reason();
        assert_eq!(reason, Reason::DailyLimitReached, "{policy}");
    }
    for text in [
        "You have reached your daily limit.",
        "Daily API limit exceeded",
        "250000 calls per day",
        "the 24-hour quota is exhausted",
        "no calls are left for today",
        "DAILY_LIMIT",
    ] {
        let body = format!(r#"{{"status":"error","message":"{text}","errorType":"RATE_LIMIT"}}"#);
        assert_eq!(
            mapped(Operation::Get, 429, &body).reason(),
            Reason::DailyLimitReached,
            "{text}"
        );
    }
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", "7".parse().unwrap());
    let with_header = error_of(
        Operation::Get,
        StatusCode::TOO_MANY_REQUESTS,
        &headers,
        body("SECONDLY").as_bytes(),
    );
    assert_eq!(with_header.retry_after(), Some(Duration::from_secs(7)));
}

#[test]
fn missing_scopes_are_named_in_both_variants() {
    let nested = r#"{"category":"MISSING_SCOPES","message":"This app hasn't been granted all required scopes","errors":[{"message":"x","context":{"requiredGranularScopes":["crm.objects.leads.write"]}}],"links":{"scopes":"x"}}"#;
    let top = r#"{"category":"MISSING_SCOPES","message":"m","context":{"requiredGranularScopes":["crm.objects.leads.write"],"links":["x"]}}"#;
    for body in [nested, top] {
        let error = mapped(Operation::Create, 403, body);
        assert_eq!(error.reason(), Reason::MissingScopes);
        assert_eq!(error.upstream().required_scopes, ["crm.objects.leads.write"]);
    }
}

#[test]
fn a_duplicate_names_the_existing_record() {
    let text = r#"{"status":"error","category":"CONFLICT","message":"Contact already exists. Existing ID: 171591000198"}"#;
    let context = r#"{"category":"CONFLICT","message":"m","context":{"existingId":["171591000198"],"objectWriteTraceId":["t"]}}"#;
    for body in [text, context] {
        let error = mapped(Operation::Create, 409, body);
        assert_eq!(error.reason(), Reason::AlreadyExists);
        assert!(error.message().contains("171591000198"), "{error}");
        assert_eq!(error.upstream().existing_id.as_deref(), Some("171591000198"));
        let item = item_error(Operation::BatchUpdate, None, serde_json::from_str(body).unwrap());
        assert_eq!(item.reason(), Reason::AlreadyExists);
    }
    let bare = mapped(
        Operation::BatchCreate,
        409,
        r#"{"category":"CONFLICT","message":"Contact already exists"}"#,
    );
    assert_eq!(bare.reason(), Reason::AlreadyExists);
    let clash = mapped(
        Operation::Create,
        400,
        r#"{"category":"VALIDATION_ERROR","message":"lead already has that value"}"#,
    );
    assert_eq!(clash.reason(), Reason::AlreadyExists);
}

#[test]
fn item_errors_name_their_inputs() {
    let missing = item_error(
        Operation::BatchUpdate,
        Some("c-1"),
        serde_json::from_str(r#"{"status":"error","category":"OBJECT_NOT_FOUND","message":"Could not get some LEAD objects","context":{"ids":["1","2"]},"subCategory":{"odd":1}}"#).unwrap(),
    );
    assert_eq!(missing.reason(), Reason::LeadNotFound);
    assert_eq!(missing.affected_inputs().ids, ["1", "2"]);
}

#[test]
fn inputs_are_named_under_any_key_and_in_any_form() {
    let ids = |context: &str| {
        let json =
            format!(r#"{{"category":"VALIDATION_ERROR","message":"m","context":{context}}}"#);
        let error = item_error(Operation::BatchUpdate, None, serde_json::from_str(&json).unwrap());
        error.affected_inputs().clone()
    };
    for context in [
        r#"{"objectId":["3"]}"#,
        r#"{"objectId":"3"}"#,
        r#"{"objectId":3}"#,
        r#"{"OBJECT_IDS":[3]}"#,
        r#"{"ids":["3"]}"#,
        r#"{"id":"3"}"#,
        r#"{"INVALID_OBJECT_IDS":["3"]}"#,
        r#"{"hs_object_id":["3"]}"#,
        r#"{"recordId":["3"],"propertyName":["hs_lead_label"]}"#,
        r#"{"a_new_key":["3"]}"#,
        r#"{"crm_key":"3","options":["HOT"]}"#,
    ] {
        assert_eq!(ids(context).ids, ["3"], "{context}");
        assert!(ids(context).trace_ids.is_empty() && ids(context).positions.is_empty());
    }
    assert_eq!(ids(r#"{"objectwritetraceid":"t"}"#).trace_ids, ["t"]);
    assert_eq!(ids(r#"{"Object_Write_Trace_Id":["t"]}"#).trace_ids, ["t"]);
    assert_eq!(ids(r#"{"index":["1"]}"#).positions, [1]);
    assert_eq!(ids(r#"{"index":0}"#).positions, [0]);
    let path = r#"{"message":"not valid","errors":[{"message":"no","in":"inputs[2].properties.hs_lead_label"}]}"#;
    let error = item_error(Operation::BatchUpdate, None, serde_json::from_str(path).unwrap());
    assert_eq!(error.affected_inputs().positions, [2]);
    assert_eq!(error.fields()[0].field, r#"properties["hs_lead_label"]"#);
    assert_eq!(ids(r#"{"propertyName":["p"],"options":["1"]}"#), AffectedInputs::default());
}

#[test]
fn a_record_to_associate_with_is_named_in_text_and_details() {
    let body = r#"{"status":"error","category":"VALIDATION_ERROR","message":"One or more associations are invalid","context":{"INVALID_OBJECT_IDS":["4242"]}}"#;
    let error = mapped(Operation::Create, 400, body);
    assert!(error.message().contains("4242"), "{error}");
    assert_eq!(error.fields().last().unwrap().field, "associations");
    assert!(error.fields().last().unwrap().description.contains("4242"));
    assert_eq!(error.upstream().record_ids, ["4242"]);
    assert!(mapped(Operation::Update, 400, body).fields().is_empty(), "an update has none");
}

#[test]
fn an_error_of_several_inputs_names_none_of_them_to_the_others() {
    let named = |ids: &str| {
        let json = format!(
            r#"{{"category":"VALIDATION_ERROR","message":"no","context":{{"ids":{ids}}}}}"#
        );
        item_error(Operation::BatchUpdate, None, serde_json::from_str(&json).unwrap())
    };
    let one = named(r#"["1001"]"#);
    assert_eq!(
        (one.message(), &one.upstream().record_ids[..]),
        ("no (record 1001)", &["1001".to_owned()][..])
    );
    let several = named(r#"["1001","1002"]"#);
    assert_eq!((several.message(), several.upstream().record_ids.len()), ("no", 0));
    assert_eq!(several.affected_inputs().ids, ["1001", "1002"]);
}

#[test]
fn the_existing_record_is_found_in_several_wordings() {
    for text in [
        "the lead k already has that value for crm_key, existing ID: 77",
        "Contact already exists. Existing ID: 77",
        "another object already has that value (existing id = 77)",
        "A record already exists. Existing object id 77",
        "already exists; the existing record is 77",
        "k already has that value. Existing object: 77",
        "already exists (existing lead 77)",
        "Cannot set the value: 77 already has that value.",
    ] {
        let body = format!(r#"{{"category":"VALIDATION_ERROR","message":"{text}"}}"#);
        let error = mapped(Operation::Create, 400, &body);
        assert_eq!(error.reason(), Reason::AlreadyExists, "{text}");
        assert_eq!(error.upstream().existing_id.as_deref(), Some("77"), "{text}");
    }
    for context in
        [r#"{"existingId":77}"#, r#"{"EXISTING_ID":["77"]}"#, r#"{"existingObjectId":"77"}"#]
    {
        let body = format!(r#"{{"category":"CONFLICT","message":"m","context":{context}}}"#);
        let error = mapped(Operation::Update, 409, &body);
        assert_eq!(error.upstream().existing_id.as_deref(), Some("77"), "{context}");
        assert!(error.message().contains("77"), "{error}");
    }
    for text in [
        "the existing data of 2026 is kept",
        "the existing 3 properties are read-only",
        "an existing invalid 3 cannot be kept",
        "existing records: 30 at most",
    ] {
        let body = format!(r#"{{"category":"VALIDATION_ERROR","message":"{text}"}}"#);
        let error = mapped(Operation::Update, 400, &body);
        assert_eq!(error.upstream().existing_id, None, "{text}");
        assert_eq!(error.reason(), Reason::ValidationFailed, "{text}");
    }
}

#[test]
fn options_are_part_of_text_and_details() {
    for body in [
        r#"{"category":"VALIDATION_ERROR","message":"X was not one of the allowed options: [{label=Hot, value=HOT}, {label=Warm, value=WARM}]","context":{"propertyName":["hs_lead_label"]}}"#,
        r#"{"category":"VALIDATION_ERROR","message":"not valid","errors":[{"message":"X was not one of the allowed options","code":"INVALID_OPTION","context":{"propertyName":"hs_lead_label","allowedOptions":["HOT","WARM"]}}]}"#,
    ] {
        let error = mapped(Operation::Update, 400, body);
        assert!(error.message().contains("HOT") && error.message().contains("WARM"), "{error}");
        let fault = &error.fields()[0];
        assert_eq!(fault.field, r#"properties["hs_lead_label"]"#);
        assert!(fault.description.contains("HOT"), "{fault:?}");
    }
}

#[test]
fn only_one_category_of_401_triggers_a_refresh() {
    let of = |category: &str| {
        ErrorBody::parse(format!(r#"{{"category":"{category}"}}"#).as_bytes()).unauthorized()
    };
    assert_eq!(of("EXPIRED_AUTHENTICATION"), Unauthorized::Expired);
    assert_eq!(of("INVALID_AUTHENTICATION"), Unauthorized::Rejected);
    assert_eq!(ErrorBody::parse(b"<html>").unauthorized(), Unauthorized::Rejected);
}

proptest! {
    #[test]
    fn arbitrary_bytes_map_without_a_panic(
        status in 300_u16..=999,
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        let error = error_of(Operation::BatchCreate, status, &HeaderMap::new(), &bytes);
        prop_assert!(error.reason() != Reason::Internal);
        prop_assert!(error.message().chars().count() <= MAX_MESSAGE + 60);
    }

    #[test]
    fn arbitrary_json_maps_without_a_panic(
        status in 400_u16..600,
        key in "category|message|context|errors|policyName|subCategory",
        value in r#"null|1|true|"x"|\[\]|\{\}|\[\{"context":3\}\]|\{"ids":\[1,null\]\}|"a: \[\{""#,
    ) {
        let body = format!(r#"{{"{key}":{value}}}"#);
        let status = StatusCode::from_u16(status).unwrap();
        let error = error_of(Operation::Update, status, &HeaderMap::new(), body.as_bytes());
        prop_assert!(error.reason() != Reason::Internal);
    }
}

#[test]
fn an_association_that_a_detail_names_by_its_path_is_the_field() {
    let body = r#"{"category":"VALIDATION_ERROR","message":"not valid","errors":[{"message":"no contact 4242","code":"INVALID_ASSOCIATION","in":"associations[0].to.id"}]}"#;
    let error = mapped(Operation::Create, 400, body);
    let fields: Vec<(&str, &str)> =
        error.fields().iter().map(|it| (it.field.as_str(), it.description.as_str())).collect();
    assert_eq!(fields, [("associations", "no contact 4242")]);
    assert!(mapped(Operation::Update, 400, body).fields().is_empty(), "an update has none");
    let property = r#"{"category":"VALIDATION_ERROR","message":"not valid","errors":[{"message":"no","in":"associations_note"}]}"#;
    let error = mapped(Operation::Create, 400, property);
    assert_eq!(error.fields()[0].field, r#"properties["associations_note"]"#);
}

#[test]
fn a_403_with_the_category_of_another_status_has_its_reason() {
    for (category, expected) in [
        ("EXPIRED_AUTHENTICATION", Reason::CredentialRejected),
        ("INVALID_AUTHENTICATION", Reason::CredentialRejected),
        ("RATE_LIMITS", Reason::RateLimited),
        ("MISSING_SCOPES", Reason::MissingScopes),
        ("FORBIDDEN", Reason::UpstreamForbidden),
        ("VALIDATION_ERROR", Reason::UpstreamForbidden),
    ] {
        let body = format!(r#"{{"status":"error","category":"{category}","message":"no"}}"#);
        assert_eq!(mapped(Operation::Get, 403, &body).reason(), expected, "{category}");
    }
}

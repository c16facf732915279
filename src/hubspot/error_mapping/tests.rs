//! Recorded shapes of HubSpot's errors, and arbitrary bytes.

use proptest::prelude::*;

use super::*;
use crate::hubspot::error_body::{ErrorBody, MAX_MESSAGE, Unauthorized};

fn mapped(operation: Operation, status: u16, body: &str) -> Error {
    error(operation, StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
}

#[test]
fn every_status_maps_with_any_body() {
    let table = [
        (400, Reason::ValidationFailed),
        (401, Reason::CredentialRejected),
        (403, Reason::UpstreamForbidden),
        (404, Reason::LeadNotFound),
        (409, Reason::Conflict),
        (414, Reason::ValidationFailed),
        (415, Reason::ValidationFailed),
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
            // A 404 without HubSpot's JSON is not from its API.
            let foreign = status == 404 && !["", "{}"].contains(&body);
            let reason = if foreign { Reason::UpstreamInvalidResponse } else { reason };
            assert_eq!(error.reason(), reason, "{status} {body:?}");
            assert!(!error.message().is_empty());
            assert!(!error.message().contains("html"));
        }
    }
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
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", "7".parse().unwrap());
    let with_header =
        error(Operation::Get, StatusCode::TOO_MANY_REQUESTS, &headers, body("SECONDLY").as_bytes());
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
        let error = error(Operation::BatchCreate, status, &HeaderMap::new(), &bytes);
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
        let error = error(Operation::Update, status, &HeaderMap::new(), body.as_bytes());
        prop_assert!(error.reason() != Reason::Internal);
    }
}

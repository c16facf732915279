//! Rendering of errors of the server, of the connection and of inputs.

use std::collections::HashMap;

use prost::Message;
use tonic_types::pb;

use super::*;

fn detail(name: &str, message: &impl Message) -> Any {
    let type_url = format!("type.googleapis.com/google.rpc.{name}");
    Any { type_url, value: message.encode_to_vec() }
}

fn rate_limited() -> tonic_types::Status {
    let info = pb::ErrorInfo {
        reason: "RATE_LIMITED".into(),
        domain: "leadsd".into(),
        metadata: HashMap::from([
            ("httpStatus".to_owned(), "429".to_owned()),
            ("bucket".to_owned(), "burst".to_owned()),
        ]),
    };
    let violation = |field: &str, description: &str| pb::bad_request::FieldViolation {
        field: field.into(),
        description: description.into(),
        ..Default::default()
    };
    let bad = pb::BadRequest {
        field_violations: vec![violation("properties[1]", "is empty"), violation("", "2 more")],
    };
    let retry = pb::RetryInfo {
        retry_delay: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
    };
    let quota = pb::QuotaFailure {
        violations: vec![pb::quota_failure::Violation {
            subject: "burst".into(),
            description: "too many calls".into(),
            ..Default::default()
        }],
    };
    let help = pb::Help {
        links: vec![pb::help::Link {
            description: "Cause".into(),
            url: "docs/ERRORS.md#rate_limited".into(),
        }],
    };
    let request = pb::RequestInfo { request_id: "id-1".into(), ..Default::default() };
    tonic_types::Status {
        code: Code::ResourceExhausted.into(),
        message: "too many calls; retry after 1.5 s".into(),
        details: vec![
            detail("ErrorInfo", &info),
            detail("RetryInfo", &retry),
            detail("QuotaFailure", &quota),
            detail("RequestInfo", &request),
            detail("Help", &help),
            detail("BadRequest", &bad),
        ],
    }
}

#[test]
fn details_are_shown_for_people_and_as_json() {
    let failure = Failure::from_input(rate_limited());
    assert_eq!(
        failure.text(),
        "RESOURCE_EXHAUSTED: too many calls; retry after 1.5 s\n\
         \x20 reason: RATE_LIMITED\n\
         \x20 field: properties[1]: is empty\n\
         \x20 field: 2 more\n\
         \x20 quota: burst: too many calls\n\
         \x20 retry: after 1.5s\n\
         \x20 details: bucket=burst httpStatus=429\n\
         \x20 help: docs/ERRORS.md#rate_limited\n\
         \x20 request id: id-1\n"
    );
    let json: serde_json::Value = serde_json::from_str(&failure.json()).unwrap();
    let error = &json["error"];
    assert_eq!(
        (error["code"].as_i64(), error["status"].as_str()),
        (Some(8), Some("RESOURCE_EXHAUSTED"))
    );
    assert_eq!(error["message"], "too many calls; retry after 1.5 s");
    assert_eq!(error["details"][0]["reason"], "RATE_LIMITED");
    assert_eq!(error["details"][1]["retryDelay"], "1.500s");
}

#[test]
fn resources_and_preconditions_are_shown() {
    let resource = pb::ResourceInfo {
        resource_type: "crm.hubspot.com/Lead".into(),
        resource_name: "999".into(),
        ..Default::default()
    };
    let precondition = pb::PreconditionFailure {
        violations: vec![pb::precondition_failure::Violation {
            description: "store a valid credential".into(),
            ..Default::default()
        }],
    };
    let status = tonic_types::Status {
        code: Code::NotFound.into(),
        message: "no such lead".into(),
        details: vec![
            detail("ResourceInfo", &resource),
            detail("PreconditionFailure", &precondition),
        ],
    };
    let text = Failure::from_input(status).text();
    assert!(text.contains("  resource: crm.hubspot.com/Lead 999\n"), "{text}");
    assert!(text.contains("  precondition: store a valid credential\n"), "{text}");
}

#[test]
fn an_invalid_or_unknown_detail_does_not_hide_the_others() {
    let mut status = rate_limited();
    let bad = Any { type_url: status.details[0].type_url.clone(), value: vec![0xff] };
    let unknown = Any { type_url: "example.com/Other".into(), value: vec![0xff] };
    status.details.insert(0, unknown);
    status.details.push(bad);
    let failure = Failure::from_input(status);
    assert!(failure.text().contains("  reason: RATE_LIMITED\n"), "{}", failure.text());
    let json: serde_json::Value = serde_json::from_str(&failure.json()).unwrap();
    assert_eq!(json["error"]["details"][0]["@value"], "/w==");
    assert_eq!(json["error"]["details"][7]["@value"], "/w==");
}

#[test]
fn control_characters_of_a_server_are_escaped() {
    let evil = "\u{1b}]0;x\u{7}\nleadsd: OK\u{202e}";
    let info = pb::ErrorInfo { reason: evil.into(), ..Default::default() };
    let status = tonic_types::Status {
        code: 5,
        message: evil.into(),
        details: vec![detail("ErrorInfo", &info)],
    };
    let failure = Failure { request_id: Some(evil.into()), ..Failure::from_input(status) };
    let text = failure.text();
    assert_eq!(text.lines().count(), 3, "{text}");
    let is_unsafe = |c: char| c != '\n' && super::super::escape::is_unsafe(c);
    assert!(!text.contains(is_unsafe) && !failure.json().contains(is_unsafe), "{text:?}");
    let json: serde_json::Value = serde_json::from_str(&failure.json()).unwrap();
    assert_eq!(json["error"]["message"], evil);
}

#[test]
fn failures_that_arise_here_have_a_code_and_a_remedy() {
    let failure = Failure::deadline(Duration::from_secs(20));
    assert_eq!(failure.code, Code::DeadlineExceeded);
    assert_eq!(
        failure.text(),
        "DEADLINE_EXCEEDED: no response within 20s\n  remedy: raise --deadline; a write may have \
         taken effect\n"
    );
    assert_eq!(
        failure.json(),
        r#"{"error":{"code":4,"status":"DEADLINE_EXCEEDED","message":"no response within 20s"}}"#
    );
}

#[test]
fn codes_that_grpc_does_not_have_are_unknown() {
    for code in [-1, 17, i32::MAX] {
        let status = tonic_types::Status { code, ..Default::default() };
        assert_eq!(Failure::from_input(status).code, Code::Unknown, "{code}");
    }
}

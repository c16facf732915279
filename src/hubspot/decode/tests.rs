//! Successful statuses with and without the results of their operation.

use super::*;
use crate::leads::SideEffect;

fn decoded(operation: Operation, body: &str) -> Result<Response, Error> {
    decode(operation, StatusCode::OK, Some("c-1"), body.as_bytes())
}

fn reason(operation: Operation, body: &str) -> Option<Reason> {
    decoded(operation, body).err().map(|error| error.reason())
}

const READS: [Operation; 5] = [
    Operation::Get,
    Operation::List,
    Operation::Search,
    Operation::BatchRead,
    Operation::ReadAssociations,
];

const WRITES: [Operation; 4] =
    [Operation::Create, Operation::Update, Operation::BatchCreate, Operation::BatchUpdate];

#[test]
fn a_success_without_results_is_an_invalid_response() {
    for body in [
        "",
        "{}",
        "null",
        "[]",
        "<html></html>",
        r#"{"results":null}"#,
        r#"{"results":{}}"#,
        r#"{"results":"none"}"#,
        r#"{"results":[null]}"#,
        r#"{"total":0}"#,
        r#"{"status":"COMPLETE"}"#,
        r#"{"status":"error"}"#,
        r#"{"status":"error","category":"A_NEW_ONE","message":"odd"}"#,
    ] {
        for operation in READS {
            let error = decoded(operation, body).unwrap_err();
            assert_eq!(error.reason(), Reason::UpstreamInvalidResponse, "{operation:?} {body}");
            assert_eq!(error.side_effect(), SideEffect::None);
        }
        for operation in WRITES {
            let error = decoded(operation, body).unwrap_err();
            let is_create = matches!(operation, Operation::Create | Operation::BatchCreate);
            let expected = if is_create {
                Reason::WriteOutcomeUnknown
            } else {
                Reason::UpstreamInvalidResponse
            };
            assert_eq!(error.reason(), expected, "{operation:?} {body}");
            assert_eq!(error.side_effect(), SideEffect::Possible);
        }
    }
}

#[test]
fn a_list_is_empty_only_if_its_results_are() {
    assert!(decoded(Operation::List, r#"{"results":[]}"#).is_ok());
    assert!(decoded(Operation::Search, r#"{"total":0,"results":[]}"#).is_ok());
    assert!(decoded(Operation::BatchRead, r#"{"status":"COMPLETE","results":[]}"#).is_ok());
    assert!(decoded(Operation::BatchRead, r#"{"errors":[],"numErrors":1}"#).is_ok());
    assert!(decoded(Operation::ReadAssociations, r#"{"errors":[{}]}"#).is_ok());
    for operation in [Operation::List, Operation::Search] {
        let without_id = r#"{"results":[{"id":"1"},{}]}"#;
        assert_eq!(reason(operation, without_id), Some(Reason::UpstreamInvalidResponse));
    }
}

#[test]
fn an_error_object_with_a_successful_status_is_that_error() {
    let body = |category: &str| {
        format!(
            r#"{{"status":"error","category":"{category}","message":"why","correlationId":"c-9"}}"#
        )
    };
    for (category, expected) in [
        ("VALIDATION_ERROR", Reason::ValidationFailed),
        ("MISSING_SCOPES", Reason::MissingScopes),
        ("RATE_LIMITS", Reason::RateLimited),
        ("INVALID_AUTHENTICATION", Reason::CredentialRejected),
        ("EXPIRED_AUTHENTICATION", Reason::CredentialRejected),
        ("CONFLICT", Reason::Conflict),
    ] {
        for operation in READS.into_iter().chain(WRITES) {
            let error = decoded(operation, &body(category)).unwrap_err();
            assert_eq!(error.reason(), expected, "{operation:?} {category}");
            assert_eq!(error.message(), "why");
            assert_eq!(error.upstream().http_status, Some(200), "no status is invented");
            assert_eq!(error.upstream().correlation_id.as_deref(), Some("c-9"));
            assert_eq!(error.side_effect(), SideEffect::None, "HubSpot rejected it");
        }
    }
    assert_eq!(reason(Operation::Get, &body("OBJECT_NOT_FOUND")), Some(Reason::LeadNotFound));
    let internal = body("INTERNAL_ERROR");
    assert_eq!(reason(Operation::List, &internal), Some(Reason::UpstreamUnavailable));
    assert_eq!(reason(Operation::Create, &internal), Some(Reason::WriteOutcomeUnknown));
}

#[test]
fn an_archive_needs_no_body_but_may_carry_an_error() {
    let denied = r#"{"status":"error","category":"MISSING_SCOPES","message":"no"}"#;
    for operation in [Operation::Archive, Operation::BatchArchive] {
        for body in ["", "{}", r#"{"status":"COMPLETE"}"#] {
            assert!(decoded(operation, body).is_ok(), "{operation:?} {body}");
        }
        assert_eq!(reason(operation, denied), Some(Reason::MissingScopes));
        assert_eq!(reason(operation, "<html>"), Some(Reason::UpstreamInvalidResponse));
    }
}

//! Successful statuses with and without the results of their operation.
#![expect(clippy::wildcard_enum_match_arm, reason = "the tables treat one operation apart")]

use super::*;
use crate::hubspot::wire::ResponseField;
use crate::leads::{AffectedInputs, AssociatedObject, SideEffect};

fn decoded(operation: Operation, body: impl AsRef<[u8]>) -> Result<Response, Error> {
    let unreadable = &mut UnreadableFields::default();
    decode(operation, StatusCode::OK, Some("c-1"), body.as_ref(), unreadable)
}

fn reason(operation: Operation, body: &str) -> Option<Reason> {
    decoded(operation, body).err().map(|error| error.reason())
}

const READS: [Operation; 6] = [
    Operation::Get,
    Operation::List,
    Operation::Search,
    Operation::BatchRead,
    Operation::ReadAssociations,
    Operation::ListAssociations,
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
    assert!(decoded(Operation::ListAssociations, r#"{"results":[]}"#).is_ok());
    for operation in [Operation::List, Operation::Search] {
        let without_ids = r#"{"results":[{},{"properties":{}}]}"#;
        assert_eq!(reason(operation, without_ids), Some(Reason::UpstreamInvalidResponse));
    }
    // Only the lead without an id is left out.
    let page = decoded(Operation::List, r#"{"results":[{"id":"1"},{},null]}"#).unwrap();
    let ids: Vec<_> = page.into_page().unwrap().leads.iter().map(|lead| lead.id.clone()).collect();
    assert_eq!(ids, ["1"]);
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
            let error = decoded(operation, body(category)).unwrap_err();
            assert_eq!(error.reason(), expected, "{operation:?} {category}");
            assert_eq!(error.message(), "why");
            assert_eq!(error.upstream().http_status, Some(200), "no status is invented");
            // HubSpot's error objects have an optional id.
            let with_id = body(category).replacen('{', r#"{"id":"42","#, 1);
            let error = decoded(operation, with_id).unwrap_err();
            assert_eq!(error.reason(), expected, "{operation:?} {category}");
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
fn leads_without_associations_are_listed_and_unknown_leads_are_not() {
    let none = |ids: &str| {
        format!(
            r#"{{"status":"error","category":"OBJECT_NOT_FOUND",
                "subCategory":"crm.associations.NO_ASSOCIATIONS_FOUND","message":"none",
                "context":{{"fromObjectId":[{ids}],"fromObjectType":["lead"]}}}}"#
        )
    };
    let unknown = r#"{"status":"error","category":"OBJECT_NOT_FOUND","context":{"ids":["4"]}}"#;
    let body = format!(
        r#"{{"status":"COMPLETE","numErrors":3,"results":[{{"from":{{"id":"1"}},"to":[
            {{"toObjectId":9,"associationTypes":[{{"category":"WORK","typeId":5}}]}}],
            "paging":{{"next":{{"after":"c"}}}}}}],"errors":[{},{unknown},{}]}}"#,
        none(r#""2""#),
        none(r#""3""#),
    );
    let links = decoded(Operation::ReadAssociations, &body).unwrap().into_associations().unwrap();
    let of = |id: &str| links.iter().find(|links| links.lead == id);
    assert_eq!(of("1").unwrap().page.next.as_deref(), Some("c"));
    assert!(!of("1").unwrap().is_complete() && of("1").unwrap().is_whole);
    assert_eq!(of("1").unwrap().records().unwrap()[0].id, "9");
    assert_eq!(
        [of("2"), of("3")].map(|found| found.cloned()),
        ["2", "3"].map(|id| Some(Links::none(id.to_owned())))
    );
    assert_eq!(of("4"), None);
    // All of them have none.
    let all = format!(
        r#"{{"status":"COMPLETE","numErrors":1,"results":[],"errors":[{}]}}"#,
        none(r#""2","3""#)
    );
    let links = decoded(Operation::ReadAssociations, all).unwrap().into_associations().unwrap();
    assert!(["2", "3"].iter().all(|id| links.iter().any(|links| links.lead == *id)));
    // A record without an id is no silent gap.
    let gap = r#"{"results":[{"from":{"id":"1"},"to":[{"toObjectId":null},{"toObjectId":"5"}]}]}"#;
    let links = decoded(Operation::ReadAssociations, gap).unwrap().into_associations().unwrap();
    assert!(!links[0].is_complete() && !links[0].is_whole);
}

#[test]
fn a_page_of_associations_has_an_entry_for_each_type_of_a_record() {
    let body = r#"{"results":[
        {"toObjectId":21,"associationTypes":[{"category":"A_NEW_ONE","typeId":9,"label":"odd"}]},
        {"toObjectId":"9","associationTypes":[
            {"category":"HUBSPOT_DEFINED","typeId":608,"label":null},
            {"category":"USER_DEFINED","typeId":3,"label":"Champion"}]},
        {"toObjectId":"30","associationTypes":[]}],
        "paging":{"next":{"after":"c-2"}}}"#;
    let page = decoded(Operation::ListAssociations, body).unwrap().into_associated().unwrap();
    let entry = |object: &AssociatedObject| {
        let kind = object.association_type.map(|kind| (kind.category.as_str(), kind.type_id));
        (object.id.clone(), kind, object.label.clone())
    };
    let entries: Vec<_> = page.objects.iter().map(entry).collect();
    assert_eq!(
        entries,
        [
            ("9".to_owned(), Some(("HUBSPOT_DEFINED", 608)), None),
            ("9".to_owned(), Some(("USER_DEFINED", 3)), Some("Champion".to_owned())),
            ("21".to_owned(), None, Some("odd".to_owned())),
            ("30".to_owned(), None, None),
        ]
    );
    assert_eq!(page.next.as_deref(), Some("c-2"));
}

#[test]
fn an_unreadable_part_of_a_page_of_associations_costs_its_record_but_never_the_cursor() {
    let unreadable = &mut UnreadableFields::default();
    let odd = r#"{"results":[{"toObjectId":{}},7,{"toObjectId":"5","associationTypes":7},
        {"toObjectId":"6","associationTypes":[8,{"category":"USER_DEFINED","typeId":"x"}]}],
        "paging":{"next":{"after":"c-2"}}}"#;
    let operation = Operation::ListAssociations;
    let page = decode(operation, StatusCode::OK, None, odd.as_bytes(), unreadable).unwrap();
    let page = page.into_associated().unwrap();
    let ids: Vec<_> = page.objects.iter().map(|object| object.id.as_str()).collect();
    assert_eq!(ids, ["5", "6"]);
    assert_eq!(page.next.as_deref(), Some("c-2"));
    assert!(
        unreadable.iter().any(|(field, count)| field == ResponseField::Associations && count >= 4)
    );
    for broken in [
        r#"{"results":[{"toObjectId":"5"}],"paging":{"next":7}}"#,
        r#"{"results":[{"toObjectId":"5"}],"paging":{"next":{"after":{}}}}"#,
        r#"{"results":[{},{"toObjectId":null}]}"#,
    ] {
        assert_eq!(reason(operation, broken), Some(Reason::UpstreamInvalidResponse), "{broken}");
    }
}

#[test]
fn an_error_object_with_details_is_one_error_for_the_whole_batch() {
    const BATCHES: [Operation; 5] = [
        Operation::BatchRead,
        Operation::BatchCreate,
        Operation::BatchUpdate,
        Operation::BatchArchive,
        Operation::ReadAssociations,
    ];
    let scopes = r#"{"status":"error","category":"MISSING_SCOPES","message":"no","errors":[
        {"message":"one of","context":{"requiredGranularScopes":["crm.objects.leads.read"]}}]}"#;
    for operation in BATCHES {
        let error = decoded(operation, scopes).unwrap_err();
        assert_eq!(error.reason(), Reason::MissingScopes, "{operation:?}");
        assert_eq!(error.upstream().required_scopes, ["crm.objects.leads.read"]);
        assert_eq!(error.side_effect(), SideEffect::None);
    }
    for body in [
        r#"{"status":"error","category":"INTERNAL_ERROR","message":"x","errors":[]}"#,
        r#"{"status":"error","category":"INTERNAL_ERROR","results":null,"errors":[]}"#,
        r#"{"category":"INTERNAL_ERROR","results":[],"errors":[{"message":"x"}]}"#,
        r#"{"results":[],"category":"TIMEOUT"}"#,
    ] {
        for operation in BATCHES {
            let error = decoded(operation, body).unwrap_err();
            let expected = match operation {
                Operation::BatchCreate => Reason::WriteOutcomeUnknown,
                _ => Reason::UpstreamUnavailable,
            };
            assert_eq!(error.reason(), expected, "{operation:?} {body}");
            let has_no_effect = error.side_effect() == SideEffect::None;
            assert_eq!(has_no_effect, !operation.writes(), "{operation:?} {body}");
        }
    }
    let bare = r#"{"status":"error","message":"x","errors":[]}"#;
    for operation in BATCHES {
        assert!(decoded(operation, bare).is_err(), "{operation:?}");
    }
    let limited = r#"{"status":"error","category":"RATE_LIMITS","results":[]}"#;
    for operation in [Operation::List, Operation::Search] {
        assert_eq!(reason(operation, limited), Some(Reason::RateLimited), "{operation:?}");
    }
}

#[test]
fn errors_of_inputs_are_not_an_error_of_their_batch() {
    let input = r#"{"status":"error","category":"VALIDATION_ERROR","message":"no",
        "context":{"ids":["2"]}}"#;
    for head in ["", r#""status":"COMPLETE","results":[],"#, r#""status":"error","results":[],"#] {
        let body = format!(r#"{{{head}"errors":[{input}]}}"#);
        for operation in [Operation::BatchRead, Operation::BatchUpdate, Operation::BatchArchive] {
            let batch = decoded(operation, &body).unwrap().into_batch().unwrap();
            assert_eq!(batch.errors.len(), 1, "{operation:?} {body}");
            assert_eq!(batch.errors[0].affected_inputs().ids, ["2"]);
        }
    }
    // A result proves that HubSpot evaluated the batch.
    let mixed = r#"{"status":"error","category":"CONFLICT","results":[{"id":"1"}],"errors":[]}"#;
    let batch = decoded(Operation::BatchUpdate, mixed).unwrap().into_batch().unwrap();
    assert_eq!(batch.results.len(), 1);
}

#[test]
fn a_missing_lead_is_an_error_that_keeps_its_ids_except_for_an_archive() {
    let missing = |ids: &[&str]| {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let affected = AffectedInputs { ids, ..AffectedInputs::default() };
        Error::lead_not_found().with_affected_inputs(affected)
    };
    for operation in READS.into_iter().chain(WRITES).chain([Operation::BatchArchive]) {
        let named = error_response(operation, missing(&["2"])).unwrap_err();
        assert_eq!(named.reason(), Reason::LeadNotFound, "{operation:?}");
        assert_eq!(named.affected_inputs().ids, ["2"], "{operation:?}");
        assert!(error_response(operation, missing(&[])).is_err(), "{operation:?}");
    }
    assert!(matches!(error_response(Operation::Archive, missing(&[])), Ok(Response::Archived)));
    let denied = Error::new(Reason::UpstreamForbidden, "no");
    assert_eq!(error_response(Operation::Archive, denied.clone()).unwrap_err(), denied);
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

#[test]
fn a_create_with_an_id_is_known_whatever_the_rest_is() {
    for (body, is_whole) in [
        (&br#"{"id":"7","properties":{"a":"x"}}"#[..], true),
        (b"\xef\xbb\xbf{\"id\":\"7\",\"properties\":{\"a\":\"x\"}}", true),
        (br#"{"id":"7","properties":{"a":"x","b":"\ud800"},"url":[]}"#, true),
        (br#"{"properties":{"a":"x","hs_object_id":"7"}}"#, true),
        (br#"{"id":7,"properties":{"a":"x"},"properties":[],"x":NaN}"#, true),
        (br#"{"id":"7","properties":{"a":"x"#, false),
        (br#"{"id":"7","properties":{"a":"x"},"createdAt""#, false),
        (br#"{"id":"7", "properties" "a""#, false),
        (br#"{"id":"7"}}"#, false),
    ] {
        let text = String::from_utf8_lossy(body);
        for operation in [Operation::Create, Operation::Update] {
            let lead = decoded(operation, body).unwrap().into_lead().unwrap();
            assert_eq!((lead.id.as_str(), lead.is_id_only), ("7", !is_whole), "{text}");
            assert_eq!(lead.properties.contains_key("a"), is_whole, "{text}");
        }
    }
    // A truncated id is not an id, error objects have ids, and a read needs the whole lead.
    for body in [
        r#"{"id":"7"#,
        r#"{"id":7"#,
        r#"{"url":"u"}"#,
        "<html>",
        "{}",
        r#"{"id":"7","category":"CONFLICT","message":"#,
        r#"{"status":"error","id":"7","correlationId":"c","#,
    ] {
        let error = decoded(Operation::Create, body).unwrap_err();
        assert_eq!(error.reason(), Reason::WriteOutcomeUnknown, "{body}");
    }
    let error = decoded(Operation::Get, br#"{"id":"7","properties":{"a":"x"#).unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamInvalidResponse);
}

#[test]
fn a_cut_batch_write_keeps_the_results_that_arrived() {
    let body = br#"{"status":"COMPLETE","results":[{"id":"1","objectWriteTraceId":"a","url":"u"},
        {"id":"2","objectWriteTraceId":"b","properties":{"a":"#;
    let batch = decoded(Operation::BatchCreate, body).unwrap().into_batch().unwrap();
    let results: Vec<_> = batch
        .results
        .iter()
        .map(|item| (item.lead.id.as_str(), item.trace_id.as_deref(), item.lead.is_id_only))
        .collect();
    assert_eq!(results, [("1", Some("a"), false), ("2", Some("b"), true)]);
    for operation in [Operation::BatchRead, Operation::BatchArchive] {
        assert!(decoded(operation, body).is_err(), "{operation:?}");
    }
    // If the connection breaks, an update is repeated instead.
    let arrived = |operation| decode_arrived(operation, None, body).map(Response::into_batch);
    assert_eq!(arrived(Operation::BatchCreate).unwrap().unwrap().results.len(), 2);
    assert!(arrived(Operation::BatchUpdate).is_none() && arrived(Operation::BatchRead).is_none());
    assert!(decoded(Operation::BatchCreate, br#"{"results":["#).is_err());
}

//! Records of all kinds of writes, and records that a hostile store returns.

use super::*;
use crate::leads::{AffectedInputs, FieldFault};

const VALUE: &str = "secret-value-of-a-property";

fn lead(id: &str) -> Arc<Lead> {
    let properties = [("hs_lead_name".to_owned(), VALUE.to_owned())].into();
    Arc::new(Lead { id: id.to_owned(), properties, ..Lead::default() })
}

/// A rejection that quotes the value of a property wherever HubSpot may.
fn rejection() -> Error {
    let upstream = UpstreamFacts {
        http_status: Some(400),
        correlation_id: Some("1d1a7e3c-bd3a-4b0e-9d35-000000000001".to_owned()),
        category: Some("VALIDATION_ERROR".to_owned()),
        sub_category: Some(VALUE.to_owned()),
        policy_name: Some(VALUE.to_owned()),
        required_scopes: vec![VALUE.to_owned()],
        existing_id: Some("77".to_owned()),
        record_ids: vec![VALUE.to_owned()],
        correct_hublet: Some(VALUE.to_owned()),
        attempts: 1,
    };
    let affected = AffectedInputs { ids: vec![VALUE.to_owned()], ..AffectedInputs::default() };
    Error::new(Reason::ValidationFailed, format!("{VALUE} is invalid"))
        .with_internal(VALUE)
        .with_fields(vec![FieldFault::for_property("hs_lead_name", VALUE)])
        .with_affected_inputs(affected)
        .with_upstream(upstream)
}

fn unknown() -> Error {
    Error::new(Reason::WriteOutcomeUnknown, VALUE).with_side_effect(SideEffect::Possible)
}

fn responses() -> Vec<(WriteShape, WriteResponse)> {
    let upserted = |id: &str, created| Upserted { lead: lead(id), created };
    vec![
        (WriteShape::Lead, WriteResponse::Lead(Ok(lead("1")))),
        (WriteShape::Lead, WriteResponse::Lead(Err(unknown()))),
        (WriteShape::Archived, WriteResponse::Archived(Ok(()))),
        (WriteShape::Archived, WriteResponse::Archived(Err(rejection()))),
        (WriteShape::Upserted, WriteResponse::Upserted(Ok(upserted("2", Some(true))))),
        (
            WriteShape::Leads(3),
            WriteResponse::Leads(Ok(vec![Ok(lead("3")), Err(rejection()), Err(unknown())])),
        ),
        (
            WriteShape::Upserts(3),
            WriteResponse::Upserts(Ok(vec![
                Ok(upserted("4", Some(false))),
                Err(unknown()),
                Ok(upserted("5", None)),
            ])),
        ),
        (
            WriteShape::Archives(2),
            WriteResponse::Archives(Ok(vec![Ok(()), Err(Error::lead_not_found())])),
        ),
        (WriteShape::Leads(2), WriteResponse::Leads(Err(unknown()))),
    ]
}

#[test]
fn a_record_has_outcomes_and_ids_and_no_value_of_a_property() {
    for (shape, response) in responses() {
        let record = shape.encode(&response).unwrap();
        let text = String::from_utf8(record.clone()).unwrap();
        assert!(!text.contains(VALUE) && !text.contains("hs_lead_name"), "{text}");
        let decoded = shape.decode(&record).unwrap();
        assert_eq!(shape.encode(&decoded), Some(record), "{text}");
        assert_eq!(decoded.is_final(), response.is_final(), "{text}");
        assert_eq!(decoded.may_have_effects(), response.may_have_effects(), "{text}");
    }
}

#[test]
fn a_rejection_keeps_its_reason_and_its_codes() {
    let response = WriteResponse::Leads(Ok(vec![Err(rejection())]));
    let shape = WriteShape::Leads(1);
    let decoded = shape.decode(&shape.encode(&response).unwrap()).unwrap();
    let error = decoded.into_leads().unwrap().remove(0).unwrap_err();
    assert_eq!(error.reason(), Reason::ValidationFailed);
    let upstream = error.upstream();
    assert_eq!(
        (upstream.http_status, upstream.category.as_deref()),
        (Some(400), Some("VALIDATION_ERROR"))
    );
    assert_eq!(upstream.existing_id.as_deref(), Some("77"));
    assert!(error.is_final());
}

#[test]
fn texts_that_are_no_codes_and_ids_that_are_no_ids_are_not_encoded() {
    let upstream = UpstreamFacts {
        correlation_id: Some(VALUE.to_owned()),
        category: Some(VALUE.to_owned()),
        existing_id: Some(VALUE.to_owned()),
        ..UpstreamFacts::default()
    };
    let error = rejection().with_upstream(upstream);
    let record = WriteShape::Lead.encode(&WriteResponse::Lead(Err(error))).unwrap();
    assert_eq!(String::from_utf8(record).unwrap(), r#"[{"r":"VALIDATION_FAILED"}]"#);
    for id in ["", "a b", VALUE, &"1".repeat(65)] {
        assert_eq!(WriteShape::Lead.encode(&WriteResponse::Lead(Ok(lead(id)))), None, "{id}");
    }
}

#[test]
fn invalid_records_and_records_of_other_shapes_are_not_decoded() {
    let lead = WriteShape::Lead;
    for invalid in [
        "",
        "null",
        "{}",
        "[]",
        "[\"\"]",
        "[\"1\",\"2\"]",
        "[[\"1\",true]]",
        "[\"a b\"]",
        "[{\"r\":\"NO_SUCH_REASON\"}]",
        "[{\"r\":\"CONFLICT\",\"c\":\"a b\"}]",
        "[{\"r\":\"CONFLICT\",\"message\":\"x\"}]",
        "[[[[[[[[",
    ] {
        assert!(lead.decode(invalid.as_bytes()).is_none(), "{invalid}");
    }
    assert!(lead.decode(&[0xff, 0xfe]).is_none());
    assert!(lead.decode("[".repeat(100_000).as_bytes()).is_none());
    for (shape, response) in responses() {
        let record = shape.encode(&response).unwrap();
        assert!(WriteShape::Leads(9).decode(&record).is_none());
        if shape != WriteShape::Archived {
            assert!(
                shape == WriteShape::Lead
                    || lead.decode(&record).is_none()
                    || matches!(
                        response,
                        WriteResponse::Lead(Err(_)) | WriteResponse::Upserted(Err(_))
                    )
            );
        }
    }
}

#[test]
fn what_is_not_final_in_an_interrupted_write_is_unknown() {
    let (shape, mut results) = (WriteShape::Leads(3), vec![Ok(lead("1")), Err(rejection())]);
    results.push(Err(Error::new(Reason::RateLimited, "not sent")));
    let state = WriteResponse::interrupted(shape, Some(WriteResponse::Leads(Ok(results))));
    let results = state.into_leads().unwrap();
    assert_eq!(results[0].as_ref().unwrap().id, "1");
    assert_eq!(results[1].as_ref().unwrap_err().reason(), Reason::ValidationFailed);
    let error = results[2].as_ref().unwrap_err();
    assert_eq!(error.reason(), Reason::WriteOutcomeUnknown);
    assert_eq!(error.side_effect(), SideEffect::Possible);
}

#[test]
fn of_two_states_the_more_certain_result_of_each_input_counts() {
    let not_sent = || Error::new(Reason::RateLimited, "not sent");
    let own = vec![Ok(lead("1")), Err(not_sent()), Err(unknown()), Err(unknown())];
    let other = vec![Err(unknown()), Err(unknown()), Ok(lead("3")), Err(not_sent())];
    let both = WriteResponse::Leads(Ok(own)).combine(WriteResponse::Leads(Ok(other)));
    let both = both.into_leads().unwrap();
    assert_eq!(both[0].as_ref().unwrap().id, "1");
    assert_eq!(both[1].as_ref().unwrap_err().reason(), Reason::WriteOutcomeUnknown);
    assert_eq!(both[2].as_ref().unwrap().id, "3");
    assert_eq!(both[3].as_ref().unwrap_err().reason(), Reason::WriteOutcomeUnknown);
}

//! Responses of random sizes: none exceeds the limit, and every input has its outcome.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::{
    grpc::page_token::Fingerprint,
    grpc::transport::call_state::testing::{admission, call},
    leads::{
        AssociatedObject, AssociationCategory, AssociationType, PropertyVersion, UpstreamFacts,
        Warning,
    },
};
use leadsd_base::time::Timestamp;

/// Builds responses of up to `max_bytes`, with room for `memory` bytes.
fn fit(max_bytes: usize, memory: usize) -> ResponseFit {
    let state = call(&admission(memory), false, Instant::now());
    ResponseFit::new(Arc::new(state), max_bytes)
}

fn lead_with(value: usize) -> Arc<Lead> {
    let properties = BTreeMap::from([("notes".to_owned(), "x".repeat(value))]);
    Arc::new(Lead { id: "101".to_owned(), properties, ..Lead::default() })
}

fn texts(max: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[a-zäß]{{0,{max}}}")).unwrap()
}

fn times() -> impl Strategy<Value = Option<Timestamp>> {
    let range = -10_000_000_000_000_i64..10_000_000_000_000;
    proptest::option::of(range.prop_map(|ms| Timestamp::from_millisecond(ms).unwrap()))
}

fn versions() -> impl Strategy<Value = PropertyVersion> {
    let texts = || proptest::option::of(texts(9));
    (texts(), times(), texts(), texts(), proptest::option::of(any::<i64>())).prop_map(
        |(value, time, source_type, source_id, updated_by_user_id)| PropertyVersion {
            value,
            time,
            source_type,
            source_label: source_id.clone(),
            source_id,
            updated_by_user_id,
        },
    )
}

fn leads() -> impl Strategy<Value = Lead> {
    let property = || texts(6);
    let history = proptest::collection::btree_map(
        property(),
        proptest::collection::vec(versions(), 0..4),
        0..3,
    );
    let properties = proptest::collection::btree_map(property(), texts(300), 0..12);
    let values = proptest::collection::vec(texts(5), 0..4);
    (properties, history, values, times(), proptest::option::of(texts(200)), any::<bool>())
        .prop_map(|(properties, property_history, values, create_time, url, flag)| {
            let category = AssociationCategory::Work;
            let object = |value: &String| AssociatedObject {
                association_type: flag.then_some(AssociationType { category, type_id: i32::MAX }),
                label: flag.then(|| value.clone()),
                ..AssociatedObject::named(value, value)
            };
            let associated = Associated {
                objects: values.iter().map(object).collect(),
                next: values.first().cloned(),
            };
            let warning = Warning {
                category: url.clone(),
                message: None,
                context: BTreeMap::from([
                    ("a".to_owned(), values.clone()),
                    (String::new(), Vec::new()),
                ]),
            };
            Lead {
                id: "171591000198".to_owned(),
                labels: if flag { properties.clone() } else { BTreeMap::new() },
                properties,
                unset_properties: values,
                property_history,
                associations: BTreeMap::from([
                    ("contacts".to_owned(), associated),
                    ("deals".to_owned(), Associated::default()),
                ]),
                create_time,
                update_time: create_time,
                archived: flag,
                archive_time: None,
                url,
                warnings: if flag { vec![warning] } else { Vec::new() },
                is_id_only: false,
            }
        })
}

fn errors() -> impl Strategy<Value = Error> {
    (0..Reason::ALL.len(), 0..2_000_usize, 0..20_usize).prop_map(|(reason, length, fields)| {
        let fault =
            |i: usize| FieldFault::new(format!("properties[\"p_{i}\"]"), "ß".repeat(length / 4));
        Error::new(Reason::ALL[reason], "ß".repeat(length))
            .with_fields((0..fields).map(fault).collect())
            .with_upstream(UpstreamFacts {
                category: Some("x".repeat(length / 10)),
                ..UpstreamFacts::default()
            })
    })
}

fn results() -> impl Strategy<Value = Vec<Result<Lead, Error>>> {
    let result = prop_oneof![3 => leads().prop_map(Ok), 1 => errors().prop_map(Err)];
    proptest::collection::vec(result, 1..80)
}

/// The first trace ids have the maximum length.
fn trace_ids(count: usize) -> Vec<String> {
    (0..count).map(|i| if i < 5 { "t".repeat(128) } else { format!("trace-{i}") }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_size_of_a_lead_is_that_of_its_message(lead in leads(), id_only in any::<bool>()) {
        let lead = if id_only { lead.id_only() } else { lead };
        prop_assert_eq!(lead_size(&lead), response::lead(lead).encoded_len());
    }

    #[test]
    fn a_batch_read_fits_and_has_one_result_per_input(
        results in results(),
        max_bytes in 20_000..80_000_usize,
        memory in prop_oneof![Just(1 << 30), 0..100_000_usize],
    ) {
        let mut fit = fit(max_bytes, memory);
        fit.reserve("ids", results.iter().map(|_| "")).unwrap();
        let built: Vec<_> = results
            .iter()
            .cloned()
            .map(|result| fit.read_result(result.map(Arc::new)))
            .collect();
        for (built, result) in built.iter().zip(&results) {
            match (built.outcome.as_ref().unwrap(), result) {
                (pb::lead_read_result::Outcome::Lead(built), Ok(lead)) => {
                    prop_assert_eq!(built, &response::lead(lead.clone()));
                }
                (pb::lead_read_result::Outcome::Error(built), Ok(_)) => {
                    prop_assert_eq!(built.code, i32::from(tonic::Code::ResourceExhausted));
                }
                (pb::lead_read_result::Outcome::Error(built), Err(error)) => {
                    prop_assert_eq!(built.code, i32::from(status::code(error.reason())));
                }
                (pb::lead_read_result::Outcome::Lead(_), Err(_)) => prop_assert!(false, "a lead"),
            }
        }
        let size = pb::BatchGetLeadsResponse { results: built, labels_error: None }.encoded_len();
        prop_assert!(size <= max_bytes, "{} of {}", size, max_bytes);
    }

    #[test]
    fn a_batch_write_fits_and_keeps_every_id_and_outcome(
        results in results(),
        max_bytes in 20_000..80_000_usize,
        memory in prop_oneof![Just(1 << 30), 0..100_000_usize],
    ) {
        let traces = trace_ids(results.len());
        let mut fit = fit(max_bytes, memory);
        fit.reserve("inputs", traces.iter().map(String::as_str)).unwrap();
        let built: Vec<_> = results
            .iter()
            .cloned()
            .zip(traces.iter().cloned())
            .map(|(result, trace)| {
                let upserted = |lead: Lead| Upserted { lead: Arc::new(lead), created: Some(true) };
                fit.upsert_result(result.map(upserted), trace)
            })
            .collect();
        for ((built, result), trace) in built.iter().zip(&results).zip(&traces) {
            prop_assert_eq!(&built.object_write_trace_id, trace);
            match (built.outcome.as_ref().unwrap(), result) {
                (pb::lead_upsert_result::Outcome::Lead(built_lead), Ok(lead)) => {
                    prop_assert_eq!(&built_lead.id, &lead.id);
                    prop_assert!(built.created && !built.created_unknown);
                    let whole = response::lead(lead.clone());
                    prop_assert!(built_lead.id_only || *built_lead == whole);
                }
                (pb::lead_upsert_result::Outcome::Error(built), Err(error)) => {
                    prop_assert_eq!(built.code, i32::from(status::code(error.reason())));
                    prop_assert!(!built.details.is_empty(), "no reason");
                }
                (outcome, _) => prop_assert!(false, "another outcome: {outcome:?}"),
            }
        }
        let size = pb::BatchUpsertLeadsResponse { results: built, labels_error: None }.encoded_len();
        prop_assert!(size <= max_bytes, "{} of {}", size, max_bytes);
    }
}

#[tokio::test]
async fn a_short_error_of_any_reason_fits_in_what_is_reserved() {
    for reason in Reason::ALL {
        let status = status::for_item_short(&Error::new(reason, "ß".repeat(1_000)));
        let trace_id = "t".repeat(128);
        let result = pb::LeadUpsertResult {
            outcome: Some(pb::lead_upsert_result::Outcome::Error(status)),
            created: false,
            created_unknown: false,
            object_write_trace_id: trace_id.clone(),
        };
        assert!(field(result.encoded_len()) <= reserved(&trace_id), "{reason:?}");
    }
}

#[tokio::test]
async fn a_batch_whose_outcomes_may_not_fit_is_rejected_with_the_number_that_fits() {
    let error =
        fit(64 << 10, 1 << 30).reserve("inputs", vec!["t"; 10_000].into_iter()).unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest);
    assert!(error.message().contains("inputs: the results of 10000 inputs"), "{error}");
    let fits = error.message().split("at most ").nth(1).unwrap().split(' ').next().unwrap();
    let fits: usize = fits.parse().unwrap();
    fit(64 << 10, 1 << 30).reserve("inputs", vec!["t"; fits].into_iter()).unwrap();
    // The default limit has room for the largest batch, with the longest trace ids.
    let trace_id = "t".repeat(128);
    fit(4_095 << 10, 1 << 30)
        .reserve("inputs", vec![trace_id.as_str(); 10_000].into_iter())
        .unwrap();
}

#[tokio::test]
async fn one_lead_named_ten_thousand_times_is_copied_only_as_often_as_it_fits() {
    let admission = admission(1 << 30);
    let state = Arc::new(call(&admission, false, Instant::now()));
    let mut fit = ResponseFit::new(state, 4_095 << 10);
    fit.reserve("ids", vec![""; 10_000].into_iter()).unwrap();
    let lead = lead_with(64 << 10);
    let results: Vec<_> = (0..10_000).map(|_| fit.read_result(Ok(Arc::clone(&lead)))).collect();
    let leads = |result: &&pb::LeadReadResult| {
        matches!(result.outcome, Some(pb::lead_read_result::Outcome::Lead(_)))
    };
    let count = results.iter().filter(leads).count();
    assert!((30..64).contains(&count), "{count}");
    let limits = admission.snapshot().limits;
    let charged = limits.iter().find(|limit| limit.name == "memory").unwrap().used;
    assert!((count * (64 << 10)..16 << 20).contains(&charged), "{charged}");
    assert!(pb::BatchGetLeadsResponse { results, labels_error: None }.encoded_len() <= 4_095 << 10);
}

#[tokio::test]
async fn a_single_response_that_does_not_fit_is_an_error_for_a_read_and_an_id_for_a_write() {
    let error = fit(64 << 10, 1 << 30).read_lead(lead_with(64 << 10)).unwrap_err();
    assert_eq!(error.reason(), Reason::ResponseTooLarge);
    assert!(error.message().contains("select fewer properties"), "{error}");
    let written = fit(64 << 10, 1 << 30).written_lead(lead_with(64 << 10));
    assert_eq!(written, pb::Lead { id: "101".to_owned(), id_only: true, ..pb::Lead::default() });
    assert!(!fit(128 << 10, 1 << 30).written_lead(lead_with(64 << 10)).id_only);
    let page = || Page { leads: vec![Lead::clone(&lead_with(40 << 10)); 2], after: None };
    let first = PagePosition::first(Fingerprint::new(&"list"));
    let error = fit(64 << 10, 1 << 30).list(Arc::new(page()), &first).unwrap_err();
    assert_eq!(error.reason(), Reason::ResponseTooLarge);
    assert!(error.message().contains("request a smaller page or fewer properties"), "{error}");
    assert_eq!(fit(96 << 10, 1 << 30).list(Arc::new(page()), &first).unwrap().leads.len(), 2);
}

#[tokio::test]
async fn without_memory_a_read_is_rejected_and_a_write_keeps_its_id() {
    let error = fit(1 << 20, 1_000).read_lead(lead_with(64 << 10)).unwrap_err();
    assert_eq!((error.reason(), error.bucket()), (Reason::Overloaded, Some("memory")));
    assert!(error.retry_after().is_some());
    assert!(fit(1 << 20, 1_000).written_lead(lead_with(64 << 10)).id_only);
    let page = Page { leads: vec![Lead::clone(&lead_with(64 << 10))], after: None };
    let first = PagePosition::first(Fingerprint::new(&"list"));
    let error = fit(1 << 20, 1_000).list(Arc::new(page), &first).unwrap_err();
    assert_eq!(error.reason(), Reason::Overloaded);
}

#[test]
fn a_message_of_an_export_that_is_too_large_with_its_labels_is_noticed() {
    let lead = |label: usize| {
        let labels = BTreeMap::from([("notes".to_owned(), "x".repeat(label))]);
        Lead { labels, ..Arc::unwrap_or_clone(lead_with(1_000)) }
    };
    for (labels, max_bytes, fits) in
        [(10, 8_192, true), (3_000, 8_192, false), (3_000, 16_384, true)]
    {
        let leads = [lead(labels), lead(labels)];
        let token = "t".repeat(60);
        let found = fit(max_bytes, 1 << 20).fits_message(&leads, token.len());
        assert_eq!(found.is_ok(), fits, "{labels} {max_bytes}");
        if let Err(error) = found {
            assert_eq!(error.reason(), Reason::ResponseTooLarge);
        }
        // What fits by this reckoning fits when it is built.
        let message = pb::ExportLeadsResponse {
            leads: fit(max_bytes, 1 << 20).exported(leads.to_vec()).unwrap(),
            resume_token: token,
            ..Default::default()
        };
        assert!(!fits || message.encoded_len() <= max_bytes);
    }
}

//! Values that identify the result of a create.

use super::*;
use crate::leads::{BatchResponse, Lead, LeadId};

fn create(pairs: &[(&str, &str)]) -> CreateLead {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    CreateLead {
        properties: pairs.iter().map(pair).collect(),
        associations: Vec::new(),
        contact: None,
        trace_id: None,
    }
}

fn traced(pairs: &[(&str, &str)]) -> Traced<CreateLead> {
    Traced { trace_id: "t".to_owned(), input: create(pairs) }
}

fn shows(pairs: &[(&str, &str)]) -> BatchItem {
    let properties = create(pairs).properties;
    BatchItem { lead: Lead { properties, ..Lead::default() }, trace_id: None, created: None }
}

fn answer(results: Vec<BatchItem>) -> Result<Response, Error> {
    Ok(Response::Batch(BatchResponse { results, errors: Vec::new() }))
}

/// HubSpot returns names unchanged, dates and numbers in another form.
fn observed() -> EchoedProperties {
    let shown = EchoedProperties::default();
    let written = [("name", "Jane"), ("when", "Apr 1 2026"), ("size", "1.0")];
    let answered = shows(&[("name", "Jane"), ("when", "2026-04-01"), ("size", "1")]);
    shown.observe(&[traced(&written)], &answer(vec![answered]));
    shown
}

fn batches(shown: &EchoedProperties, all: &[&[(&str, &str)]]) -> Option<Vec<Option<usize>>> {
    let creates: Vec<CreateLead> = all.iter().map(|pairs| create(pairs)).collect();
    shown.partition(&creates.iter().collect::<Vec<_>>())
}

#[test]
fn only_words_that_differ_by_more_than_case_identify_a_result() {
    let shown = observed();
    let all: [&[(&str, &str)]; 7] = [
        &[("name", "Jane")],
        &[("name", "Joan")],
        &[("name", "JANE")],
        &[("name", " Jane")],
        &[("name", "7 of 9")],
        &[("when", "May 1 2026")],
        &[("name", "J\u{e4}ne")],
    ];
    let expected = [Some(0), Some(0), Some(1), None, None, None, None];
    assert_eq!(batches(&shown, &all), Some(expected.to_vec()));
}

#[test]
fn the_property_with_the_most_distinct_words_is_used() {
    let shown = observed();
    shown.set("key", true);
    let all: [&[(&str, &str)]; 3] = [
        &[("name", "Jane"), ("key", "a")],
        &[("name", "Jane"), ("key", "b")],
        &[("name", "Joan"), ("key", "c")],
    ];
    assert_eq!(batches(&shown, &all), Some(vec![Some(0); 3]));
    let correlated = shown.correlate(&all.map(traced)).expect("they differ");
    assert_eq!(correlated[0].has_identity(&shows(&[("key", "A")])), Some(true));
    assert_eq!(correlated[0].has_identity(&shows(&[("key", "b")])), Some(false));
    assert_eq!(correlated[0].has_identity(&shows(&[("name", "Jane")])), Some(false));
}

#[tokio::test(start_paused = true)]
async fn unknown_properties_are_tried_and_omitted_ones_are_suspended() {
    let shown = observed();
    let dates: [&[(&str, &str)]; 2] = [&[("when", "May 1 2026")], &[("when", "May 2 2026")]];
    assert_eq!(batches(&shown, &dates), Some(vec![None; 2]));
    assert!(!shown.may_distinguish(&create(dates[0])));
    assert_eq!(batches(&shown, &[&[("key", "a")], &[("key", "b")]]), None, "unknown");
    tokio::time::sleep(EchoedProperties::NOT_ECHOED_TTL).await;
    assert_eq!(batches(&shown, &dates), None);
    assert!(shown.may_distinguish(&create(dates[0])));
}

#[tokio::test(start_paused = true)]
async fn a_response_with_an_unwritten_value_ends_the_correlation() {
    let shown = observed();
    let inputs = [traced(&[("name", "Jane")]), traced(&[("name", "Joan")])];
    let correlated = shown.correlate(&inputs).expect("they differ");
    shown
        .verify(&correlated, &answer(vec![shows(&[("name", "jane")]), shows(&[("name", "Joan")])]));
    assert!(shown.correlate(&inputs).is_some());
    shown.verify(&correlated, &answer(vec![shows(&[("name", "Jane")]), shows(&[])]));
    assert!(shown.correlate(&inputs).is_none());
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let shown = EchoedProperties::default();
    for number in 0..3 * CAPACITY {
        shown.set(&format!("p{number}"), false);
    }
    assert!(shown.0.len() <= CAPACITY);
    assert_eq!(shown.is_echoed(&format!("p{}", 3 * CAPACITY - 1)), Some(false));
}

#[test]
fn a_create_is_found_by_its_trace_id_or_by_the_value_of_its_property() {
    let Traced { trace_id, input } = traced(&[("name", "Jane"), ("size", "1")]);
    let input = input.with_primary_contact(LeadId::parse("7").unwrap());
    let create =
        CorrelatedCreate { property: "name".to_owned(), input: Traced { trace_id, input } };
    assert_eq!(create.associated_ids().collect::<Vec<_>>(), ["7"]);
    assert_eq!(create.trace_id(), Some("t"));
    assert_eq!(create.id(), None);
    assert_eq!(create.has_identity(&shows(&[("name", "jane")])), Some(true));
    assert_eq!(create.has_identity(&shows(&[("name", "Joan")])), Some(false));
    assert_eq!(create.has_identity(&shows(&[("size", "1")])), Some(false));
    assert!(create.mentions("size"));
    assert!(!create.mentions("when"));
}

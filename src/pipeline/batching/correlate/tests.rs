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

fn words(property: &str) -> Identity<'_> {
    Identity { property, kind: Kind::Word }
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
    let written = [("name", "Jane"), ("when", "Apr 1 2026"), ("number", "12"), ("day", "20260401")];
    let answered = [("name", "Jane"), ("when", "2026-04-01"), ("number", "12"), ("day", "x")];
    let answered = shows(&answered);
    shown.observe(&[traced(&written)], &answer(vec![answered]));
    shown
}

/// Numbers of the batches; `None` if one of them is not known.
fn batches(shown: &EchoedProperties, all: &[&[(&str, &str)]]) -> Option<Vec<Option<usize>>> {
    let creates: Vec<CreateLead> = all.iter().map(|pairs| create(pairs)).collect();
    let Partition { batches, unknown } = shown.partition(&creates.iter().collect::<Vec<_>>());
    unknown.is_empty().then_some(batches)
}

#[test]
fn a_value_qualifies_by_its_kind_and_has_a_normal_form() {
    let long = "x".repeat(MAX_TEXT + 1);
    for (text, expected) in [
        ("Jane", Some((Kind::Word, "jane"))),
        ("ada+crm@example.com", Some((Kind::Word, "ada+crm@example.com"))),
        ("Lead 7 (new)", Some((Kind::Word, "lead 7 (new)"))),
        ("J\u{c4}NE", Some((Kind::Word, "j\u{e4}ne"))),
        ("\u{6771}\u{4eac}", Some((Kind::Word, "\u{6771}\u{4eac}"))),
        ("7 of 9", Some((Kind::Text, "7 of 9"))),
        ("1e5", Some((Kind::Text, "1e5"))),
        ("7", Some((Kind::Integer, "7"))),
        ("007", Some((Kind::Integer, "7"))),
        ("0", Some((Kind::Integer, ""))),
        ("123456789012345", Some((Kind::Integer, "123456789012345"))),
        ("1234567890123456", None),
        ("2026-04-01", Some((Kind::Date, "2026-04-01"))),
        ("2026-04-01T10:00:00Z", None),
        ("1.0", None),
        ("-7", None),
        ("+49 30 1234", None),
        ("030 1234", None),
        ("", None),
        (" Jane", None),
        ("Jane ", None),
        ("Jane  Doe", None),
        ("a;b", None),
        ("Smith & Co", None),
        ("O'Neill", None),
        ("Jane\u{1f600}", None),
        ("Ja\u{308}ne", None),
        (&*long, None),
    ] {
        let value = Value::parse(text);
        let seen = value.as_ref().map(|value| (value.kind, &*value.text));
        assert_eq!(seen, expected, "{text:?}");
    }
}

#[test]
fn only_values_that_differ_in_their_normal_form_share_a_batch() {
    let shown = observed();
    let all: [&[(&str, &str)]; 11] = [
        &[("name", "Jane")],
        &[("name", "Joan")],
        &[("name", "JANE")],
        &[("name", " Jane")],
        &[("name", "7 of 9")],
        &[("when", "May 1 2026")],
        &[("name", "J\u{e4}ne")],
        &[("number", "7")],
        &[("number", "8")],
        &[("number", "007")],
        &[("day", "20260402")],
    ];
    let creates = all.map(create);
    let Partition { batches: seen, unknown } = shown.partition(&creates.each_ref());
    assert_eq!(unknown, [4], "texts that begin with a digit are not observed yet");
    let [jane, joan, again] = [0, 1, 2].map(|index| seen[index].expect("a name"));
    assert!(jane == joan && jane != again, "{seen:?}");
    assert_eq!(seen[6], Some(jane));
    let [seven, eight, again] = [7, 8, 9].map(|index| seen[index].expect("a number"));
    assert!(seven == eight && seven != again && seven != jane, "{seen:?}");
    for index in [3, 4, 5, 10] {
        assert_eq!(seen[index], None, "{:?}", all[index]);
    }
}

#[test]
fn a_property_is_observed_for_each_kind_of_value() {
    let shown = observed();
    let numbers: [&[(&str, &str)]; 2] = [&[("name", "12")], &[("name", "13")]];
    assert_eq!(batches(&shown, &numbers), None, "words are returned, numbers are unknown");
    let lead = |value: &str| shows(&[("name", value)]).lead;
    shown.observe_lead(&create(&[("name", "14")]), &lead("14.00"));
    assert_eq!(batches(&shown, &numbers), Some(vec![None; 2]));
    shown.observe_lead(&create(&[("name", "14")]), &lead("14"));
    assert_eq!(batches(&shown, &numbers), Some(vec![Some(0); 2]));
}

#[test]
fn the_property_with_the_most_distinct_words_is_used() {
    let shown = observed();
    shown.set(words("key"), true);
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
        shown.set(words(&format!("p{number}")), false);
    }
    assert!(shown.0[Kind::Word as usize].len() <= CAPACITY);
    assert_eq!(shown.is_echoed(words(&format!("p{}", 3 * CAPACITY - 1))), Some(false));
}

#[test]
fn a_create_is_found_by_its_trace_id_or_by_the_value_of_its_property() {
    let Traced { trace_id, input } = traced(&[("name", "Jane"), ("size", "1")]);
    let input = input.with_primary_contact(LeadId::parse("7").unwrap());
    let create = CorrelatedCreate {
        property: "name".to_owned(),
        kind: Kind::Word,
        input: Traced { trace_id, input },
    };
    assert_eq!(create.associated_ids().collect::<Vec<_>>(), ["7"]);
    assert_eq!(create.trace_id(), Some("t"));
    assert_eq!(create.id(), None);
    assert_eq!(create.has_identity(&shows(&[("name", "jane")])), Some(true));
    assert_eq!(create.has_identity(&shows(&[("name", "Joan")])), Some(false));
    assert_eq!(create.has_identity(&shows(&[("size", "1")])), Some(false));
    assert!(create.mentions("size"));
    assert!(!create.mentions("when"));
}

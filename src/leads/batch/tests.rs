//! Matching and isolation, checked against a HubSpot in memory that answers in any order, with or
//! without trace ids, per item or all or nothing.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::leads::{CreateLead, ItemError, Lead, LeadId, Traced};

/// How the HubSpot of these tests behaves.
#[derive(Debug, Clone, Copy)]
struct Manner {
    echoes_trace_ids: bool,
    /// One bad input makes the whole call fail, as without trace ids.
    all_or_nothing: bool,
    /// Errors say which input they are about.
    names_culprits: bool,
    /// Seed for the order of results.
    order: u64,
}

/// What was created, and what it took.
#[derive(Debug, Default)]
struct Hubspot {
    created: Mutex<Vec<String>>,
    calls: AtomicU32,
}

fn input(index: usize, bad: bool) -> Traced<CreateLead> {
    let mut properties = BTreeMap::from([("hs_lead_name".to_owned(), format!("lead {index}"))]);
    if bad {
        properties.insert("hs_lead_label".to_owned(), "BOILING".to_owned());
    }
    let input = CreateLead { properties, associations: Vec::new() };
    Traced { trace_id: format!("trace-{index}"), input }
}

fn is_bad(input: &Traced<CreateLead>) -> bool {
    input.input.properties.contains_key("hs_lead_label")
}

fn refusal(trace_ids: Vec<String>) -> Error {
    Error::new(Reason::ValidationFailed, "BOILING was not one of the allowed options")
        .with_affected_inputs(AffectedInputs { trace_ids, ..AffectedInputs::default() })
}

// === impl Hubspot ===

impl Hubspot {
    fn create(&self, manner: Manner, inputs: &[Traced<CreateLead>]) -> Result<BatchAnswer, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        assert!(inputs.len() <= MAX_CHUNK, "HubSpot takes a hundred");
        let (bad, good): (Vec<_>, Vec<_>) = inputs.iter().partition(|input| is_bad(input));
        let named = |input: &Traced<CreateLead>| {
            if manner.names_culprits { vec![input.trace_id.clone()] } else { Vec::new() }
        };
        if manner.all_or_nothing && !bad.is_empty() {
            return Err(refusal(bad.iter().flat_map(|input| named(input)).collect()));
        }
        let mut results: Vec<BatchItem> = good
            .into_iter()
            .map(|input| {
                self.created.lock().push(input.input.properties["hs_lead_name"].clone());
                let lead = Lead {
                    id: format!("id of {}", input.trace_id),
                    properties: input.input.properties.clone(),
                    ..Lead::default()
                };
                let trace_id = manner.echoes_trace_ids.then(|| input.trace_id.clone());
                BatchItem { lead, trace_id, created: None }
            })
            .collect();
        let mut order = manner.order;
        results.sort_by_cached_key(|_| {
            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            order >> 33
        });
        // Per-item errors always name their input; unnamed ones are the all-or-nothing kind.
        let errors = bad
            .into_iter()
            .map(|input| ItemError { error: refusal(vec![input.trace_id.clone()]) })
            .collect();
        Ok(BatchAnswer { results, errors })
    }
}

async fn create(
    hubspot: &Hubspot,
    manner: Manner,
    inputs: &[Traced<CreateLead>],
) -> Result<Vec<Outcome>, Error> {
    run(inputs, MAX_CHUNK, 3, Unmentioned::OutcomeUnknown, |_, inputs| async move {
        hubspot.create(manner, &inputs)
    })
    .await
}

fn block_on<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_input_gets_its_own_result_in_input_order(
        count in 1_usize..260,
        bad in proptest::collection::btree_set(0_usize..260, 0..4),
        echoes_trace_ids: bool,
        all_or_nothing: bool,
        names_culprits: bool,
        order: u64,
    ) {
        let manner = Manner { echoes_trace_ids, all_or_nothing, names_culprits, order };
        let inputs: Vec<_> = (0..count).map(|i| input(i, bad.contains(&i))).collect();
        let hubspot = Hubspot::default();
        let outcomes = block_on(create(&hubspot, manner, &inputs)).unwrap();
        prop_assert_eq!(outcomes.len(), count);
        for (index, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Ok(Some(item)) => {
                    prop_assert!(!bad.contains(&index));
                    prop_assert_eq!(&item.lead.id, &format!("id of trace-{index}"));
                }
                Ok(None) => prop_assert!(false, "a create has a result"),
                Err(error) => {
                    prop_assert!(bad.contains(&index), "input {} is fine: {}", index, error);
                    prop_assert_eq!(error.reason(), Reason::ValidationFailed);
                }
            }
        }
        let mut created = hubspot.created.lock().clone();
        created.sort();
        created.dedup();
        prop_assert_eq!(created.len(), hubspot.created.lock().len(), "nothing is created twice");
        let chunks = u32::try_from(count.div_ceil(MAX_CHUNK)).unwrap();
        prop_assert!(hubspot.calls.load(Ordering::SeqCst) <= chunks * MAX_CALLS_PER_CHUNK);
    }
}

#[test]
fn a_hundred_bad_inputs_do_not_cost_two_hundred_calls() {
    let manner =
        Manner { echoes_trace_ids: true, all_or_nothing: true, names_culprits: false, order: 1 };
    let inputs: Vec<_> = (0..100).map(|i| input(i, true)).collect();
    let hubspot = Hubspot::default();
    let outcomes = block_on(create(&hubspot, manner, &inputs)).unwrap();
    assert!(hubspot.calls.load(Ordering::SeqCst) <= MAX_CALLS_PER_CHUNK);
    assert!(hubspot.created.lock().is_empty());
    for outcome in outcomes {
        let reason = outcome.unwrap_err().reason();
        assert!(matches!(reason, Reason::ValidationFailed | Reason::BatchRefused), "{reason:?}");
    }
}

#[test]
fn named_culprits_cost_one_more_call() {
    let manner =
        Manner { echoes_trace_ids: true, all_or_nothing: true, names_culprits: true, order: 1 };
    let inputs: Vec<_> = (0..100).map(|i| input(i, i % 10 == 0)).collect();
    let hubspot = Hubspot::default();
    block_on(create(&hubspot, manner, &inputs)).unwrap();
    assert_eq!(hubspot.calls.load(Ordering::SeqCst), 2);
    assert_eq!(hubspot.created.lock().len(), 90);
}

#[test]
fn equal_inputs_without_echoed_trace_ids_are_reported_and_not_guessed() {
    let inputs = [input(1, false), Traced { trace_id: "other".to_owned(), ..input(1, false) }];
    let manner =
        Manner { echoes_trace_ids: false, all_or_nothing: false, names_culprits: true, order: 1 };
    let outcomes = block_on(create(&Hubspot::default(), manner, &inputs)).unwrap();
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert_eq!(error.reason(), Reason::WriteOutcomeUnknown);
        assert_eq!(error.side_effect(), SideEffect::Possible);
    }
}

/// Runs one chunk of reads whose answer is given.
fn read(ids: &[&str], answer: BatchAnswer) -> Vec<Outcome> {
    let ids: Vec<LeadId> = ids.iter().map(|id| LeadId::parse(id).unwrap()).collect();
    block_on(run(&ids, MAX_CHUNK, 1, Unmentioned::NotFound, |_, _| {
        let answer = answer.clone();
        async move { Ok(answer) }
    }))
    .unwrap()
}

fn found(id: &str) -> BatchItem {
    let lead = Lead { id: id.to_owned(), ..Lead::default() };
    BatchItem { lead, trace_id: None, created: None }
}

#[test]
fn one_error_may_stand_for_several_ids() {
    let missing =
        Error::new(Reason::LeadNotFound, "not found").with_affected_inputs(AffectedInputs {
            ids: vec!["2".to_owned(), "4".to_owned()],
            ..AffectedInputs::default()
        });
    let answer = BatchAnswer {
        results: vec![found("3"), found("1")],
        errors: vec![ItemError { error: missing }],
    };
    let outcomes = read(&["1", "2", "3", "4"], answer);
    let ids: Vec<Option<String>> = outcomes
        .into_iter()
        .map(|outcome| outcome.ok().flatten().map(|item| item.lead.id))
        .collect();
    assert_eq!(ids, [Some("1".to_owned()), None, Some("3".to_owned()), None]);
}

#[test]
fn an_id_nobody_mentions_was_not_found() {
    let outcomes = read(&["1", "2"], BatchAnswer { results: vec![found("1")], errors: Vec::new() });
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[1].as_ref().unwrap_err().reason(), Reason::LeadNotFound);
}

#[test]
fn a_merged_lead_answers_under_another_id() {
    let answer = BatchAnswer { results: vec![found("9"), found("1")], errors: Vec::new() };
    let outcomes = read(&["1", "2"], answer);
    assert_eq!(outcomes[1].as_ref().unwrap().as_ref().unwrap().lead.id, "9");
}

#[test]
fn two_strange_results_are_not_guessed() {
    let answer = BatchAnswer { results: vec![found("8"), found("9")], errors: Vec::new() };
    for outcome in read(&["1", "2"], answer) {
        assert_eq!(outcome.unwrap_err().reason(), Reason::UpstreamUnintelligible);
    }
}

#[test]
fn an_outage_before_anything_was_done_fails_the_call_as_a_whole() {
    let ids: Vec<LeadId> = (0..250).map(|i| LeadId::parse(&i.to_string()).unwrap()).collect();
    let down = Error::new(Reason::UpstreamUnavailable, "down");
    let failed = block_on(run(&ids, MAX_CHUNK, 2, Unmentioned::NotFound, |_, _| {
        let down = down.clone();
        async move { Err(down) }
    }));
    assert_eq!(failed.unwrap_err(), down);
}

#[test]
fn an_outage_halfway_is_told_per_input() {
    let ids: Vec<LeadId> = (0..250).map(|i| LeadId::parse(&i.to_string()).unwrap()).collect();
    let outcomes =
        block_on(run(&ids, MAX_CHUNK, 1, Unmentioned::Done, |_, chunk: Vec<LeadId>| async move {
            if chunk[0].as_str() == "100" {
                return Err(Error::new(Reason::UpstreamUnavailable, "down"));
            }
            Ok(BatchAnswer::default())
        }))
        .unwrap();
    let failed: Vec<usize> = (0..250).filter(|&i| outcomes[i].is_err()).collect();
    assert_eq!(failed, (100..200).collect::<Vec<_>>());
}

#[test]
fn an_error_that_names_one_input_is_about_no_other_with_the_same_property() {
    let inputs = [input(0, true), input(1, true)];
    let named = Error::new(Reason::ValidationFailed, "no such property").with_affected_inputs(
        AffectedInputs {
            trace_ids: vec!["trace-0".to_owned()],
            unknown_properties: vec!["hs_lead_label".to_owned()],
            ..AffectedInputs::default()
        },
    );
    let other = Error::new(Reason::AlreadyExists, "a clash").with_affected_inputs(AffectedInputs {
        trace_ids: vec!["trace-1".to_owned()],
        ..AffectedInputs::default()
    });
    let errors = [named, other].map(|error| ItemError { error }).to_vec();
    let answer = BatchAnswer { results: Vec::new(), errors };
    let (outcomes, _) = matched(&inputs, answer, is_culprit);
    let reasons: Vec<Reason> =
        outcomes.into_iter().map(|outcome| outcome.unwrap().unwrap_err().reason()).collect();
    assert_eq!(reasons, [Reason::ValidationFailed, Reason::AlreadyExists]);
}

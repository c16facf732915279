//! Isolation against scripted responses.
#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers a few requests")]

use std::{collections::BTreeMap, time::Duration};

use futures_util::{FutureExt as _, poll};

use super::*;
use crate::{
    leads::{
        AffectedInputs, BatchItem, BatchResponse, Lead, LeadId, Outcome, Reason, SideEffect,
        Traced, UpdateLead,
    },
    pipeline::{
        scripted::{Recorded, Scripted, ScriptedUpstream},
        tests::{context, create, found, get, lead, lead_id, ordinary, unavailable, update},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// Sends `request` through the layer and returns the outcomes of its inputs.
async fn outcomes(upstream: &Arc<ScriptedUpstream>, request: Request) -> ChunkOutcomes {
    let ctx = context(MINUTE);
    let layer = Isolation::new(Arc::clone(upstream));
    let response = layer.call(&ctx, Arc::new(request), Dispatch::new(&ctx)).await;
    response.unwrap().into_outcomes().unwrap()
}

/// HubSpot that rejects batches with an input of `invalid` by `rejection`.
fn rejecting(invalid: &'static [usize], rejection: Error) -> Arc<ScriptedUpstream> {
    ScriptedUpstream::new(move |call| {
        let is_invalid = |id: &String| invalid.iter().any(|index| *id == index.to_string());
        if inputs(call).iter().any(is_invalid) {
            return Scripted::now(Err(rejection.clone()));
        }
        Scripted::now(ordinary(&call.request))
    })
}

/// An update of the leads 0, 1, ... below `count`, with the trace ids `trace-0`, `trace-1`, ...
fn batch_update(count: usize) -> Request {
    let input = |index: usize| Traced {
        trace_id: format!("trace-{index}"),
        input: UpdateLead {
            id: lead_id(&index.to_string()),
            id_property: None,
            properties: BTreeMap::new(),
        },
    };
    Request::BatchUpdate((0..count).map(input).collect())
}

/// Ids of the inputs of a batch.
fn inputs(call: &Recorded) -> Vec<String> {
    let text = |id: &LeadId| id.to_string();
    match &*call.request {
        Request::BatchRead(read) => read.ids.iter().map(text).collect(),
        Request::BatchUpdate(inputs) => inputs.iter().map(|input| text(&input.input.id)).collect(),
        Request::BatchArchive(ids) => ids.iter().map(text).collect(),
        other => panic!("no test sends {other:?}"),
    }
}

/// Number of inputs of each request so far.
fn sizes(upstream: &ScriptedUpstream) -> Vec<usize> {
    upstream.requests().iter().map(|call| call.request.leads()).collect()
}

fn invalid() -> Error {
    Error::new(Reason::ValidationFailed, "HOT is not one of the allowed options")
}

/// Reasons of the failed inputs, by index.
fn failures(outcomes: &ChunkOutcomes) -> Vec<(usize, Reason)> {
    let reason = |(index, outcome): (usize, &Outcome)| {
        outcome.as_ref().err().map(|error| (index, error.reason()))
    };
    outcomes.outcomes.iter().enumerate().filter_map(reason).collect()
}

/// Ids of the leads of successful inputs, by index.
fn successes(outcomes: &ChunkOutcomes) -> Vec<Option<&str>> {
    outcomes
        .outcomes
        .iter()
        .map(|outcome| outcome.as_ref().ok()?.as_ref().map(|item| item.lead.id.as_str()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn each_input_of_a_read_has_its_own_outcome_in_input_order() {
    let upstream = ScriptedUpstream::new(|call| {
        let response = ordinary(&call.request).unwrap().into_batch().unwrap();
        let mut results = response.results;
        results.reverse();
        results.retain(|item| item.lead.id != "8");
        Scripted::now(Ok(Response::Batch(BatchResponse { results, errors: Vec::new() })))
    });
    let read = BatchRead {
        ids: ["7", "8", "9"].map(lead_id).to_vec(),
        id_property: None,
        properties: Vec::new(),
        properties_with_history: Vec::new(),
        archived: false,
    };
    let outcomes = outcomes(&upstream, Request::BatchRead(read)).await;
    assert_eq!(successes(&outcomes), [Some("7"), None, Some("9")]);
    assert_eq!(failures(&outcomes), [(1, Reason::UpstreamInvalidResponse)]);
    assert!(outcomes.evaluated);
    assert_eq!(sizes(&upstream), [3, 1], "what is not mentioned is asked for once more");
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_read_keeps_all_that_the_read_selects() {
    let upstream = rejecting(&[1], invalid());
    let read = BatchRead {
        ids: ["0", "1"].map(lead_id).to_vec(),
        id_property: None,
        properties: vec!["hs_lead_name".to_owned()],
        properties_with_history: vec!["hs_lead_label".to_owned()],
        archived: true,
    };
    let outcomes = outcomes(&upstream, Request::BatchRead(read.clone())).await;
    assert_eq!(failures(&outcomes), [(1, Reason::ValidationFailed)]);
    let part = Request::BatchRead(BatchRead { ids: vec![lead_id("0")], ..read });
    assert_eq!(*upstream.requests()[1].request, part);
}

#[tokio::test(start_paused = true)]
async fn a_read_by_unique_value_is_matched_without_regard_to_case() {
    let upstream = ScriptedUpstream::new(|_| {
        let lead = Lead {
            properties: BTreeMap::from([("email".to_owned(), "ann@example.com".to_owned())]),
            ..lead("7")
        };
        let item = BatchItem { lead, trace_id: None, created: None };
        let response = BatchResponse { results: vec![item], errors: Vec::new() };
        Scripted::now(Ok(Response::Batch(response)))
    });
    let read = BatchRead {
        ids: vec![lead_id("Bob@example.com"), lead_id("Ann@example.com")],
        id_property: Some("email".to_owned()),
        properties: Vec::new(),
        properties_with_history: Vec::new(),
        archived: false,
    };
    let outcomes = outcomes(&upstream, Request::BatchRead(read)).await;
    assert_eq!(successes(&outcomes), [None, Some("7")]);
}

#[tokio::test(start_paused = true)]
async fn a_named_input_is_removed_and_the_rest_is_sent_again_at_once() {
    let named = AffectedInputs { trace_ids: vec!["trace-2".into()], ..AffectedInputs::default() };
    let upstream = rejecting(&[2], invalid().with_affected_inputs(named));
    let outcomes = outcomes(&upstream, batch_update(5)).await;
    assert_eq!(failures(&outcomes), [(2, Reason::ValidationFailed)]);
    assert_eq!(successes(&outcomes), [Some("0"), Some("1"), None, Some("3"), Some("4")]);
    assert_eq!(inputs(&upstream.requests()[1]), ["0", "1", "3", "4"]);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_every_input_is_named_is_not_sent_again() {
    let ids = ["0", "1"].map(str::to_owned).to_vec();
    let named = AffectedInputs { ids, ..AffectedInputs::default() };
    let upstream = rejecting(&[0, 1], invalid().with_affected_inputs(named));
    let outcomes = outcomes(&upstream, batch_update(2)).await;
    assert_eq!(failures(&outcomes).len(), 2);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_batch_that_names_no_input_is_halved_until_the_invalid_one_is_alone() {
    let upstream = rejecting(&[5], invalid());
    let outcomes = outcomes(&upstream, batch_update(8)).await;
    assert_eq!(failures(&outcomes), [(5, Reason::ValidationFailed)]);
    assert_eq!(successes(&outcomes).iter().flatten().count(), 7);
    assert_eq!(sizes(&upstream), [8, 4, 4, 2, 1, 1, 2]);
    assert_eq!(inputs(&upstream.requests()[1]), ["0", "1", "2", "3"], "the first half is first");
}

#[tokio::test(start_paused = true)]
async fn three_invalid_inputs_of_a_hundred_do_not_fail_the_others() {
    // HubSpot quotes the first value that it does not accept.
    let upstream = ScriptedUpstream::new(|call| {
        let invalid = inputs(call).into_iter().find(|id| ["3", "50", "98"].contains(&id.as_str()));
        Scripted::now(match invalid {
            Some(id) => Err(Error::new(Reason::ValidationFailed, format!("HOT{id} is invalid"))),
            None => ordinary(&call.request),
        })
    });
    let outcomes = outcomes(&upstream, batch_update(100)).await;
    let reason = Reason::ValidationFailed;
    assert_eq!(failures(&outcomes), [(3, reason), (50, reason), (98, reason)]);
    assert!(upstream.count() <= 40);
}

#[tokio::test(start_paused = true)]
async fn a_batch_costs_at_most_forty_requests() {
    let upstream = ScriptedUpstream::new(|call| {
        let message = format!("{}: HOT is not one of the allowed options", call.number);
        Scripted::now(Err(Error::new(Reason::ValidationFailed, message).with_attempts(3)))
    });
    let outcomes = outcomes(&upstream, batch_update(100)).await;
    assert_eq!(upstream.count(), 40);
    let failures = failures(&outcomes);
    assert_eq!(failures.len(), 100);
    let (individual, rest): (Vec<_>, Vec<_>) =
        failures.iter().partition(|(_, reason)| *reason == Reason::ValidationFailed);
    assert!(!individual.is_empty());
    assert!(rest.iter().all(|(_, reason)| *reason == Reason::BatchRejected));
    let last = outcomes.outcomes[99].as_ref().unwrap_err();
    assert!(last.message().contains("HOT is not one of the allowed options"), "{last}");
    assert_eq!((last.upstream().attempts, last.side_effect()), (3, SideEffect::None));
    assert!(outcomes.evaluated);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_that_names_no_input_and_repeats_in_both_halves_stops_after_three_requests() {
    let upstream = ScriptedUpstream::new(|_| Scripted::now(Err(invalid())));
    let outcomes = outcomes(&upstream, batch_update(100)).await;
    assert_eq!(sizes(&upstream), [100, 50, 50]);
    let error = |outcome: &Outcome| outcome.clone().unwrap_err();
    assert!(outcomes.outcomes.iter().all(|outcome| error(outcome) == invalid()));
    assert_eq!(invalid().side_effect(), SideEffect::None, "the caller may repeat it");
    assert!(outcomes.evaluated);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_of_one_half_or_of_another_cause_does_not_stop_the_search() {
    // The first half is valid: the second is searched, even where both of its halves are rejected.
    let upstream = rejecting(&[5, 7], invalid());
    let first = outcomes(&upstream, batch_update(8)).await;
    assert_eq!(failures(&first), [5, 7].map(|index| (index, Reason::ValidationFailed)));
    // The halves are rejected for different causes.
    let upstream = ScriptedUpstream::new(|call| {
        let ids = inputs(call);
        let cause = ["1", "6"].into_iter().find(|id| ids.iter().any(|own| own == id));
        Scripted::now(match cause {
            Some(id) => Err(Error::new(Reason::ValidationFailed, format!("value {id} is invalid"))),
            None => ordinary(&call.request),
        })
    });
    let second = outcomes(&upstream, batch_update(8)).await;
    assert_eq!(failures(&second), [1, 6].map(|index| (index, Reason::ValidationFailed)));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_not_about_content_fails_every_input_after_one_request() {
    let doubtful = invalid().with_side_effect(SideEffect::Possible);
    for error in [unavailable(), doubtful] {
        let upstream = ScriptedUpstream::sequence(vec![Err(error.clone())]);
        let outcomes = outcomes(&upstream, batch_update(3)).await;
        assert_eq!(failures(&outcomes), [0, 1, 2].map(|index| (index, error.reason())));
        assert!(!outcomes.evaluated);
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_for_another_reason_leaves_the_other_parts_their_results() {
    let upstream = ScriptedUpstream::new(|call| {
        Scripted::now(match call.number {
            0 => Err(invalid()),
            1 => Err(unavailable()),
            _ => ordinary(&call.request),
        })
    });
    let outcomes = outcomes(&upstream, batch_update(4)).await;
    assert_eq!(failures(&outcomes), [0, 1].map(|index| (index, Reason::UpstreamUnavailable)));
    assert_eq!(successes(&outcomes)[2..], [Some("2"), Some("3")]);
    assert!(outcomes.evaluated);
}

#[tokio::test(start_paused = true)]
async fn an_input_that_the_response_does_not_mention_has_the_outcome_of_its_operation() {
    let empty = || ScriptedUpstream::sequence(vec![Ok(Response::Batch(BatchResponse::default()))]);
    let Request::Create(input) = (*create("0")).clone() else { unreachable!() };
    let traced_create = Traced { trace_id: "trace-0".to_owned(), input };
    for request in [batch_update(1), Request::BatchCreate(vec![traced_create])] {
        let outcomes = outcomes(&empty(), request).await;
        assert_eq!(failures(&outcomes), [(0, Reason::WriteOutcomeUnknown)]);
    }
    let outcomes = outcomes(&empty(), Request::BatchArchive(vec![lead_id("0")])).await;
    assert!(matches!(outcomes.outcomes[..], [Ok(None)]), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_response_of_another_request_leaves_the_outcome_of_each_input_open() {
    let upstream = ScriptedUpstream::sequence(vec![found("7")]);
    let outcomes = outcomes(&upstream, batch_update(2)).await;
    assert_eq!(failures(&outcomes), [0, 1].map(|index| (index, Reason::Internal)));
    let error = outcomes.outcomes[0].as_ref().unwrap_err();
    assert_eq!(error.side_effect(), SideEffect::Possible);
}

#[tokio::test(start_paused = true)]
async fn a_single_request_passes_through_unchanged() {
    let upstream = ScriptedUpstream::new(|call| Scripted::now(ordinary(&call.request)));
    let layer = Isolation::new(Arc::clone(&upstream));
    let ctx = context(MINUTE);
    for request in [get("7"), create("7"), update("7", "Ann")] {
        let dispatch = Dispatch { prior_attempts: 3, ..Dispatch::new(&ctx) };
        let lead = layer.call(&ctx, request, dispatch).await.unwrap().into_lead().unwrap();
        assert_eq!(lead.id, "7");
    }
    let archive = Arc::new(Request::Archive(lead_id("7")));
    let response = layer.call(&ctx, archive, Dispatch::new(&ctx)).await;
    assert!(matches!(response, Ok(Response::Archived)));
    let attempts: Vec<u32> = upstream.requests().iter().map(|call| call.prior_attempts).collect();
    assert_eq!(attempts, [3, 3, 3, 0]);

    let rejected = Isolation::new(ScriptedUpstream::sequence(vec![Err(invalid())]));
    let error = rejected.call(&ctx, get("7"), Dispatch::new(&ctx)).await.unwrap_err();
    assert_eq!(error, invalid());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_batch_sends_no_further_part() {
    let upstream = ScriptedUpstream::new(|_| Scripted::after(MINUTE / 2, Err(invalid())));
    let ctx = context(MINUTE);
    let layer = Isolation::new(Arc::clone(&upstream));
    let mut call = layer.call(&ctx, Arc::new(batch_update(2)), Dispatch::new(&ctx)).boxed();
    assert!(poll!(call.as_mut()).is_pending());
    drop(call);
    tokio::time::sleep(MINUTE).await;
    assert_eq!((upstream.count(), upstream.in_progress()), (1, 0));
}

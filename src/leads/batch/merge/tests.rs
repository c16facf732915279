//! Inputs of several callers in one batch.

use std::{cell::RefCell, collections::BTreeMap, future::ready};

use futures_util::FutureExt as _;

use super::*;
use crate::leads::{
    error::{AffectedInputs, UpstreamFacts},
    lead::Lead,
    query::LeadId,
    write::{CreateLead, Traced},
};

type Outcomes = Vec<ItemOutcome<Option<BatchItem>>>;

/// Outcome of an input, in short.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Lead(String),
    Nothing,
    Error(Reason),
    RetryAlone,
    RetryApart,
}

fn ids(count: usize) -> Vec<LeadId> {
    (0..count).map(|id| LeadId::parse(&id.to_string()).expect("a valid id")).collect()
}

fn creates(count: usize) -> Vec<Traced<CreateLead>> {
    let create = |number| {
        let properties = BTreeMap::from([("hs_lead_name".to_owned(), format!("lead {number}"))]);
        let input =
            CreateLead { properties, associations: Vec::new(), contact: None, trace_id: None };
        Traced { trace_id: format!("trace-{number}"), input }
    };
    (0..count).map(create).collect()
}

fn found(id: &str) -> BatchItem {
    let lead = Lead { id: id.to_owned(), ..Lead::default() };
    BatchItem { lead, trace_id: None, created: None }
}

fn error(reason: Reason) -> Error {
    Error::new(reason, "the test rejects it")
}

fn about(reason: Reason, ids: &[&str]) -> Error {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    error(reason).with_affected_inputs(AffectedInputs { ids, ..AffectedInputs::default() })
}

fn got(outcomes: Outcomes) -> Vec<Got> {
    let got = |outcome| match outcome {
        ItemOutcome::RetryAlone => Got::RetryAlone,
        ItemOutcome::RetryApart => Got::RetryApart,
        ItemOutcome::Resolved(Ok(Some(BatchItem { lead, .. }))) => Got::Lead(lead.id),
        ItemOutcome::Resolved(Ok(None)) => Got::Nothing,
        ItemOutcome::Resolved(Err(error)) => Got::Error(error.reason()),
    };
    outcomes.into_iter().map(got).collect()
}

fn lead(id: &str) -> Got {
    Got::Lead(id.to_owned())
}

/// Sends reads and returns their outcomes with the sizes of the batches that were sent.
fn read(
    count: usize,
    respond: impl Fn(&[LeadId]) -> Result<BatchResponse, Error>,
) -> (Vec<Got>, Vec<usize>) {
    let sizes = RefCell::new(Vec::new());
    let send = |_, ids: Vec<LeadId>| {
        sizes.borrow_mut().push(ids.len());
        ready(respond(&ids))
    };
    let (inputs, missing) = (ids(count), MissingItemPolicy::Unanswered);
    let owners = vec![0; count];
    let outcomes = send_merged(&inputs, &owners, missing, UnresolvedPolicy::RetryAlone, send);
    let outcomes = outcomes.now_or_never().expect("it never waits");
    (got(outcomes), sizes.into_inner())
}

/// Sends creates that get this response.
fn create(count: usize, unresolved: UnresolvedPolicy, response: BatchResponse) -> Vec<Got> {
    let send = |_, _| ready(Ok(response.clone()));
    let inputs = creates(count);
    let owners = vec![0; count];
    let missing = MissingItemPolicy::OutcomeUnknown;
    let outcomes = send_merged(&inputs, &owners, missing, unresolved, send);
    got(outcomes.now_or_never().expect("it never waits"))
}

#[test]
fn each_input_gets_its_result_and_a_lead_that_is_not_mentioned_is_read_individually() {
    let (outcomes, sizes) = read(3, |_| {
        Ok(BatchResponse { results: vec![found("2"), found("0")], errors: Vec::new() })
    });
    assert_eq!(outcomes, [lead("0"), Got::RetryAlone, lead("2")]);
    assert_eq!(sizes, [3]);
}

#[test]
fn a_response_that_mentions_no_lead_costs_one_more_request() {
    let (outcomes, sizes) = read(100, |_| Ok(BatchResponse::default()));
    let unanswered = || Got::Error(Reason::UpstreamInvalidResponse);
    assert!(outcomes.iter().all(|outcome| *outcome == unanswered()), "{outcomes:?}");
    assert_eq!(sizes, [100, 100]);
}

#[test]
fn leads_that_only_a_second_batch_mentions_are_found() {
    let calls = std::cell::Cell::new(0);
    let (outcomes, sizes) = read(10, |ids| {
        calls.set(calls.get() + 1);
        let results = match calls.get() {
            1 => vec![found("0")],
            _ => ids.iter().skip(1).map(|id| found(id.as_str())).collect(),
        };
        Ok(BatchResponse { results, errors: Vec::new() })
    });
    let mut expected: Vec<_> = (0..10).map(|id| lead(&id.to_string())).collect();
    expected[1] = Got::RetryAlone;
    assert_eq!(outcomes, expected);
    assert_eq!(sizes, [10, 9]);
}

#[test]
fn leads_of_which_hubspot_has_none_do_not_exist() {
    let (outcomes, sizes) = read(10, |_| {
        Ok(BatchResponse { results: Vec::new(), errors: vec![Error::lead_not_found()] })
    });
    let missing = || Got::Error(Reason::LeadNotFound);
    assert!(outcomes.iter().all(|outcome| *outcome == missing()), "{outcomes:?}");
    assert_eq!(sizes, [10]);
}

#[test]
fn an_input_that_hits_a_rate_limit_is_requested_individually() {
    let (outcomes, _) = read(3, |_| {
        let errors = vec![about(Reason::RateLimited, &["1"]), about(Reason::Conflict, &["2"])];
        Ok(BatchResponse { results: vec![found("0")], errors })
    });
    assert_eq!(outcomes, [lead("0"), Got::RetryAlone, Got::Error(Reason::Conflict)]);
}

#[test]
fn the_inputs_that_an_error_names_are_removed_and_the_rest_is_sent_again() {
    let (outcomes, sizes) = read(10, |ids| {
        if ids.iter().any(|id| id.as_str() == "3") {
            return Err(about(Reason::ValidationFailed, &["3"]));
        }
        let results = ids.iter().map(|id| found(id.as_str())).collect();
        Ok(BatchResponse { results, errors: Vec::new() })
    });
    let expected: Vec<_> =
        (0..10).map(|id| if id == 3 { Got::RetryAlone } else { lead(&id.to_string()) }).collect();
    assert_eq!(outcomes, expected, "an individual request says more about the input");
    assert_eq!(sizes, [10, 9]);
}

#[test]
fn a_rejected_batch_is_halved_down_to_parts_that_are_cheaper_individually() {
    for reason in [Reason::ValidationFailed, Reason::ResponseTooLarge] {
        let (outcomes, sizes) = read(16, |ids| {
            if ids.iter().any(|id| id.as_str() == "5") {
                return Err(error(reason));
            }
            let results = ids.iter().map(|id| found(id.as_str())).collect();
            Ok(BatchResponse { results, errors: Vec::new() })
        });
        let alone = |id| [4, 5].contains(&id);
        let expected = |id: i32| if alone(id) { Got::RetryAlone } else { lead(&id.to_string()) };
        assert_eq!(outcomes, (0..16).map(expected).collect::<Vec<_>>());
        assert_eq!(sizes, [16, 8, 4, 4, 2, 2, 8], "a rejected pair is requested individually");
    }
}

#[test]
fn a_rejection_of_a_merged_batch_costs_at_most_three_more_requests() {
    // Random inputs are invalid, and named or not.
    let mut random = 1_u64;
    for _ in 0..500 {
        let mut next = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % bound
        };
        let count = usize::try_from(2 + next(99)).expect("few");
        let (is_named, part) = (next(2) == 0, 1 + next(50));
        let bad: Vec<String> =
            (0..count).filter(|_| next(part) == 0).take(3).map(|id| id.to_string()).collect();
        let rejections = RefCell::new(0);
        let (outcomes, sizes) = read(count, |ids| {
            let invalid: Vec<&str> =
                ids.iter().map(LeadId::as_str).filter(|id| bad.iter().any(|b| b == id)).collect();
            if invalid.is_empty() {
                let results = ids.iter().map(|id| found(id.as_str())).collect();
                return Ok(BatchResponse { results, errors: Vec::new() });
            }
            *rejections.borrow_mut() += 1;
            let named = if is_named { &invalid[..] } else { &[] };
            Err(about(Reason::ValidationFailed, named))
        });
        let individual = outcomes.iter().filter(|outcome| **outcome == Got::RetryAlone).count();
        let requests = sizes.len() + individual;
        assert!(requests <= 1 + 3 * rejections.into_inner(), "{count} {bad:?} {sizes:?}");
        for (id, outcome) in outcomes.iter().enumerate() {
            let is_bad = bad.contains(&id.to_string());
            let expected =
                if is_bad { Got::Error(Reason::ValidationFailed) } else { lead(&id.to_string()) };
            assert!(*outcome == Got::RetryAlone || *outcome == expected, "{id}: {outcome:?}");
        }
    }
}

#[test]
fn a_rejected_batch_of_several_callers_is_divided_between_them() {
    // Twenty callers with five inputs each; the third and the seventeenth send invalid ones.
    let owners: Vec<usize> = (0..100).map(|index| index / 5).collect();
    let is_bad = |id: &LeadId| ["11", "12", "84"].contains(&id.as_str());
    let sizes = RefCell::new(Vec::new());
    let send = |_, ids: Vec<LeadId>| {
        sizes.borrow_mut().push(ids.len());
        ready(if ids.iter().any(is_bad) {
            Err(error(Reason::ValidationFailed))
        } else {
            let results = ids.iter().map(|id| found(id.as_str())).collect();
            Ok(BatchResponse { results, errors: Vec::new() })
        })
    };
    let inputs = ids(100);
    let (missing, unresolved) = (MissingItemPolicy::Unanswered, UnresolvedPolicy::RetryAlone);
    let outcomes = send_merged(&inputs, &owners, missing, unresolved, send);
    let outcomes = got(outcomes.now_or_never().expect("it never waits"));
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let is_apart = [2, 16].contains(&owners[index]);
        let expected = if is_apart { Got::RetryApart } else { lead(&index.to_string()) };
        assert_eq!(outcome, expected, "{index}");
    }
    assert!(sizes.borrow().iter().all(|size| size % 5 == 0), "{sizes:?}");
    assert!(sizes.borrow().len() <= 1 + 2 * 2 * 5, "{sizes:?}");
}

#[test]
fn inputs_of_which_many_are_named_get_the_error_that_names_them() {
    let (outcomes, sizes) = read(4, |ids| match ids.len() {
        4 => Err(about(Reason::ValidationFailed, &["0", "1", "2"])),
        _ => Ok(BatchResponse { results: vec![found("3")], errors: Vec::new() }),
    });
    let error = || Got::Error(Reason::ValidationFailed);
    assert_eq!(outcomes, [error(), error(), error(), Got::RetryAlone]);
    assert_eq!(sizes, [4]);
}

#[test]
fn the_search_for_rejected_inputs_has_a_bound() {
    let (outcomes, sizes) = read(100, |ids| match ids.len() {
        1 => panic!("an individual request says more"),
        _ => Err(about(Reason::ValidationFailed, &[ids[0].as_str()])),
    });
    assert!(outcomes.iter().all(|outcome| *outcome == Got::RetryAlone), "{outcomes:?}");
    assert_eq!(sizes.len(), usize::try_from(MAX_REQUESTS).expect("few"));
}

#[test]
fn all_inputs_get_an_error_that_is_not_about_their_content() {
    let possible = error(Reason::ResponseTooLarge).with_side_effect(SideEffect::Possible);
    for rejection in [error(Reason::Overloaded), possible] {
        let (outcomes, sizes) = read(2, |_| Err(rejection.clone()));
        let expected = || Got::Error(rejection.reason());
        assert_eq!(outcomes, [expected(), expected()]);
        assert_eq!(sizes, [2]);
    }
}

#[test]
fn inputs_are_requested_individually_if_hubspot_has_no_such_batch() {
    let status = |http_status| {
        let upstream = UpstreamFacts { http_status, ..UpstreamFacts::default() };
        error(Reason::UpstreamInvalidResponse).with_upstream(upstream)
    };
    let (outcomes, _) = read(2, |_| Err(status(Some(404))));
    assert_eq!(outcomes, [Got::RetryAlone, Got::RetryAlone]);
    let other =
        [status(Some(200)), status(None), status(Some(404)).with_side_effect(SideEffect::Possible)];
    for rejection in other {
        let (outcomes, _) = read(1, |_| Err(rejection.clone()));
        assert_eq!(outcomes, [Got::Error(Reason::UpstreamInvalidResponse)]);
    }
    let conflict = error(Reason::Overloaded).with_upstream(status(Some(404)).upstream().clone());
    let (outcomes, _) = read(1, |_| Err(conflict.clone()));
    assert_eq!(outcomes, [Got::Error(Reason::Overloaded)]);
}

#[test]
fn a_create_that_is_not_mentioned_is_retried_only_if_it_certainly_failed() {
    let failed = || error(Reason::ValidationFailed);
    let response = |results: usize, errors: usize| BatchResponse {
        results: (0..results).map(|number| found(&format!("created {number}"))).collect(),
        errors: vec![failed(); errors],
    };
    let fail = UnresolvedPolicy::Fail;
    let retry = [Got::RetryAlone, Got::RetryAlone];
    let unknown =
        || [Got::Error(Reason::WriteOutcomeUnknown), Got::Error(Reason::WriteOutcomeUnknown)];
    // An error for each: none succeeded.
    assert_eq!(create(2, fail, response(0, 2)), retry);
    assert_eq!(create(2, fail, response(0, 3)), retry);
    // Some may have succeeded.
    let rejected = [Got::Error(Reason::ValidationFailed), Got::Error(Reason::ValidationFailed)];
    assert_eq!(create(2, fail, response(0, 1)), rejected);
    assert_eq!(create(2, fail, response(2, 2)), unknown());
    assert_eq!(create(2, fail, response(0, 0)), unknown());
    // An operation that may be repeated is.
    assert_eq!(create(2, UnresolvedPolicy::RetryAlone, response(0, 1)), retry);
    assert_eq!(create(2, UnresolvedPolicy::RetryAlone, response(0, 0)), retry);
}

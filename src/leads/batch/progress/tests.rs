//! Results so far, of first calls and of repeats.

use super::*;
use crate::leads::{BatchItem, Lead};

fn error(reason: Reason, side_effect: SideEffect) -> Error {
    Error::new(reason, "failed").with_side_effect(side_effect)
}

fn item(id: &str) -> Outcome {
    let lead = Lead { id: id.to_owned(), ..Lead::default() };
    Ok(Some(BatchItem { lead, trace_id: None, created: None }))
}

fn id(outcome: Outcome) -> Result<String, Error> {
    Ok(outcome?.expect("a lead").lead.id)
}

fn progress(inputs: usize) -> BatchProgress<String> {
    BatchProgress::new(inputs, SideEffect::Possible, id)
}

/// Reason and effect of each failed result; `None` for a success.
fn failures(results: Vec<Result<String, Error>>) -> Vec<Option<(Reason, SideEffect)>> {
    let failure = |error: Error| (error.reason(), error.side_effect());
    results.into_iter().map(|result| result.err().map(failure)).collect()
}

#[test]
fn an_unfinished_input_says_whether_hubspot_was_asked() {
    let progress = progress(4);
    let [sent, queued] = [(); 2].map(|()| Arc::new(CostMeter::default()));
    OutcomeSink::begin(&progress, 0..2, &sent);
    OutcomeSink::begin(&progress, 2..3, &queued);
    sent.count();
    progress.settle_one(0, item("7"), true);
    let late = |effect| Some((Reason::DeadlineExceeded, effect));
    assert_eq!(
        failures(progress.results().unwrap()),
        [None, late(SideEffect::Possible), late(SideEffect::None), late(SideEffect::None)]
    );
}

#[test]
fn without_a_separate_result_the_call_fails_as_a_whole() {
    let none = progress(3);
    let error = none.results().unwrap_err();
    assert_eq!((error.reason(), error.side_effect()), (Reason::DeadlineExceeded, SideEffect::None));
    // All inputs were sent, and nothing is known of any.
    let all = progress(3);
    let meter = Arc::new(CostMeter::default());
    OutcomeSink::begin(&all, 0..3, &meter);
    meter.count();
    let error = all.results().unwrap_err();
    assert_eq!(error.side_effect(), SideEffect::Possible);
    // Some were sent: each input has its own error.
    let some = progress(3);
    OutcomeSink::begin(&some, 0..2, &meter);
    assert_eq!(some.results().unwrap().len(), 3);
    // A read has no effects.
    let read = BatchProgress::new(2, SideEffect::None, id);
    OutcomeSink::begin(&read, 0..2, &meter);
    assert_eq!(read.results().unwrap_err().side_effect(), SideEffect::None);
}

#[test]
fn only_open_inputs_are_sent_again_and_unknown_outcomes_stay_until_they_are_resolved() {
    let unsent = error(Reason::DeadlineExceeded, SideEffect::None);
    let lost = error(Reason::WriteOutcomeUnknown, SideEffect::Possible);
    let invalid = error(Reason::ValidationFailed, SideEffect::None);
    let previous = vec![
        Ok("0".to_owned()),
        Err(unsent.clone()),
        Err(invalid.clone()),
        Err(lost.clone()),
        Err(lost.clone()),
        Err(lost.clone()),
    ];
    let (resumed, open) = BatchProgress::resume(Some(Ok(previous)), (0..6).collect::<Vec<_>>(), id);
    assert_eq!(open, [(1, 1), (3, 3), (4, 4), (5, 5)]);
    assert_eq!([1, 3].map(|index| resumed.unknown(index)), [None, Some(lost.clone())]);
    let so_far = failures(resumed.results().unwrap());
    assert_eq!(so_far[1], Some((Reason::DeadlineExceeded, SideEffect::None)));
    assert_eq!(so_far[3], Some((Reason::WriteOutcomeUnknown, SideEffect::Possible)));
    let outcomes = [(1, item("1")), (3, item("3")), (4, Err(unsent)), (5, Err(invalid.clone()))];
    outcomes.into_iter().for_each(|(index, outcome)| resumed.settle_one(index, outcome, true));
    let ok = |id: &str| Ok(id.to_owned());
    assert_eq!(
        resumed.results().unwrap(),
        [ok("0"), ok("1"), Err(invalid.clone()), ok("3"), Err(lost), Err(invalid)]
    );
}

#[test]
fn a_failure_as_a_whole_is_the_outcome_of_every_open_input_of_a_repeat() {
    let unsent = error(Reason::DeadlineExceeded, SideEffect::None);
    let previous = vec![Ok("0".to_owned()), Err(unsent)];
    let (resumed, _) = BatchProgress::resume(Some(Ok(previous)), vec![0, 1], id);
    let down = error(Reason::UpstreamUnavailable, SideEffect::None);
    resumed.settle_one(1, Err(down.clone()), false);
    assert_eq!(resumed.results().unwrap(), [Ok("0".to_owned()), Err(down.clone())]);
    let (first, open) = BatchProgress::resume(None, vec![7], id);
    assert_eq!(open, [(0, 7)]);
    first.settle_one(0, Err(down.clone()), false);
    assert_eq!(first.results(), Err(down));
}

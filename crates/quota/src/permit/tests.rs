//! A permit is released exactly once, on every outcome.

use parking_lot::Mutex;

use super::*;
use crate::observation::ObservedLimit;

const BASELINE: Baseline = Baseline { in_ledger: false, oldest: 3 };

/// Records the reports of permits.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<Event>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Sent(u64, usize),
    Finished(u64, Option<(Observation, Baseline)>),
    Unused(u64),
}

impl Issuer for Recorder {
    fn mark_sent(&self, _: BucketName, slot: u64, leads: usize) -> Baseline {
        self.0.lock().push(Event::Sent(slot, leads));
        BASELINE
    }

    fn finish(&self, _: BucketName, slot: u64, response: Option<(Observation, Baseline)>) {
        self.0.lock().push(Event::Finished(slot, response));
    }

    fn release_unused(&self, _: BucketName, slot: u64) {
        self.0.lock().push(Event::Unused(slot));
    }
}

/// Events of a permit for slot 7.
fn events(use_permit: impl FnOnce(Permit)) -> Vec<Event> {
    let recorder = Arc::<Recorder>::default();
    use_permit(Permit::new(Arc::clone(&recorder) as _, BucketName::Search, 7));
    recorder.0.lock().clone()
}

fn observation() -> Observation {
    let limit = ObservedLimit { size: Some(5), ..ObservedLimit::default() };
    Observation { limit, ..Observation::default() }
}

#[test]
fn a_permit_that_is_dropped_unsent_is_released_unused() {
    assert_eq!(events(drop), [Event::Unused(7)]);
}

#[test]
fn a_permit_that_is_observed_unsent_is_released_unused() {
    assert_eq!(events(|permit| permit.observe(observation())), [Event::Unused(7)]);
}

#[test]
fn a_permit_that_is_dropped_after_it_was_sent_is_finished_without_a_response() {
    let events = events(|mut permit| permit.mark_sent(2));
    assert_eq!(events, [Event::Sent(7, 2), Event::Finished(7, None)]);
}

#[test]
fn a_permit_that_is_observed_is_finished_once_with_the_response() {
    let events = events(|mut permit| {
        permit.mark_sent(1);
        permit.observe(observation());
    });
    let response = Some((observation(), BASELINE));
    assert_eq!(events, [Event::Sent(7, 1), Event::Finished(7, response)]);
}

#[test]
fn only_the_first_mark_counts() {
    let events = events(|mut permit| {
        permit.mark_sent(1);
        permit.mark_sent(100);
        assert_eq!(permit.bucket(), BucketName::Search);
    });
    assert_eq!(events, [Event::Sent(7, 1), Event::Finished(7, None)]);
}

#[test]
fn a_permit_that_unwinds_with_its_task_is_finished() {
    let recorder = Arc::<Recorder>::default();
    let mut permit = Permit::new(Arc::clone(&recorder) as _, BucketName::Burst, 1);
    permit.mark_sent(1);
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _permit = permit;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(unwound.is_err());
    assert_eq!(*recorder.0.lock(), [Event::Sent(1, 1), Event::Finished(1, None)]);
}

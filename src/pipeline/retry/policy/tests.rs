//! Decisions over ranges of inputs.

use proptest::prelude::*;

use super::*;

const POLICY: RetryPolicy = RetryPolicy {
    max_attempts: 4,
    first_backoff: Duration::from_millis(200),
    max_backoff: Duration::from_secs(5),
    attempt_time: Duration::from_millis(50),
};

const MINUTE: Duration = Duration::from_secs(60);

fn state(attempt: u32, remaining: Duration, random: f64) -> RetryState {
    RetryState { attempt, remaining, random }
}

fn retryable(min_backoff: Duration) -> Retryable {
    Retryable::After { min_backoff, max_attempts: u32::MAX }
}

#[test]
fn a_permanent_failure_is_not_retried() {
    let budget = RetryBudget::default();
    let decision = POLICY.decide(Retryable::Permanent, state(1, MINUTE, 0.5), &budget);
    assert_eq!(decision, Decision::Stop(Stop::Permanent));
}

#[test]
fn the_stated_pause_is_kept_and_jitter_is_added() {
    let budget = RetryBudget::default();
    let asked = Duration::from_secs(10);
    let at =
        |attempt, random| POLICY.decide(retryable(asked), state(attempt, MINUTE, random), &budget);
    assert_eq!(at(1, 0.0), Decision::RetryAfter(asked));
    assert_eq!(at(1, 0.5), Decision::RetryAfter(asked + Duration::from_millis(100)));
    assert_eq!(at(3, 0.5), Decision::RetryAfter(asked + Duration::from_millis(400)));
}

#[test]
fn a_pause_past_the_deadline_is_not_started() {
    let budget = RetryBudget::default();
    let failure = retryable(Duration::from_secs(10));
    let decision = POLICY.decide(failure, state(1, Duration::from_secs(10), 0.0), &budget);
    assert_eq!(decision, Decision::Stop(Stop::Deadline));
}

#[test]
fn a_failure_may_allow_fewer_attempts_than_the_policy() {
    let budget = RetryBudget::default();
    let failure = Retryable::After { min_backoff: Duration::ZERO, max_attempts: 2 };
    assert!(matches!(
        POLICY.decide(failure, state(1, MINUTE, 0.5), &budget),
        Decision::RetryAfter(_)
    ));
    let decision = POLICY.decide(failure, state(2, MINUTE, 0.5), &budget);
    assert_eq!(decision, Decision::Stop(Stop::Attempts));
}

#[test]
fn an_outage_exhausts_the_budget_and_successes_refill_it() {
    let budget = RetryBudget::default();
    let decide = || POLICY.decide(retryable(Duration::ZERO), state(1, MINUTE, 0.5), &budget);
    let allowed = (0..1_000).filter(|_| matches!(decide(), Decision::RetryAfter(_))).count();
    assert_eq!(allowed, 20);
    assert_eq!(decide(), Decision::Stop(Stop::Budget));
    (0..10).for_each(|_| budget.deposit());
    assert!(matches!(decide(), Decision::RetryAfter(_)));
    assert_eq!(decide(), Decision::Stop(Stop::Budget));
    (0..1_000_000).for_each(|_| budget.deposit());
    let allowed = (0..1_000).filter(|_| matches!(decide(), Decision::RetryAfter(_))).count();
    assert_eq!(allowed, 20, "the budget has a capacity");
}

proptest! {
    #[test]
    fn no_decision_outlasts_the_deadline_or_the_attempts(
        at_least_ms in 0_u64..100_000, max_attempts in 0_u32..9, attempt in 1_u32..99,
        left_ms in 0_u64..100_000, random in 0.0..1.0_f64,
    ) {
        let failure = Retryable::After { min_backoff: Duration::from_millis(at_least_ms), max_attempts };
        let left = Duration::from_millis(left_ms);
        let budget = RetryBudget::default();
        if let Decision::RetryAfter(pause) = POLICY.decide(failure, state(attempt, left, random), &budget) {
            prop_assert!(pause + POLICY.attempt_time <= left);
            prop_assert!(pause >= Duration::from_millis(at_least_ms));
            prop_assert!(pause <= Duration::from_millis(at_least_ms) + POLICY.max_backoff);
            prop_assert!(attempt < POLICY.max_attempts && attempt < max_attempts);
        }
    }
}

//! Decisions for whole ranges of inputs, and the loop with a clock that nobody waits for.

use proptest::prelude::*;
use tokio::time::sleep;

use super::*;

const POLICY: Policy = Policy {
    max_attempts: 4,
    first_pause: Duration::from_millis(200),
    max_pause: Duration::from_secs(5),
    attempt_time: Duration::from_millis(50),
};

const MINUTE: Duration = Duration::from_secs(60);

fn passing(at_least: Duration) -> Failure {
    Failure::Passing { at_least, most: u32::MAX }
}

#[test]
fn what_is_final_stands_at_once() {
    let budget = Budget::default();
    let decision = POLICY.decide(Failure::Final, 1, MINUTE, 0.5, &budget);
    assert_eq!(decision, Decision::Stop(Stop::Final));
}

#[test]
fn the_wait_that_was_asked_for_is_kept_and_the_rest_is_random() {
    let budget = Budget::default();
    let asked = Duration::from_secs(10);
    let at = |attempt, random| POLICY.decide(passing(asked), attempt, MINUTE, random, &budget);
    assert_eq!(at(1, 0.0), Decision::Again(asked));
    assert_eq!(at(1, 0.5), Decision::Again(asked + Duration::from_millis(100)));
    assert_eq!(at(3, 0.5), Decision::Again(asked + Duration::from_millis(400)));
}

#[test]
fn a_wait_past_the_deadline_is_not_begun() {
    let budget = Budget::default();
    let failure = passing(Duration::from_secs(10));
    let decision = POLICY.decide(failure, 1, Duration::from_secs(10), 0.0, &budget);
    assert_eq!(decision, Decision::Stop(Stop::Deadline));
}

#[test]
fn the_kind_of_trouble_may_allow_fewer_attempts_than_the_policy() {
    let budget = Budget::default();
    let failure = Failure::Passing { at_least: Duration::ZERO, most: 2 };
    assert!(matches!(POLICY.decide(failure, 1, MINUTE, 0.5, &budget), Decision::Again(_)));
    let decision = POLICY.decide(failure, 2, MINUTE, 0.5, &budget);
    assert_eq!(decision, Decision::Stop(Stop::Attempts));
}

#[test]
fn an_outage_uses_the_budget_up_and_successes_fill_it_again() {
    let budget = Budget::default();
    let decide = || POLICY.decide(passing(Duration::ZERO), 1, MINUTE, 0.5, &budget);
    let allowed = (0..1_000).filter(|_| matches!(decide(), Decision::Again(_))).count();
    assert_eq!(allowed, 20);
    assert_eq!(decide(), Decision::Stop(Stop::Budget));
    (0..10).for_each(|_| budget.earn());
    assert!(matches!(decide(), Decision::Again(_)));
    assert_eq!(decide(), Decision::Stop(Stop::Budget));
    (0..1_000_000).for_each(|_| budget.earn());
    let allowed = (0..1_000).filter(|_| matches!(decide(), Decision::Again(_))).count();
    assert_eq!(allowed, 20, "it does not fill up without end");
}

#[tokio::test(start_paused = true)]
async fn the_loop_ends_with_the_first_success_or_the_last_failure() {
    for (before, succeeds_at, attempts, expected) in [
        (0, 1, 1, Ok(1)),
        (0, 3, 3, Ok(3)),
        (0, 4, 4, Ok(4)),
        (0, 5, 4, Err("down")),
        (2, 4, 4, Ok(4)),
        (2, 5, 4, Err("down")),
    ] {
        let (budget, mut made) = (Budget::default(), 0);
        let attempt = |number| {
            made = number;
            std::future::ready(if number >= succeeds_at { Ok(number) } else { Err("down") })
        };
        let judge = |_: &&str| passing(Duration::ZERO);
        let until = Instant::now() + MINUTE;
        let course = Course { made: before, deadline: || until };
        let result = run(&POLICY, &budget, course, attempt, judge, sleep, || 0.5).await;
        let expected = expected.map_err(|failure| Stopped { failure, why: Stop::Attempts });
        assert_eq!((result, made), (expected, attempts));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_comes_to_be_earlier_is_kept() {
    let budget = Budget::default();
    let begin = Instant::now();
    let judge = |_: &&str| passing(Duration::from_secs(2));
    let attempt = |_| std::future::ready(Err::<(), _>("down"));
    // Somebody with less time joins after the first attempt.
    let deadline = || begin + if begin.elapsed().is_zero() { MINUTE } else { MINUTE / 20 };
    let course = Course { made: 0, deadline };
    let result = run(&POLICY, &budget, course, attempt, judge, sleep, || 0.0).await;
    assert_eq!(result, Err(Stopped { failure: "down", why: Stop::Deadline }));
    assert_eq!(begin.elapsed(), Duration::from_secs(2));
}

proptest! {
    #[test]
    fn no_decision_outlasts_the_deadline_or_the_attempts(
        at_least_ms in 0_u64..100_000, most in 0_u32..9, attempt in 1_u32..99,
        left_ms in 0_u64..100_000, random in 0.0..1.0_f64,
    ) {
        let failure = Failure::Passing { at_least: Duration::from_millis(at_least_ms), most };
        let left = Duration::from_millis(left_ms);
        let budget = Budget::default();
        if let Decision::Again(pause) = POLICY.decide(failure, attempt, left, random, &budget) {
            prop_assert!(pause + POLICY.attempt_time <= left);
            prop_assert!(pause >= Duration::from_millis(at_least_ms));
            prop_assert!(pause <= Duration::from_millis(at_least_ms) + POLICY.max_pause);
            prop_assert!(attempt < POLICY.max_attempts && attempt < most);
        }
    }
}

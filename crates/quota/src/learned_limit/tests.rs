//! Steps of an estimate, down and up.

use super::*;

const WINDOW: Duration = Duration::from_secs(10);

/// Rejects the call of slot `at` as the one after `counted` others.
fn reject(learned: &mut LearnedLimit, at: u64, counted: u64, now: Instant) -> bool {
    let rejection = Rejection { slot: at, next_slot: at + 1, counted };
    learned.on_rejected(rejection, 190, WINDOW, now)
}

#[test]
fn the_calls_in_the_window_are_the_limit_if_they_explain_the_rejection() {
    let now = Instant::now();
    let mut learned = LearnedLimit::default();
    assert_eq!((learned.limit(190), learned.cap()), (190, None));
    assert!(reject(&mut learned, 100, 100, now));
    assert_eq!((learned.limit(190), learned.limit(50)), (100, 50));
}

#[test]
fn few_calls_in_the_window_halve_the_limit_and_never_close_it() {
    let now = Instant::now();
    let mut learned = LearnedLimit::default();
    for (slot, expected) in [95, 47, 23, 11, 5, 2, 1, 1].into_iter().enumerate() {
        assert!(reject(&mut learned, slot as u64, 0, now));
        assert_eq!(learned.limit(190), expected);
    }
}

#[test]
fn calls_in_flight_at_a_rejection_teach_nothing() {
    let now = Instant::now();
    let mut learned = LearnedLimit::default();
    let rejection = Rejection { slot: 100, next_slot: 105, counted: 100 };
    assert!(learned.on_rejected(rejection, 190, WINDOW, now));
    assert!(!reject(&mut learned, 104, 0, now));
    assert!(reject(&mut learned, 105, 0, now));
}

#[test]
fn rejections_at_the_limit_lower_it_in_growing_steps_while_they_continue() {
    let mut now = Instant::now();
    let mut learned = LearnedLimit::default();
    let mut limits = Vec::new();
    for slot in 0..5 {
        let limit = learned.limit(190);
        reject(&mut learned, slot, limit, now);
        limits.push(learned.limit(190));
    }
    assert_eq!(limits, [184, 172, 150, 112, 84]);
    now += WINDOW;
    reject(&mut learned, 5, 84, now);
    assert_eq!(learned.limit(190), 81, "the steps begin again");
}

#[test]
fn a_limit_that_is_used_up_is_tested_upwards() {
    let mut now = Instant::now();
    let mut learned = LearnedLimit::default();
    learned.adopt(Some(100), 0, now);
    now += RAISE_INTERVAL;
    learned.rejected = None;
    assert!(!learned.raise(190, WINDOW, now), "nothing is known about it");
    learned.on_used(100);
    assert!(learned.raise(190, WINDOW, now));
    assert_eq!(learned.limit(190), 101);
    // It is rejected: the next test comes after two minutes.
    learned.on_accepted(100);
    reject(&mut learned, 200, 101, now);
    assert_eq!(learned.limit(190), 100);
    learned.on_used(100);
    assert!(!learned.raise(190, WINDOW, now + RAISE_INTERVAL * 2 - Duration::from_millis(1)));
    assert!(learned.raise(190, WINDOW, now + RAISE_INTERVAL * 2));
}

#[test]
fn steps_up_grow_until_the_configured_limit_holds_again() {
    let mut now = Instant::now();
    let mut learned = LearnedLimit::default();
    learned.adopt(Some(100), 0, now);
    learned.rejected = None;
    let mut limits = Vec::new();
    while let Some(cap) = learned.cap() {
        limits.push(cap);
        learned.on_used(cap);
        // Only the first step waits for long.
        now += if cap == 100 { RAISE_INTERVAL } else { WINDOW * 3 / 2 };
        assert!(learned.raise(190, WINDOW, now));
    }
    assert_eq!(limits, [100, 101, 103, 107, 115, 131, 163]);
}

#[test]
fn a_count_is_checked_half_of_the_way_up_until_it_is_found_again() {
    let mut now = Instant::now();
    let mut learned = LearnedLimit::default();
    reject(&mut learned, 100, 100, now);
    learned.on_used(100);
    now += WINDOW * 2;
    assert!(learned.raise(190, WINDOW, now));
    assert_eq!(learned.limit(190), 145);
    reject(&mut learned, 200, 98, now);
    assert_eq!(learned.limit(190), 98);
    learned.on_used(98);
    assert!(!learned.raise(190, WINDOW, now + RAISE_INTERVAL - Duration::from_millis(1)));
}

#[test]
fn rejections_for_another_cause_keep_the_limit_before_them_as_the_goal() {
    let mut now = Instant::now();
    let mut learned = LearnedLimit::default();
    learned.on_accepted(190);
    for (slot, counted) in [189, 150, 80, 30, 5, 0].into_iter().enumerate() {
        now += Duration::from_secs(2);
        reject(&mut learned, slot as u64, counted, now);
    }
    assert_eq!(learned.limit(190), 10);
    let mut limits = Vec::new();
    for _ in 0..4 {
        let limit = learned.limit(190);
        learned.on_used(limit);
        learned.on_accepted(limit);
        now += WINDOW * 3 / 2;
        assert!(learned.raise(190, WINDOW, now));
        limits.push(learned.limit(190));
    }
    assert_eq!(limits, [100, 145, 167, 178]);
}

#[test]
fn a_goal_is_given_up_once_a_step_towards_it_is_rejected() {
    let mut now = Instant::now();
    let mut learned = LearnedLimit::default();
    for (slot, counted) in [(0, 100), (1, 60)] {
        reject(&mut learned, slot, counted, now);
    }
    assert_eq!(learned.rejected, Some(190));
    learned.on_used(60);
    now += WINDOW * 2;
    assert!(learned.raise(190, WINDOW, now));
    reject(&mut learned, 200, 80, now);
    assert!(learned.rejected.is_some_and(|rejected| rejected < 190), "{learned:?}");
}

#[test]
fn a_step_that_was_not_rejected_stays_after_the_next_one_is() {
    let mut now = Instant::now();
    let mut learned = LearnedLimit::default();
    learned.adopt(Some(100), 0, now);
    learned.rejected = None;
    for limit in [101, 103, 107] {
        learned.on_used(learned.limit(190));
        now += RAISE_INTERVAL;
        assert!(learned.raise(190, WINDOW, now));
        assert_eq!(learned.limit(190), limit);
    }
    // The count of the rejected call is an estimate.
    reject(&mut learned, 200, 90, now);
    assert_eq!(learned.limit(190), 103);
}

#[test]
fn the_estimate_of_another_replica_is_adopted() {
    let now = Instant::now();
    let mut learned = LearnedLimit::default();
    learned.adopt(Some(100), 7, now);
    assert_eq!(learned.limit(190), 100);
    assert!(!reject(&mut learned, 6, 100, now), "it was sent before");
    learned.adopt(None, 8, now);
    assert_eq!(learned.limit(190), 190);
}

#[test]
fn a_rejection_far_above_the_estimate_is_of_calls_before_it_for_a_while() {
    let mut now = Instant::now();
    let mut learned = LearnedLimit::default();
    assert!(reject(&mut learned, 0, 90, now));
    let estimate = learned.limit(190);
    // Within a tenth it may be the estimate that is wrong.
    assert!(!reject(&mut learned, 1, estimate + estimate / 10 + 2, now));
    assert_eq!(learned.limit(190), estimate);
    assert!(reject(&mut learned, 2, estimate + estimate / 10, now));
    assert!(learned.limit(190) < estimate);
    // Later ones teach whatever is counted: the count may be wrong as well.
    let estimate = learned.limit(190);
    now += WINDOW * 2;
    assert!(reject(&mut learned, 3, estimate * 2, now));
    assert!(learned.limit(190) < estimate);
}

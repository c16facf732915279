//! Jitter of rejections.

use super::*;

const GAP: Duration = Duration::from_millis(100);

#[test]
fn a_single_rejection_is_exact_and_the_next_ones_are_spread_over_their_permits() {
    let now = Instant::now();
    let mut spread = RetrySpread::default();
    for before in 0..100 {
        assert_eq!(spread.jitter(GAP, 1.0, now), GAP * before);
    }
    assert_eq!(spread.jitter(GAP, 0.5, now), MAX_SPREAD / 2);
    assert_eq!(spread.jitter(GAP, 1.0, now), MAX_SPREAD, "one window at most");
    assert_eq!(spread.jitter(GAP, 0.0, now), Duration::ZERO);
}

#[test]
fn rejections_are_forgotten_as_permits_become_free() {
    let now = Instant::now();
    let mut spread = RetrySpread::default();
    for _ in 0..10 {
        spread.jitter(GAP, 1.0, now);
    }
    assert_eq!(spread.jitter(GAP, 1.0, now + GAP * 4), GAP * 6);
    assert_eq!(spread.jitter(GAP, 1.0, now + GAP * 20), Duration::ZERO);
}

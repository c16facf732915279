//! The numbers of the schedule, as tables and as properties.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn refreshes_are_planned_for_the_lifetimes_that_occur() {
    // (life, earliest, latest), in milliseconds
    let table: [(u64, u64, u64); 6] = [
        (1_800_000, 1_200_000, 1_500_000), // HubSpot's half an hour
        (60_000, 40_000, 50_000),
        (6_000, 4_000, 5_000),
        (1_000, 1_000, 1_000), // the floor wins over the fraction
        (1, 1_000, 1_000),
        (31_536_000_000, 57_600_000, 72_000_000), // a year: refreshed daily
    ];
    for (life, earliest, latest) in table {
        let life = Duration::from_millis(life);
        let (low, high) = (refresh_after(life, 0.0), refresh_after(life, 0.999_999));
        let slack = Duration::from_millis(100);
        assert!(low.abs_diff(Duration::from_millis(earliest)) < slack, "{life:?}: {low:?}");
        assert!(high.abs_diff(Duration::from_millis(latest)) < slack, "{life:?}: {high:?}");
    }
}

#[test]
fn a_zero_lifetime_is_unknown_and_an_absurd_one_is_capped() {
    assert_eq!(life(Duration::ZERO), seconds(60));
    assert_eq!(life(seconds(1)), seconds(1));
    assert_eq!(life(seconds(1_800)), seconds(1_800));
    assert_eq!(life(Duration::MAX), seconds(365 * 24 * 3_600));
}

#[test]
fn backoff_doubles_up_to_its_cap() {
    let full = 1.0 - f64::EPSILON;
    let needed: Vec<_> = (1..=6).map(|n| backoff(n, None, None, full).as_secs_f64()).collect();
    let idle: Vec<_> =
        (1..=6).map(|n| backoff(n, None, Some(seconds(600)), full).as_secs_f64()).collect();
    for (got, want) in needed.iter().zip([1.0, 2.0, 4.0, 8.0, 10.0, 10.0]) {
        assert!((got - want).abs() < 0.001, "{needed:?}");
    }
    for (got, want) in idle.iter().zip([1.0, 2.0, 4.0, 8.0, 15.0, 15.0]) {
        assert!((got - want).abs() < 0.001, "{idle:?}");
    }
}

#[test]
fn retry_after_is_honoured_up_to_its_cap() {
    let minute = Some(seconds(60));
    assert_eq!(backoff(1, minute, Some(seconds(900)), 0.0), seconds(60));
    assert_eq!(backoff(1, minute, None, 0.0), seconds(20), "callers are waiting");
    assert_eq!(backoff(1, Some(Duration::MAX), Some(seconds(900)), 0.0), seconds(300));
    assert_eq!(backoff(1, minute, Some(seconds(7)), 0.0), seconds(7), "before it expires");
}

#[test]
fn suspect_checks_end_within_a_poll_interval() {
    let checks: Vec<_> = (0..10).map_while(suspect_check_after).collect();
    assert_eq!(checks.len(), 5);
    assert!(checks.iter().sum::<Duration>() < seconds(20));
    assert_eq!(suspect_check_after(u32::MAX), None);
}

#[test]
fn a_refresh_token_of_another_replica_is_proved_within_one_to_seven_seconds() {
    assert_eq!(prove_after(0.0), seconds(1));
    assert_eq!(prove_after(0.5), seconds(4));
}

proptest! {
    #[test]
    fn a_refresh_is_planned_within_the_lifetime_and_above_the_floor(
        expires_in in 0_u64..=u64::MAX, jitter in 0.0_f64..1.0,
    ) {
        let life = life(Duration::from_secs(expires_in));
        let after = refresh_after(life, jitter);
        prop_assert!(after >= REQUEST_FLOOR);
        prop_assert!(after <= life, "{after:?} of {life:?}");
        prop_assert!(after <= seconds(24 * 3_600));
    }

    #[test]
    fn backoff_stays_within_its_bounds(
        failures in 0_u32..=u32::MAX,
        retry_after in proptest::option::of(0_u64..=u64::MAX),
        left in proptest::option::of(0_u64..=u64::MAX),
        jitter in 0.0_f64..1.0,
    ) {
        let retry_after = retry_after.map(Duration::from_millis);
        let left = left.map(Duration::from_millis);
        let after = backoff(failures, retry_after, left, jitter);
        prop_assert!(after >= Duration::from_millis(500));
        match left {
            None => prop_assert!(after <= seconds(20)),
            Some(left) => prop_assert!(
                after <= seconds(300).min(left.max(Duration::from_millis(500)))
            ),
        }
        if retry_after.is_none() {
            prop_assert!(after <= seconds(15), "30 s less an attempt that hangs");
        }
    }

    #[test]
    fn a_poll_starts_within_its_interval(interval in 1_u64..100_000, jitter in 0.0_f64..1.0) {
        let interval = Duration::from_millis(interval);
        let after = poll_after(interval, jitter);
        prop_assert!(after <= interval);
        prop_assert!(after >= interval / 2);
    }

    #[test]
    fn a_suspended_retry_stays_near_its_interval(jitter in 0.0_f64..1.0) {
        let after = suspended_retry_after(seconds(600), jitter);
        prop_assert!((seconds(480)..=seconds(720)).contains(&after));
    }
}

#[test]
fn a_suspended_grant_is_retried_within_thirty_seconds() {
    assert_eq!(early_retry_after(0.0), seconds(24));
    assert!(early_retry_after(0.999) < seconds(30));
    let retries: Vec<_> = (0..4).map(suspect_retry_at).collect();
    assert_eq!(retries, [Some(seconds(5)), Some(seconds(15)), Some(seconds(30)), None]);
}

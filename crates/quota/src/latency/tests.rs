//! Estimates of HubSpot's latency.

use super::*;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn without_a_recent_response_nothing_is_expected() {
    let now = Instant::now();
    let mut latency = UsualLatency::default();
    assert_eq!(latency.estimate(now), Duration::ZERO);
    latency.observe(millis(80), now);
    assert_eq!(latency.estimate(now + FRESH - millis(1)), millis(80));
    assert_eq!(latency.estimate(now + FRESH), Duration::ZERO);
}

#[test]
fn the_quicker_quarter_of_the_responses_counts() {
    let now = Instant::now();
    let mut latency = UsualLatency::default();
    for number in 0..2_000 {
        latency.observe(millis(100 + number * 37 % 100), now);
    }
    latency.observe(millis(199), now);
    let estimate = latency.estimate(now);
    assert!((millis(115)..=millis(135)).contains(&estimate), "{estimate:?}");
}

#[test]
fn one_quick_response_ends_a_slow_estimate_and_one_slow_response_makes_none() {
    let now = Instant::now();
    let mut latency = UsualLatency::default();
    for _ in 0..100 {
        latency.observe(millis(2_000), now);
    }
    latency.observe(millis(20), now);
    assert_eq!(latency.estimate(now), millis(20));
    let mut latency = UsualLatency::default();
    for _ in 0..100 {
        latency.observe(millis(20), now);
    }
    latency.observe(millis(2_000), now);
    assert!(latency.estimate(now) <= millis(21));
}

#[test]
fn an_estimate_of_zero_grows_again() {
    let now = Instant::now();
    let mut latency = UsualLatency::default();
    latency.observe(Duration::ZERO, now);
    for _ in 0..500 {
        latency.observe(millis(50), now);
    }
    assert!(latency.estimate(now) >= millis(40));
}

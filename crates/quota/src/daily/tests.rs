//! The daily limit on a simulated wall clock.

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn noon() -> Timestamp {
    at("2026-03-01T12:00:00Z")
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

fn daily(size: Option<u64>) -> Daily {
    Daily::new(size, Zone::default())
}

#[test]
fn calls_are_counted_and_unused_ones_released() {
    let mut daily = daily(Some(2));
    daily.release();
    daily.take(noon());
    daily.take(noon());
    assert_eq!((daily.size(), daily.used()), (Some(2), 2));
    assert_eq!(daily.exhausted_for(noon()), Some(minutes(12 * 60)));
    daily.release();
    assert_eq!(daily.exhausted_for(noon()), None);
    assert_eq!(daily.rest_of_day(noon()), minutes(12 * 60));
}

#[test]
fn one_probe_is_let_through_each_quarter_of_an_hour() {
    let mut daily = daily(Some(1));
    daily.take(noon());
    assert!(daily.exhausted_for(noon()).is_some());
    let almost = after(noon(), minutes(15) - Duration::from_secs(1));
    assert!(daily.exhausted_for(almost).is_some());
    let probe = after(noon(), minutes(15));
    assert_eq!(daily.exhausted_for(probe), None);
    daily.take(probe);
    assert!(daily.exhausted_for(probe).is_some(), "one is enough");
    assert_eq!(daily.exhausted_for(after(probe, minutes(15))), None);
}

#[test]
fn a_response_replaces_the_count_and_adds_calls_in_flight() {
    let mut daily = daily(None);
    daily.observe(100, 40, 3);
    assert_eq!((daily.size(), daily.used()), (Some(100), 63));
    daily.observe(100, 0, 0);
    assert!(daily.exhausted_for(noon()).is_some());
    daily.observe(100, 1, 0);
    assert_eq!(daily.exhausted_for(noon()), None);
}

#[test]
fn a_429_exhausts_the_limit_with_and_without_a_size() {
    for size in [None, Some(10)] {
        let mut daily = daily(size);
        daily.take(noon());
        daily.close(noon());
        assert_eq!(daily.used(), size.unwrap_or(1));
        assert_eq!(daily.exhausted_for(noon()), Some(minutes(12 * 60)));
        daily.observe(10, 5, 0);
        assert_eq!(daily.exhausted_for(noon()), None);
    }
}

#[test]
fn a_new_day_resets_everything_and_probes_often_in_its_first_minutes() {
    let mut daily = daily(Some(1));
    daily.take(noon());
    daily.close(noon());
    let midnight = at("2026-03-02T00:00:00Z");
    assert_eq!(daily.exhausted_for(midnight), None);
    daily.close(midnight);
    let probe = Duration::from_secs(5);
    assert_eq!(daily.exhausted_for(midnight), Some(probe));
    assert_eq!(daily.exhausted_for(after(midnight, probe)), None);
    daily.take(after(midnight, probe));
    daily.release();
    let late = after(midnight, minutes(5));
    daily.close(late);
    assert_eq!(daily.exhausted_for(late), Some(minutes(24 * 60 - 5)));
}

#[test]
fn a_probe_in_the_first_minutes_clears_a_429_of_an_unknown_limit() {
    let mut daily = daily(None);
    daily.take(noon());
    let midnight = at("2026-03-02T00:00:00Z");
    daily.close(midnight);
    assert!(daily.exhausted_for(midnight).is_some());
    daily.take(midnight);
    assert_eq!(daily.exhausted_for(midnight), None, "the 429 was probably about the day before");
}

#[test]
fn the_end_of_the_day_is_that_of_the_zone() {
    let mut daily = Daily::new(None, Zone::parse("Europe/Berlin").expect("a zone"));
    assert_eq!(daily.rest_of_day(at("2026-03-01T22:30:00Z")), minutes(30));
}

//! Bounds of the offset for random latencies.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conversions_round_late_and_are_exact_to_the_fastest_exchange(
        offset in -1_000_000_i64..1_000_000,
        latencies in prop::collection::vec((0..50_000_u64, 0..50_000_u64), 1..50),
    ) {
        let origin = Instant::now() + Duration::from_secs(100);
        let ledger_time = |local: Instant| micros(local - origin) + offset;
        let mut known: Option<ClockOffset> = None;
        let mut at = origin;
        let mut fastest = u64::MAX;
        for (there, back) in latencies {
            let since = at;
            let stamp = ledger_time(since + Duration::from_micros(there));
            let now = since + Duration::from_micros(there + back);
            known = Some(match known {
                Some(known) => known.refined(since, stamp, now),
                None => ClockOffset::new(since, stamp, now),
            });
            fastest = fastest.min(there + back);
            at = now + Duration::from_millis(10);
        }
        let known = known.unwrap();
        let drift = micros(at - origin) / i64::from(DRIFT) + 60;
        let late = known.to_ledger(at) - ledger_time(at);
        prop_assert!((0..=i64::try_from(fastest).unwrap() + drift).contains(&late), "{late}");
        let local = known.to_local(ledger_time(at));
        prop_assert!(local >= at && local - at <= Duration::from_micros(fastest + 1_000));
    }
}

#[test]
fn a_clock_that_was_set_makes_only_the_new_exchange_count() {
    let origin = Instant::now() + Duration::from_secs(100);
    let second = origin + Duration::from_secs(1);
    let fresh = |set: i64| ClockOffset::new(origin, 0, origin).refined(second, set, second);
    for set in [-5_000_000, 50_000_000] {
        assert_eq!(fresh(set).to_ledger(second), set);
        assert_eq!(fresh(set).to_local(set), second);
    }
}

#[test]
fn times_before_the_first_exchange_convert_as_well() {
    let origin = Instant::now() + Duration::from_secs(100);
    let known = ClockOffset::new(origin, 7_000_000, origin);
    let before = origin - Duration::from_secs(2);
    assert_eq!(known.to_ledger(before), 5_000_000);
    assert_eq!(known.to_local(5_000_000), before);
}

//! A bucket without a ledger. With one, the tests of sharing play it in simulated time.

use std::sync::Arc;

use super::*;
use crate::{
    ledger::{ExchangeRequest, Grant, Ledger, LimitKey, Unavailable},
    observation::{Baseline, ObservedLimit},
    requester::Caller,
};

const WINDOW: Duration = Duration::from_secs(10);
const MILLI: Duration = Duration::from_millis(1);

fn take(bucket: &mut Bucket, now: Instant) -> u64 {
    bucket.take(Users::Single(Caller::new("a")), 1, now)
}

/// A call that ends at once.
fn call(bucket: &mut Bucket, now: Instant) -> u64 {
    let slot = take(bucket, now);
    bucket.mark_sent(slot, now);
    bucket.finish(slot, now);
    slot
}

fn limit(size: u64, remaining: u64) -> ObservedLimit {
    ObservedLimit { size: Some(size), remaining: Some(remaining), window: None }
}

/// The response to a call that is sent now.
fn observe(bucket: &mut Bucket, limit: ObservedLimit, now: Instant) {
    let slot = take(bucket, now);
    bucket.mark_sent(slot, now);
    let baseline = bucket.baseline();
    bucket.observe(limit, slot, baseline, now);
    bucket.finish(slot, now);
}

#[test]
fn own_calls_and_those_of_others_are_used_up_to_the_size() {
    let now = Instant::now();
    let mut bucket = Bucket::burst(100, WINDOW);
    assert_eq!((bucket.size(), bucket.window(), bucket.used(now)), (100, WINDOW, 0));
    observe(&mut bucket, limit(100, 69), now);
    assert_eq!(bucket.used(now), 31, "30 of others");
    observe(&mut bucket, limit(100, 0), now);
    assert_eq!(bucket.used(now), 100);
    bucket.expire(now + WINDOW);
    assert_eq!(bucket.used(now + WINDOW), 0);
}

#[test]
fn a_released_slot_is_not_used() {
    let now = Instant::now();
    let mut bucket = Bucket::burst(100, WINDOW);
    let slot = take(&mut bucket, now);
    assert_eq!((bucket.used(now), bucket.usage().parts().count()), (1, 1));
    bucket.release(slot, now);
    assert_eq!((bucket.used(now), bucket.usage().parts().count()), (0, 0));
}

#[test]
fn a_tenth_of_the_limit_holds_for_each_second_and_searches_have_one_window() {
    let now = Instant::now();
    let mut burst = Bucket::burst(20, WINDOW);
    let mut search = Bucket::secondly(2);
    for bucket in [&mut burst, &mut search] {
        call(bucket, now);
        assert_eq!(bucket.next_check(now), None);
        call(bucket, now);
        let opens = now + SECOND;
        assert_eq!((bucket.opens(0, now), bucket.next_check(now)), (opens, Some(opens)));
        bucket.expire(opens);
        assert_eq!(bucket.next_check(opens), None);
    }
}

#[test]
fn a_limit_of_nothing_is_one() {
    assert_eq!(Bucket::burst(0, WINDOW).size(), 1);
}

#[test]
fn the_transit_time_is_a_fortieth_of_the_window_up_to_a_quarter_of_a_second() {
    for (window, transit) in [(10, 250), (4, 100), (60, 250)] {
        let now = Instant::now();
        let window = Duration::from_secs(window);
        let mut bucket = Bucket::burst(10, window);
        let slot = take(&mut bucket, now);
        bucket.mark_sent(slot, now);
        let left = now + window + MILLI * transit;
        bucket.expire(left - MILLI);
        assert_eq!(bucket.used(now), 1, "{window:?}");
        bucket.expire(left);
        assert_eq!(bucket.used(left), 0, "{window:?}");
    }
}

#[test]
fn a_429_closes_a_limit_until_the_latest_time() {
    let now = Instant::now();
    let mut bucket = Bucket::burst(100, WINDOW);
    assert_eq!(bucket.closed_until(now), None);
    bucket.close(now + SECOND * 5, now);
    bucket.close(now + SECOND * 2, now);
    let until = now + SECOND * 5;
    assert_eq!((bucket.closed_until(now), bucket.opens(0, now)), (Some(until), until));
    assert_eq!(bucket.closed_until(until), None);
}

#[test]
fn only_sensible_limits_are_accepted() {
    let now = Instant::now();
    let mut bucket = Bucket::burst(100, WINDOW);
    let window = |seconds| ObservedLimit {
        window: Some(Duration::from_secs(seconds)),
        ..ObservedLimit::default()
    };
    for refused in [limit(0, 0), limit(MAX_SIZE + 1, 0), window(0), window(601)] {
        observe(&mut bucket, ObservedLimit { remaining: None, ..refused }, now);
        assert_eq!((bucket.size(), bucket.window()), (100, WINDOW), "{refused:?}");
    }
    observe(&mut bucket, limit(MAX_SIZE, MAX_SIZE - 1), now);
    observe(&mut bucket, window(600), now);
    assert_eq!((bucket.size(), bucket.window()), (MAX_SIZE, Duration::from_secs(600)));
    observe(&mut bucket, limit(1, 0), now);
    observe(&mut bucket, window(1), now);
    assert_eq!((bucket.size(), bucket.window()), (1, SECOND));
}

#[test]
fn while_others_are_active_a_full_bucket_is_checked_twenty_times_in_a_window() {
    let now = Instant::now();
    let mut bucket = Bucket::burst(100, WINDOW);
    observe(&mut bucket, limit(100, 0), now);
    let check = bucket.next_check(now).expect("nothing is left");
    assert_eq!(check, now + WINDOW / CHECKS_PER_WINDOW);
    let mut alone = Bucket::burst(10, WINDOW);
    call(&mut alone, now);
    assert_eq!(alone.next_check(now), Some(now + SECOND), "nothing changes before");
}

#[test]
fn batches_are_spaced_evenly() {
    let now = Instant::now();
    let mut bucket = Bucket::burst(100, WINDOW);
    let users = Users::Batch(vec![(Caller::new("a"), 2)]);
    let slot = bucket.take(users, 2, now);
    bucket.mark_sent(slot, now);
    bucket.finish(slot, now);
    let gap = SECOND / 10;
    assert_eq!(bucket.opens(0, now), now + gap);
    assert_eq!(bucket.opens(2, now), now + gap * 3);
    let later = now + SECOND;
    assert_eq!(bucket.opens(0, later), later, "a second after the batch they are not");
}

#[test]
fn without_a_ledger_nothing_waits_for_one() {
    let now = Instant::now();
    let mut bucket = Bucket::burst(100, WINDOW);
    assert!(!bucket.waits_for_ledger() && bucket.lease().is_none());
    assert_eq!(bucket.next_exchange(1, now), None);
    let demand = crate::replica_lease::Demand::Permits(1);
    assert_eq!(bucket.exchange_request(demand, now), None);
    let baseline = Baseline { in_ledger: false, oldest: 0 };
    assert_eq!(bucket.baseline(), baseline);
    call(&mut bucket, now);
    bucket.expire(now + WINDOW);
    assert_eq!(bucket.baseline(), Baseline { oldest: 1, ..baseline });
}

#[test]
fn a_count_of_the_ledger_is_not_compared_with_own_calls() {
    let now = Instant::now();
    let mut bucket = Bucket::burst(100, WINDOW);
    let slot = take(&mut bucket, now);
    let baseline = Baseline { in_ledger: true, oldest: 0 };
    bucket.observe(limit(100, 10), slot, baseline, now);
    assert_eq!(bucket.used(now), 1);
}

#[derive(Debug)]
struct NoLedger;

#[async_trait::async_trait]
impl Ledger for NoLedger {
    async fn exchange(&self, _: &LimitKey, _: &ExchangeRequest) -> Result<Grant, Unavailable> {
        Err(Unavailable(String::new()))
    }
}

#[test]
fn without_the_ledger_a_replica_takes_its_part_of_what_others_leave() {
    let now = Instant::now();
    let config = LedgerConfig::new(Arc::new(NoLedger), "replica", 4);
    let mut bucket = Bucket::burst(100, WINDOW).shared(Some(&config), now);
    assert!(bucket.waits_for_ledger());
    assert_eq!(bucket.opens(0, now), now + ALMOST_NOW);
    bucket.on_unavailable(now);
    assert!(!bucket.waits_for_ledger());
    let part = |bucket: &Bucket| bucket.own_part(bucket.lease().expect("a lease"), now);
    assert_eq!(part(&bucket), 24, "a quarter, less one call in flight");
    observe(&mut bucket, limit(100, 19), now);
    assert_eq!((bucket.used(now), part(&bucket)), (81, 1 + 19 / 4));
    observe(&mut bucket, limit(100, 50), now);
    assert_eq!(bucket.used(now), 82, "a smaller count of others is no news");
    let check = now + WINDOW / CHECKS_PER_WINDOW;
    assert!(bucket.opens(0, now) > check);
    assert_eq!(bucket.next_check(now), Some(check), "others leave the window at any time");
}

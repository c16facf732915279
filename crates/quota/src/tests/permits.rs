//! Permits of an account: released slots by outcome and time.

use super::*;
use crate::{BucketCounters, RateLimited, Reason, RetryTime};

const WINDOW: Duration = Duration::from_secs(10);

/// Calls in the window, and counters, of the burst limit.
fn burst(account: &Account) -> (u64, BucketCounters) {
    let snapshot = account.snapshot(Instant::now());
    (snapshot.buckets[0].used, snapshot.buckets[0].counts)
}

fn permit(account: &Arc<Account>) -> Permit {
    account.try_acquire(BucketName::Burst, &web(), soon()).expect("open").expect("a free permit")
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_is_dropped_unsent_is_free_at_once() {
    let account = account(Settings { daily: Some(5), ..settings(10) });
    let unsent = permit(&account);
    assert!(account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().is_none());
    drop(unsent);
    let (used, counts) = burst(&account);
    assert_eq!((used, counts.permits, counts.leads), (0, 0, 0));
    assert_eq!(account.snapshot(Instant::now()).buckets[2].used, 0);
    drop(permit(&account));
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_was_sent_counts_for_one_window_however_it_ends() {
    for is_observed in [false, true] {
        let account = account(settings(10));
        let mut sent = permit(&account);
        sent.mark_sent(3);
        if is_observed {
            sent.observe(Observation::default());
        } else {
            drop(sent);
        }
        let (used, counts) = burst(&account);
        assert_eq!((used, counts.permits, counts.leads, counts.calls), (1, 1, 3, 1));
        tokio::time::advance(WINDOW).await;
        assert_eq!(burst(&account).0, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_is_served_as_soon_as_an_unsent_permit_is_dropped() {
    let account = account(settings(10));
    let unsent = permit(&account);
    let web = web();
    let mut queued = Box::pin(account.acquire(BucketName::Burst, &web, soon()));
    assert!(futures_util::poll!(&mut queued).is_pending());
    let since = Instant::now();
    drop(unsent);
    queued.await.expect("a permit");
    assert_eq!(since.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_permit_of_a_cancelled_request_is_free_at_once() {
    let account = account(settings(10));
    let unsent = permit(&account);
    let web = web();
    let mut queued = Box::pin(account.acquire(BucketName::Burst, &web, soon()));
    assert!(futures_util::poll!(&mut queued).is_pending());
    drop(unsent);
    // The permit is handed out, and not taken.
    tokio::task::yield_now().await;
    drop(queued);
    drop(permit(&account));
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_are_added_to_the_daily_count_of_a_response() {
    let account = account(Settings { daily: Some(1_000), ..settings(10) });
    let search =
        || account.try_acquire(BucketName::Search, &web(), soon()).expect("open").expect("free");
    let mut sent: Vec<Permit> = (0..4).map(|_| search()).collect();
    sent.iter_mut().for_each(|permit| permit.mark_sent(1));
    let observation =
        Observation { daily: Some(500), daily_remaining: Some(400), ..Observation::default() };
    sent.pop().expect("four").observe(observation);
    let daily = |account: &Account| account.snapshot(Instant::now()).buckets[2].clone();
    assert_eq!((daily(&account).size, daily(&account).used), (Some(500), 103));
    drop(sent);
    let mut last = search();
    last.mark_sent(1);
    last.observe(observation);
    assert_eq!(daily(&account).used, 100, "none is in flight");
}

#[tokio::test(start_paused = true)]
async fn a_429_is_counted_and_believed_for_a_day_at_most() {
    let account = account(settings(1_000));
    let mut sent = permit(&account);
    sent.mark_sent(1);
    let wait = Duration::from_secs(1_000_000);
    let rate_limited = Some(RateLimited::Bucket(RetryTime::Stated(wait)));
    sent.observe(Observation { rate_limited, ..Observation::default() });
    let snapshot = account.snapshot(Instant::now());
    assert_eq!(snapshot.buckets[0].counts.upstream_429, 1);
    assert_eq!(snapshot.buckets[0].closed, Duration::from_secs(86_400));
    let rejected = account.check_deadline(BucketName::Burst, Instant::now()).unwrap_err();
    assert_eq!(rejected.reason, Reason::Deadline);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waited_until_its_deadline_is_not_told_to_retry_at_once() {
    let account = account(settings(10));
    let unsent = permit(&account);
    let group = TestGroup::new(&Arc::default(), 100);
    let (member, _reply) = group.enter();
    let entry = account.enqueue(BucketName::Burst, &web(), soon(), group, member).expect("room");
    drop(unsent);
    let rejected = entry.deadline_error();
    assert_eq!(rejected.reason, Reason::Deadline);
    assert_eq!(rejected.retry_after, Duration::from_millis(100));
    assert!(!entry.cancel(), "it is not queued any more");
    assert_eq!(burst(&account).1.deadline, 1);
}

#[tokio::test(start_paused = true)]
async fn a_portal_has_one_account_and_snapshots_are_sorted() {
    let clock = SimulatedClock::starting_at("2026-03-01T12:00:00Z".parse().expect("a time"));
    let quota = Quota::new(settings(10), Arc::new(clock));
    let [first, again, other] = ["b", "b", "a"].map(|portal| quota.account(portal));
    assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &other));
    other.write_queue().set_waiting(3);
    let snapshots = quota.snapshots();
    let portals: Vec<_> =
        snapshots.iter().map(|all| (&*all.portal, all.write_queue.waiting)).collect();
    assert_eq!(portals, [("a", 3), ("b", 0)]);
    assert_eq!(quota.max_queue(), 10_000);
    assert!(format!("{quota:?}").starts_with("Quota { settings: Settings { burst: 10,"));
    assert!(format!("{first:?}").starts_with("Account { portal: \"b\""));
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_dropped_ends_its_tasks() {
    let account = account(settings(10));
    let weak = Arc::downgrade(&account);
    sleep(Duration::from_millis(1)).await;
    drop(account);
    assert!(weak.upgrade().is_none());
}

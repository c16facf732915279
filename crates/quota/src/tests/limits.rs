//! Limits: defaults, announcements by responses, and 429s.

use super::*;
use crate::{RateLimited, Reason, RetryTime};

fn announce(size: u64, remaining: u64) -> Observation {
    let announced = ObservedLimit {
        size: Some(size),
        remaining: Some(remaining),
        window: Some(Duration::from_secs(10)),
    };
    Observation { limit: announced, ..Observation::default() }
}

const NO_TIME: Duration = Duration::ZERO;

/// Makes calls as fast as the quota allows for this long. Responses announce `size`, and what is left beside
/// `foreign` calls of other clients.
async fn drive(
    account: &Arc<Account>,
    hub: &Hub,
    time: Duration,
    size: u64,
    foreign: u64,
) -> usize {
    let (begin, before) = (Instant::now(), hub.calls());
    while begin.elapsed() < time {
        let permit = account.acquire(BucketName::Burst, &web(), soon()).await.expect("a permit");
        let used = hub.within_window() as u64 + 1;
        let observation = announce(size, size.saturating_sub(used + foreign));
        hub.call(permit, Duration::from_millis(1), Duration::from_millis(1), observation).await;
    }
    hub.calls() - before
}

#[tokio::test(start_paused = true)]
async fn a_tenth_of_the_limit_can_be_used_at_once_and_the_rest_second_by_second() {
    let account = account(settings(190));
    for _ in 0..19 {
        let permit = account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().expect("free");
        Hub::default().call(permit, NO_TIME, NO_TIME, Observation::default()).await;
    }
    assert!(account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().is_none());
    tokio::time::advance(Duration::from_millis(1_001)).await;
    assert!(account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn unused_permits_are_free_again_at_once() {
    let account = account(settings(10));
    for _ in 0..100 {
        let permit = account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().expect("free");
        drop(permit);
    }
}

#[tokio::test(start_paused = true)]
async fn searches_have_a_separate_limit() {
    let account = account(settings(10));
    let mut kept = Vec::new();
    for _ in 0..5 {
        kept.push(account.try_acquire(BucketName::Search, &web(), soon()).unwrap().expect("free"));
    }
    assert!(account.try_acquire(BucketName::Search, &web(), soon()).unwrap().is_none());
    assert!(account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn announced_limits_apply_within_one_window() {
    let account = account(settings(100));
    let hub = Hub::default();
    let window = Duration::from_secs(10);
    let by_default = drive(&account, &hub, window, 100, 0).await;
    assert!((95..=101).contains(&by_default), "{by_default}");
    let doubled = drive(&account, &hub, window, 200, 0).await;
    assert!((180..=201).contains(&doubled), "{doubled}");
    drive(&account, &hub, Duration::from_secs(1), 100, 0).await;
    tokio::time::advance(window).await;
    let halved = drive(&account, &hub, window, 100, 0).await;
    assert!((90..=101).contains(&halved), "{halved}");
}

#[tokio::test(start_paused = true)]
async fn a_lowered_limit_is_not_mistaken_for_other_clients() {
    for is_announced in [true, false] {
        let account = account(settings(200));
        let hub = Hub::default();
        let window = Duration::from_secs(10);
        drive(&account, &hub, window, 200, 0).await;
        let permit = account.acquire(BucketName::Burst, &web(), soon()).await.expect("a permit");
        let said = if is_announced { announce(100, 0) } else { Observation::default() };
        let refused = Some(RateLimited::Bucket(RetryTime::Stated(window)));
        hub.call(permit, NO_TIME, NO_TIME, Observation { rate_limited: refused, ..said }).await;
        // The response to the next call announces the limit.
        drive(&account, &hub, window * 2, 100, 0).await;
        let used = drive(&account, &hub, window, 100, 0).await;
        assert!(used >= 95, "{used} of 100");
    }
}

#[tokio::test(start_paused = true)]
async fn usage_of_other_clients_is_left_to_them() {
    let account = account(settings(100));
    // A tenth of the rest is left as well, because other clients may be replicas.
    for expected in [(100, 0), (36, 60)] {
        let (ours, foreign) = expected;
        let mut sent = 0;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(60) {
            let permit =
                account.acquire(BucketName::Burst, &web(), soon()).await.expect("a permit");
            let view = account.snapshot(Instant::now());
            let own: f64 = view.buckets[0].callers.iter().map(|caller| caller.used).sum();
            sent += 1;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let observation = announce(100, 100_u64.saturating_sub(own as u64 + foreign));
            Hub::default().call(permit, NO_TIME, NO_TIME, observation).await;
        }
        let a_window = sent / 6;
        assert!((ours * 9 / 10..=ours * 11 / 10).contains(&a_window), "{a_window} of {ours}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_do_not_wait_for_each_other_after_faults_while_the_limit_is_far() {
    let account = account(settings(100_000));
    let hub = Hub::default();
    // Calls of a fault that HubSpot counts after leadsd has given them up look like those of others.
    let permit = account.acquire(BucketName::Burst, &web(), soon()).await.expect("a permit");
    let way = Duration::from_millis(25);
    hub.call(permit, way, way, announce(100_000, 99_900)).await;
    sleep(Duration::from_secs(4)).await;
    // The first of the next calls is lost.
    let lost = account.acquire(BucketName::Burst, &web(), soon()).await.expect("a permit");
    let lost = hub.call(lost, way, Duration::from_secs(8), Observation::default());
    let calls = (0..40).map(|_| async {
        let until = Instant::now() + Duration::from_millis(300);
        let permit = account.acquire(BucketName::Burst, &web(), until).await?;
        hub.call(permit, way, way, announce(100_000, 99_800)).await;
        Ok::<(), Rejected>(())
    });
    let (results, ()) = tokio::join!(futures_util::future::join_all(calls), lost);
    let rejected = results.iter().filter(|result| result.is_err()).count();
    assert_eq!(rejected, 0, "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn a_429_closes_its_bucket_for_its_retry_time() {
    let account = account(settings(100));
    let refused = |wait| Observation {
        rate_limited: Some(RateLimited::Bucket(RetryTime::Stated(Duration::from_secs(wait)))),
        ..Observation::default()
    };
    let permit = account.acquire(BucketName::Search, &web(), soon()).await.unwrap();
    Hub::default().call(permit, NO_TIME, NO_TIME, refused(7)).await;
    assert!(account.try_acquire(BucketName::Search, &web(), soon()).unwrap().is_none());
    assert!(account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().is_some());
    let since = Instant::now();
    account.acquire(BucketName::Search, &web(), soon()).await.expect("a permit");
    assert_eq!(since.elapsed().as_secs(), 7);
    let counts = account.snapshot(Instant::now()).buckets[1].counts;
    assert_eq!(counts.upstream_429, 1);
}

#[tokio::test(start_paused = true)]
async fn the_daily_limit_resets_at_midnight_of_the_accounts_zone() {
    let mut settings = settings(1_000);
    settings.daily = Some(3);
    settings.zone = Zone::parse("Europe/Berlin").expect("a zone");
    // 23:30 in Berlin.
    let account = account_at(settings, "2026-03-01T22:30:00Z");
    for _ in 0..3 {
        let permit = account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().expect("free");
        Hub::default().call(permit, NO_TIME, NO_TIME, Observation::default()).await;
    }
    let rejected = account.acquire(BucketName::Search, &web(), soon()).await.unwrap_err();
    assert_eq!((rejected.bucket, rejected.reason), (BucketName::Daily, Reason::Exhausted));
    assert_eq!(rejected.retry_after, Duration::from_secs(1_800));
    tokio::time::advance(Duration::from_secs(1_800)).await;
    assert!(account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_announced_daily_limit_applies_and_probes_check_it() {
    let account = account(settings(1_000));
    let permit = account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().expect("free");
    let observation =
        Observation { rate_limited: Some(RateLimited::Daily), ..Observation::default() };
    Hub::default().call(permit, NO_TIME, NO_TIME, observation).await;
    assert!(account.try_acquire(BucketName::Burst, &web(), soon()).is_err());
    tokio::time::advance(Duration::from_secs(15 * 60)).await;
    let permit = account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().expect("a probe");
    assert!(account.try_acquire(BucketName::Burst, &web(), soon()).is_err(), "one is enough");
    let observation =
        Observation { daily: Some(1_000), daily_remaining: Some(500), ..Observation::default() };
    Hub::default().call(permit, NO_TIME, NO_TIME, observation).await;
    assert!(account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().is_some());
    let daily = &account.snapshot(Instant::now()).buckets[2];
    assert_eq!((daily.size, daily.used), (Some(1_000), 500));
    // The 429 counts in the bucket of the request that got it.
    assert_eq!(account.snapshot(Instant::now()).buckets[0].counts.upstream_429, 1);
}

#[tokio::test(start_paused = true)]
async fn queued_requests_are_rejected_when_the_daily_limit_is_exhausted() {
    let mut settings = settings(10);
    settings.daily = Some(2);
    let account = account(settings);
    let hub = Arc::new(Hub::default());
    let group = TestGroup::new(&hub, 100);
    let first = account.acquire(BucketName::Burst, &web(), soon()).await.unwrap();
    let (member, reply) = group.enter();
    let own: Arc<dyn Group> = group;
    let _place = account.enqueue(BucketName::Burst, &web(), soon(), own, member).unwrap();
    let web = web();
    let alone = account.acquire(BucketName::Burst, &web, soon());
    hub.call(first, NO_TIME, NO_TIME, Observation::default()).await;
    let (alone, reply) = tokio::join!(alone, reply);
    assert!(reply.unwrap().is_ok(), "the second call of the day");
    assert_eq!(alone.unwrap_err().reason, Reason::Exhausted);
}

#[tokio::test(start_paused = true)]
async fn each_request_rejected_for_the_daily_limit_is_counted() {
    let mut settings = settings(10);
    settings.daily = Some(2);
    let account = account(settings);
    let web = web();
    let first = account.acquire(BucketName::Burst, &web, soon()).await.unwrap();
    let waiting = (0..5).map(|_| account.acquire(BucketName::Burst, &web, soon()));
    let waiting = futures_util::future::join_all(waiting.map(Box::pin));
    let observation =
        Observation { rate_limited: Some(RateLimited::Daily), ..Observation::default() };
    let hub = Hub::default();
    let (answers, ()) = tokio::join!(waiting, hub.call(first, NO_TIME, NO_TIME, observation));
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    assert!(refused > 1, "{answers:?}");
    assert_eq!(account.snapshot(Instant::now()).buckets[2].counts.exhausted, refused as u64);
}

/// An account with this limit after a call that was sent before midnight and responded after it.
async fn over_midnight(daily: Option<u64>, observation: Observation) -> Arc<Account> {
    let account = account_at(Settings { daily, ..settings(1_000) }, "2026-03-01T23:59:59.900Z");
    let permit = account.acquire(BucketName::Burst, &web(), soon()).await.expect("a permit");
    let call = async {
        Hub::default().call(permit, NO_TIME, Duration::from_millis(300), observation).await;
    };
    let turns = async {
        sleep(Duration::from_millis(200)).await;
        account.check_deadline(BucketName::Burst, soon()).expect("a new day");
    };
    tokio::join!(call, turns);
    account
}

#[tokio::test(start_paused = true)]
async fn late_responses_of_the_old_day_do_not_close_the_new_day() {
    let left = |left| Observation {
        daily: Some(100),
        daily_remaining: Some(left),
        ..Observation::default()
    };
    let refused = Observation { rate_limited: Some(RateLimited::Daily), ..Observation::default() };
    for (daily, old) in [(Some(100), left(0)), (Some(100), refused), (None, refused)] {
        let account = over_midnight(daily, old).await;
        let rejected = account.try_acquire(BucketName::Burst, &web(), soon()).unwrap_err();
        assert_eq!(rejected.reason, Reason::Exhausted);
        assert!(rejected.retry_after <= Duration::from_secs(5), "{:?}", rejected.retry_after);
        sleep(rejected.retry_after).await;
        let permit = account.acquire(BucketName::Burst, &web(), soon()).await.expect("a probe");
        let new = if daily.is_some() { left(98) } else { Observation::default() };
        Hub::default().call(permit, NO_TIME, NO_TIME, new).await;
        for _ in 0..50 {
            let permit =
                account.acquire(BucketName::Burst, &web(), soon()).await.expect("a permit");
            Hub::default().call(permit, NO_TIME, NO_TIME, Observation::default()).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_that_is_exhausted_from_its_start_is_detected() {
    let refused = Observation { rate_limited: Some(RateLimited::Daily), ..Observation::default() };
    let account = over_midnight(Some(100), refused).await;
    let mut probes = 0;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3_600) {
        match account.acquire(BucketName::Burst, &web(), soon()).await {
            Err(rejected) => sleep(rejected.retry_after.min(Duration::from_secs(60))).await,
            Ok(permit) => {
                probes += 1;
                Hub::default().call(permit, NO_TIME, NO_TIME, refused).await;
            }
        }
    }
    assert!((40..=70).contains(&probes), "{probes} probes");
    let rejected = account.try_acquire(BucketName::Burst, &web(), soon()).unwrap_err();
    assert!(rejected.retry_after > Duration::from_secs(20 * 3_600), "{:?}", rejected.retry_after);
}

//! What the limits are, how they are learned, and what a refusal by HubSpot means for them.

use super::*;
use crate::{RateLimited, Reason};

fn told(size: u64, remaining: u64) -> Observation {
    let told = ObservedLimit {
        size: Some(size),
        remaining: Some(remaining),
        window: Some(Duration::from_secs(10)),
    };
    Observation { limit: told, ..Observation::default() }
}

const NO_TIME: Duration = Duration::ZERO;

/// Makes calls as fast as the quota lets them go, for this long; each answer says `size`, and what
/// is left when `foreign` calls of others are in the window too.
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
        let heard = told(size, size.saturating_sub(used + foreign));
        hub.call(permit, Duration::from_millis(1), Duration::from_millis(1), heard).await;
    }
    hub.calls() - before
}

#[tokio::test(start_paused = true)]
async fn a_tenth_goes_at_once_and_the_rest_by_the_second() {
    let account = account(settings(190));
    for _ in 0..19 {
        let permit = account.try_acquire(BucketName::Burst, &web()).unwrap().expect("free");
        Hub::default().call(permit, NO_TIME, NO_TIME, Observation::default()).await;
    }
    assert!(account.try_acquire(BucketName::Burst, &web()).unwrap().is_none());
    tokio::time::advance(Duration::from_millis(1_001)).await;
    assert!(account.try_acquire(BucketName::Burst, &web()).unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_was_not_used_is_there_again_at_once() {
    let account = account(settings(10));
    for _ in 0..100 {
        let permit = account.try_acquire(BucketName::Burst, &web()).unwrap().expect("free");
        drop(permit);
    }
}

#[tokio::test(start_paused = true)]
async fn searches_have_a_limit_of_their_own() {
    let account = account(settings(10));
    let mut kept = Vec::new();
    for _ in 0..5 {
        kept.push(account.try_acquire(BucketName::Search, &web()).unwrap().expect("free"));
    }
    assert!(account.try_acquire(BucketName::Search, &web()).unwrap().is_none());
    assert!(account.try_acquire(BucketName::Burst, &web()).unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn limits_are_learned_up_and_down_within_one_window() {
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
async fn a_limit_that_was_lowered_without_notice_is_not_taken_for_others() {
    for is_told in [true, false] {
        let account = account(settings(200));
        let hub = Hub::default();
        let window = Duration::from_secs(10);
        drive(&account, &hub, window, 200, 0).await;
        let permit = account.acquire(BucketName::Burst, &web(), soon()).await.expect("a permit");
        let said = if is_told { told(100, 0) } else { Observation::default() };
        let refused = Some(RateLimited::Bucket(window));
        hub.call(permit, NO_TIME, NO_TIME, Observation { rate_limited: refused, ..said }).await;
        // The answer to the first call after it, at the latest, tells why.
        drive(&account, &hub, window * 2, 100, 0).await;
        let used = drive(&account, &hub, window, 100, 0).await;
        assert!(used >= 95, "{used} of 100");
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_use_is_left_to_them() {
    let account = account(settings(100));
    // Of what others leave, a tenth is left as well: they may be replicas that want as much.
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
            let heard = told(100, 100_u64.saturating_sub(own as u64 + foreign));
            Hub::default().call(permit, NO_TIME, NO_TIME, heard).await;
        }
        let a_window = sent / 6;
        assert!((ours * 9 / 10..=ours * 11 / 10).contains(&a_window), "{a_window} of {ours}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_closes_its_own_bucket_for_its_own_time() {
    let account = account(settings(100));
    let refused = |wait| Observation {
        rate_limited: Some(RateLimited::Bucket(Duration::from_secs(wait))),
        ..Observation::default()
    };
    let permit = account.acquire(BucketName::Search, &web(), soon()).await.unwrap();
    Hub::default().call(permit, NO_TIME, NO_TIME, refused(7)).await;
    assert!(account.try_acquire(BucketName::Search, &web()).unwrap().is_none());
    assert!(account.try_acquire(BucketName::Burst, &web()).unwrap().is_some());
    let since = Instant::now();
    account.acquire(BucketName::Search, &web(), soon()).await.expect("a permit");
    assert_eq!(since.elapsed().as_secs(), 7);
    let counts = account.snapshot(Instant::now()).buckets[1].counts;
    assert_eq!(counts.upstream_429, 1);
}

#[tokio::test(start_paused = true)]
async fn the_day_ends_at_the_accounts_midnight() {
    let mut settings = settings(1_000);
    settings.daily = Some(3);
    settings.zone = Zone::parse("Europe/Berlin").expect("a zone");
    // 23:30 in Berlin.
    let account = account_at(settings, "2026-03-01T22:30:00Z");
    for _ in 0..3 {
        let permit = account.try_acquire(BucketName::Burst, &web()).unwrap().expect("free");
        Hub::default().call(permit, NO_TIME, NO_TIME, Observation::default()).await;
    }
    let refusal = account.acquire(BucketName::Search, &web(), soon()).await.unwrap_err();
    assert_eq!((refusal.bucket, refusal.reason), (BucketName::Daily, Reason::Exhausted));
    assert_eq!(refusal.retry_after, Duration::from_secs(1_800));
    tokio::time::advance(Duration::from_secs(1_800)).await;
    assert!(account.try_acquire(BucketName::Burst, &web()).unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn hubspots_word_on_the_day_counts_and_a_call_now_and_then_asks_again() {
    let account = account(settings(1_000));
    let permit = account.try_acquire(BucketName::Burst, &web()).unwrap().expect("free");
    let heard = Observation { rate_limited: Some(RateLimited::Daily), ..Observation::default() };
    Hub::default().call(permit, NO_TIME, NO_TIME, heard).await;
    assert!(account.try_acquire(BucketName::Burst, &web()).is_err());
    tokio::time::advance(Duration::from_secs(15 * 60)).await;
    let permit = account.try_acquire(BucketName::Burst, &web()).unwrap().expect("a probe");
    assert!(account.try_acquire(BucketName::Burst, &web()).is_err(), "one is enough");
    let heard =
        Observation { daily: Some(1_000), daily_remaining: Some(500), ..Observation::default() };
    Hub::default().call(permit, NO_TIME, NO_TIME, heard).await;
    assert!(account.try_acquire(BucketName::Burst, &web()).unwrap().is_some());
    let daily = &account.snapshot(Instant::now()).buckets[2];
    assert_eq!((daily.size, daily.used), (Some(1_000), 500));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_when_the_day_is_used_up_are_told_so() {
    let mut settings = settings(10);
    settings.daily = Some(2);
    let account = account(settings);
    let hub = Arc::new(Hub::default());
    let group = Together::new(&hub, 100);
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
async fn each_of_those_who_wait_when_the_day_is_used_up_is_counted() {
    let mut settings = settings(10);
    settings.daily = Some(2);
    let account = account(settings);
    let web = web();
    let first = account.acquire(BucketName::Burst, &web, soon()).await.unwrap();
    let waiting = (0..5).map(|_| account.acquire(BucketName::Burst, &web, soon()));
    let waiting = futures_util::future::join_all(waiting.map(Box::pin));
    let heard = Observation { rate_limited: Some(RateLimited::Daily), ..Observation::default() };
    let hub = Hub::default();
    let (answers, ()) = tokio::join!(waiting, hub.call(first, NO_TIME, NO_TIME, heard));
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    assert!(refused > 1, "{answers:?}");
    assert_eq!(account.snapshot(Instant::now()).buckets[2].counts.exhausted, refused as u64);
}

/// A call that is sent before midnight and answered just after it, on an account with this limit;
/// and what it says.
async fn over_midnight(daily: Option<u64>, heard: Observation) -> Arc<Account> {
    let account = account_at(Settings { daily, ..settings(1_000) }, "2026-03-01T23:59:59.900Z");
    let permit = account.acquire(BucketName::Burst, &web(), soon()).await.expect("a permit");
    let call = async {
        Hub::default().call(permit, NO_TIME, Duration::from_millis(300), heard).await;
    };
    let turns = async {
        sleep(Duration::from_millis(200)).await;
        account.check_deadline(BucketName::Burst, soon()).expect("a new day");
    };
    tokio::join!(call, turns);
    account
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_the_old_day_does_not_close_the_new_one() {
    let left = |left| Observation {
        daily: Some(100),
        daily_remaining: Some(left),
        ..Observation::default()
    };
    let refused = Observation { rate_limited: Some(RateLimited::Daily), ..Observation::default() };
    for (daily, old) in [(Some(100), left(0)), (Some(100), refused), (None, refused)] {
        let account = over_midnight(daily, old).await;
        let refusal = account.try_acquire(BucketName::Burst, &web()).unwrap_err();
        assert_eq!(refusal.reason, Reason::Exhausted);
        assert!(refusal.retry_after <= Duration::from_secs(5), "{:?}", refusal.retry_after);
        sleep(refusal.retry_after).await;
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
async fn a_day_that_is_used_up_from_its_beginning_is_found_so() {
    let refused = Observation { rate_limited: Some(RateLimited::Daily), ..Observation::default() };
    let account = over_midnight(Some(100), refused).await;
    let mut probes = 0;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3_600) {
        match account.acquire(BucketName::Burst, &web(), soon()).await {
            Err(refusal) => sleep(refusal.retry_after.min(Duration::from_secs(60))).await,
            Ok(permit) => {
                probes += 1;
                Hub::default().call(permit, NO_TIME, NO_TIME, refused).await;
            }
        }
    }
    assert!((40..=70).contains(&probes), "{probes} probes");
    let refusal = account.try_acquire(BucketName::Burst, &web()).unwrap_err();
    assert!(refusal.retry_after > Duration::from_secs(20 * 3_600), "{:?}", refusal.retry_after);
}

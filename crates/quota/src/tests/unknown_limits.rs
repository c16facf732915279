//! Limits that HubSpot does not announce, learned from its 429s.

use std::collections::VecDeque;

use leadsd_base::task::Task;
use proptest::prelude::*;

use super::*;
use crate::{LedgerConfig, RateLimited, RetryTime, testing::InMemoryLedger};

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);

/// A double of HubSpot that enforces a limit and announces none.
#[derive(Debug)]
struct Silent {
    limit: Mutex<usize>,
    window: Duration,
    /// Time of a 429: of the limit's name, of the documented window, or of `Retry-After`.
    retry: RetryTime,
    accepted: Mutex<VecDeque<Instant>>,
    counts: Mutex<Counts>,
}

/// Calls by result.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    accepted: usize,
    rejected: usize,
}

// === impl Silent ===

impl Silent {
    fn new(limit: usize, window: Duration, assumed: Duration) -> Arc<Self> {
        Self::with_retry(limit, window, RetryTime::Window(assumed))
    }

    fn with_retry(limit: usize, window: Duration, retry: RetryTime) -> Arc<Self> {
        Arc::new(Self {
            limit: Mutex::new(limit),
            window,
            retry,
            accepted: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    /// A call that takes `way` there and about as long back.
    async fn call(&self, mut permit: Permit, way: Duration) {
        permit.mark_sent(1);
        // Latencies differ.
        let calls = self.counts.lock().accepted;
        let way = way * u32::try_from(calls * 7 % 5 + 2).expect("small") / 4;
        sleep(way).await;
        let is_accepted = self.count();
        sleep(way).await;
        let rejected = RateLimited::Bucket(self.retry);
        let rate_limited = (!is_accepted).then_some(rejected);
        permit.observe(Observation { rate_limited, ..Observation::default() });
    }

    fn count(&self) -> bool {
        let mut accepted = self.accepted.lock();
        while accepted.front().is_some_and(|first| first.elapsed() >= self.window) {
            accepted.pop_front();
        }
        let is_accepted = accepted.len() < *self.limit.lock();
        let mut counts = self.counts.lock();
        if is_accepted {
            accepted.push_back(Instant::now());
            counts.accepted += 1;
        } else {
            counts.rejected += 1;
        }
        is_accepted
    }

    /// Calls within this time.
    async fn within(&self, time: Duration) -> Counts {
        *self.counts.lock() = Counts::default();
        sleep(time).await;
        *self.counts.lock()
    }

    /// Asserts that the limit is known after a minute: nine tenths of it are used, with at most one 429 a
    /// minute.
    async fn check_learned(&self, case: &str) {
        self.check_use(90, 1, case).await;
    }

    /// Asserts that this part of the limit is used after a minute, with at most this many 429s a minute.
    async fn check_use(&self, percent: usize, max_rejected: usize, case: &str) {
        let learning = self.within(MINUTE).await;
        let learned = self.within(MINUTE * 4).await;
        let used = learned.accepted * 100 / self.allowed(MINUTE * 4);
        assert!(
            used >= percent && learned.rejected <= max_rejected * 4,
            "{} in {:?}, {case}: {used} %, {learned:?}, {learning:?} before",
            self.limit.lock(),
            self.window,
        );
    }

    /// Calls that the limit allows within this time.
    fn allowed(&self, time: Duration) -> usize {
        let windows = time.as_secs() / self.window.as_secs();
        *self.limit.lock() * usize::try_from(windows).expect("few")
    }
}

/// Replicas with 20 closed loops each. More than one share a ledger.
fn replicas(count: usize, configured: u64, hub: &Arc<Silent>, way: u64) -> Vec<Task> {
    replicas_of(BucketName::Burst, count, configured, hub, way)
}

fn replicas_of(
    bucket: BucketName,
    count: usize,
    configured: u64,
    hub: &Arc<Silent>,
    way: u64,
) -> Vec<Task> {
    let ledger = InMemoryLedger::new(Duration::from_micros(200));
    let one = |number: usize| {
        let name = format!("replica-{number}");
        let config = LedgerConfig::new(Arc::clone(&ledger) as _, &name, 2);
        let ledger = (count > 1).then_some(config);
        let account = account(Settings { ledger, ..settings(configured) });
        let hub = Arc::clone(hub);
        task::spawn("replica", "", async move {
            let calls = (0..20).map(|_| async {
                loop {
                    let permit = account.acquire(bucket, &web(), soon()).await.expect("a permit");
                    hub.call(permit, Duration::from_millis(way)).await;
                }
            });
            futures_util::future::join_all(calls).await;
        })
    };
    (0..count).map(one).collect()
}

/// A limit, its window, the window that leadsd assumes, and the configured calls in ten seconds.
type Case = (usize, Duration, Duration, u64);

const CASES: [Case; 7] = [
    // A limit of a second far below the configured one, with and without its name.
    (19, SECOND, SECOND, 1_000),
    (19, SECOND, WINDOW, 1_000),
    // The configured limit, without a margin for latency.
    (19, SECOND, SECOND, 190),
    (19, SECOND, WINDOW, 190),
    // A limit of ten seconds.
    (100, WINDOW, WINDOW, 190),
    (150, WINDOW, WINDOW, 190),
    (30, WINDOW, WINDOW, 190),
];

/// Asserts that replicas learn each limit in a minute: then nine tenths of it are used, with at most one
/// 429 a minute.
async fn learn_in_a_minute(count: usize, way: u64) {
    // With more replicas, more calls are in flight when a test upwards is rejected.
    let (percent, max_rejected) = if count > 2 { (85, 2) } else { (90, 1) };
    for (limit, window, assumed, configured) in CASES {
        let hub = Silent::new(limit, window, assumed);
        let _all = replicas(count, configured, &hub, way);
        let case = format!("{assumed:?} assumed, {configured} configured");
        hub.check_use(percent, max_rejected, &case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_replica_learns_a_limit_in_a_minute() {
    learn_in_a_minute(1, 5).await;
}

#[tokio::test(start_paused = true)]
async fn one_replica_learns_a_limit_of_slow_calls_in_a_minute() {
    learn_in_a_minute(1, 40).await;
}

#[tokio::test(start_paused = true)]
async fn two_replicas_learn_a_limit_in_a_minute() {
    learn_in_a_minute(2, 5).await;
}

#[tokio::test(start_paused = true)]
async fn two_replicas_learn_a_limit_of_slow_calls_in_a_minute() {
    learn_in_a_minute(2, 40).await;
}

#[tokio::test(start_paused = true)]
async fn four_replicas_learn_a_limit_in_a_minute() {
    learn_in_a_minute(4, 20).await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_calls_that_take_a_third_of_a_second_is_learned_in_a_minute() {
    for count in [1, 2] {
        for limit in [30, 100, 150] {
            let hub = Silent::new(limit, WINDOW, WINDOW);
            let _all = replicas(count, 190, &hub, 150);
            hub.check_learned(&format!("{count} replicas with slow calls")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_whose_429s_state_a_time_is_learned_in_a_minute() {
    for count in [1, 2] {
        for (limit, window, stated) in [(100, WINDOW, SECOND), (12, SECOND, SECOND)] {
            let hub = Silent::with_retry(limit, window, RetryTime::Stated(stated));
            let _all = replicas(count, 190, &hub, 10);
            hub.check_learned(&format!("{stated:?} stated, {count} replicas")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_searches_is_learned_in_a_minute() {
    for count in [1, 2] {
        for limit in [3, 4, 5] {
            let hub = Silent::new(limit, SECOND, SECOND);
            let _all = replicas_of(BucketName::Search, count, 190, &hub, 20);
            hub.check_learned(&format!("searches of {count} replicas")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nine_tenths_of_a_small_limit_are_used_though_latencies_differ() {
    for count in [1, 2] {
        for (limit, way) in [(8, 26), (8, 39), (11, 39), (13, 35)] {
            let hub = Silent::new(limit, SECOND, SECOND);
            let _all = replicas(count, 190, &hub, way);
            hub.check_learned(&format!("{count} replicas, {way} ms")).await;
        }
    }
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn any_limit_is_learned_in_a_minute(
        // HubSpot names the limit that rejects a call.
        (limit, window) in prop_oneof![
            (10..180_usize).prop_map(|limit| (limit, WINDOW)),
            (8..19_usize).prop_map(|limit| (limit, SECOND)),
        ],
        count in 1..3_usize,
        way in 2..40_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let hub = Silent::new(limit, window, window);
            let _all = replicas(count, 190, &hub, way);
            hub.check_use(90, 2, &format!("{count} replicas, {way} ms")).await;
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_lowered_limit_pauses_only_until_enough_calls_have_left_the_window() {
    for count in [1, 2] {
        let hub = Silent::new(190, WINDOW, WINDOW);
        let _all = replicas(count, 190, &hub, 5);
        sleep(MINUTE).await;
        *hub.limit.lock() = 100;
        // The window holds 190 calls, of which 90 have to leave: five seconds.
        let pause = hub.within(Duration::from_millis(4_500)).await;
        let after = hub.within(WINDOW).await;
        // Calls in flight are rejected unavoidably.
        assert!(pause.rejected <= 40, "{pause:?} with {count} replicas");
        assert!(after.accepted >= 60, "{after:?} with {count} replicas");
        sleep(MINUTE).await;
        let learned = hub.within(MINUTE).await;
        assert!(learned.accepted >= 540 && learned.rejected <= 1, "{learned:?} by {count}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_is_found_in_some_minutes() {
    let hub = Silent::new(100, WINDOW, WINDOW);
    let _all = replicas(1, 190, &hub, 5);
    sleep(MINUTE * 2).await;
    *hub.limit.lock() = 190;
    let mut minutes = 0;
    while hub.within(MINUTE).await.accepted < 6 * 190 * 90 / 100 {
        minutes += 1;
        assert!(minutes < 30, "not found");
    }
    assert!(minutes <= 4, "{minutes} minutes");
}

#[tokio::test(start_paused = true)]
async fn calls_rejected_for_another_cause_lower_the_limit_for_half_a_minute_only() {
    for count in [1, 2] {
        for retry in
            [RetryTime::Window(WINDOW), RetryTime::Window(SECOND), RetryTime::Stated(SECOND * 4)]
        {
            let hub = Silent::with_retry(190, WINDOW, retry);
            let _all = replicas(count, 190, &hub, 20);
            sleep(MINUTE).await;
            // Every call is rejected.
            *hub.limit.lock() = 0;
            sleep(SECOND * 15).await;
            *hub.limit.lock() = 190;
            sleep(SECOND * 30).await;
            let calls = hub.within(SECOND * 20).await.accepted;
            assert!(calls >= 2 * 190 * 70 / 100, "{calls}: {count} replicas, {retry:?}");
        }
    }
}

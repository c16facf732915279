//! Replicas without a ledger share one limit by the remaining count in responses.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::{RateLimited, RetryTime};
use leadsd_base::task::Task;

/// Calls that HubSpot allows in a window.
const LIMIT: usize = 190;

const WINDOW: Duration = Duration::from_secs(10);

/// A double of HubSpot that enforces its limit and announces the remaining calls.
#[derive(Debug, Default)]
struct Strict {
    arrivals: Mutex<VecDeque<Instant>>,
    seen: Mutex<Vec<Seen>>,
}

/// Calls of one replica by result.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    passed: usize,
    refused: usize,
}

impl Strict {
    /// A call that takes about `way` there and as long back.
    async fn call(&self, mut permit: Permit, replica: usize, way: Duration) {
        permit.mark_sent(1);
        // Latencies differ.
        let way = way * (2 + permit_number(self) % 5) / 4;
        sleep(way).await;
        let observation = self.count(replica);
        sleep(way).await;
        permit.observe(observation);
    }

    fn count(&self, replica: usize) -> Observation {
        let mut arrivals = self.arrivals.lock();
        while arrivals.front().is_some_and(|first| first.elapsed() >= WINDOW) {
            arrivals.pop_front();
        }
        let passes = arrivals.len() < LIMIT;
        let mut seen = self.seen.lock();
        if passes {
            arrivals.push_back(Instant::now());
            seen[replica].passed += 1;
        } else {
            seen[replica].refused += 1;
        }
        let announced = ObservedLimit {
            size: Some(LIMIT as u64),
            remaining: Some((LIMIT - arrivals.len()) as u64),
            window: Some(WINDOW),
        };
        let refused = (!passes).then_some(RateLimited::Bucket(RetryTime::Stated(WINDOW)));
        Observation { limit: announced, rate_limited: refused, ..Observation::default() }
    }

    /// Calls of each replica in the next window.
    async fn window(&self) -> Vec<Seen> {
        self.seen.lock().fill(Seen::default());
        sleep(WINDOW).await;
        self.seen.lock().clone()
    }
}

/// A number that differs from call to call.
fn permit_number(hub: &Strict) -> u32 {
    let passed: usize = hub.seen.lock().iter().map(|seen| seen.passed + seen.refused).sum();
    u32::try_from(passed * 7 % 1_000).unwrap_or(0)
}

/// A replica with `callers` calls at any time, from `start` on, until it is dropped.
fn replica(hub: &Arc<Strict>, start: Duration, way: Duration, callers: usize) -> Task {
    let number = {
        let mut seen = hub.seen.lock();
        seen.push(Seen::default());
        seen.len() - 1
    };
    let (hub, account) = (Arc::clone(hub), account(settings(LIMIT as u64)));
    task::spawn("replica", "", async move {
        sleep(start).await;
        let calls = (0..callers).map(|_| async {
            loop {
                if let Ok(permit) = account.acquire(BucketName::Burst, &web(), soon()).await {
                    hub.call(permit, number, way).await;
                }
            }
        });
        futures_util::future::join_all(calls).await;
    })
}

fn passed(seen: &[Seen]) -> usize {
    seen.iter().map(|seen| seen.passed).sum()
}

fn refused(seen: &[Seen]) -> usize {
    seen.iter().map(|seen| seen.refused).sum()
}

/// The smallest part, in hundredths of an even one.
fn smallest(seen: &[Seen]) -> usize {
    let least = seen.iter().map(|seen| seen.passed).min().unwrap_or(0);
    least * 100 * seen.len() / passed(seen).max(1)
}

const START: Duration = Duration::ZERO;

#[tokio::test(start_paused = true)]
async fn replicas_share_evenly_without_a_429_from_the_first_window_on() {
    for (replicas, way) in [(2, 1), (2, 40), (2, 150), (3, 1), (3, 40), (3, 150)] {
        let hub = Arc::<Strict>::default();
        let way = Duration::from_millis(way);
        let _all: Vec<Task> = (0..replicas).map(|_| replica(&hub, START, way, 50)).collect();
        for window in 0..10 {
            let seen = hub.window().await;
            assert_eq!(refused(&seen), 0, "{replicas} {way:?} {window}: {seen:?}");
            assert!(passed(&seen) >= LIMIT * 85 / 100, "{replicas} {way:?} {window}: {seen:?}");
            assert!(smallest(&seen) >= 80, "{replicas} {way:?} {window}: {seen:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn four_replicas_get_no_429_and_eight_get_one_each_at_most() {
    for (replicas, allowed, even) in [(4, 0, 60), (8, 8, 0)] {
        for way in [1, 40, 150] {
            let hub = Arc::<Strict>::default();
            let way = Duration::from_millis(way);
            let _all: Vec<Task> = (0..replicas).map(|_| replica(&hub, START, way, 50)).collect();
            let mut all = 0;
            for window in 0..12 {
                let seen = hub.window().await;
                assert!(refused(&seen) <= allowed, "{replicas} {way:?} {window}: {seen:?}");
                assert!(smallest(&seen) >= even, "{replicas} {way:?} {window}: {seen:?}");
                all += passed(&seen);
            }
            assert!(all >= 12 * LIMIT * 85 / 100, "{replicas} {way:?}: {all}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_gets_its_part_of_a_busy_one_and_returns_it_at_its_end() {
    for way in [1, 40, 150] {
        let hub = Arc::<Strict>::default();
        let way = Duration::from_millis(way);
        let _busy = replica(&hub, START, way, 50);
        sleep(WINDOW * 2).await;
        let seen = hub.window().await;
        assert!(passed(&seen) >= LIMIT * 90 / 100, "{way:?}: {seen:?}");
        let new = replica(&hub, START, way, 50);
        for window in 0..10 {
            let seen = hub.window().await;
            assert!(refused(&seen) <= 1, "{way:?} {window}: {seen:?}");
            // While it converges, some calls are unused.
            let least = if window == 0 { 75 } else { 85 };
            assert!(passed(&seen) >= LIMIT * least / 100, "{way:?} {window}: {seen:?}");
            assert!(window < 5 || smallest(&seen) >= 75, "{way:?} {window}: {seen:?}");
        }
        drop(new);
        sleep(WINDOW).await;
        let seen = hub.window().await;
        assert!(passed(&seen) >= LIMIT * 85 / 100, "{way:?}: {seen:?}");
        sleep(WINDOW * 6).await;
        let seen = hub.window().await;
        assert!(passed(&seen) >= LIMIT * 90 / 100, "{way:?}: {seen:?}");
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn up_to_three_replicas_converge_for_any_latency_and_start(
        replicas in prop::collection::vec((0..30_u64, 1..120_u64, 30..80_usize), 2..=3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let windows = runtime.block_on(async {
            let hub = Arc::<Strict>::default();
            let start = |&(start, way, callers): &(u64, u64, usize)| {
                replica(&hub, Duration::from_secs(start), Duration::from_millis(way), callers)
            };
            let _all: Vec<Task> = replicas.iter().map(start).collect();
            // All have started, and had six windows to converge.
            sleep(Duration::from_secs(90)).await;
            [hub.window().await, hub.window().await, hub.window().await]
        });
        let rejections: usize = windows.iter().map(|seen| refused(seen)).sum();
        prop_assert!(rejections <= 1, "{windows:?}");
        for seen in windows {
            prop_assert!(passed(&seen) >= LIMIT * 85 / 100, "{seen:?}");
            prop_assert!(smallest(&seen) >= 60, "{seen:?}");
        }
    }
}

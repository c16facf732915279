//! Spread of permits over the second while callers wait, so that interactive callers get their permits
//! beside a backlog of bulk calls.

use super::*;
use crate::{LedgerConfig, testing::InMemoryLedger};

const SECOND: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_secs(15);
const MEASURED: Duration = Duration::from_secs(60);

/// Time from a request to its arrival at HubSpot, and from there to the response.
const WAY: Duration = Duration::from_millis(5);

/// Latencies of the calls of `callers` closed loops that start a call after `from`.
async fn closed_loops(
    account: &Arc<Account>,
    hub: &Hub,
    requester: &Requester,
    callers: usize,
    [from, until]: [Instant; 2],
) -> Vec<Duration> {
    let all = (0..callers).map(|_| async {
        let mut latencies = Vec::new();
        while Instant::now() < until {
            let since = Instant::now();
            let permit = account.acquire(BucketName::Burst, requester, soon()).await.unwrap();
            hub.call(permit, WAY, WAY, Observation::default()).await;
            if since >= from {
                latencies.push(since.elapsed());
            }
        }
        latencies
    });
    let mut all = futures_util::future::join_all(all).await.concat();
    all.sort_unstable();
    all
}

/// An account that counts alone, and one that shares its limit through a ledger.
fn accounts() -> [Arc<Account>; 2] {
    let ledger = InMemoryLedger::new(Duration::from_micros(200));
    let sharing = LedgerConfig::new(ledger, "replica", 1);
    [account(settings(190)), account(Settings { ledger: Some(sharing), ..settings(190) })]
}

#[tokio::test(start_paused = true)]
async fn interactive_callers_in_closed_loops_come_first_beside_bulk_work() {
    for account in accounts() {
        let hub = Hub::default();
        let (web, job) = (web(), requester("job", Priority::Bulk));
        let times = [Instant::now() + WARM_UP, Instant::now() + WARM_UP + MEASURED];
        let (web, job) = tokio::join!(
            closed_loops(&account, &hub, &web, 4, times),
            closed_loops(&account, &hub, &job, 200, times),
        );
        let all = web.len() + job.len();
        assert!(all >= 60 * 19 * 97 / 100, "{all} calls");
        assert!(web.len() * 100 >= all * 85, "{} of {all} calls are interactive", web.len());
        assert!(job.len() * 100 >= all * 9, "{} of {all} calls are bulk", job.len());
        // Four callers share 17 permits a second: 235 ms from one call to the next.
        let (median, longest) = (web[web.len() / 2], web[web.len() - 1]);
        assert!(median <= Duration::from_millis(260), "median {median:?}");
        assert!(longest <= Duration::from_millis(400), "maximum {longest:?}");
        assert!(hub.most_within(SECOND) <= 19);
    }
}

#[tokio::test(start_paused = true)]
async fn an_occasional_interactive_caller_waits_for_one_permit_beside_bulk_work() {
    for account in accounts() {
        let hub = Hub::default();
        let (web, job) = (web(), requester("job", Priority::Bulk));
        let times = [Instant::now(), Instant::now() + WARM_UP + MEASURED];
        let occasional = async {
            sleep(WARM_UP).await;
            let mut longest = Duration::ZERO;
            while Instant::now() < times[1] {
                let since = Instant::now();
                let permit = account.acquire(BucketName::Burst, &web, soon()).await.unwrap();
                longest = longest.max(since.elapsed());
                hub.call(permit, WAY, WAY, Observation::default()).await;
                sleep(Duration::from_millis(537)).await;
            }
            longest
        };
        let (longest, _) = tokio::join!(occasional, closed_loops(&account, &hub, &job, 200, times));
        // A nineteenth of a second, and the time in which a permit is granted ahead to the queue.
        assert!(longest <= Duration::from_millis(120), "{longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn permits_are_spread_over_the_second_while_callers_wait() {
    for account in accounts() {
        let hub = Hub::default();
        let job = requester("job", Priority::Bulk);
        let times = [Instant::now(), Instant::now() + WARM_UP + MEASURED];
        closed_loops(&account, &hub, &job, 50, times).await;
        let from = times[0] + WARM_UP;
        for part in [SECOND / 2, SECOND / 4] {
            let most = hub.most_within_since(part, from);
            let even = part.as_millis() * 19 / 1_000;
            assert!(most as u128 <= even + 2, "{most} in {part:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn callers_that_do_not_wait_are_not_spread() {
    let account = account(settings(190));
    let hub = Hub::default();
    for _ in 0..9 {
        let begin = Instant::now();
        for _ in 0..19 {
            let permit =
                account.try_acquire(BucketName::Burst, &web(), soon()).unwrap().expect("free");
            hub.call(permit, Duration::ZERO, Duration::ZERO, Observation::default()).await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        tokio::time::advance(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn spreading_costs_nothing_of_a_large_limit() {
    // 20,000 calls a second: twenty in the shortest time of a timer.
    let account = account(settings(200_000));
    let hub = Hub::default();
    let job = requester("job", Priority::Bulk);
    let times = [Instant::now(), Instant::now() + SECOND * 5];
    closed_loops(&account, &hub, &job, 400, times).await;
    let calls = hub.calls();
    assert!(calls >= 20_000 * 5 * 95 / 100, "{calls}");
}

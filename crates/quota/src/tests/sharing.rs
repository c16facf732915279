//! Replicas that share one limit through a ledger use the whole limit and never more, during outages of
//! the ledger and of each other.

use proptest::prelude::*;

use super::*;
use crate::testing::InMemoryLedger;
use crate::{LedgerConfig, RateLimited, RetryTime};
use leadsd_base::task::Task;

const WAY: Duration = Duration::from_micros(200);
const NO_TIME: Duration = Duration::ZERO;

/// Replicas that share `limit` calls in ten seconds.
fn replicas(count: usize, limit: u64, book: &Arc<InMemoryLedger>) -> Vec<Arc<Account>> {
    let assumed = u32::try_from(count).expect("few");
    let one = |number: usize| {
        let ledger: Arc<dyn crate::Ledger> = Arc::clone(book) as _;
        let sharing = LedgerConfig::new(ledger, &format!("replica-{number}"), assumed);
        account(Settings { ledger: Some(sharing), ..settings(limit) })
    };
    (0..count).map(one).collect()
}

/// Callers at one replica that make one call after the other until then.
async fn load(account: &Arc<Account>, hub: &Hub, callers: usize, until: Instant) {
    load_with_announcements(account, hub, callers, until, None).await;
}

/// The same, with responses that announce `limit`.
async fn load_with_announcements(
    account: &Arc<Account>,
    hub: &Hub,
    callers: usize,
    until: Instant,
    limit: Option<u64>,
) {
    let calls = (0..callers).map(|_| async {
        while Instant::now() < until {
            let permit =
                account.acquire(BucketName::Burst, &web(), soon()).await.expect("a permit");
            let (there, back) = (Duration::from_millis(3), Duration::from_millis(40));
            let announced = limit.map_or_else(ObservedLimit::default, |limit| ObservedLimit {
                size: Some(limit),
                remaining: Some(limit.saturating_sub(hub.within_window() as u64 + 1)),
                window: Some(WINDOW),
            });
            hub.call(
                permit,
                there,
                back,
                Observation { limit: announced, ..Observation::default() },
            )
            .await;
        }
    });
    futures_util::future::join_all(calls).await;
}

async fn load_all(accounts: &[Arc<Account>], hub: &Hub, callers: usize, time: Duration) {
    let until = Instant::now() + time;
    let all = accounts.iter().map(|account| load(account, hub, callers, until));
    futures_util::future::join_all(all).await;
}

/// Time in which a new ledger grants nothing, rounded up.
const WARM: Duration = Duration::from_secs(4);
const WINDOW: Duration = Duration::from_secs(10);

#[track_caller]
fn check_limit(hub: &Hub, limit: usize) {
    assert!(hub.most_within(WINDOW) <= limit, "{} in a window", hub.most_within(WINDOW));
    let second = hub.most_within(Duration::from_secs(1));
    assert!(second <= limit / 10, "{second} in a second");
}

#[tokio::test(start_paused = true)]
async fn replicas_use_the_whole_limit_in_equal_parts() {
    for count in [1, 2, 4, 8] {
        let book = InMemoryLedger::new(WAY);
        let accounts = replicas(count, 190, &book);
        load_all(&accounts, &Hub::default(), 10, WARM).await;
        sleep(WINDOW).await;
        let hubs: Vec<Hub> = accounts.iter().map(|_| Hub::default()).collect();
        let until = Instant::now() + WINDOW * 3;
        let all = accounts.iter().zip(&hubs).map(|(account, hub)| load(account, hub, 10, until));
        futures_util::future::join_all(all).await;
        let parts: Vec<usize> = hubs.iter().map(Hub::calls).collect();
        let calls: usize = parts.iter().sum();
        assert!(calls >= 570 * 97 / 100, "{calls} of 570 by {count}");
        let (least, most) = (parts.iter().min().unwrap(), parts.iter().max().unwrap());
        assert!(most - least <= calls / count / 5, "{parts:?}");
        let arrivals = hubs.iter().flat_map(|hub| hub.arrivals.lock().clone()).collect();
        check_limit(&Hub { arrivals: Mutex::new(arrivals), ..Hub::default() }, 190);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_replica_leaves_the_limit_to_the_others() {
    let book = InMemoryLedger::new(WAY);
    let accounts = replicas(8, 190, &book);
    let hub = Hub::default();
    load_all(&accounts, &hub, 1, WARM).await;
    sleep(WINDOW).await;
    let before = hub.calls();
    load_all(&accounts[..1], &hub, 20, WINDOW).await;
    assert!(hub.calls() - before >= 185, "{}", hub.calls() - before);
    check_limit_of_window(&hub, 190);
    sleep(Duration::from_secs(60)).await;
    let exchanges = book.exchanges();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(book.exchanges(), exchanges, "an idle replica makes no exchanges");
}

#[tokio::test(start_paused = true)]
async fn a_regular_call_rarely_waits_for_the_ledger() {
    let book = InMemoryLedger::new(Duration::from_millis(5));
    let accounts = replicas(2, 190, &book);
    let hub = Hub::default();
    load_all(&accounts, &hub, 1, WARM).await;
    let mut waited = 0;
    for _ in 0..50 {
        sleep(Duration::from_millis(400)).await;
        let since = Instant::now();
        let permit = accounts[0].acquire(BucketName::Burst, &web(), soon()).await.unwrap();
        waited += usize::from(since.elapsed() > Duration::ZERO);
        hub.call(permit, WAY, WAY, Observation::default()).await;
    }
    assert!(waited <= 1, "{waited} of 50 waited");
}

#[tokio::test(start_paused = true)]
async fn replicas_keep_to_their_parts_while_the_ledger_is_unavailable_and_recover() {
    for loses in [false, true] {
        let book = InMemoryLedger::new(WAY);
        let accounts = replicas(4, 190, &book);
        let hub = Hub::default();
        let story = async {
            sleep(Duration::from_millis(15_300)).await;
            book.set_unavailable(true);
            if loses {
                book.lose_data();
            }
            sleep(Duration::from_secs(30)).await;
            let back = hub.calls();
            book.set_unavailable(false);
            back
        };
        let (back, ()) =
            tokio::join!(story, load_all(&accounts, &hub, 10, Duration::from_secs(80)));
        check_limit_of_window(&hub, 190);
        assert!(back >= 45 * 19 * 85 / 100, "{back} until it was back");
        let after = hub.calls() - back;
        assert!(after >= 35 * 19 * 95 / 100, "{after} after it was back");
    }
}

/// Asserts the limit of the window. Without the ledger parts of a second are rounded up.
#[track_caller]
fn check_limit_of_window(hub: &Hub, limit: usize) {
    assert!(hub.most_within(WINDOW) <= limit, "{} in a window", hub.most_within(WINDOW));
}

#[tokio::test(start_paused = true)]
async fn the_part_of_a_disconnected_replica_is_reserved() {
    let (book, other) = (InMemoryLedger::new(WAY), InMemoryLedger::new(WAY));
    let hub = Hub::default();
    let mut accounts = replicas(2, 190, &book);
    // The second replica has a separate connection.
    let ledger: Arc<dyn crate::Ledger> =
        Arc::new(Either { book: Arc::clone(&book), cut: Arc::clone(&other) });
    let sharing = LedgerConfig::new(ledger, "cut", 2);
    accounts[1] = account(Settings { ledger: Some(sharing), ..settings(190) });
    let cut = async {
        sleep(Duration::from_secs(12)).await;
        other.set_unavailable(true);
    };
    let until = Instant::now() + Duration::from_secs(50);
    let loads =
        accounts.iter().map(|account| load_with_announcements(account, &hub, 10, until, Some(190)));
    tokio::join!(cut, futures_util::future::join_all(loads));
    check_limit_of_window(&hub, 190);
    assert!(hub.calls() >= 50 * 19 * 80 / 100, "{}", hub.calls());
}

/// A connection to the ledger that can be cut.
#[derive(Debug)]
struct Either {
    book: Arc<InMemoryLedger>,
    /// Unavailable while the connection is cut.
    cut: Arc<InMemoryLedger>,
}

#[async_trait::async_trait]
impl crate::Ledger for Either {
    async fn exchange(
        &self,
        limit: &crate::LimitKey,
        ask: &crate::ExchangeRequest,
    ) -> Result<crate::Grant, crate::Unavailable> {
        if self.cut.is_unavailable() {
            return Err(crate::Unavailable("cut".to_owned()));
        }
        self.book.exchange(limit, ask).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_announced_to_one_replica_applies_to_all() {
    let book = InMemoryLedger::new(WAY);
    let accounts = replicas(3, 190, &book);
    load_all(&accounts, &Hub::default(), 5, WARM + WINDOW).await;
    let announce = |size, remaining| Observation {
        limit: ObservedLimit { size: Some(size), remaining: Some(remaining), window: Some(WINDOW) },
        ..Observation::default()
    };
    for (size, expected) in [(380, 380), (100, 100)] {
        sleep(WINDOW).await;
        let hub = Hub::default();
        let permit = accounts[0].acquire(BucketName::Burst, &web(), soon()).await.unwrap();
        hub.call(permit, WAY, WAY, announce(size, size - 1)).await;
        sleep(WINDOW).await;
        load_all(&accounts, &hub, 20, WINDOW * 2).await;
        check_limit(&hub, expected);
        let until = Instant::now() - WINDOW;
        let lately = |at: &&Instant| **at > until;
        let calls = hub.arrivals.lock().iter().filter(lately).count();
        assert!((expected * 95 / 100..=expected).contains(&calls), "{calls} of {expected}");
        for account in &accounts {
            assert_eq!(account.snapshot(Instant::now()).buckets[0].size, Some(size));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn usage_of_other_clients_is_left_to_them_by_all_replicas() {
    let book = InMemoryLedger::new(WAY);
    let accounts = replicas(3, 100, &book);
    let hub = Hub::default();
    let until = Instant::now() + WINDOW * 6;
    let all = accounts.iter().map(|account| async {
        while Instant::now() < until {
            let permit = account.acquire(BucketName::Burst, &web(), soon()).await.unwrap();
            let used = hub.within_window() as u64 + 1 + 40;
            let announced = ObservedLimit {
                size: Some(100),
                remaining: Some(100_u64.saturating_sub(used)),
                window: Some(WINDOW),
            };
            hub.call(permit, WAY, WAY, Observation { limit: announced, ..Observation::default() })
                .await;
        }
    });
    futures_util::future::join_all(all).await;
    let a_window = hub.within_window();
    assert!((52..=66).contains(&a_window), "{a_window} of 60");
}

#[tokio::test(start_paused = true)]
async fn a_429_of_one_replica_closes_the_limit_for_all() {
    let book = InMemoryLedger::new(WAY);
    let accounts = replicas(2, 190, &book);
    let hub = Hub::default();
    load_all(&accounts, &hub, 2, WARM).await;
    let permit = accounts[0].acquire(BucketName::Burst, &web(), soon()).await.unwrap();
    let refused = Some(RateLimited::Bucket(RetryTime::Stated(Duration::from_secs(7))));
    hub.call(permit, WAY, WAY, Observation { rate_limited: refused, ..Observation::default() })
        .await;
    // Until the other replica knows.
    sleep(Duration::from_secs(1)).await;
    let (since, before) = (Instant::now(), book.exchanges());
    accounts[1].acquire(BucketName::Burst, &web(), soon()).await.unwrap();
    assert!((5..=6).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
    let exchanges = book.exchanges() - before;
    assert!(exchanges < 100, "{exchanges} exchanges while nothing could be granted");
    accounts[1].acquire(BucketName::Search, &web(), soon()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_429_during_an_outage_of_the_ledger_is_reported_after_it() {
    let book = InMemoryLedger::new(WAY);
    let accounts = replicas(2, 190, &book);
    let hub = Hub::default();
    load_all(&accounts, &hub, 2, WARM).await;
    let permit = accounts[0].acquire(BucketName::Burst, &web(), soon()).await.unwrap();
    let refused = Some(RateLimited::Bucket(RetryTime::Stated(Duration::from_secs(7))));
    let way = Duration::from_millis(20);
    let goes = async {
        sleep(way).await;
        book.set_unavailable(true);
        sleep(way * 3).await;
        book.set_unavailable(false);
    };
    tokio::join!(
        goes,
        hub.call(permit, way, way, Observation { rate_limited: refused, ..Observation::default() })
    );
    sleep(Duration::from_secs(1)).await;
    let since = Instant::now();
    accounts[1].acquire(BucketName::Burst, &web(), soon()).await.unwrap();
    assert!((5..=6).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_response_in_flight_does_not_shorten_a_later_429() {
    for way in (5..100).step_by(5).map(Duration::from_millis) {
        let book = InMemoryLedger::new(Duration::from_millis(50));
        let accounts = replicas(1, 190, &book);
        load_all(&accounts, &Hub::default(), 2, WARM).await;
        let refused = |seconds| {
            let wait = Duration::from_secs(seconds);
            Some(RateLimited::Bucket(RetryTime::Stated(wait)))
        };
        let first = accounts[0].acquire(BucketName::Burst, &web(), soon()).await.unwrap();
        let second = accounts[0].acquire(BucketName::Burst, &web(), soon()).await.unwrap();
        let observation = Observation { rate_limited: refused(2), ..Observation::default() };
        Hub::default().call(first, NO_TIME, Duration::from_secs(1), observation).await;
        // The first 429 is reported, and the response comes after the second.
        let observation = Observation { rate_limited: refused(10), ..Observation::default() };
        Hub::default().call(second, NO_TIME, way, observation).await;
        let until = Instant::now() + Duration::from_secs(10);
        let closed = || accounts[0].snapshot(Instant::now()).buckets[0].closed;
        for _ in 0..50 {
            sleep(Duration::from_millis(5)).await;
            let left = until.saturating_duration_since(Instant::now());
            assert!(closed() >= left, "{:?} of {left:?}, after {way:?}", closed());
        }
        sleep(Duration::from_secs(10)).await;
        assert_eq!(closed(), NO_TIME, "it ends");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_with_short_deadlines_get_permits_without_other_traffic() {
    let book = InMemoryLedger::new(WAY);
    let hurried = async |account: &Arc<Account>| {
        let until = Instant::now() + Duration::from_millis(100);
        account.acquire(BucketName::Burst, &web(), until).await
    };
    let accounts = replicas(2, 190, &book);
    let begin = Instant::now();
    while begin.elapsed() < WARM {
        // The ledger is new: some time out.
        let _ = hurried(&accounts[0]).await;
        sleep(Duration::from_millis(300)).await;
    }
    for (account, of) in accounts.iter().zip(["a new ledger", "a ledger that is known"]) {
        for number in 0..20 {
            let permit = hurried(account).await;
            let permit = permit.unwrap_or_else(|rejected| panic!("{number}, {of}: {rejected:?}"));
            Hub::default().call(permit, WAY, WAY, Observation::default()).await;
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_do_not_wait_cost_few_exchanges() {
    let book = InMemoryLedger::new(WAY);
    let accounts = replicas(1, 190, &book);
    let hub = Hub::default();
    load_all(&accounts, &hub, 1, WARM + WINDOW).await;
    sleep(WINDOW).await;
    let before = book.exchanges();
    // More than half of the limit: no spare permits are granted.
    for _ in 0..250 {
        let permit = accounts[0].acquire(BucketName::Burst, &web(), soon()).await.unwrap();
        hub.call(permit, WAY, WAY, Observation::default()).await;
        sleep(Duration::from_millis(80)).await;
    }
    let exchanges = book.exchanges() - before;
    assert!(exchanges < 250 * 6, "{exchanges} exchanges for 250 calls");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_later_gets_its_part_without_overrun() {
    let book = InMemoryLedger::new(WAY);
    let accounts = replicas(2, 190, &book);
    let hub = Hub::default();
    let begin = Instant::now();
    let late = async {
        sleep(Duration::from_secs(23)).await;
        load(&accounts[1], &hub, 10, begin + Duration::from_secs(60)).await;
    };
    tokio::join!(late, load(&accounts[0], &hub, 10, begin + Duration::from_secs(60)));
    check_limit_of_window(&hub, 190);
    assert!(hub.calls() >= 56 * 19 * 95 / 100, "{}", hub.calls());
}

#[tokio::test(start_paused = true)]
async fn the_part_of_a_leaving_replica_is_free_at_once_and_that_of_a_dead_one_later() {
    for (leaves, least) in [(true, 185), (false, 90)] {
        let book = InMemoryLedger::new(WAY);
        let accounts = replicas(2, 190, &book);
        load_all(&accounts, &Hub::default(), 10, WARM + WINDOW).await;
        if leaves {
            crate::ledger_sync::leave(&accounts[1]).await;
        }
        let left = Instant::now();
        let mut accounts = accounts;
        accounts.truncate(1);
        let alone = &accounts;
        sleep(WINDOW).await;
        let hub = Hub::default();
        load_all(alone, &hub, 10, WINDOW).await;
        assert!(hub.calls() >= least, "{} of {least}", hub.calls());
        sleep(Duration::from_secs(65).saturating_sub(left.elapsed())).await;
        let hub = Hub::default();
        load_all(alone, &hub, 10, WINDOW).await;
        assert!(hub.calls() >= 185, "{}", hub.calls());
    }
}

/// A replica with its own accounts.
fn quota(number: usize, book: &Arc<InMemoryLedger>) -> Quota {
    quota_of(190, number, book)
}

fn quota_of(limit: u64, number: usize, book: &Arc<InMemoryLedger>) -> Quota {
    let ledger: Arc<dyn crate::Ledger> = Arc::clone(book) as _;
    let sharing = LedgerConfig::new(ledger, &format!("replica-{number}"), 2);
    let clock = SimulatedClock::starting_at("2026-03-01T12:00:00Z".parse().expect("a time"));
    Quota::new(Settings { ledger: Some(sharing), ..settings(limit) }, Arc::new(clock))
}

/// Replicas that an account counts in the ledger of its burst limit.
fn counted(account: &Account) -> u32 {
    let snapshot = account.snapshot(Instant::now());
    snapshot.buckets[0].ledger.as_ref().expect("a ledger").replicas
}

#[tokio::test(start_paused = true)]
async fn a_leaving_replica_leaves_the_ledger_with_all_its_accounts() {
    let book = InMemoryLedger::new(WAY);
    let quotas = [quota(0, &book), quota(1, &book)];
    for portal in ["one", "two"] {
        let accounts: Vec<_> = quotas.iter().map(|quota| quota.account(portal)).collect();
        load_all(&accounts, &Hub::default(), 10, WARM + WINDOW).await;
        assert_eq!(counted(&accounts[0]), 2);
    }
    let [staying, leaving] = quotas;
    leaving.leave_ledger(soon()).await;
    drop(leaving);
    for portal in ["one", "two"] {
        let account = staying.account(portal);
        load_all(&[Arc::clone(&account)], &Hub::default(), 10, Duration::from_secs(1)).await;
        assert_eq!(counted(&account), 1, "{portal}");
    }
}

fn paused<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(work)
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn no_window_is_overrun_during_any_outage_of_the_ledger(
        limit in 60..300_u64,
        callers in prop::collection::vec(0..15_usize, 2..6),
        way in 100..20_000_u64,
        outages in prop::collection::vec((3_000..20_000_u64, 500..15_000_u64, any::<bool>()), 0..4),
    ) {
        let most = paused(async {
            let book = InMemoryLedger::new(Duration::from_micros(way));
            let accounts = replicas(callers.len(), limit, &book);
            let hub = Hub::default();
            let story = async {
                for (after, lasts, loses) in outages {
                    sleep(Duration::from_millis(after)).await;
                    book.set_unavailable(true);
                    if loses {
                        book.lose_data();
                    }
                    sleep(Duration::from_millis(lasts)).await;
                    book.set_unavailable(false);
                }
            };
            let until = Instant::now() + Duration::from_secs(60);
            let loads = accounts.iter().zip(&callers);
            let loads = loads.map(|(account, callers)| load(account, &hub, *callers, until));
            tokio::join!(story, futures_util::future::join_all(loads));
            hub.most_within(WINDOW)
        });
        prop_assert!(most <= usize::try_from(limit).unwrap(), "{most} of {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_with_short_deadlines_get_permits_beside_a_busy_replica() {
    let book = InMemoryLedger::new(WAY);
    let accounts = replicas(2, 190, &book);
    let hub = Hub::default();
    let until = Instant::now() + WARM + WINDOW * 4;
    let hurried = async {
        sleep(WARM + WINDOW).await;
        let mut got = Vec::new();
        while Instant::now() < until {
            let soon = Instant::now() + Duration::from_millis(100);
            let permit = accounts[1].acquire(BucketName::Burst, &web(), soon).await;
            got.push(permit.is_ok());
            if let Ok(permit) = permit {
                hub.call(permit, WAY, WAY, Observation::default()).await;
            }
            sleep(Duration::from_millis(300)).await;
        }
        got
    };
    let (got, ()) = tokio::join!(hurried, load(&accounts[0], &hub, 20, until));
    let permits = got.iter().filter(|is_ok| **is_ok).count();
    assert!(permits * 5 >= got.len(), "{permits} of {}", got.len());
    check_limit_of_window(&hub, 190);
}

/// A replica with `callers` closed loops, from now until it is dropped, as if its process was killed.
fn process(number: usize, callers: usize, book: &Arc<InMemoryLedger>, hub: &Arc<Hub>) -> Task {
    process_with(190, number, callers, book, hub)
}

fn process_with(
    limit: u64,
    number: usize,
    callers: usize,
    book: &Arc<InMemoryLedger>,
    hub: &Arc<Hub>,
) -> Task {
    process_of(&web(), limit, number, callers, book, hub)
}

fn process_of(
    requester: &Requester,
    limit: u64,
    number: usize,
    callers: usize,
    book: &Arc<InMemoryLedger>,
    hub: &Arc<Hub>,
) -> Task {
    let (quota, hub) = (quota_of(limit, number, book), Arc::clone(hub));
    let requester = requester.clone();
    task::spawn("replica", "", async move {
        let account = quota.account("default");
        let calls = (0..callers).map(|_| async {
            loop {
                let permit =
                    account.acquire(BucketName::Burst, &requester, soon()).await.expect("a permit");
                hub.call(permit, FAST, FAST, Observation::default()).await;
            }
        });
        futures_util::future::join_all(calls).await;
    })
}

/// Time from a request to its arrival at HubSpot, and from there to the response.
const FAST: Duration = Duration::from_millis(3);

/// Calls in the next window.
async fn next_window(hub: &Hub) -> usize {
    let before = hub.calls();
    sleep(WINDOW).await;
    hub.calls() - before
}

#[tokio::test(start_paused = true)]
async fn the_quota_of_killed_replicas_is_used_by_the_others_at_once() {
    for (killed, count) in [(1, 2), (1, 4), (2, 4), (1, 8)] {
        let (book, hub) = (InMemoryLedger::new(WAY), Arc::new(Hub::default()));
        let mut all: Vec<Task> =
            (0..count).map(|number| process(number, 10, &book, &hub)).collect();
        sleep(WARM + WINDOW).await;
        let before = next_window(&hub).await;
        assert!(before >= 190 * 98 / 100, "{before} before, of {count}");
        all.truncate(count - killed);
        let killed_at = Instant::now();
        let first = next_window(&hub).await;
        assert!(first >= 190 * 90 / 100, "{first} after {killed} of {count} were killed");
        for window in 2..6 {
            let later = next_window(&hub).await;
            assert!(later >= 190 * 98 / 100, "{later} in window {window}, {killed} of {count}");
        }
        check_limit_of_window(&hub, 190);
        assert!(hub.most_within_since(Duration::from_secs(1), killed_at) <= 19);
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_that_replace_killed_ones_use_the_quota_at_once() {
    for (killed, count, new) in [(1, 2, 1), (2, 2, 4), (2, 4, 2)] {
        let (book, hub) = (InMemoryLedger::new(WAY), Arc::new(Hub::default()));
        let mut all: Vec<Task> =
            (0..count).map(|number| process(number, 10, &book, &hub)).collect();
        sleep(WARM + WINDOW).await;
        all.truncate(count - killed);
        sleep(Duration::from_secs(1)).await;
        all.extend((0..new).map(|number| process(count + number, 10, &book, &hub)));
        let first = next_window(&hub).await;
        // A ledger that no replica has used for a while may not know all calls.
        let least = if killed == count { 85 } else { 90 };
        assert!(first >= 190 * least / 100, "{first} after {killed} of {count} were replaced");
        for window in 2..6 {
            let later = next_window(&hub).await;
            assert!(later >= 190 * 98 / 100, "{later} in window {window}, {killed} of {count}");
        }
        check_limit_of_window(&hub, 190);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_costs_the_others_nothing() {
    let (book, hub) = (InMemoryLedger::new(WAY), Arc::new(Hub::default()));
    let mut all = vec![process(0, 10, &book, &hub)];
    sleep(WARM + WINDOW).await;
    for number in 1..4 {
        all.push(process(number, 10, &book, &hub));
        let calls = next_window(&hub).await;
        assert!(calls >= 190 * 95 / 100, "{calls} beside replica {number}, which started");
    }
    check_limit(&hub, 190);
}

/// Moments of the window at which replicas are killed.
fn moments() -> impl Iterator<Item = Duration> {
    let moments = cases(8).cases;
    (0..moments).map(move |number| WINDOW * number / moments + Duration::from_millis(37))
}

/// Kills replicas whose requests are those of `requester`. Returns the calls in the window after that, and
/// in each of the four later ones.
async fn windows_after_kill(
    requester: &Requester,
    killed: usize,
    count: usize,
    moment: Duration,
) -> (usize, [usize; 4]) {
    let (book, hub) = (InMemoryLedger::new(WAY), Arc::new(Hub::default()));
    let new = |number| process_of(requester, 190, number, 10, &book, &hub);
    let mut all: Vec<Task> = (0..count).map(new).collect();
    sleep(WARM + WINDOW + moment).await;
    all.truncate(count - killed);
    let first = next_window(&hub).await;
    let mut later = [0; 4];
    for window in &mut later {
        *window = next_window(&hub).await;
    }
    check_limit_of_window(&hub, 190);
    (first, later)
}

const KILLED: [(usize, usize); 3] = [(1, 2), (1, 4), (2, 4)];

#[tokio::test(start_paused = true)]
async fn the_quota_of_killed_replicas_is_used_at_once_whenever_they_are_killed() {
    for requester in [web(), requester("job", Priority::Bulk)] {
        for (killed, count) in KILLED {
            for moment in moments() {
                let (first, later) = windows_after_kill(&requester, killed, count, moment).await;
                let case = format!("{killed} of {count} at {moment:?}: {first}, then {later:?}");
                assert!(first >= 190 * 90 / 100, "{case}");
                assert!(later.iter().all(|calls| calls * 100 >= 190 * 98), "{case}");
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn a_killed_replica_leaves_at_most_an_eighth_of_one_window_unused(
        limit in 60..300_u64,
        count in 2..7_usize,
        killed in any::<prop::sample::Index>(),
        way in 100..5_000_u64,
        at in 0..10_000_u64,
    ) {
        let killed = 1 + killed.index(count - 1);
        let (first, second, most) = paused(async {
            let book = InMemoryLedger::new(Duration::from_micros(way));
            let hub = Arc::new(Hub::default());
            let new = |number| process_with(limit, number, 10, &book, &hub);
            let mut all: Vec<Task> = (0..count).map(new).collect();
            sleep(WARM + WINDOW + Duration::from_millis(at)).await;
            all.truncate(count - killed);
            let windows = (next_window(&hub).await, next_window(&hub).await);
            (windows.0, windows.1, hub.most_within(WINDOW))
        });
        let limit = usize::try_from(limit).unwrap();
        // A tenth in a second, rounded down.
        let limit = limit / 10 * 10;
        prop_assert!(first >= limit * 88 / 100, "{first} of {limit}");
        prop_assert!(second >= limit * 95 / 100, "{second} of {limit}");
        prop_assert!(most <= limit + 9, "{most} of {limit}");
    }
}

//! Random loads. Invariants: no window is overrun, no request waits longer than its position requires,
//! results come exactly once and in order, changed limits apply, and a 429 closes only its limit.

use proptest::prelude::*;

use super::*;
use crate::{RateLimited, Reason, RetryTime};

const WINDOW: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// Maximum transit times in milliseconds that the window and the second allow for.
const FAR: u64 = 250;
const NEAR: u64 = 25;

/// Maximum time from arrival to response in milliseconds.
const BACK: u64 = 1_000;

/// Searches allowed in a second.
const SEARCHES: usize = 5;

const CALLERS: usize = 4;

/// One request of a load.
#[derive(Debug, Clone)]
struct Load {
    /// Time since the request before.
    after: Duration,
    caller: usize,
    bulk: bool,
    what: What,
    /// Time until its deadline. `None` for no deadline.
    patience: Option<Duration>,
    /// Time of the cancellation.
    leaves: Option<Duration>,
    there: Duration,
    back: Duration,
    /// HubSpot rejects it with 429, with this retry time.
    refused: Option<Duration>,
}

/// Kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Alone,
    /// A member of the group with this index.
    Batched(usize),
    Search,
}

fn load(way: u64) -> impl Strategy<Value = Load> {
    let millis = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    let what = prop_oneof![
        3 => Just(What::Alone),
        5 => (0..2_usize).prop_map(What::Batched),
        2 => Just(What::Search),
    ];
    (
        prop_oneof![4 => millis(0..3), 1 => millis(0..400)],
        (0..CALLERS, any::<bool>()),
        what,
        prop::option::weighted(0.2, millis(1..5_000)),
        prop::option::weighted(0.1, millis(0..2_000)),
        millis(0..way),
        prop_oneof![3 => millis(0..300), 1 => millis(0..BACK)],
    )
        .prop_map(|(after, (caller, bulk), what, patience, leaves, there, back)| Load {
            after,
            caller,
            bulk,
            what,
            patience,
            leaves,
            there,
            back,
            refused: None,
        })
}

/// Loads with short, or with short and long transit times.
fn loads() -> impl Strategy<Value = (u64, Vec<Load>)> {
    prop_oneof![Just(NEAR), Just(FAR)]
        .prop_flat_map(|way| (Just(way), prop::collection::vec(load(way), 1..300)))
}

/// A request of a load in which every fifth single request is rejected with 429.
fn refusable() -> impl Strategy<Value = Load> {
    let wait = prop::option::weighted(0.2, (100..20_000_u64).prop_map(Duration::from_millis));
    (load(NEAR), wait).prop_map(|(load, refused)| Load { refused, ..load })
}

/// Result of a request.
#[derive(Debug)]
struct Done {
    lane: (usize, bool, What),
    begun: usize,
    since: Instant,
    /// Time of the dispatch and position in the batch; `None` if it was cancelled.
    outcome: Option<Result<(Instant, usize), Reason>>,
    until: Instant,
    patience: Option<Duration>,
}

/// An account with doubles of HubSpot, and their records.
#[derive(Debug)]
struct World {
    account: Arc<Account>,
    burst: Arc<Hub>,
    search: Arc<Hub>,
    groups: [Arc<TestGroup>; 2],
    /// The limit that each 429 closed, from when until when.
    closed: Mutex<Vec<(BucketName, Instant, Instant)>>,
    /// Times at which single requests were sent.
    sent: Mutex<Vec<(BucketName, Instant)>>,
    most_waiting: Mutex<usize>,
}

// === impl World ===

impl World {
    fn new(settings: Settings) -> Self {
        let burst = Arc::<Hub>::default();
        Self {
            account: account(settings),
            search: Arc::default(),
            groups: [TestGroup::new(&burst, 100), TestGroup::new(&burst, 3)],
            burst,
            closed: Mutex::default(),
            sent: Mutex::default(),
            most_waiting: Mutex::default(),
        }
    }

    /// Plays the load, and returns the results.
    async fn play(&self, loads: Vec<Load>) -> Vec<Done> {
        let mut begins = Instant::now();
        let mut calls = Vec::new();
        for (begun, load) in loads.into_iter().enumerate() {
            begins += load.after;
            calls.push(async move {
                tokio::time::sleep_until(begins).await;
                let leaves = load.leaves.unwrap_or(Duration::from_secs(1_000_000));
                let lane = (load.caller, load.bulk, load.what);
                let (since, patience) = (Instant::now(), load.patience);
                let outcome = tokio::time::timeout(leaves, self.one(load)).await.ok();
                Done { lane, begun, since, outcome, until: Instant::now(), patience }
            });
        }
        let done = futures_util::future::join_all(calls).await;
        // Dispatched batches of cancelled requests finish.
        sleep(Duration::from_secs(30)).await;
        done
    }

    async fn one(&self, load: Load) -> Result<(Instant, usize), Reason> {
        let priority = if load.bulk { Priority::Bulk } else { Priority::Interactive };
        let requester = requester(&load.caller.to_string(), priority);
        let until = Instant::now() + load.patience.unwrap_or(Duration::from_secs(1_000_000));
        let group = match load.what {
            What::Alone => return self.alone(BucketName::Burst, &requester, until, &load).await,
            What::Search => return self.alone(BucketName::Search, &requester, until, &load).await,
            What::Batched(group) => Arc::clone(&self.groups[group]),
        };
        let (member, reply) = group.enter();
        let place = self.account.enqueue(BucketName::Burst, &requester, until, group, member);
        self.snapshot_state();
        let place = place.map_err(|rejected| rejected.reason)?;
        match tokio::time::timeout_at(until, reply).await {
            Ok(reply) => {
                let (number, _) = reply
                    .expect("every member gets a result")
                    .map_err(|rejected| rejected.reason)?;
                Ok((Instant::now(), number))
            }
            Err(_) => Err(place.deadline_error().reason),
        }
    }

    async fn alone(
        &self,
        bucket: BucketName,
        requester: &Requester,
        until: Instant,
        load: &Load,
    ) -> Result<(Instant, usize), Reason> {
        let permit = self.account.acquire(bucket, requester, until).await;
        self.snapshot_state();
        let permit = permit.map_err(|rejected| rejected.reason)?;
        let turn = Instant::now();
        self.sent.lock().push((bucket, turn));
        let hub = if bucket == BucketName::Burst { &self.burst } else { &self.search };
        let refused = load.refused.map(|wait| RateLimited::Bucket(RetryTime::Stated(wait)));
        hub.call(
            permit,
            load.there,
            load.back,
            Observation { rate_limited: refused, ..Observation::default() },
        )
        .await;
        if let Some(wait) = load.refused {
            self.closed.lock().push((bucket, Instant::now(), Instant::now() + wait));
        }
        Ok((turn, 0))
    }

    /// Records the queue length.
    fn snapshot_state(&self) {
        let view = self.account.snapshot(Instant::now());
        let waiting = view.buckets.iter().map(|bucket| bucket.waiting).max();
        let mut most = self.most_waiting.lock();
        *most = waiting.unwrap_or(0).max(*most);
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

/// Asserts that requests of one caller, kind and priority were served in order. A member of a group is passed
/// over only if its deadline left no time for a response.
fn in_order(done: &[Done]) -> Result<(), TestCaseError> {
    let longest = Duration::from_millis(FAR + BACK);
    for (index, call) in done.iter().enumerate() {
        let Some(Ok(turn)) = call.outcome else { continue };
        for later in done.iter().skip(index + 1).filter(|later| later.lane == call.lane) {
            let Some(Ok(overtaking)) = later.outcome else { continue };
            let had_no_time = call
                .patience
                .is_some_and(|patience| call.since + patience < overtaking.0 + longest);
            let may_be_overtaken = matches!(call.lane.2, What::Batched(_)) && had_no_time;
            prop_assert!(turn <= overtaking || may_be_overtaken, "{:?} by {:?}", call, later);
        }
    }
    Ok(())
}

/// Asserts that no request waited longer than fair shares allow: the time for earlier requests of the
/// same caller, kind and priority, with as many of every other caller in between. For bulk the bound is
/// ten times that.
fn assert_fair_waits(done: &[Done], limit: usize) -> Result<(), TestCaseError> {
    for call in done {
        // The groups of one caller share its position.
        let is_before = |other: &&Done| {
            (other.lane.0, other.lane.1) == (call.lane.0, call.lane.1)
                && (other.lane.2 == What::Search) == (call.lane.2 == What::Search)
                && other.begun <= call.begun
                && other.until > call.since
        };
        let before = done.iter().filter(is_before).count();
        let turns = before * CALLERS;
        let turns = if call.lane.1 { turns * 10 } else { turns * 10 / 9 + 1 };
        let part = if call.lane.2 == What::Search { SEARCHES } else { (limit / 10).max(1) };
        // A full window ends with its calls.
        let slow = WINDOW + Duration::from_millis(FAR + BACK);
        let longest = slow + slow / 10 * u32::try_from(turns.div_ceil(part)).unwrap();
        let waited = call.until - call.since;
        prop_assert!(waited <= longest, "{call:?} after {before} waited {waited:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn no_window_is_overrun_no_caller_starves_and_results_come_once_and_in_order(
        limit in 10..120_u64,
        max_queue in prop_oneof![Just(10_000_usize), 5..40_usize],
        (way, loads) in loads(),
    ) {
        let all = loads.len();
        let (world, done) = paused(async {
            let world = World::new(Settings { max_queue, ..settings(limit) });
            let done = world.play(loads).await;
            (world, done)
        });
        let limit = usize::try_from(limit).unwrap();
        prop_assert!(world.burst.most_within(WINDOW) <= limit);
        if way == NEAR {
            prop_assert!(world.burst.most_within(SECOND) <= (limit / 10).max(1));
            prop_assert!(world.search.most_within(SECOND) <= SEARCHES);
        }
        prop_assert!(*world.most_waiting.lock() <= max_queue);
        prop_assert_eq!(done.len(), all);
        for call in &done {
            let waited = call.until - call.since;
            match call.outcome {
                Some(Err(Reason::QueueFull)) => prop_assert!(max_queue < all),
                Some(Err(cause)) => {
                    prop_assert!(matches!(cause, Reason::Deadline | Reason::ShortDeadline));
                    let patience = call.patience.expect("only a request with a deadline is late");
                    prop_assert!(waited <= patience + Duration::from_millis(1), "{:?}", call);
                }
                Some(Ok(_)) | None => {}
            }
        }
        assert_fair_waits(&done, limit)?;
        in_order(&done)?;
    }

    #[test]
    fn a_changed_limit_applies_as_soon_as_a_response_announces_it(
        limit in 40..120_u64,
        part in 50..=200_u64,
        change in 0..20_u64,
        loads in prop::collection::vec(load(FAR), 200..600),
    ) {
        let to = limit * part / 100;
        let (world, since) = paused(async {
            let world = World::new(settings(limit));
            *world.burst.announced.lock() = Some(limit);
            let changed = async {
                sleep(Duration::from_secs(change)).await;
                *world.burst.announced.lock() = Some(to);
                Instant::now()
            };
            // There are responses as long as the load lasts.
            let (since, done) = tokio::join!(changed, world.play(loads));
            assert!(done.iter().all(|call| call.outcome != Some(Err(Reason::QueueFull))));
            (world, since)
        });
        let (limit, to) = (usize::try_from(limit).unwrap(), usize::try_from(to).unwrap());
        prop_assert!(world.burst.most_within(WINDOW) <= limit.max(to));
        // Calls before the announcement are in windows that begin before it.
        let announced = since + Duration::from_millis(FAR + BACK);
        let most = world.burst.most_within_since(WINDOW, announced);
        prop_assert!(most <= to, "{most} of {to}");
    }

    #[test]
    fn a_429_closes_only_its_own_limit_for_its_retry_time(
        limit in 20..120_u64,
        loads in prop::collection::vec(refusable(), 1..200),
    ) {
        let (world, done) = paused(async {
            let world = World::new(settings(limit));
            let done = world.play(loads).await;
            (world, done)
        });
        let sent = world.sent.lock().clone();
        for (bucket, from, until) in &*world.closed.lock() {
            // In simulated time two events can share an instant.
            let within = |(own, at): &&(BucketName, Instant)| own == bucket && at > from && at < until;
            prop_assert_eq!(sent.iter().find(within), None);
        }
        prop_assert!(world.search.most_within(SECOND) <= SEARCHES);
        let is_closed = |name| world.closed.lock().iter().any(|(own, ..)| *own == name);
        if !is_closed(BucketName::Search) {
            let searches: Vec<Done> =
                done.into_iter().filter(|call| call.lane.2 == What::Search).collect();
            assert_fair_waits(&searches, 0)?;
        } else if !is_closed(BucketName::Burst) {
            let others: Vec<Done> =
                done.into_iter().filter(|call| call.lane.2 != What::Search).collect();
            assert_fair_waits(&others, usize::try_from(limit).unwrap())?;
        }
    }
}

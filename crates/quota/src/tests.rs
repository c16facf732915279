//! The quota in simulated time: a double of HubSpot counts arrivals in rolling windows.

mod cold_start;
mod limits;
mod permits;
mod priority;
mod queue;
mod replicas;
mod script;
mod sharing;
mod simulation;
mod unknown_limits;
mod waiting;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use leadsd_base::{task, time::Zone};
use parking_lot::Mutex;
use proptest::test_runner::Config as ProptestConfig;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::{
    Account, BucketName, Caller, Group, Observation, ObservedLimit, Permit, Priority, Quota,
    Rejected, Requester, Settings,
    testing::{SimulatedClock, settings},
};

/// Configuration of a property test that runs `cases` cases if `LEADSD_TEST_CASES` is `full`, as in CI,
/// and a quarter of them by default. `PROPTEST_CASES` would override the number that a test chooses,
/// and one case here simulates minutes.
#[expect(clippy::disallowed_methods, reason = "the environment selects how thorough a test run is")]
fn cases(cases: u32) -> ProptestConfig {
    let is_full = std::env::var("LEADSD_TEST_CASES").is_ok_and(|cases| cases == "full");
    let cases = if is_full { cases } else { (cases / 4).max(1) };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn account(settings: Settings) -> Arc<Account> {
    account_at(settings, "2026-03-01T12:00:00Z")
}

fn account_at(settings: Settings, at: &str) -> Arc<Account> {
    let clock = SimulatedClock::starting_at(at.parse().expect("a time"));
    Quota::new(settings, Arc::new(clock)).account("default")
}

fn requester(caller: &str, priority: Priority) -> Requester {
    Requester { caller: Caller::new(caller), priority }
}

fn web() -> Requester {
    requester("web", Priority::Interactive)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

/// A double of HubSpot that counts arrivals.
#[derive(Debug, Default)]
struct Hub {
    arrivals: Mutex<Vec<Instant>>,
    /// The limit that responses announce.
    announced: Mutex<Option<u64>>,
}

impl Hub {
    /// One call that arrives after `there` and responds `back` later.
    async fn call(
        &self,
        mut permit: Permit,
        there: Duration,
        back: Duration,
        mut observation: Observation,
    ) {
        permit.mark_sent(1);
        sleep(there).await;
        self.arrivals.lock().push(Instant::now());
        if let Some(size) = *self.announced.lock() {
            let remaining = size.saturating_sub(self.within_window() as u64);
            let window = Duration::from_secs(10);
            observation.limit = ObservedLimit {
                size: Some(size),
                remaining: Some(remaining),
                window: Some(window),
            };
        }
        sleep(back).await;
        permit.observe(observation);
    }

    /// Maximum number of arrivals within any window of this length.
    fn most_within(&self, window: Duration) -> usize {
        let first = self.arrivals.lock().iter().min().copied();
        first.map_or(0, |first| self.most_within_since(window, first))
    }

    /// The same for windows that begin at that time or later.
    fn most_within_since(&self, window: Duration, since: Instant) -> usize {
        let mut arrivals = self.arrivals.lock().clone();
        arrivals.retain(|arrival| *arrival >= since);
        arrivals.sort();
        let mut first = 0;
        let mut most = 0;
        for (index, arrival) in arrivals.iter().enumerate() {
            while arrivals[first] + window <= *arrival {
                first += 1;
            }
            most = most.max(index + 1 - first);
        }
        most
    }

    /// Calls that arrived within the last ten seconds.
    fn within_window(&self) -> usize {
        let recent = |at: &&Instant| at.elapsed() < Duration::from_secs(10);
        self.arrivals.lock().iter().filter(recent).count()
    }

    fn calls(&self) -> usize {
        self.arrivals.lock().len()
    }
}

static GROUPS: AtomicU64 = AtomicU64::new(0);

/// Result of a member: its position in the batch, and the size of the batch.
type Reply = Result<(usize, usize), Rejected>;

/// A group whose batches take 5 ms there and 5 ms back.
#[derive(Debug)]
struct TestGroup {
    id: u64,
    most: usize,
    hub: Arc<Hub>,
    replies: Arc<Mutex<HashMap<u64, oneshot::Sender<Reply>>>>,
    next: AtomicU64,
    /// Members in the order of their dispatch.
    left: Mutex<Vec<u64>>,
}

impl TestGroup {
    fn new(hub: &Arc<Hub>, most: usize) -> Arc<Self> {
        Arc::new(Self {
            id: GROUPS.fetch_add(1, Ordering::Relaxed),
            most,
            hub: Arc::clone(hub),
            replies: Arc::default(),
            next: AtomicU64::new(0),
            left: Mutex::default(),
        })
    }

    fn enter(&self) -> (u64, oneshot::Receiver<Reply>) {
        let (sender, receiver) = oneshot::channel();
        let member = self.next.fetch_add(1, Ordering::Relaxed);
        self.replies.lock().insert(member, sender);
        (member, receiver)
    }
}

impl Group for TestGroup {
    fn id(&self) -> u64 {
        self.id
    }

    fn max_size(&self) -> usize {
        self.most
    }

    fn dispatch(&self, permit: Permit, members: Vec<u64>) {
        assert!(!members.is_empty() && members.len() <= self.most, "batch of {}", members.len());
        let mut left = self.left.lock();
        assert!(members.iter().all(|member| !left.contains(member)), "a member is dispatched once");
        left.extend(&members);
        drop(left);
        let (hub, replies) = (Arc::clone(&self.hub), Arc::clone(&self.replies));
        let way = Duration::from_millis(5);
        task::spawn("batch", "", async move {
            hub.call(permit, way, way, Observation::default()).await;
            let all = members.len();
            for (number, member) in members.into_iter().enumerate() {
                let reply = replies.lock().remove(&member);
                // A cancelled member gets no result.
                let _ = reply.map(|reply| reply.send(Ok((number, all))));
            }
        })
        .detach();
    }

    fn reject(&self, member: u64, rejected: Rejected) {
        assert!(!self.left.lock().contains(&member), "a dispatched member is not rejected");
        if let Some(reply) = self.replies.lock().remove(&member) {
            let _ = reply.send(Err(rejected));
        }
    }
}

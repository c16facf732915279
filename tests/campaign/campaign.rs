//! The rounds of the campaign, and its state.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use leadsd_base::secret::SECRET_MARKER;
use leadsd_testkit::{eventually, wait_ready};
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::time::{Instant, sleep};

use crate::{
    callers::PATIENCE,
    faults::Round,
    usage::{Usage, held},
    world::{REPLICAS, World},
};

/// Time of a run by default.
const SECONDS: u64 = 45;

/// Seed of a run by default. A seed that finds a defect gets a separate test.
const SEED: u64 = 1;

/// Time after the last fault in which all writes and patient calls have to succeed.
const RECOVERY: Duration = Duration::from_secs(30);

/// Time without a failure after which a round is over: longer than the most patient call.
const CALM: Duration = PATIENCE.saturating_add(Duration::from_secs(2));

/// Interval between two looks at the state of a round.
const LOOK: Duration = Duration::from_millis(100);

/// A thread that wakes up later than this was not run by the machine.
const STALL: Duration = Duration::from_millis(50);

/// The campaign: what runs, and what its callers have seen.
pub(super) struct Campaign {
    pub(super) world: World,
    random: Mutex<SmallRng>,
    is_over: AtomicBool,
    /// True while a fault explains calls without a credential.
    costs_credentials: AtomicBool,
    /// Record ids of leads that were acknowledged, by name.
    acknowledged: Mutex<HashMap<String, String>>,
    /// Record ids of the same leads, so that reads choose one.
    ids: Mutex<Vec<String>>,
    /// Writes without a result.
    open: Mutex<BTreeMap<String, OpenWrite>>,
    last_failure: Mutex<Trouble>,
    violations: Mutex<Vec<String>>,
    calls: AtomicUsize,
    errors: AtomicUsize,
}

/// A write without a result.
#[derive(Debug, Clone)]
struct OpenWrite {
    /// Time of its first call.
    since: Instant,
    /// Failures of its calls, with the time that each took.
    failures: Vec<(String, Duration)>,
}

/// The last failure of a patient call, by the time at which it began, or the last write that was open at
/// the end of the faults, by its end.
#[derive(Debug)]
struct Trouble {
    at: Instant,
    what: String,
}

/// Measures the time in which the machine does not run this process.
struct StallMeter {
    stalled_ms: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

// === impl StallMeter ===

impl StallMeter {
    fn start() -> Self {
        let (stalled_ms, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let meter = Self { stalled_ms: Arc::clone(&stalled_ms), is_over: Arc::clone(&is_over) };
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let before = std::time::Instant::now();
                thread::sleep(STALL / 5);
                let late = before.elapsed().saturating_sub(STALL);
                let late = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
                stalled_ms.fetch_add(late, Ordering::Relaxed);
            }
        });
        meter
    }

    fn total(&self) -> Duration {
        Duration::from_millis(self.stalled_ms.load(Ordering::Relaxed))
    }
}

impl Drop for StallMeter {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

// === impl Campaign ===

impl Campaign {
    async fn start(seed: u64) -> Self {
        Self {
            world: World::start().await,
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
            is_over: AtomicBool::new(false),
            costs_credentials: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            ids: Mutex::default(),
            open: Mutex::default(),
            last_failure: Mutex::new(Trouble { at: Instant::now(), what: String::new() }),
            violations: Mutex::default(),
            calls: AtomicUsize::new(0),
            errors: AtomicUsize::new(0),
        }
    }

    /// A random number below `end`.
    pub(super) fn below(&self, end: usize) -> usize {
        self.random.lock().random_range(0..end)
    }

    /// A random number of milliseconds.
    pub(super) fn time(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.lock().random_range(from..to))
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(super) fn costs_credentials(&self) -> bool {
        self.costs_credentials.load(Ordering::Relaxed)
    }

    pub(super) fn report(&self, violation: String) {
        println!("VIOLATION {violation}");
        self.violations.lock().push(violation);
    }

    pub(super) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that a patient call that began at this time failed, or that a write took until then.
    pub(super) fn trouble(&self, at: Instant, what: String) {
        let mut last = self.last_failure.lock();
        if at >= last.at {
            *last = Trouble { at, what };
        }
    }

    /// Records a write of which the first call begins.
    pub(super) fn opened(&self, name: &str) {
        let open = OpenWrite { since: Instant::now(), failures: Vec::new() };
        self.open.lock().insert(name.to_owned(), open);
    }

    /// Records that a call of an open write failed.
    pub(super) fn failed_once(&self, name: &str, why: String, took: Duration) {
        if let Some(open) = self.open.lock().get_mut(name) {
            open.failures.push((why, took));
        }
    }

    /// Records that a write has its result.
    pub(super) fn closed(&self, name: &str) {
        self.open.lock().remove(name);
    }

    pub(super) fn acknowledge(&self, name: &str, id: &str) {
        match self.acknowledged.lock().insert(name.to_owned(), id.to_owned()) {
            None => self.ids.lock().push(id.to_owned()),
            Some(known) if known == id => {}
            Some(known) => self.report(format!("{name}: acknowledged as {known} and as {id}")),
        }
    }

    /// Record id of some lead that was acknowledged.
    pub(super) fn any_acknowledged(&self) -> Option<String> {
        let ids = self.ids.lock();
        let index = if ids.is_empty() { return None } else { self.below(ids.len()) };
        ids.get(index).cloned()
    }

    /// Record ids of all leads that were acknowledged.
    pub(super) fn acknowledged_ids(&self) -> Vec<String> {
        self.ids.lock().clone()
    }

    /// Runs one round.
    async fn round(&self, round: &Round, stalls: &StallMeter) {
        self.costs_credentials.store(round.costs_credentials(), Ordering::Relaxed);
        round.run(&self.world).await;
        let (ended, stalled) = (Instant::now(), stalls.total());
        loop {
            sleep(LOOK).await;
            for (name, open) in self.open.lock().iter().filter(|(_, open)| open.since <= ended) {
                self.trouble(Instant::now(), format!("{name}: {:?}", open.failures));
            }
            let Trouble { at, what } = &*self.last_failure.lock();
            let recovery = at.saturating_duration_since(ended);
            if recovery > RECOVERY + (stalls.total() - stalled) {
                self.report(format!("no recovery within {recovery:?}: {what}"));
                return;
            }
            if at.max(&ended).elapsed() >= CALM {
                println!("  recovered after {recovery:?} from {what}");
                return;
            }
        }
    }

    /// Runs rounds for this time, and then the checks of the end.
    async fn run_rounds(&self, seed: u64, time: Duration) {
        let (stalls, begin) = (StallMeter::start(), Instant::now());
        let mut random = SmallRng::seed_from_u64(seed);
        eventually("calls succeed", async || !self.acknowledged.lock().is_empty()).await;
        let mut first_usage = None;
        while begin.elapsed() < time && self.violations.lock().is_empty() {
            let is_first = first_usage.is_none();
            let draw = if is_first { Round::draw_all } else { Round::draw_some };
            let round = draw(&mut random);
            println!("{round}");
            self.round(&round, &stalls).await;
            let usage = Usage::read(&self.world.replica(0)).await.expect("metrics");
            println!("  {usage:?}, stalled {:?}", stalls.total());
            let first = *first_usage.get_or_insert(usage);
            if !usage.is_flat(&first) {
                self.report(format!("{usage:?} grew from {first:?}"));
            }
        }
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Checks what HubSpot holds in the end.
    fn check_leads(&self) {
        let mut by_name: HashMap<String, Vec<String>> = HashMap::new();
        for lead in self.world.hubspot.leads() {
            let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
            let name = text(&lead["properties"]["hs_lead_name"]);
            by_name.entry(name).or_default().push(text(&lead["id"]));
        }
        for (name, ids) in &by_name {
            if ids.len() > 1 && !name.contains("updates") {
                self.report(format!("{name}: created as {ids:?}"));
            }
        }
        for (name, id) in &*self.acknowledged.lock() {
            let stored = by_name.get(name);
            if stored.is_none_or(|ids| !ids.contains(id)) {
                self.report(format!("{name}: acknowledged as {id}, stored as {stored:?}"));
            }
        }
    }

    /// Checks that nothing is held once all calls have ended, and that each replica stops.
    async fn check_end(&self) {
        for index in 0..REPLICAS {
            let replica = self.world.replica(index);
            wait_ready(&replica.admin).await;
            eventually("nothing is held", async || held(&replica).await == Some(0.0)).await;
            replica.signal("TERM");
        }
        for index in 0..REPLICAS {
            let replica = self.world.replica(index);
            let log = replica.process.lock().lines();
            let leaks: Vec<_> = log.iter().filter(|line| line.contains(SECRET_MARKER)).collect();
            assert!(leaks.is_empty(), "secrets in the log: {leaks:#?}");
            let panics: Vec<_> = log.iter().filter(|line| line.contains("panicked")).collect();
            assert!(panics.is_empty(), "{panics:#?}");
        }
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one campaign.
async fn run(seed: u64, time: Duration) {
    println!("seed {seed}, {time:?}");
    let campaign = Campaign::start(seed).await;
    tokio::join!(campaign.run_rounds(seed, time), campaign.run_callers());
    campaign.check_end().await;
    campaign.check_leads();
    let leads = campaign.acknowledged.lock().len();
    let (calls, errors) = (&campaign.calls, &campaign.errors);
    let (calls, errors) = (calls.load(Ordering::Relaxed), errors.load(Ordering::Relaxed));
    println!("{leads} leads acknowledged, {calls} calls succeeded, {errors} failed");
    let violations = campaign.violations.lock();
    assert!(violations.is_empty(), "seed {seed}:\n{}", violations.join("\n"));
    assert!(calls as u64 > time.as_secs() && leads > 100, "{calls} calls, {leads} leads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server and libfaketime"]
async fn processes_survive_random_faults_of_all_peers_without_a_loss() {
    let seed = number("LEADSD_TEST_SEED").unwrap_or(SEED);
    let time = number("LEADSD_TEST_CAMPAIGN_SECONDS").unwrap_or(SECONDS);
    run(seed, Duration::from_secs(time)).await;
}

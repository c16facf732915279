//! One target's run: seeds until its time is up, with an eye on everything that panics meanwhile,
//! also in tasks whose panics nobody would see.

use std::{
    collections::VecDeque,
    future::Future,
    panic,
    sync::{Mutex, Once},
    time::{Duration, Instant},
};

use tokio::sync::MutexGuard;

use crate::{dice::Dice, world};

/// Targets there are: each has as much of the time.
const TARGETS: u32 = 7;

/// The time of all targets together, if nothing else is said.
const SECONDS: u64 = 7;

/// Longest that one input may keep the service busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A task may panic after its input was answered: so many are named.
const RECENT: usize = 8;

/// What panicked, in the whole process.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// One target at a time: else nobody could tell whose input it was.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A target's run.
pub(crate) struct Run {
    target: &'static str,
    until: Instant,
    next: u64,
    only: bool,
    recent: VecDeque<u64>,
    inputs: u64,
    panics_before: usize,
    since: Instant,
    _turn: MutexGuard<'static, ()>,
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            PANICS.lock().unwrap().push(panicked.to_string());
            before(panicked);
        }));
    });
}

// === impl Run ===

impl Run {
    /// Waits for its turn.
    pub(crate) async fn of(target: &'static str) -> Self {
        let turn = TURN.lock().await;
        Self::begun(target, turn)
    }

    /// The same outside a runtime.
    pub(crate) fn blocking(target: &'static str) -> Self {
        Self::begun(target, TURN.blocking_lock())
    }

    fn begun(target: &'static str, turn: MutexGuard<'static, ()>) -> Self {
        watch_panics();
        world::capture_logs();
        let (seconds, seed) = (setting("LEADSD_FUZZ_SECONDS"), setting("LEADSD_FUZZ_SEED"));
        // Long runs are for what is not known yet.
        let first = if seconds.is_some() { rand::random::<u64>() >> 16 } else { 0 };
        let time = Duration::from_secs(seconds.unwrap_or(SECONDS)) / TARGETS;
        Self {
            target,
            until: Instant::now() + time,
            next: seed.unwrap_or(first),
            only: seed.is_some(),
            recent: VecDeque::new(),
            inputs: 0,
            panics_before: PANICS.lock().unwrap().len(),
            since: Instant::now(),
            _turn: turn,
        }
    }

    /// The dice of the next input, until the time is up; fails if the inputs so far did harm.
    pub(crate) fn next(&mut self) -> Option<Dice> {
        self.check();
        let done = if self.only { self.inputs == 1 } else { Instant::now() >= self.until };
        if done {
            let took = self.since.elapsed().as_secs_f64();
            println!("{}: {} inputs in {took:.1} s", self.target, self.inputs);
            assert!(self.inputs > 0, "{}: nothing was tried", self.target);
            return None;
        }
        let seed = self.next;
        self.next = self.next.wrapping_add(1);
        self.inputs += 1;
        self.recent.push_back(seed);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        // A stack that overflows ends the process without a word.
        let last =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", self.target));
        std::fs::write(last, format!("{seed}\n")).expect("the seed is noted");
        Some(Dice::new(seed))
    }

    /// Which input it is, counted from zero.
    pub(crate) fn number(&self) -> u64 {
        self.inputs - 1
    }

    /// What is done with one input must come to an end.
    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = T>) -> T {
        let done = tokio::time::timeout(PATIENCE, work).await;
        done.unwrap_or_else(|_| panic!("{}", self.blame("hangs")))
    }

    /// Names the input in a failure.
    pub(crate) fn blame(&self, what: &str) -> String {
        let seed = self.recent.back().copied().unwrap_or_default();
        let target = self.target;
        format!("{target}, LEADSD_FUZZ_SEED={seed}: {what}")
    }

    fn check(&self) {
        // A copy: whoever panics with the list in hand waits for it for ever.
        let new = PANICS.lock().unwrap()[self.panics_before..].to_vec();
        assert!(
            new.is_empty(),
            "{}: one of the inputs with LEADSD_FUZZ_SEED of {:?} made something panic:\n{}",
            self.target,
            self.recent,
            new.join("\n")
        );
        let leaks = world::leaks();
        assert!(leaks.is_empty(), "{}\n{}", self.blame("a secret was logged"), leaks.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_task_that_nobody_waits_for_fails_the_run() {
    let run = Run::of("planted").await;
    let seen = tokio::spawn(async { panic!("planted") }).await;
    assert!(seen.is_err());
    let caught = panic::catch_unwind(panic::AssertUnwindSafe(|| run.check())).unwrap_err();
    let said = caught.downcast_ref::<String>().expect("a text");
    assert!(said.contains("made something panic") && said.contains("planted"), "{said}");
}

//! Run of one fuzz target: generates inputs until the time is up, and fails on any panic in the
//! process, including panics of detached tasks.

use std::{
    collections::VecDeque,
    future::Future,
    panic,
    sync::{Mutex, Once},
    time::{Duration, Instant},
};

use tokio::sync::MutexGuard;

use crate::{random::Random, setup};

/// Number of targets; they share the time equally.
const TARGETS: u32 = 7;

/// Default time of all targets together.
const SECONDS: u64 = 7;

/// Timeout for one input.
const PATIENCE: Duration = Duration::from_secs(30);

/// Number of recent seeds in a failure message: a task may panic after the response to its input.
const RECENT: usize = 8;

/// Panics of the whole process.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Lock that runs one target at a time, so that a panic belongs to a known target.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Run of one target.
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
    /// Waits for the lock and starts the run.
    pub(crate) async fn start(target: &'static str) -> Self {
        let turn = TURN.lock().await;
        Self::begin(target, turn)
    }

    /// Starts the run outside a runtime.
    pub(crate) fn blocking(target: &'static str) -> Self {
        Self::begin(target, TURN.blocking_lock())
    }

    fn begin(target: &'static str, turn: MutexGuard<'static, ()>) -> Self {
        watch_panics();
        setup::capture_logs();
        let (seconds, seed) = (setting("LEADSD_FUZZ_SECONDS"), setting("LEADSD_FUZZ_SEED"));
        // Long runs explore new seeds.
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

    /// Generator of the next input; `None` once the time is up. Panics if an earlier input caused a
    /// failure.
    pub(crate) fn next(&mut self) -> Option<Random> {
        self.check();
        let done = if self.only { self.inputs == 1 } else { Instant::now() >= self.until };
        if done {
            let took = self.since.elapsed().as_secs_f64();
            println!("{}: {} inputs in {took:.1} s", self.target, self.inputs);
            assert!(self.inputs > 0, "{}: no input ran", self.target);
            return None;
        }
        let seed = self.next;
        self.next = self.next.wrapping_add(1);
        self.inputs += 1;
        self.recent.push_back(seed);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        // Keeps the seed in a file, because a stack overflow ends the process without a message.
        let last =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", self.target));
        std::fs::write(last, format!("{seed}\n")).expect("the seed file is writable");
        Some(Random::new(seed))
    }

    /// Index of the current input, from zero.
    pub(crate) fn number(&self) -> u64 {
        self.inputs - 1
    }

    /// Runs the work for one input. Panics if it exceeds the timeout.
    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = T>) -> T {
        let done = tokio::time::timeout(PATIENCE, work).await;
        done.unwrap_or_else(|_| panic!("{}", self.failure("hangs")))
    }

    /// Failure message with target and seed.
    pub(crate) fn failure(&self, what: &str) -> String {
        let seed = self.recent.back().copied().unwrap_or_default();
        let target = self.target;
        format!("{target}, LEADSD_FUZZ_SEED={seed}: {what}")
    }

    fn check(&self) {
        // Copies the list: a panic while the lock is held would deadlock the panic hook.
        let new = PANICS.lock().unwrap()[self.panics_before..].to_vec();
        assert!(
            new.is_empty(),
            "{}: one of the inputs with LEADSD_FUZZ_SEED of {:?} caused a panic:\n{}",
            self.target,
            self.recent,
            new.join("\n")
        );
        let leaks = setup::leaked_lines();
        assert!(leaks.is_empty(), "{}\n{}", self.failure("a secret was logged"), leaks.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn panic_in_a_detached_task_fails_the_run() {
    let run = Run::start("planted").await;
    let seen = tokio::spawn(async { panic!("planted") }).await;
    assert!(seen.is_err());
    let caught = panic::catch_unwind(panic::AssertUnwindSafe(|| run.check())).unwrap_err();
    let said = caught.downcast_ref::<String>().expect("a text");
    assert!(said.contains("caused a panic") && said.contains("planted"), "{said}");
}

//! Something that is loaded from elsewhere and kept fresh: the old serves while loading fails.

use std::{collections::BTreeSet, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::{
    select,
    sync::{Notify, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{info, warn};

use leadsd_base::{supervise::Supervisor, task::Task};

/// First pause after a failure; it doubles.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Longest pause after a failure.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Longest that a call waits for something fresher: it gets its answer, even if the source hangs.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why what was loaded cannot be used. Says nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// What is loaded: raw form and the one that is used.
pub(super) type Loading<R> = Pin<Box<dyn Future<Output = Result<R, Unusable>> + Send>>;

/// Where it comes from and how often.
pub(super) struct Source<R, T> {
    /// Name in logs, metrics and readiness.
    pub(super) name: &'static str,
    /// Where, for logs.
    pub(super) from: String,
    /// How often to look.
    pub(super) interval: Duration,
    /// Longest one look may take.
    pub(super) timeout: Duration,
    /// Shortest time between two looks that calls ask for.
    pub(super) pause: Duration,
    pub(super) load: Box<dyn Fn() -> Loading<R> + Send + Sync>,
    /// Makes it usable, and says how many entries it has. Only asked when the raw form has changed.
    pub(super) parse: fn(&R) -> Result<(T, usize), Unusable>,
}

/// The newest that could be loaded.
pub(super) struct Fresh<T> {
    shared: Arc<Shared<T>>,
    _task: Task,
}

struct Shared<T> {
    name: &'static str,
    pause: Duration,
    value: ArcSwapOption<T>,
    state: Mutex<State>,
    poke: Notify,
    /// Looks that have ended.
    looks: watch::Sender<u64>,
    missing: watch::Sender<BTreeSet<&'static str>>,
}

#[derive(Debug, Default)]
struct State {
    begun: Option<Instant>,
    /// Whether a look is under way.
    looking: bool,
    /// Whether one is asked for.
    poked: bool,
    loaded: Option<Instant>,
    entries: usize,
    loads: u64,
    failures: u64,
    failed: bool,
}

/// How a source of trust is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its name, such as `jwks`.
    pub name: &'static str,
    /// Time since the last look that did not fail; `None` if none has succeeded.
    pub age: Option<Duration>,
    /// Keys or hashes in use.
    pub entries: usize,
    /// Looks that did not fail.
    pub loads: u64,
    /// Looks that failed.
    pub failures: u64,
}

// === impl Fresh ===

impl<T: Send + Sync + 'static> Fresh<T> {
    /// Starts to load; until it has, the source's name is among the missing.
    pub(super) fn start<R: PartialEq + Send + Sync + 'static>(
        source: Source<R, T>,
        missing: watch::Sender<BTreeSet<&'static str>>,
    ) -> Self {
        let shared = Arc::new(Shared {
            name: source.name,
            pause: source.pause,
            value: ArcSwapOption::empty(),
            state: Mutex::default(),
            poke: Notify::new(),
            looks: watch::Sender::new(0),
            missing,
        });
        shared.missing.send_modify(|missing| {
            missing.insert(source.name);
        });
        let source = Arc::new(source);
        let keeper = Arc::clone(&shared);
        let task = Supervisor::new("trust", source.name)
            .spawn(move || keep(Arc::clone(&keeper), Arc::clone(&source)));
        Self { shared, _task: task }
    }

    /// The newest; `None` if there is none yet.
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.shared.value.load_full()
    }

    /// Waits until somebody has looked again, unless that was a moment ago.
    pub(super) async fn look_again(&self, until: Instant) {
        let mut looks = self.shared.looks.subscribe();
        looks.mark_unchanged();
        let recent = |begun: Instant| begun.elapsed() < self.shared.pause;
        {
            let mut state = self.shared.state.lock();
            if !state.looking && !state.poked {
                if state.begun.is_some_and(recent) {
                    return;
                }
                state.poked = true;
                self.shared.poke.notify_one();
            }
        }
        let until = until.min(Instant::now() + PATIENCE);
        // In vain or not: the caller looks at what there is now.
        let _ = timeout_at(until, looks.changed()).await;
    }

    pub(super) fn status(&self) -> SourceStatus {
        let state = self.shared.state.lock();
        SourceStatus {
            name: self.shared.name,
            age: state.loaded.map(|loaded| loaded.elapsed()),
            entries: state.entries,
            loads: state.loads,
            failures: state.failures,
        }
    }
}

impl<T> fmt::Debug for Fresh<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// Looks for ever.
async fn keep<R: PartialEq, T>(shared: Arc<Shared<T>>, source: Arc<Source<R, T>>) {
    let mut last: Option<R> = None;
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        shared.begins(begun);
        let loaded = timeout(source.timeout, (source.load)()).await;
        let loaded = loaded.unwrap_or_else(|_| Err(Unusable("no answer in time".to_owned())));
        let taken = loaded.and_then(|raw| {
            if last.as_ref() != Some(&raw) {
                shared.publish((source.parse)(&raw)?, &source.from);
                last = Some(raw);
            }
            Ok(())
        });
        let pause = match taken {
            Ok(()) => {
                failures = 0;
                shared.succeeded(&source.from);
                source.interval.saturating_sub(begun.elapsed())
            }
            Err(error) => {
                shared.failed(&source.from, &error);
                let pause = FIRST_RETRY.saturating_mul(1 << failures.min(10)).min(MAX_RETRY);
                failures += 1;
                pause.min(source.interval)
            }
        };
        shared.state.lock().looking = false;
        shared.looks.send_modify(|looks| *looks += 1);
        select! {
            () = sleep(pause.mul_f64(1.0 - 0.2 * rand::random::<f64>())) => {}
            () = shared.poke.notified() => {}
        }
    }
}

// === impl Shared ===

impl<T> Shared<T> {
    fn begins(&self, now: Instant) {
        let mut state = self.state.lock();
        state.begun = Some(now);
        state.looking = true;
        state.poked = false;
    }

    fn publish(&self, (value, entries): (T, usize), from: &str) {
        info!(trust.source = self.name, trust.from = from, entries, "Trust loaded");
        self.state.lock().entries = entries;
        self.value.store(Some(Arc::new(value)));
        self.missing.send_if_modified(|missing| missing.remove(self.name));
    }

    fn succeeded(&self, from: &str) {
        let mut state = self.state.lock();
        state.loads += 1;
        state.loaded = Some(Instant::now());
        if std::mem::take(&mut state.failed) {
            info!(trust.source = self.name, trust.from = from, "Trust can be loaded again");
        }
    }

    /// Logged once, until it works again.
    fn failed(&self, from: &str, error: &Unusable) {
        let mut state = self.state.lock();
        state.failures += 1;
        if !std::mem::replace(&mut state.failed, true) {
            let serving = state.loaded.is_some();
            warn!(trust.source = self.name, trust.from = from, %error, serving, "Trust cannot be loaded; what is known serves on");
        }
    }
}

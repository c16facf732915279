//! A value that is loaded from a source again and again; the last one serves while loading fails.

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

/// First pause after a failed load; it doubles.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Longest pause after a failed load.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Maximum wait of a call for a newer value: it is answered even if the source hangs.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// Reason why a value could not be loaded. Contains nothing of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

/// A load in progress; its result is the raw form of the value.
pub(super) type Load<R> = Pin<Box<dyn Future<Output = Result<R, LoadError>> + Send>>;

/// Where a value comes from.
pub(super) struct Source<R, T> {
    /// Name in logs, metrics and readiness.
    pub(super) name: &'static str,
    /// Path or URL, for logs.
    pub(super) from: String,
    /// Interval between loads.
    pub(super) interval: Duration,
    /// Timeout for one load.
    pub(super) timeout: Duration,
    /// Minimum time between loads that calls ask for.
    pub(super) pause: Duration,
    pub(super) load: Box<dyn Fn() -> Load<R> + Send + Sync>,
    /// Parses the raw form; returns the value and the number of its entries. Called only if the raw
    /// form has changed.
    pub(super) parse: fn(&R) -> Result<(T, usize), LoadError>,
}

/// The newest value that could be loaded.
pub(super) struct RefreshingValue<T> {
    shared: Arc<Shared<T>>,
    _task: Task,
}

struct Shared<T> {
    name: &'static str,
    pause: Duration,
    value: ArcSwapOption<T>,
    state: Mutex<State>,
    refresh_requested: Notify,
    /// Loads that have ended.
    attempts: watch::Sender<u64>,
    missing: watch::Sender<BTreeSet<&'static str>>,
}

#[derive(Debug, Default)]
struct State {
    started: Option<Instant>,
    /// Whether a load is in progress.
    loading: bool,
    /// Whether a call has asked for one.
    requested: bool,
    loaded: Option<Instant>,
    entries: usize,
    loads: u64,
    failures: u64,
    failed: bool,
}

/// State of an auth source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its name, such as `jwks`.
    pub name: &'static str,
    /// Time since the last load that succeeded; `None` if none has.
    pub age: Option<Duration>,
    /// Keys or hashes in use.
    pub entries: usize,
    /// Loads that succeeded.
    pub loads: u64,
    /// Loads that failed.
    pub failures: u64,
}

// === impl RefreshingValue ===

impl<T: Send + Sync + 'static> RefreshingValue<T> {
    /// Starts to load. Until the first load has succeeded, the name of the source is in `missing`.
    pub(super) fn start<R: PartialEq + Send + Sync + 'static>(
        source: Source<R, T>,
        missing: watch::Sender<BTreeSet<&'static str>>,
    ) -> Self {
        let shared = Arc::new(Shared {
            name: source.name,
            pause: source.pause,
            value: ArcSwapOption::empty(),
            state: Mutex::default(),
            refresh_requested: Notify::new(),
            attempts: watch::Sender::new(0),
            missing,
        });
        shared.missing.send_modify(|missing| {
            missing.insert(source.name);
        });
        let source = Arc::new(source);
        let state = Arc::clone(&shared);
        let task = Supervisor::new("trust", source.name)
            .spawn(move || run(Arc::clone(&state), Arc::clone(&source)));
        Self { shared, _task: task }
    }

    /// The newest value; `None` if none was loaded yet.
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.shared.value.load_full()
    }

    /// Waits for the next load, unless the last one started within the minimum time between loads. Any
    /// number of calls share one load.
    pub(super) async fn refresh_if_stale(&self, until: Instant) {
        let mut attempts = self.shared.attempts.subscribe();
        attempts.mark_unchanged();
        let recent = |started: Instant| started.elapsed() < self.shared.pause;
        {
            let mut state = self.shared.state.lock();
            if !state.loading && !state.requested {
                if state.started.is_some_and(recent) {
                    return;
                }
                state.requested = true;
                self.shared.refresh_requested.notify_one();
            }
        }
        let until = until.min(Instant::now() + MAX_WAIT);
        // Whatever the outcome, the caller reads the value that is there now.
        let _ = timeout_at(until, attempts.changed()).await;
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

impl<T> fmt::Debug for RefreshingValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshingValue").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// Loads again and again; never returns.
async fn run<R: PartialEq, T>(shared: Arc<Shared<T>>, source: Arc<Source<R, T>>) {
    let mut last: Option<R> = None;
    let mut failures = 0;
    loop {
        let started = Instant::now();
        shared.start_attempt(started);
        let loaded = timeout(source.timeout, (source.load)()).await;
        let loaded = loaded.unwrap_or_else(|_| Err(LoadError("no answer in time".to_owned())));
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
                source.interval.saturating_sub(started.elapsed())
            }
            Err(error) => {
                shared.failed(&source.from, &error);
                let pause = FIRST_RETRY.saturating_mul(1 << failures.min(10)).min(MAX_RETRY);
                failures += 1;
                pause.min(source.interval)
            }
        };
        shared.state.lock().loading = false;
        shared.attempts.send_modify(|attempts| *attempts += 1);
        select! {
            () = sleep(pause.mul_f64(1.0 - 0.2 * rand::random::<f64>())) => {}
            () = shared.refresh_requested.notified() => {}
        }
    }
}

// === impl Shared ===

impl<T> Shared<T> {
    fn start_attempt(&self, now: Instant) {
        let mut state = self.state.lock();
        state.started = Some(now);
        state.loading = true;
        state.requested = false;
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

    /// Counts and logs a failed load; logs it once until a load succeeds.
    fn failed(&self, from: &str, error: &LoadError) {
        let mut state = self.state.lock();
        state.failures += 1;
        if !std::mem::replace(&mut state.failed, true) {
            let serving = state.loaded.is_some();
            warn!(trust.source = self.name, trust.from = from, %error, serving, "Trust cannot be loaded; what is known serves on");
        }
    }
}

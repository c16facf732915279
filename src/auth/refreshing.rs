//! Value that is loaded periodically from an auth source. While loading fails, the last value stays in
//! use.

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

/// Pause after the first failed load; it doubles with each failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Maximum pause after a failed load.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Maximum wait of a call for a newer value, so that calls complete even if the source hangs.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// Error of a load. Contains no part of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

/// Load in progress; returns the raw form of the value.
pub(super) type Load<R> = Pin<Box<dyn Future<Output = Result<R, LoadError>> + Send>>;

/// Source of a value.
pub(super) struct Source<R, T> {
    /// Name in logs, metrics and readiness.
    pub(super) name: &'static str,
    /// Path or URL, for logs.
    pub(super) location: String,
    /// Interval between loads.
    pub(super) interval: Duration,
    /// Timeout for one load.
    pub(super) timeout: Duration,
    /// Minimum time between loads that calls request.
    pub(super) min_interval: Duration,
    pub(super) load: Box<dyn Fn() -> Load<R> + Send + Sync>,
    /// Parses the raw form; returns the value and its number of entries. Called only if the raw form has
    /// changed.
    pub(super) parse: fn(&R) -> Result<(T, usize), LoadError>,
}

/// Handle to the last loaded value. The loading task ends on drop.
pub(super) struct RefreshingValue<T> {
    shared: Arc<SharedValue<T>>,
    _task: Task,
}

/// State shared with the loading task.
struct SharedValue<T> {
    name: &'static str,
    min_interval: Duration,
    value: ArcSwapOption<T>,
    state: Mutex<LoadState>,
    refresh_requested: Notify,
    /// Number of completed loads.
    attempts: watch::Sender<u64>,
    missing: watch::Sender<BTreeSet<&'static str>>,
}

/// Progress and counters of loads.
#[derive(Debug, Default)]
struct LoadState {
    started: Option<Instant>,
    /// True while a load is in progress.
    loading: bool,
    /// True if a call has requested a load.
    requested: bool,
    loaded: Option<Instant>,
    entries: usize,
    loads: u64,
    failures: u64,
    failed: bool,
}

/// Status of an auth source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceStatus {
    /// Name, such as `auth:jwks`.
    pub name: &'static str,
    /// Time since the last successful load; `None` if there was none.
    pub age: Option<Duration>,
    /// Number of keys or hashes in use.
    pub entries: usize,
    /// Number of successful loads.
    pub loads: u64,
    /// Number of failed loads.
    pub failures: u64,
}

// === impl RefreshingValue ===

impl<T: Send + Sync + 'static> RefreshingValue<T> {
    /// Starts loading. Until the first successful load, the name of the source is in `missing`.
    pub(super) fn start<R: PartialEq + Send + Sync + 'static>(
        source: Source<R, T>,
        missing: watch::Sender<BTreeSet<&'static str>>,
    ) -> Self {
        let shared = Arc::new(SharedValue {
            name: source.name,
            min_interval: source.min_interval,
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
        let task = Supervisor::new("auth-source", source.name)
            .spawn(move || run(Arc::clone(&state), Arc::clone(&source)));
        Self { shared, _task: task }
    }

    /// Last loaded value; `None` before the first successful load.
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.shared.value.load_full()
    }

    /// Requests a load and waits for it, unless the last load started within `min_interval`. Concurrent
    /// calls share one load.
    pub(super) async fn refresh_if_stale(&self, deadline: Instant) {
        let mut attempts = self.shared.attempts.subscribe();
        attempts.mark_unchanged();
        let recent = |started: Instant| started.elapsed() < self.shared.min_interval;
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
        let deadline = deadline.min(Instant::now() + MAX_WAIT);
        // The caller reads the current value after any outcome.
        let _ = timeout_at(deadline, attempts.changed()).await;
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

/// Loads periodically; never returns.
async fn run<R: PartialEq, T>(shared: Arc<SharedValue<T>>, source: Arc<Source<R, T>>) {
    let mut last: Option<R> = None;
    let mut failures = 0;
    loop {
        let started = Instant::now();
        shared.start_attempt(started);
        let loaded = timeout(source.timeout, (source.load)()).await;
        let loaded = loaded
            .unwrap_or_else(|_| Err(LoadError(format!("no response within {:?}", source.timeout))));
        let taken = loaded.and_then(|raw| {
            if last.as_ref() != Some(&raw) {
                shared.publish((source.parse)(&raw)?, &source.location);
                last = Some(raw);
            }
            Ok(())
        });
        let pause = match taken {
            Ok(()) => {
                failures = 0;
                shared.succeeded(&source.location);
                source.interval.saturating_sub(started.elapsed())
            }
            Err(error) => {
                shared.failed(&source.location, &error);
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

// === impl SharedValue ===

impl<T> SharedValue<T> {
    fn start_attempt(&self, now: Instant) {
        let mut state = self.state.lock();
        state.started = Some(now);
        state.loading = true;
        state.requested = false;
    }

    fn publish(&self, (value, entries): (T, usize), location: &str) {
        info!(auth.source = self.name, auth.location = location, entries, "Loaded auth source");
        self.state.lock().entries = entries;
        self.value.store(Some(Arc::new(value)));
        self.missing.send_if_modified(|missing| missing.remove(self.name));
    }

    fn succeeded(&self, location: &str) {
        let mut state = self.state.lock();
        state.loads += 1;
        state.loaded = Some(Instant::now());
        if std::mem::take(&mut state.failed) {
            info!(auth.source = self.name, auth.location = location, "Auth source recovered");
        }
    }

    /// Counts and logs a failed load; logs it once until a load succeeds.
    fn failed(&self, location: &str, error: &LoadError) {
        let mut state = self.state.lock();
        state.failures += 1;
        if !std::mem::replace(&mut state.failed, true) {
            let has_value = state.loaded.is_some();
            warn!(auth.source = self.name, auth.location = location, %error, has_value, "Loading an auth source failed; the last value stays in use");
        }
    }
}

//! Restarts background work that panicked: the one place for loops around a task.
//!
//! Work that must go on for as long as its owner lives runs under a [`Supervisor`]. A panic ends one
//! run, not the work: it is logged and counted, and after a pause the next run starts. The pause
//! doubles with each restart and falls back to its first value after a run that outlasted the
//! longest pause. Work that returns has ended by itself and is not restarted.
//!
//! State that must survive a panic belongs outside of the runs.
//!
//! ```
//! use leadsd_base::supervise::Supervisor;
//! use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread()
//! #     .enable_time().start_paused(true).build().unwrap();
//! # std::panic::set_hook(Box::new(|_| {}));
//! # runtime.block_on(async {
//! let runs = Arc::new(AtomicU32::new(0));
//! let counter = Arc::clone(&runs);
//! let task = Supervisor::new("example", "").spawn(move || {
//!     let counter = Arc::clone(&counter);
//!     async move {
//!         assert!(counter.fetch_add(1, Ordering::Relaxed) > 0, "the first run panics");
//!     }
//! });
//! task.ended().await;
//! assert_eq!(runs.load(Ordering::Relaxed), 2);
//! # });
//! ```

use std::{
    fmt,
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tracing::error;

use crate::task::{self, End, Task};

/// Pause before the first restart, by default.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause before a restart, by default: recovery within 30 s of the end of an outage.
const MAX_PAUSE: Duration = Duration::from_secs(20);

/// Restarts in this process since it started.
static RESTARTS: AtomicU64 = AtomicU64::new(0);

/// Settings of supervised work.
#[must_use = "a supervisor does nothing until it runs work"]
pub struct Supervisor {
    name: &'static str,
    owner: String,
    first_pause: Duration,
    max_pause: Duration,
    on_panic: Box<dyn FnMut() + Send>,
}

/// Number of restarts after a panic in this process, over all supervised work.
pub fn restarts() -> u64 {
    RESTARTS.load(Ordering::Relaxed)
}

// === impl Supervisor ===

impl Supervisor {
    /// A supervisor of work that is called `name` in logs and runs for `owner`, such as a portal.
    pub fn new(name: &'static str, owner: &str) -> Self {
        Self {
            name,
            owner: owner.to_owned(),
            first_pause: FIRST_PAUSE,
            max_pause: MAX_PAUSE,
            on_panic: Box::new(|| {}),
        }
    }

    /// Sets the pause before the first restart and the longest pause.
    pub fn with_pauses(self, first: Duration, max: Duration) -> Self {
        Self { first_pause: first, max_pause: max, ..self }
    }

    /// Sets a function that is called after each panic, before the pause.
    pub fn on_panic(self, on_panic: impl FnMut() + Send + 'static) -> Self {
        Self { on_panic: Box::new(on_panic), ..self }
    }

    /// Spawns [`Supervisor::run`] as a task. Dropping the task stops the work.
    pub fn spawn<F>(self, start: impl FnMut() -> F + Send + 'static) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        task::spawn_without_span(self.name, self.run(start))
    }

    /// Runs the work that `start` returns, again after each panic; returns once a run has ended by
    /// itself.
    pub async fn run<F>(mut self, mut start: impl FnMut() -> F + Send)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut pause = self.first_pause;
        loop {
            let started = Instant::now();
            let run = task::spawn(self.name, &self.owner, start());
            match run.join().await {
                End::Returned => return,
                End::Panicked => {}
            }
            RESTARTS.fetch_add(1, Ordering::Relaxed);
            (self.on_panic)();
            if started.elapsed() > self.max_pause {
                pause = self.first_pause;
            }
            error!(
                task.name = self.name,
                task.owner = self.owner,
                retry_in_s = pause.as_secs_f64(),
                "Restarting background task after a panic"
            );
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(self.max_pause);
        }
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("name", &self.name)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Seconds at which runs started.
    type Starts = Arc<Mutex<Vec<u64>>>;

    /// Work that notes when it starts, lives for `life`, and then panics unless `is_last`.
    async fn note(
        starts: Starts,
        since: Instant,
        life: impl Fn(usize) -> Duration,
        is_last: impl Fn(usize) -> bool,
    ) {
        let number = {
            let mut starts = starts.lock().unwrap();
            starts.push(since.elapsed().as_secs());
            starts.len()
        };
        sleep(life(number)).await;
        assert!(is_last(number), "run {number} panics");
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_their_bound_and_start_over_after_a_long_run() {
        let starts = Starts::default();
        let (noted, since) = (Arc::clone(&starts), Instant::now());
        let life = |number| if number == 4 { Duration::from_secs(30) } else { Duration::ZERO };
        Supervisor::new("test", "")
            .with_pauses(Duration::from_secs(2), Duration::from_secs(5))
            .run(move || note(Arc::clone(&noted), since, life, |number| number == 6))
            .await;
        // Pauses of 2, 4 and 5 s; 30 s of work; 2 s; 4 s.
        assert_eq!(*starts.lock().unwrap(), [0, 2, 6, 11, 43, 47]);
    }

    #[tokio::test(start_paused = true)]
    async fn panics_are_reported_and_counted_and_a_return_is_no_panic() {
        let before = restarts();
        let (starts, panics) = (Starts::default(), Arc::new(AtomicU64::new(0)));
        let (noted, counted) = (Arc::clone(&starts), Arc::clone(&panics));
        let task = Supervisor::new("test", "owner")
            .on_panic(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            })
            .spawn(move || {
                note(Arc::clone(&noted), Instant::now(), |_| Duration::ZERO, |number| number == 3)
            });
        task.ended().await;
        assert_eq!(panics.load(Ordering::Relaxed), 2);
        assert_eq!(starts.lock().unwrap().len(), 3);
        assert!(restarts() >= before + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_task_stops_the_work() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let task = Supervisor::new("test", "").spawn(move || {
            let held = Arc::clone(&held);
            async move {
                let _held = held;
                std::future::pending::<()>().await;
            }
        });
        sleep(Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&alive), 3);
        drop(task);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

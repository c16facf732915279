//! Background tasks: each has a name, a span and an owner, and a panic in one is logged instead of
//! lost. Work that must go on after a panic runs under [`crate::supervise`].

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::{Instrument as _, error, info_span};

/// A running background task; dropping it stops the task at its next `.await`.
#[derive(Debug)]
#[must_use = "dropping a task stops it"]
pub struct Task {
    name: &'static str,
    /// `None` once the task was detached.
    handle: Option<JoinHandle<()>>,
}

/// Outcome of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The work returned, or the runtime shut down.
    Returned,
    /// The work panicked.
    Panicked,
}

// === impl Task ===

impl Task {
    /// Waits until the task has ended; logs a panic.
    pub async fn join(mut self) -> End {
        if let Some(handle) = self.handle.as_mut()
            && let Err(error) = handle.await
            && error.is_panic()
        {
            error!(task.name = self.name, "Background task panicked");
            return End::Panicked;
        }
        End::Returned
    }

    /// Waits until the task has ended, by itself or by a panic.
    pub async fn ended(self) {
        let (End::Returned | End::Panicked) = self.join().await;
    }

    /// True if the task has ended, by itself or by a panic.
    pub fn is_ended(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Lets the task run without an owner. For work that must be finished once it has begun, such as
    /// a write that was sent.
    pub fn detach(mut self) {
        self.handle = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }
}

/// Starts `work` as a task called `name` in logs. `owner` names its purpose, such as a portal.
pub fn spawn(
    name: &'static str,
    owner: &str,
    work: impl Future<Output = ()> + Send + 'static,
) -> Task {
    let span = info_span!("task", task.name = name, task.owner = owner);
    spawn_without_span(name, work.instrument(span))
}

/// Starts `work` that starts tasks with the same name: their lines would have the span twice.
pub(crate) fn spawn_without_span(
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) -> Task {
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    let handle = tokio::spawn(work);
    Task { name, handle: Some(handle) }
}

//! Background tasks: each has a name, a span and an owner, and a panic in one is logged instead of
//! lost.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::{Instrument as _, error, info_span};

/// A running background task; dropping it stops the task at its next `.await`.
#[derive(Debug)]
#[must_use = "dropping a task stops it"]
pub struct Task {
    name: &'static str,
    /// Empty once the task was let go.
    handle: Option<JoinHandle<()>>,
}

// === impl Task ===

impl Task {
    /// Waits until the task has ended by itself.
    pub async fn ended(mut self) {
        if let Some(handle) = self.handle.as_mut()
            && let Err(error) = handle.await
            && error.is_panic()
        {
            error!(task.name = self.name, "Background task panicked");
        }
    }

    /// Whether the task has ended, by itself or by a panic.
    pub fn is_ended(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Lets the task run on without an owner. For work that must be finished once begun, such as a
    /// write that has been sent.
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

/// Starts `work` as a task named `name`. `owner` says for whom it runs, such as a portal.
pub fn spawn(
    name: &'static str,
    owner: &str,
    work: impl Future<Output = ()> + Send + 'static,
) -> Task {
    let span = info_span!("task", task.name = name, task.owner = owner);
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    let handle = tokio::spawn(work.instrument(span));
    Task { name, handle: Some(handle) }
}

//! Statistics of writes that wait for an earlier write to the same lead.
//!
//! Such a write waits before it is queued for a permit. The layer that orders writes counts them here, so
//! that a snapshot of the account shows both queues.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counters of one portal's write queue.
#[derive(Debug, Default)]
pub struct WriteQueueStats {
    waiting: AtomicUsize,
    deadline: AtomicU64,
    queue_full: AtomicU64,
}

/// Values of [`WriteQueueStats`] at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteQueueSnapshot {
    /// Writes that wait.
    pub waiting: usize,
    /// Writes rejected because they would start after their deadline.
    pub deadline: u64,
    /// Writes rejected because too many writes wait.
    pub queue_full: u64,
}

// === impl WriteQueueStats ===

impl WriteQueueStats {
    /// Sets how many writes wait.
    pub fn set_waiting(&self, writes: usize) {
        self.waiting.store(writes, Ordering::Relaxed);
    }

    /// Counts a write that was rejected because it would start after its deadline.
    pub fn count_deadline(&self) {
        self.deadline.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a write that was rejected because too many writes wait.
    pub fn count_queue_full(&self) {
        self.queue_full.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn snapshot(&self) -> WriteQueueSnapshot {
        WriteQueueSnapshot {
            waiting: self.waiting.load(Ordering::Relaxed),
            deadline: self.deadline.load(Ordering::Relaxed),
            queue_full: self.queue_full.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests;

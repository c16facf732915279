//! Counts failed accepts and limits their log lines: without free file descriptors, every accept fails until
//! a connection closes.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Minimum time between two log lines. Longer than most peaks, shorter than the patience of an operator.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Failed accepts of a listener.
#[derive(Debug, Default)]
pub(super) struct AcceptErrors {
    total: AtomicU64,
    unlogged: Mutex<Unlogged>,
}

#[derive(Debug, Default)]
struct Unlogged {
    errors: u64,
    /// Time of the last log line; `None` before the first.
    logged: Option<Instant>,
}

// === impl AcceptErrors ===

impl AcceptErrors {
    /// Counts an error. Returns the number of errors since the last log line if one is due.
    pub(super) fn count(&self) -> Option<u64> {
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut unlogged = self.unlogged.lock();
        unlogged.errors += 1;
        if unlogged.logged.is_some_and(|logged| logged.elapsed() < LOG_INTERVAL) {
            return None;
        }
        unlogged.logged = Some(Instant::now());
        Some(std::mem::take(&mut unlogged.errors))
    }

    /// Number of errors.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_error_is_logged_and_then_one_line_a_minute_with_the_number() {
        let errors = AcceptErrors::default();
        assert_eq!(errors.count(), Some(1));
        let mut lines = Vec::new();
        for _ in 0..1_205 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            lines.extend(errors.count());
        }
        assert_eq!(lines, [600, 600]);
        assert_eq!(errors.total(), 1_206);
    }
}

//! Gates that hold responses until a test opens them, so that tests control order without a clock.

use std::sync::Arc;

use tokio::sync::watch;

/// Holds responses until it is opened. Clones share one gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

// === impl Gate ===

impl Gate {
    /// Creates a closed gate.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Releases all present and future waiters.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the gate is open.
    pub async fn passed(&self) {
        let mut state = self.0.subscribe();
        // The sender lives as long as this gate, so `wait_for` cannot fail.
        let _ = state.wait_for(|open| *open).await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

//! The time at which the response of a call must have been sent. `stream_executor` enforces it.

use std::{sync::OnceLock, time::Duration};

use tokio::time::Instant;

/// Time after the deadline of a call in which its response may still be sent. By then the client has
/// given up.
pub(super) const SEND_GRACE: Duration = Duration::from_secs(1);

/// Calls whose deadline is further away than this have none: their stream lasts as long as its
/// connection.
pub(super) const NO_DEADLINE: Duration = Duration::from_secs(86_400);

/// When a response must have been sent.
#[derive(Debug, Default)]
pub(crate) struct SendDeadline(OnceLock<Instant>);

// === impl SendDeadline ===

impl SendDeadline {
    /// Starts the time limit of a response whose call has this deadline.
    pub(crate) fn start(&self, deadline: Instant) {
        if deadline.saturating_duration_since(Instant::now()) < NO_DEADLINE {
            // A call has one response.
            let _ = self.0.set(deadline + SEND_GRACE);
        }
    }

    pub(crate) fn get(&self) -> Option<Instant> {
        self.0.get().copied()
    }
}

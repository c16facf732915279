//! Deadline for sending the response of a call, enforced by `stream_executor`.

use std::{sync::OnceLock, time::Duration};

use tokio::time::Instant;

/// Time after the deadline of a call for sending its response; then the client has given up.
pub(super) const SEND_GRACE: Duration = Duration::from_secs(1);

/// Timeout from which a call has no send deadline: its stream may last as long as its connection.
pub(super) const NO_DEADLINE: Duration = Duration::from_secs(86_400);

/// Deadline for sending a response; unset before the response starts.
#[derive(Debug, Default)]
pub(crate) struct SendDeadline(OnceLock<Instant>);

// === impl SendDeadline ===

impl SendDeadline {
    /// Sets the send deadline from the deadline of the call.
    pub(crate) fn start(&self, deadline: Instant) {
        if deadline.saturating_duration_since(Instant::now()) < NO_DEADLINE {
            // A call has one response, so this is set once.
            let _ = self.0.set(deadline + SEND_GRACE);
        }
    }

    pub(crate) fn get(&self) -> Option<Instant> {
        self.0.get().copied()
    }
}

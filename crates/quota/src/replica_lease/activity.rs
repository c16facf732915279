//! Last use of a limit by a replica, and the time of the next heartbeat to the ledger.

use std::time::Duration;

use tokio::time::Instant;

/// A spare permit is kept for this long after a call: callers with one call a second or more find it.
const BUSY_TIME: Duration = Duration::from_secs(1);

/// Interval between exchanges without news: a third of the time after which a replica counts as silent.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(300);

/// Without a call for this long, a replica leaves the limit to the others: three windows.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// Use of one limit.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Last exchange. `None` if the next one is due at once.
    pub(super) exchanged: Option<Instant>,
    /// Last slot.
    pub(super) taken: Option<Instant>,
    /// Last time a request waited. Without it a replica whose requests all time out would leave before
    /// its first permit.
    pub(super) wanted: Option<Instant>,
    /// True if the ledger counts this replica as a user of the limit.
    pub(super) is_member: bool,
}

// === impl Activity ===

impl Activity {
    /// True if the limit is in use.
    pub(super) fn is_active(&self, demand: usize, now: Instant) -> bool {
        demand > 0 || self.taken.max(self.wanted).is_some_and(|last| now < last + IDLE_TIME)
    }

    /// True if another call can be expected soon.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.taken.is_some_and(|taken| now < taken + BUSY_TIME)
    }

    /// Time at which the next exchange is due without an event.
    pub(super) fn heartbeat(&self, now: Instant) -> Instant {
        self.exchanged.map_or(now, |exchanged| exchanged + HEARTBEAT)
    }

    /// Records that the replica stops using the limit.
    pub(super) fn stop(&mut self) {
        (self.taken, self.wanted) = (None, None);
    }
}

#[cfg(test)]
mod tests;

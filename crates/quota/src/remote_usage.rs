//! Calls of other replicas and other clients in a window that replicas share.
//!
//! While the ledger grants permits, these calls are in its numbers. The last report is kept here for
//! the time without the ledger.

use std::time::Duration;

use tokio::time::Instant;

use crate::ledger::TENTHS;

/// Calls of others in a window, as known at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemoteUsage {
    known_at: Instant,
    calls: RemoteCalls,
}

#[derive(Debug, Clone, Copy)]
enum RemoteCalls {
    /// The times at which they leave the window are unknown; they are assumed to leave it evenly.
    Even(u64),
    /// Calls that leave it in each tenth of the window.
    Tenths([u64; TENTHS]),
}

// === impl RemoteUsage ===

impl RemoteUsage {
    /// This many calls of other clients, as HubSpot counted.
    pub(crate) fn counted(calls: u64, now: Instant) -> Self {
        Self { known_at: now, calls: RemoteCalls::Even(calls) }
    }

    /// Calls that leave the window in each tenth of it, by the ledger.
    pub(crate) fn reported(tenths: [u64; TENTHS], now: Instant) -> Self {
        Self { known_at: now, calls: RemoteCalls::Tenths(tenths) }
    }

    /// Calls that are still in a window of this length.
    pub(crate) fn in_window(&self, length: Duration, now: Instant) -> u64 {
        let length = length.as_millis().max(1);
        let since = now.saturating_duration_since(self.known_at).as_millis();
        match self.calls {
            RemoteCalls::Even(calls) => {
                let left = u128::from(calls) * length.saturating_sub(since) / length;
                u64::try_from(left).unwrap_or(calls)
            }
            RemoteCalls::Tenths(tenths) => {
                let over = usize::try_from(since * TENTHS as u128 / length).unwrap_or(TENTHS);
                tenths.iter().skip(over).sum()
            }
        }
    }

    /// Adds the possible calls of other replicas since the ledger's last report, and within `more` time:
    /// the whole limit of `size` calls in a window of `length`, and one for each replica, because
    /// tenths are rounded.
    pub(crate) fn add_unreported(
        &mut self,
        size: u64,
        length: Duration,
        replicas: u32,
        more: Duration,
        now: Instant,
    ) {
        let RemoteCalls::Tenths(tenths) = &mut self.calls else { return };
        let since = (now.saturating_duration_since(self.known_at) + more).as_millis();
        let calls = u128::from(size) * since / length.as_millis().max(1);
        tenths[TENTHS - 1] += u64::try_from(calls).unwrap_or(size) + u64::from(replicas);
    }
}

#[cfg(test)]
mod tests;

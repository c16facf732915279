//! Offset between the ledger's clock and the local one.
//!
//! The ledger reads its clock between a request and its response. Each exchange narrows the offset down,
//! the fastest one most, so that delays of single exchanges do not matter.

use std::time::Duration;

use tokio::time::Instant;

use crate::ledger::LedgerInstant;

/// Maximum drift between two clocks: one part in ten thousand, more than quartz clocks have. Bounds that
/// were learned widen by it.
const DRIFT: u32 = 10_000;

/// Bounds of the ledger's time at the local time `origin`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockOffset {
    origin: Instant,
    earliest: LedgerInstant,
    latest: LedgerInstant,
    learned: Instant,
}

// === impl ClockOffset ===

impl ClockOffset {
    /// Bounds by one exchange that was sent at `since`, read the ledger's clock as `stamp`, and ended at
    /// `now`.
    pub(crate) fn new(since: Instant, stamp: LedgerInstant, now: Instant) -> Self {
        let took = micros(now.saturating_duration_since(since));
        Self { origin: since, earliest: stamp - took, latest: stamp, learned: now }
    }

    /// Bounds narrowed by another exchange. If a clock was set, only this exchange counts.
    pub(crate) fn refined(self, since: Instant, stamp: LedgerInstant, now: Instant) -> Self {
        let blur = micros(now.saturating_duration_since(self.learned) / DRIFT);
        let earliest = stamp - micros(now.saturating_duration_since(self.origin));
        let latest = stamp - micros(since.saturating_duration_since(self.origin));
        let earliest = earliest.max(self.earliest - blur);
        let latest = latest.min(self.latest + blur);
        if earliest <= latest {
            Self { origin: self.origin, earliest, latest, learned: now }
        } else {
            Self::new(since, stamp, now)
        }
    }

    /// Converts local to ledger time, rounding late.
    pub(crate) fn to_ledger(self, local: Instant) -> LedgerInstant {
        let after = micros(local.saturating_duration_since(self.origin));
        let before = micros(self.origin.saturating_duration_since(local));
        self.latest + after - before
    }

    /// Converts ledger to local time, rounding late.
    pub(crate) fn to_local(self, ledger: LedgerInstant) -> Instant {
        let after = ledger.saturating_sub(self.earliest);
        match u64::try_from(after) {
            Ok(after) => self.origin + Duration::from_micros(after),
            Err(_) => {
                let before = Duration::from_micros(after.unsigned_abs());
                self.origin.checked_sub(before).unwrap_or(self.origin)
            }
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

//! Permits that the ledger has granted and no request has used yet.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Shortest estimate of a wait. A permit that is not in stock is not there now, however soon it comes.
pub(crate) const ALMOST_NOW: Duration = Duration::from_micros(1);

/// A permit in stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeasedPermit {
    /// Number of the permit in the ledger.
    pub(super) number: u64,
    /// Time at which it becomes valid.
    pub(super) from: Instant,
    /// Time at which it is returned unused.
    pub(super) until: Instant,
}

/// Permits in order of their validity, and the estimate for the next one.
#[derive(Debug)]
pub(super) struct Stock {
    permits: VecDeque<LeasedPermit>,
    /// Time at which the ledger could grant one more, by its last response.
    next: Instant,
}

// === impl Stock ===

impl Stock {
    pub(super) fn new(now: Instant) -> Self {
        Self { permits: VecDeque::new(), next: now }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.permits.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.permits.len()
    }

    /// True if the last permit becomes valid later. Then the ledger has none for now.
    pub(super) fn ends_later(&self, now: Instant) -> bool {
        self.permits.back().is_some_and(|last| last.from > now)
    }

    /// Time at which the first permit is returned unused.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.permits.front().map(|leased| leased.until)
    }

    /// Estimated time of the permit after `ahead` others, with one more in each `gap`.
    pub(super) fn opens(&self, ahead: usize, gap: Duration, now: Instant) -> Instant {
        if let Some(leased) = self.permits.get(ahead) {
            return leased.from.max(now);
        }
        let beyond = u32::try_from(ahead - self.permits.len()).unwrap_or(u32::MAX);
        let last = self.permits.back();
        let next = last.map_or(self.next, |last| self.next.max(last.from + gap));
        next.max(now + ALMOST_NOW) + gap.saturating_mul(beyond)
    }

    pub(super) fn set_next(&mut self, next: Instant) {
        self.next = next;
    }

    pub(super) fn push(&mut self, leased: LeasedPermit) {
        self.permits.push_back(leased);
    }

    /// Number of the permit that is used now.
    pub(super) fn pop(&mut self) -> Option<u64> {
        self.permits.pop_front().map(|leased| leased.number)
    }

    /// Number of a permit that was kept for too long.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<u64> {
        self.permits.pop_front_if(|leased| leased.until <= now).map(|leased| leased.number)
    }

    /// Numbers of all permits.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = u64> {
        self.permits.drain(..).map(|leased| leased.number)
    }
}

#[cfg(test)]
mod tests;

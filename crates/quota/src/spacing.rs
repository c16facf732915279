//! Even spacing of slots: while several callers wait, each slot is due one gap after the one before. A second's
//! permits would otherwise all go at its beginning, to the requests that wait just then.

use std::time::Duration;

use tokio::time::Instant;

/// Duration for which a batch keeps the spacing on: the shorter window of a bucket. Each batch then
/// takes as many queued requests as possible.
const AFTER_BATCH: Duration = Duration::from_secs(1);

/// Lateness that later slots make up for, or half a gap if that is more. Timers are a millisecond exact,
/// which is many gaps of a large limit.
const CATCH_UP: Duration = Duration::from_millis(25);

/// Schedule of evenly spaced slots.
#[derive(Debug, Default)]
pub(crate) struct Spacing {
    /// Due time of the newest slot.
    due: Option<Instant>,
    /// Time until which a batch keeps the spacing on.
    on_until: Option<Instant>,
}

// === impl Spacing ===

impl Spacing {
    /// True if a batch keeps the spacing on.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        self.on_until.is_some_and(|until| now < until)
    }

    /// Due time of the slot after `ahead` others.
    pub(crate) fn due(&self, ahead: usize, gap: Duration) -> Option<Instant> {
        let gaps = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
        self.due.map(|due| due + gap.saturating_mul(gaps))
    }

    /// Records that a slot was not used: the next one is due in its place.
    pub(crate) fn release(&mut self, gap: Duration) {
        self.due = self.due.and_then(|due| due.checked_sub(gap));
    }

    /// Records that a slot is acquired for this many requests.
    pub(crate) fn take(&mut self, requests: usize, gap: Duration, now: Instant) {
        // Lateness would add up.
        let earliest = now.checked_sub(CATCH_UP.max(gap / 2)).unwrap_or(now);
        let planned = self.due.map(|due| due + gap).filter(|planned| *planned > earliest);
        self.due = Some(planned.unwrap_or(now).min(now));
        if requests > 1 {
            self.on_until = Some(now + AFTER_BATCH);
        }
    }
}

#[cfg(test)]
mod tests;

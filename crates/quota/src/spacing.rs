//! Even spacing of slots: while it is on, each slot is due one gap after the one before.

use std::time::Duration;

use tokio::time::Instant;

/// How long a batch keeps the spacing on: the shorter window of a bucket. Each batch then takes as many
/// queued requests as possible.
const AFTER_BATCH: Duration = Duration::from_secs(1);

/// When slots are due.
#[derive(Debug, Default)]
pub(crate) struct Spacing {
    /// When the newest slot was due.
    due: Option<Instant>,
    /// Until when a batch keeps the spacing on.
    on_until: Option<Instant>,
}

// === impl Spacing ===

impl Spacing {
    /// Whether a batch keeps the spacing on.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        self.on_until.is_some_and(|until| now < until)
    }

    /// When the slot after `ahead` others is due.
    pub(crate) fn due(&self, ahead: usize, gap: Duration) -> Option<Instant> {
        let gaps = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
        self.due.map(|due| due + gap.saturating_mul(gaps))
    }

    /// A slot is taken for so many requests.
    pub(crate) fn take(&mut self, requests: usize, gap: Duration, now: Instant) {
        // Lateness of less than half a gap is made up for; else it would add up.
        let planned = self.due.map(|due| due + gap).filter(|planned| *planned + gap / 2 > now);
        self.due = Some(planned.unwrap_or(now).min(now));
        if requests > 1 {
            self.on_until = Some(now + AFTER_BATCH);
        }
    }
}

#[cfg(test)]
mod tests;

//! Jitter for the retries of rejected requests: requests that were rejected together must not come back
//! together.

use std::time::Duration;

use tokio::time::Instant;

/// Maximum spread: the documented window of HubSpot.
const MAX_SPREAD: Duration = Duration::from_secs(10);

/// Requests that were rejected and have not come back yet, as the time until which they would take all
/// permits.
#[derive(Debug, Default)]
pub(crate) struct RetrySpread {
    busy_until: Option<Instant>,
}

// === impl RetrySpread ===

impl RetrySpread {
    /// Records a rejection, and returns its part of the time in which those before it come back, with one
    /// permit in each `gap`. `random` is that part, in 0..1.
    pub(crate) fn jitter(&mut self, gap: Duration, random: f64, now: Instant) -> Duration {
        let spread = self.busy_until.map_or(Duration::ZERO, |busy| busy - now.min(busy));
        self.busy_until = Some(now + (spread + gap).min(MAX_SPREAD));
        spread.mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests;

//! Time that HubSpot usually takes to respond. A permit is wasted on a request whose deadline leaves less
//! time than that.

use std::time::Duration;

use tokio::time::Instant;

/// Time after the last response for which the estimate holds. A request with little time is then sent
/// again, so that the estimate does not outlive its reason.
const FRESH: Duration = Duration::from_secs(1);

/// Steps of the estimate, in parts of it: it settles where three of four responses take longer.
const DOWN: u32 = 21;
const UP: u32 = 64;

/// Base of the smallest step up, so that an estimate of zero grows.
const MIN_STEP: Duration = Duration::from_millis(10);

/// Latency of the quicker responses.
#[derive(Debug, Default)]
pub(crate) struct UsualLatency {
    /// Lower quartile.
    quartile: Duration,
    latest: Option<(Instant, Duration)>,
}

// === impl UsualLatency ===

impl UsualLatency {
    /// Records that a response came now, this long after its request.
    pub(crate) fn observe(&mut self, latency: Duration, now: Instant) {
        self.quartile = match self.latest {
            None => latency,
            Some(_) if latency < self.quartile => self.quartile - self.quartile / DOWN,
            Some(_) => (self.quartile + self.quartile.max(MIN_STEP) / UP).min(latency),
        };
        self.latest = Some((now, latency));
    }

    /// Lower estimate of the latency of a request that is sent now. A single slow response does not
    /// predict later ones, and without a recent response nothing does.
    pub(crate) fn estimate(&self, now: Instant) -> Duration {
        let recent = self.latest.filter(|(at, _)| now < *at + FRESH);
        recent.map_or(Duration::ZERO, |(_, latest)| latest.min(self.quartile))
    }
}

#[cfg(test)]
mod tests;

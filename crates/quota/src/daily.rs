//! The daily limit. HubSpot resets it at midnight in the account's time zone.

use std::time::Duration;

use leadsd_base::time::{Timestamp, Zone};

/// Interval between probes while the limit is exhausted. The time zone may be configured wrong, or the
/// account may have got more calls.
const PROBE_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// Time after midnight in which responses may still be about the day before: clocks differ, and calls
/// are in flight.
const EARLY_TIME: Duration = Duration::from_secs(5 * 60);

/// Interval between probes in that time, short because the limit was probably just reset.
const EARLY_PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// The calls of one day. Without a size there is no limit, as for OAuth apps.
#[derive(Debug)]
pub(crate) struct Daily {
    zone: Zone,
    size: Option<u64>,
    used: u64,
    /// End of the day that `used` counts.
    ends: Option<Timestamp>,
    /// End of the early time of that day.
    early: Option<Timestamp>,
    /// True if HubSpot rejected a call for the daily limit.
    is_closed: bool,
    /// Time of the next probe, if the limit is exhausted.
    probe: Option<Timestamp>,
}

// === impl Daily ===

impl Daily {
    pub(crate) fn new(size: Option<u64>, zone: Zone) -> Self {
        Self { zone, size, used: 0, ends: None, early: None, is_closed: false, probe: None }
    }

    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Time until the end of the day.
    pub(crate) fn rest_of_day(&mut self, now: Timestamp) -> Duration {
        self.roll_over(now);
        self.ends.map_or(Duration::ZERO, |ends| between(now, ends))
    }

    /// Time until the next call can be made. `None` if one can be made now.
    pub(crate) fn exhausted_for(&mut self, now: Timestamp) -> Option<Duration> {
        self.roll_over(now);
        if !self.is_closed && self.size.is_none_or(|size| self.used < size) {
            return None;
        }
        let next = self.next_probe(now);
        let probe = *self.probe.get_or_insert(next);
        let until = self.ends.unwrap_or(probe);
        let until = if self.is_early(now) { until.min(probe) } else { until };
        (now < probe).then(|| between(now, until))
    }

    /// Counts a call.
    pub(crate) fn take(&mut self, now: Timestamp) {
        self.roll_over(now);
        self.used = self.used.saturating_add(1);
        if self.probe.is_some() {
            self.probe = Some(self.next_probe(now));
        }
        // Without a size only a 429 of this day shows that the limit is exhausted.
        self.is_closed &= !self.is_early(now);
    }

    /// Releases a counted call that was not made.
    pub(crate) fn release(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// Applies the limit in a response, which may not include `in_flight` calls.
    pub(crate) fn observe(&mut self, size: u64, remaining: u64, in_flight: u64) {
        self.size = Some(size);
        self.used = size.saturating_sub(remaining).saturating_add(in_flight);
        if remaining > 0 {
            self.is_closed = false;
            self.probe = None;
        }
    }

    /// Records a 429 for the daily limit.
    pub(crate) fn close(&mut self, now: Timestamp) {
        self.roll_over(now);
        self.used = self.used.max(self.size.unwrap_or_default());
        self.is_closed = true;
        self.probe = Some(self.next_probe(now));
    }

    fn is_early(&self, now: Timestamp) -> bool {
        self.early.is_some_and(|early| now < early)
    }

    /// Time of the next probe.
    fn next_probe(&self, now: Timestamp) -> Timestamp {
        after(now, if self.is_early(now) { EARLY_PROBE_INTERVAL } else { PROBE_INTERVAL })
    }

    /// Resets the count if the day has ended.
    fn roll_over(&mut self, now: Timestamp) {
        match self.ends {
            Some(ends) if now < ends => {}
            Some(_) => {
                self.used = 0;
                self.is_closed = false;
                self.early = Some(after(now, EARLY_TIME));
                self.probe = None;
                self.ends = Some(self.zone.midnight_after(now));
            }
            None => self.ends = Some(self.zone.midnight_after(now)),
        }
    }
}

fn between(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;

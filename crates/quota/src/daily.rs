//! The calls of a day. HubSpot starts over at midnight in the account's time zone.

use std::time::Duration;

use leadsd_base::time::{Timestamp, Zone};

/// How often a call is let through although the day's calls are used up: the time zone may be
/// configured wrong, or the account got more.
const PROBE: Duration = Duration::from_secs(15 * 60);

/// So soon after midnight, what HubSpot says may still be of the day before: its clock is not ours, and
/// answers take their time.
const EARLY: Duration = Duration::from_secs(5 * 60);

/// How often a call is let through then.
const PROBE_EARLY: Duration = Duration::from_secs(5);

/// The calls of this day. Without a size there is no limit, as for OAuth apps.
#[derive(Debug)]
pub(super) struct Daily {
    zone: Zone,
    size: Option<u64>,
    used: u64,
    /// End of the day that `used` is of.
    ends: Option<Timestamp>,
    /// Until when it is early in that day.
    early: Option<Timestamp>,
    /// HubSpot has refused a call for the day.
    is_closed: bool,
    /// When the day is used up: from when a call may find out whether it still is.
    probe: Option<Timestamp>,
}

// === impl Daily ===

impl Daily {
    pub(super) fn new(size: Option<u64>, zone: Zone) -> Self {
        Self { zone, size, used: 0, ends: None, early: None, is_closed: false, probe: None }
    }

    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Time until the calls of the day start over.
    pub(super) fn left_of_day(&mut self, now: Timestamp) -> Duration {
        self.turn(now);
        self.ends.map_or(Duration::ZERO, |ends| between(now, ends))
    }

    /// How long there are no more calls today; `None` if there are some.
    pub(super) fn used_up(&mut self, now: Timestamp) -> Option<Duration> {
        self.turn(now);
        if !self.is_closed && self.size.is_none_or(|size| self.used < size) {
            return None;
        }
        let again = self.again(now);
        let probe = *self.probe.get_or_insert(again);
        let until = self.ends.unwrap_or(probe);
        let until = if self.is_early(now) { until.min(probe) } else { until };
        (now < probe).then(|| between(now, until))
    }

    /// Counts a call.
    pub(super) fn take(&mut self, now: Timestamp) {
        self.turn(now);
        self.used = self.used.saturating_add(1);
        if self.probe.is_some() {
            self.probe = Some(self.again(now));
        }
        // Where no answer tells what is left, only a refusal of this day does.
        self.is_closed &= !self.is_early(now);
    }

    /// A call that was counted was not made.
    pub(super) fn give_back(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// Takes over what an answer says; `under_way` calls may not be in it yet.
    pub(super) fn learn(&mut self, size: u64, remaining: u64, under_way: u64) {
        self.size = Some(size);
        self.used = size.saturating_sub(remaining).saturating_add(under_way);
        if remaining > 0 {
            self.is_closed = false;
            self.probe = None;
        }
    }

    /// HubSpot says that the day's calls are used up.
    pub(super) fn close(&mut self, now: Timestamp) {
        self.turn(now);
        self.used = self.used.max(self.size.unwrap_or_default());
        self.is_closed = true;
        self.probe = Some(self.again(now));
    }

    fn is_early(&self, now: Timestamp) -> bool {
        self.early.is_some_and(|early| now < early)
    }

    /// When a call may find out again.
    fn again(&self, now: Timestamp) -> Timestamp {
        after(now, if self.is_early(now) { PROBE_EARLY } else { PROBE })
    }

    /// Starts over if the day has ended.
    fn turn(&mut self, now: Timestamp) {
        match self.ends {
            Some(ends) if now < ends => {}
            Some(_) => {
                self.used = 0;
                self.is_closed = false;
                self.early = Some(after(now, EARLY));
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

//! A limit that HubSpot does not announce, learned from its 429s: the calls in the window before a
//! rejection are what HubSpot allows.
//!
//! - Each rejection lowers the estimate. If the counted calls explain the rejection, they are the new
//!   estimate. Otherwise it goes down in steps that grow while rejections continue.
//! - The estimate is raised while it is used up. It goes half of the way to the last rejected limit while
//!   that is far away. 429s may have had another cause, so the highest limit before them stays the goal until
//!   a step towards it is rejected at the same count.
//! - A limit that is confirmed is tested in small steps at growing intervals. Once HubSpot has accepted one,
//!   the steps double.

use std::time::Duration;

use tokio::time::Instant;

/// Interval between tests by small steps up. A test that is rejected costs a few 429s, and doubles the
/// interval.
const RAISE_INTERVAL: Duration = Duration::from_secs(90);

/// Maximum number of times that the interval is doubled: to twelve minutes.
const MAX_DOUBLINGS: u32 = 3;

/// Minimum interval between two steps up in a row.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// First step down, as a part of the limit: 3 %. It doubles up to a quarter while rejections continue.
const STEP_DOWN: u64 = 32;
const MAX_STREAK: u32 = 3;

/// Part of the limit by which the last rejected one is higher if steps up are large: a twentieth.
const FAR: u64 = 20;

/// Part of the limit above which the calls in the window do not tell how far to go down.
const NEAR: u64 = 10;

/// An estimate of one limit; the configured limit holds without one.
#[derive(Debug, Default)]
pub(crate) struct LearnedLimit {
    cap: Option<u64>,
    /// Most calls in the window that HubSpot has accepted since the last step down.
    proven: u64,
    /// Smallest limit that HubSpot has rejected.
    rejected: Option<u64>,
    /// Calls in the window at the last 429.
    counted: Option<u64>,
    changed_at: Option<Instant>,
    lowered_at: Option<Instant>,
    /// Slots before this one were taken before the last change: their rejections are no news.
    first_slot: u64,
    /// Number of steps down in quick succession.
    streak: u32,
    /// Number of steps up that were rejected.
    failures: u32,
    step: u64,
    /// The last small step up that was not rejected.
    confirmed: Option<u64>,
    /// The limit before the first step up since the last step down.
    raised_from: Option<u64>,
    /// True if the limit was used up since the last change.
    is_reached: bool,
}

/// A 429.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rejection {
    /// Slot of the rejected call.
    pub(crate) slot: u64,
    /// Number of the next slot.
    pub(crate) next_slot: u64,
    /// Calls in the window when the call arrived.
    pub(crate) counted: u64,
}

// === impl LearnedLimit ===

impl LearnedLimit {
    /// The limit, given the configured or announced one.
    pub(crate) fn limit(&self, configured: u64) -> u64 {
        self.cap.map_or(configured, |cap| cap.min(configured))
    }

    /// The estimate. `None` if the configured limit holds.
    pub(crate) fn cap(&self) -> Option<u64> {
        self.cap
    }

    /// Most calls in the window that HubSpot has accepted.
    pub(crate) fn proven(&self) -> u64 {
        self.proven
    }

    /// Records that HubSpot has accepted a call as one of this many in the window.
    pub(crate) fn on_accepted(&mut self, counted: u64) {
        self.proven = self.proven.max(counted);
    }

    /// Records that this many calls are in the window. Nearly all count as all: a part of the limit is left
    /// to other clients, and calls of other replicas are known some time later.
    pub(crate) fn on_used(&mut self, used: u64) {
        self.is_reached |= self.cap.is_some_and(|cap| used + cap / NEAR + 1 >= cap);
    }

    /// Learns from a 429. Returns false if its call was sent before the last one was known.
    pub(crate) fn on_rejected(
        &mut self,
        rejection: Rejection,
        configured: u64,
        window: Duration,
        now: Instant,
    ) -> bool {
        let Rejection { slot, next_slot, counted } = rejection;
        if slot < self.first_slot {
            return false;
        }
        let limit = self.limit(configured);
        let is_within = |time| self.lowered_at.is_some_and(|lowered| now < lowered + time);
        let (is_again, is_settling) = (is_within(window), is_within(interval(window)));
        if is_settling && counted > limit + limit / NEAR + 1 {
            // Calls of the time before the step down are in the window, or replicas do not share the limit
            // yet. HubSpot has accepted more than the estimate.
            self.rejected = self.rejected.max(Some(counted));
            return false;
        }
        let is_tested = self.cap.is_some_and(|cap| (1..cap).contains(&self.proven));
        self.streak = if is_again { (self.streak + 1).min(MAX_STREAK) } else { 0 };
        let goal = self.goal(Some(limit));
        let cap = if counted < limit - limit / NEAR {
            // A count that is found again after a step up is the limit. Another one may have had another
            // cause.
            let near = |last: u64| counted.abs_diff(last) <= last / NEAR + 1;
            let is_found_again = self.raised_from.is_some() && self.counted.is_some_and(near);
            self.rejected = goal.filter(|_| !is_found_again);
            counted.max(limit / 2)
        } else if is_tested && !is_again {
            self.failures = (self.failures + 1).min(MAX_DOUBLINGS);
            self.rejected = Some(limit);
            self.proven.max(counted.min(limit - 1))
        } else {
            self.rejected = goal;
            limit - (limit << self.streak).div_ceil(STEP_DOWN).min(limit / 2)
        };
        let cap = cap.max(self.confirmed.take().unwrap_or_default().min(limit - 1));
        self.counted = Some(counted);
        self.step = 1;
        self.raised_from = None;
        self.proven = 0;
        self.first_slot = next_slot;
        self.lowered_at = Some(now);
        self.change(Some(cap.max(1)), now);
        true
    }

    /// Raises the limit if it is time. Returns true if it changed.
    pub(crate) fn raise(&mut self, configured: u64, window: Duration, now: Instant) -> bool {
        let (Some(cap), Some(changed_at)) = (self.cap, self.changed_at) else { return false };
        let far = self.rejected.filter(|rejected| rejected.saturating_sub(cap) > cap / FAR + 1);
        let is_test = far.is_none() && self.step <= 1;
        let interval =
            if is_test { RAISE_INTERVAL * 2_u32.pow(self.failures) } else { interval(window) };
        if !self.is_reached || now < changed_at + interval {
            return false;
        }
        let raised = match far {
            Some(rejected) => u64::midpoint(cap, rejected),
            None => {
                let step = self.step.max(1);
                if step > 1 {
                    // The last step was not rejected.
                    (self.rejected, self.confirmed) = (None, Some(cap));
                    if self.raised_from.is_some_and(|from| cap > from + from / NEAR + 1) {
                        self.failures = 0;
                    }
                }
                self.step = (step * 2).min(cap / 2 + 1);
                cap + step
            }
        };
        self.raised_from.get_or_insert(cap);
        self.change(Some(raised).filter(|raised| *raised < configured), now);
        true
    }

    /// Applies the estimate of another replica.
    pub(crate) fn adopt(&mut self, cap: Option<u64>, next_slot: u64, now: Instant) {
        if cap == self.cap {
            return;
        }
        if cap.is_some_and(|cap| self.cap.is_none_or(|own| cap < own)) {
            self.rejected = self.goal(self.cap);
            self.proven = 0;
            self.step = 1;
            (self.raised_from, self.confirmed) = (None, None);
        }
        self.first_slot = next_slot;
        self.change(cap, now);
    }

    /// Forgets the estimate: HubSpot announces the limit.
    pub(crate) fn clear(&mut self) {
        *self = Self { first_slot: self.first_slot, ..Self::default() };
    }

    /// Limit to go back to after a rejection at `limit`. If HubSpot has accepted no call since the last one,
    /// all of them may have another cause, and the highest limit before them stays the goal.
    fn goal(&self, limit: Option<u64>) -> Option<u64> {
        let is_outage = self.raised_from.is_none() && self.proven == 0;
        self.rejected.filter(|_| is_outage).max(limit)
    }

    fn change(&mut self, cap: Option<u64>, now: Instant) {
        self.cap = cap;
        self.changed_at = Some(now);
        self.is_reached = false;
    }
}

/// Interval between two steps up in a row: the calls before the last step have left the window.
fn interval(window: Duration) -> Duration {
    (window * 3 / 2).max(MIN_INTERVAL)
}

#[cfg(test)]
mod tests;

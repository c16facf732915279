//! Calls of other clients in a limit: replicas without a ledger, or another program with the same
//! credential. HubSpot announces how much is left for all, and not how many clients there are.
//!
//! A replica that sees other clients uses at most nine tenths of the remaining limit. Replicas that all do
//! this converge to equal parts from any start: each part is nine times the rest. Two use 95 %
//! of the limit, three 96 %. From four on the rest is smaller than the number of calls in flight; those
//! should share a ledger.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// Part of the remaining limit that is used, in hundredths. The module describes the reason.
const TARGET_SHARE: u64 = 90;

/// Part of the limit that is left to unknown clients, in hundredths: enough for one call to get in and be
/// seen.
const PROBE_SHARE: u64 = 1;

/// Time for which other clients count as active after a sign of them: six windows.
const ACTIVE_TIME: Duration = Duration::from_secs(60);

/// Minimum time for which an observation justifies more than one call. Others can use up the rest in a
/// second.
const FRESH: Duration = Duration::from_millis(250);

/// Maximum time for which an observation justifies more than one call, and the wait if nothing was left.
const STALE: Duration = Duration::from_secs(1);

/// Upper bound on the number of other clients assumed. A part smaller than this fraction of all usage is
/// that of a newcomer.
const MAX_CLIENTS: u64 = 16;

/// Seconds in which a part that is too small grows to its target. Faster growth overshoots, because others
/// see it only with their next responses.
const GROWTH_SECONDS: u64 = 3;

/// Slots are spaced evenly if less than this fraction of the limit is left: a quarter.
const SCARCE: u64 = 4;

/// Other clients, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct ExternalUsage {
    observed: Option<Observed>,
    /// Newest slot whose response announced the limit.
    observed_slot: Option<u64>,
    /// Time until which other clients count as active.
    active_until: Option<Instant>,
    /// Own calls in the window at a 429, if that is the only sign of other clients.
    suspected_at: Option<u64>,
    /// Own slots in flight, with when they were sent. `None` if they are not sent yet.
    in_flight: BTreeMap<u64, Option<Instant>>,
    /// Sent slots in flight, in order of sending. Every response counts the slots sent before its own;
    /// they are few if responses arrive in order, however many are in flight.
    sent: BTreeSet<(Instant, u64)>,
    /// Estimated arrivals of own calls in the last two windows, the oldest first.
    arrivals: VecDeque<Instant>,
    /// True if a call has ever ended.
    has_finished: bool,
}

/// Calls of others by one response.
#[derive(Debug)]
struct Observed {
    /// Calls of others in the window.
    calls: u64,
    at: Instant,
    /// Latency of the call.
    latency: Duration,
}

/// A limit and own usage of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnUsage {
    /// Calls allowed in the window.
    pub(crate) size: u64,
    /// Length of the window.
    pub(crate) window: Duration,
    /// Own calls in the window.
    pub(crate) used: u64,
}

// === impl ExternalUsage ===

impl ExternalUsage {
    /// Records a taken slot.
    pub(crate) fn take(&mut self, slot: u64) {
        self.in_flight.insert(slot, None);
    }

    /// Records that the call of a slot is sent now.
    pub(crate) fn mark_sent(&mut self, slot: u64, now: Instant) {
        if let Some(Some(earlier)) = self.in_flight.insert(slot, Some(now)) {
            self.sent.remove(&(earlier, slot));
        }
        self.sent.insert((now, slot));
    }

    /// Records that a slot was not used.
    pub(crate) fn release(&mut self, slot: u64) {
        self.remove(slot);
    }

    /// Records that HubSpot rejected the call of a slot with a 429, and so does not count it.
    pub(crate) fn reject(&mut self, slot: u64) {
        self.has_finished |= self.remove(slot).is_some();
    }

    /// Records that the call of a slot ended. Returns when it was sent.
    pub(crate) fn finish(&mut self, slot: u64, window: Duration, now: Instant) -> Option<Instant> {
        let sent = self.remove(slot)?;
        self.has_finished = true;
        let arrived = arrival(sent, now);
        let place = self.arrivals.partition_point(|other| *other <= arrived);
        self.arrivals.insert(place, arrived);
        while self.arrivals.front().is_some_and(|first| *first + window * 2 <= now) {
            self.arrivals.pop_front();
        }
        Some(sent)
    }

    /// Records that the response to the call of a slot announces `used` calls in the window. At most `own`
    /// of them can be own calls: if there are more, other clients are active.
    pub(crate) fn observe(
        &mut self,
        used: u64,
        own: u64,
        slot: u64,
        window: Duration,
        now: Instant,
    ) {
        let certain = used.saturating_sub(own);
        if certain > 0 {
            self.active_until = Some(now + ACTIVE_TIME);
            self.suspected_at = None;
        }
        let sent = self.in_flight.get(&slot).copied().flatten().unwrap_or(now);
        // Visits the calls in flight, which may be thousands, so only if it is needed.
        let likely = match self.is_active(now) {
            true => used.saturating_sub(self.counted(sent, window, now)),
            false => 0,
        };
        let latency = now.saturating_duration_since(sent);
        self.observed = Some(Observed { calls: certain.max(likely), at: now, latency });
        self.observed_slot = self.observed_slot.max(Some(slot));
    }

    /// Records a 429 that closes the limit until then. Unless own calls have exhausted the limit, other
    /// clients are active.
    pub(crate) fn on_429(&mut self, own: OwnUsage, until: Instant, now: Instant) {
        if own.used >= own.size {
            return;
        }
        if !self.is_active(now) {
            self.suspected_at = Some(own.used);
        }
        self.active_until = Some(until + ACTIVE_TIME);
    }

    /// Applies an observed limit of `size`. If that explains the 429, no other client is active.
    pub(crate) fn on_limit_change(&mut self, size: u64) {
        if self.suspected_at.take_if(|used| *used >= size).is_some() {
            self.active_until = None;
        }
    }

    /// True if other clients are considered active.
    pub(crate) fn is_active(&self, now: Instant) -> bool {
        self.active_until.is_some_and(|until| now < until)
    }

    /// Calls of other clients in the window. The number of the last observation is kept, because
    /// they make new calls while old ones leave the window.
    pub(crate) fn calls(&self, window: Duration, now: Instant) -> u64 {
        let known = |observed: &&Observed| self.is_active(now) && now < observed.at + window;
        self.observed.as_ref().filter(known).map_or(0, |observed| observed.calls)
    }

    /// Maximum number of own calls in the window.
    pub(crate) fn allowance(&self, own: OwnUsage, now: Instant) -> u64 {
        let rest = own.size.saturating_sub(self.calls(own.window, now));
        if !self.is_active(now) {
            return rest - own.size * PROBE_SHARE / 100;
        }
        let part = rest * TARGET_SHARE / 100;
        // Others make room for a newcomer, which has to probe for it.
        let is_old = self.observed.as_ref().is_none_or(|observed| now >= observed.at + STALE);
        if is_old && self.is_newcomer(own, now) { part.max(own.used + 1) } else { part }
    }

    /// Maximum number of own calls per second, given HubSpot's `limit` for all clients.
    pub(crate) fn allowance_per_second(&self, own: OwnUsage, limit: u64, now: Instant) -> u64 {
        if !self.is_active(now) {
            return limit;
        }
        let allowance = self.allowance(own, now);
        let even = (allowance * limit).div_ceil(own.size.max(1));
        even.max(allowance.saturating_sub(own.used) / GROWTH_SECONDS).min(limit)
    }

    /// True if so little is left that slots are spaced evenly. Calls in flight at the same time do not see
    /// each other.
    pub(crate) fn should_spread(&self, own: OwnUsage, now: Instant) -> bool {
        self.is_active(now) && self.left(own, now) < own.size / SCARCE
    }

    /// True if the next call has to wait for a response. Since the last observation others are assumed to
    /// have made calls in proportion to their part, as this replica has.
    pub(crate) fn must_wait(&self, own: OwnUsage, now: Instant) -> bool {
        if !self.is_active(now) {
            return !self.has_finished && self.is_first_awaited(now);
        }
        let since = self.observed_slot.map_or(0, |slot| slot + 1);
        // A call that takes long is not waited for.
        let is_soon = |sent: &Option<Instant>| sent.is_none_or(|sent| now < sent + STALE);
        let unheard =
            self.in_flight.range(since..).filter(|(_, sent)| is_soon(sent)).count() as u64;
        let Some(observed) = &self.observed else { return unheard > 0 };
        let left = self.left(own, now);
        if self.is_far(own, left, unheard, now.saturating_duration_since(observed.at)) {
            return false;
        }
        let holds = if left < 2 { STALE } else { (observed.latency * 2).clamp(FRESH, STALE) };
        if now >= observed.at + holds {
            return unheard > 0;
        }
        if self.is_newcomer(own, now) {
            return unheard > 0 || left < 2;
        }
        let all = self.calls(own.window, now) + own.used;
        (unheard + 1) * all > left * own.used
    }

    /// True if the limit is far: `left` calls were left this long ago, and the limit holds in the worst case.
    /// Then other clients have made as many calls since as HubSpot allows, and each has sixteen times as many
    /// in flight as this replica.
    fn is_far(&self, own: OwnUsage, left: u64, unheard: u64, since: Duration) -> bool {
        let seconds = own.window.as_secs().max(1);
        let since_then = (own.size / seconds).saturating_mul(since.as_secs() + 1);
        left.saturating_sub(since_then) / MAX_CLIENTS / MAX_CLIENTS > unheard
    }

    /// True if the first response of all can still come soon. A call that has been out for longer does not
    /// hold up the others: the limits hold without it.
    fn is_first_awaited(&self, now: Instant) -> bool {
        let is_late = self.sent.first().is_some_and(|(sent, _)| now >= *sent + STALE);
        !self.in_flight.is_empty() && !is_late
    }

    /// Estimated number of own calls in the window when the call of a slot arrived whose response came now,
    /// itself included. `None` if it was not sent.
    pub(crate) fn counted_with(&self, slot: u64, window: Duration, now: Instant) -> Option<u64> {
        let sent = self.in_flight.get(&slot).copied().flatten()?;
        Some(self.counted(sent, window, now))
    }

    /// Removes a slot from those in flight. Returns when it was sent.
    fn remove(&mut self, slot: u64) -> Option<Instant> {
        let sent = self.in_flight.remove(&slot).flatten()?;
        self.sent.remove(&(sent, slot));
        Some(sent)
    }

    /// True if the own part is still that of a newcomer.
    fn is_newcomer(&self, own: OwnUsage, now: Instant) -> bool {
        own.used * MAX_CLIENTS <= self.calls(own.window, now) + own.used
    }

    /// Calls that are left for all.
    fn left(&self, own: OwnUsage, now: Instant) -> u64 {
        own.size.saturating_sub(self.calls(own.window, now)).saturating_sub(own.used)
    }

    /// Estimated number of own calls that HubSpot had counted when a call arrived that was sent then and
    /// ended now.
    fn counted(&self, sent: Instant, window: Duration, now: Instant) -> u64 {
        let at = arrival(sent, now);
        let in_flight = self.sent.range(..=(sent, u64::MAX)).count();
        let until = self.arrivals.partition_point(|other| *other <= at);
        let since = self.arrivals.partition_point(|other| *other + window <= at);
        (in_flight + until - since) as u64
    }
}

/// Estimated arrival of a call: halfway between its request and its response.
fn arrival(sent: Instant, finished: Instant) -> Instant {
    sent + finished.saturating_duration_since(sent) / 2
}

#[cfg(test)]
mod tests;

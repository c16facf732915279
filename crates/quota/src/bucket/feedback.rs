//! Feedback of HubSpot's responses on a bucket: announced limits, and 429s.

use tokio::time::Instant;

use super::{
    Bucket, MAX_SIZE, SECOND, SECONDS_OF_LIMIT, TRANSIT_IN_LEARNED_SECOND, TRANSIT_IN_SECOND,
    WINDOWS,
};
use crate::{
    learned_limit::Rejection,
    observation::{Baseline, ObservedLimit, RetryTime},
    remote_usage::RemoteUsage,
    replica_lease::MAX_WANTED,
};

/// Learned limits below this one have fewer than ten calls in a tenth of them.
const SMALL: u64 = 10 * SECONDS_OF_LIMIT;

/// Part of the limit that own calls have to use to explain a 429: a half. If they use less, other clients
/// or another limit can be the cause, and the limit is closed as well.
const EXPLAINED: u64 = 2;

// === impl Bucket ===

impl Bucket {
    /// Calls that HubSpot may have counted when a call is sent now.
    pub(crate) fn baseline(&self) -> Baseline {
        match &self.lease {
            Some(lease) if lease.is_live() => Baseline { in_ledger: true, oldest: lease.oldest() },
            Some(_) | None => Baseline { in_ledger: false, oldest: self.windows[0].first() },
        }
    }

    /// Applies the limit in a response to the call of `slot`. The slots since `baseline` are the most
    /// that HubSpot can have counted as own calls.
    pub(crate) fn observe(
        &mut self,
        limit: ObservedLimit,
        slot: u64,
        baseline: Baseline,
        now: Instant,
    ) {
        let parameters = self.parameters(now);
        let limit = ObservedLimit {
            size: limit.size.filter(|size| (1..=MAX_SIZE).contains(size)),
            window: limit.window.filter(|window| WINDOWS.contains(window)),
            remaining: limit.remaining,
        };
        if limit.size.is_some() {
            self.is_announced = true;
            if self.learned[0].cap().is_some() {
                self.learned[0].clear();
                self.share_learned();
            }
        }
        if let Some(lease) = self.lease.as_mut().filter(|lease| lease.is_live()) {
            // The ledger knows the calls of other replicas, and announces the limit to all of them.
            if baseline.in_ledger {
                lease.observe(limit, baseline.oldest, parameters);
            }
            return;
        }
        if let Some(size) = limit.size {
            self.size = size;
            self.external.on_limit_change(size);
        }
        if let Some(window) = limit.window {
            self.windows[0].set_length(window);
        }
        if let Some(remaining) = limit.remaining.filter(|_| !baseline.in_ledger) {
            let used = self.size.saturating_sub(remaining);
            let own = self.windows[0].next().saturating_sub(baseline.oldest);
            self.external.observe(used, own, slot, self.window(), now);
            // The ledger's last report is an upper bound; more than that is news.
            let others = used.saturating_sub(own);
            if self.lease.is_some() && others > self.other_calls(now) {
                self.remote = Some(RemoteUsage::counted(others, now));
            }
        }
    }

    /// Learns from a response that is no 429, if HubSpot does not announce the limit.
    pub(crate) fn on_accepted(&mut self, slot: u64, now: Instant) {
        if self.is_announced {
            return;
        }
        for index in 0..self.windows.len() {
            if let Some(counted) = self.counted(index, slot, now) {
                self.learned[index].on_accepted(counted);
            }
        }
    }

    /// Learns from the 429 of a call. Closes the limit if HubSpot names a time, or if the known calls do not
    /// explain the 429. Otherwise the limit opens as soon as enough calls have left the window.
    pub(crate) fn on_429(&mut self, slot: u64, retry: RetryTime, now: Instant) {
        let counts = [0, self.windows.len() - 1].map(|index| self.counted(index, slot, now));
        self.external.reject(slot);
        let (wait, is_stated) = match retry {
            RetryTime::Stated(wait) => (wait, true),
            RetryTime::Window(window) => (window, false),
        };
        // A stated time does not show the window: calls leave a rolling window continuously.
        let is_second = !is_stated && wait <= SECOND;
        let index = if self.is_announced { 0 } else { self.rejected_window(counts, is_second) };
        let counted = counts[index].unwrap_or_default().saturating_sub(1);
        let limit = self.limit(index);
        let is_explained =
            if self.is_announced { counted >= limit } else { counted >= limit.div_ceil(EXPLAINED) };
        let rejection = Rejection { slot, next_slot: self.next_slot(), counted };
        let (configured, window) = (self.configured(index), self.windows[index].length());
        let is_learned = (is_explained || !self.is_announced)
            && self.learned[index].on_rejected(rejection, configured, window, now);
        if is_learned {
            self.share_learned();
        }
        let is_known = !is_learned && !self.is_announced;
        if is_stated || !(is_explained || is_known) {
            self.close(now + wait, now);
        }
    }

    /// Closes the limit after a 429.
    pub(crate) fn close(&mut self, until: Instant, now: Instant) {
        if self.is_announced {
            self.external.on_429(self.own_usage(), until, now);
        }
        self.close_until(until);
        if let Some(lease) = self.lease.as_mut() {
            lease.close(until);
        }
    }

    pub(super) fn close_until(&mut self, until: Instant) {
        self.closed_until = Some(self.closed_until.map_or(until, |known| known.max(until)));
    }

    /// Records that a slot was taken.
    pub(super) fn on_used(&mut self) {
        for index in 0..self.windows.len() {
            if self.learned[index].cap().is_some() {
                let others = self.calls_of_others[index];
                let used = self.windows[index].used() as u64 + others;
                self.learned[index].on_used(used);
            }
        }
    }

    /// Tests learned limits upwards if it is time.
    pub(super) fn raise_learned(&mut self, now: Instant) {
        let mut is_raised = false;
        for index in 0..self.windows.len() {
            if self.learned[index].cap().is_some() {
                let (configured, window) = (self.configured(index), self.windows[index].length());
                is_raised |= self.learned[index].raise(configured, window, now);
            }
        }
        if is_raised {
            self.share_learned();
        }
    }

    /// Applies limits that another replica has learned.
    pub(super) fn adopt_learned(&mut self, caps: [Option<u64>; 2], now: Instant) {
        let next_slot = self.next_slot();
        for (learned, cap) in self.learned.iter_mut().zip(caps) {
            learned.adopt(cap, next_slot, now);
        }
        self.apply_learned();
    }

    /// Limits that were learned.
    pub(super) fn learned(&self) -> [Option<u64>; 2] {
        [0, 1].map(|index| self.learned[index].cap())
    }

    /// Number of the first slot whose permit is granted from now on.
    fn next_slot(&self) -> u64 {
        let granted = self.lease.as_ref().map_or(0, |_| MAX_WANTED as u64);
        self.windows[0].next() + granted
    }

    fn share_learned(&mut self) {
        self.apply_learned();
        let caps = self.learned();
        if let Some(lease) = self.lease.as_mut() {
            lease.learn(caps);
        }
    }

    fn apply_learned(&mut self) {
        for (window, learned) in self.windows.iter_mut().zip(&self.learned) {
            if window.length() == SECOND {
                let is_learned = learned.cap().is_some();
                let transit =
                    if is_learned { TRANSIT_IN_LEARNED_SECOND } else { TRANSIT_IN_SECOND };
                window.set_transit(transit);
            }
        }
    }

    /// The window that a call was rejected for. A window in which HubSpot has accepted as many calls before
    /// is not the cause, unless none is new: then its time tells.
    fn rejected_window(&self, counts: [Option<u64>; 2], is_second: bool) -> usize {
        if self.windows.len() == 1 {
            return 0;
        }
        if is_second {
            return 1;
        }
        let is_new =
            [0, 1].map(|index| counts[index].unwrap_or_default() > self.learned[index].proven());
        match is_new {
            [false, true] => 1,
            [true, false] | [false, false] => 0,
            [true, true] => {
                let [long, short] = [0, 1].map(|index| {
                    let counted = counts[index].unwrap_or_default();
                    u128::from(counted) * u128::from(self.limit(1 - index))
                });
                usize::from(short > long)
            }
        }
    }

    /// Limit of a window, as announced, learned or configured.
    fn limit(&self, index: usize) -> u64 {
        self.learned[index].limit(self.configured(index)).max(1)
    }

    /// Limit of a window without what was learned about it.
    fn configured(&self, index: usize) -> u64 {
        match index {
            0 => self.size,
            _ => self.limit_of_second(self.size()),
        }
    }

    /// The part of a limit that may be used in one second. That of a small learned limit is rounded up:
    /// HubSpot announces no such part, and rounding down would leave much of the limit unused.
    pub(super) fn limit_of_second(&self, size: u64) -> u64 {
        let is_small = self.learned[0].cap().is_some() && size < SMALL;
        let part = if is_small { size.div_ceil(SECONDS_OF_LIMIT) } else { size / SECONDS_OF_LIMIT };
        part.max(1)
    }

    /// Calls of all clients in a window when the call of a slot arrived, itself included.
    fn counted(&self, index: usize, slot: u64, now: Instant) -> Option<u64> {
        let own = self.external.counted_with(slot, self.windows[index].length(), now)?;
        Some(own + self.calls_of_others[index])
    }
}

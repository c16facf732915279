//! One of HubSpot's limits: how many calls it allows, how many are used by this replica and by others,
//! and when the next one may be made.
//!
//! A bucket is plain state: it takes the time as an argument and neither waits nor locks. Queues and
//! deadlines are the limiter's.

mod exchange;
mod feedback;

use std::{ops::RangeInclusive, time::Duration};

use tokio::time::Instant;

use crate::{
    external_usage::{ExternalUsage, OwnUsage},
    learned_limit::LearnedLimit,
    ledger::LedgerConfig,
    remote_usage::RemoteUsage,
    replica_lease::{ALMOST_NOW, LimitParameters, ReplicaLease},
    spacing::Spacing,
    usage::{Usage, Users},
    window::Window,
};

/// Maximum transit time of a call in the limit per second. A longer one would cost more of each second
/// than this undocumented limit is worth: 2.5 %.
const TRANSIT_IN_SECOND: Duration = Duration::from_millis(25);

/// The same while a limit per second is learned. Such a limit has few calls. If latencies differ by more than
/// the transit time, HubSpot rejects some of them, and the learned limit is one call lower.
const TRANSIT_IN_LEARNED_SECOND: Duration = Duration::from_millis(40);

/// Maximum transit time of a call in the documented window: 2.5 % of ten seconds.
const TRANSIT_IN_WINDOW: Duration = Duration::from_millis(250);

/// Lengths of a window that are accepted from HubSpot and from the ledger; others are invalid.
const WINDOWS: RangeInclusive<Duration> = SECOND..=Duration::from_secs(600);

/// The part of the limit that may be used in one second: a tenth, since a window has ten seconds.
const SECONDS_OF_LIMIT: u64 = 10;

/// Maximum limit. Larger ones are invalid, and their products could overflow.
const MAX_SIZE: u64 = 1_000_000_000;

/// Number of checks per window for a change in the calls of other clients. The known number is at
/// most a twentieth of a window old.
const CHECKS_PER_WINDOW: u32 = 20;

const SECOND: Duration = Duration::from_secs(1);

/// A limit over one window, or over two: then a tenth of it holds for each second as well.
#[derive(Debug)]
pub(crate) struct Bucket {
    size: u64,
    /// The longest window first. All have the same slots.
    windows: Vec<Window>,
    /// Limits of the windows as learned from 429s.
    learned: [LearnedLimit; 2],
    /// True if HubSpot announces the limit.
    is_announced: bool,
    closed_until: Option<Instant>,
    /// Other clients, if replicas do not share the limit.
    external: ExternalUsage,
    /// Calls of other replicas in each window by the ledger's last response.
    calls_of_others: [u64; 2],
    /// Other replicas and clients, if replicas share the limit.
    remote: Option<RemoteUsage>,
    usage: Usage,
    spacing: Spacing,
    /// True while requests of several callers wait, so that slots are spaced evenly.
    is_awaited: bool,
    /// Permits of the ledger, if replicas share the limit.
    lease: Option<ReplicaLease>,
}

// === impl Bucket ===

impl Bucket {
    /// `size` calls in any `window`, a tenth of them in any second.
    pub(crate) fn burst(size: u64, window: Duration) -> Self {
        let transit = TRANSIT_IN_WINDOW.min(window / 40);
        let second = Window::new(SECOND, TRANSIT_IN_SECOND);
        Self::new(size, vec![Window::new(window, transit), second])
    }

    /// `size` calls in any second.
    pub(crate) fn secondly(size: u64) -> Self {
        Self::new(size, vec![Window::new(SECOND, TRANSIT_IN_SECOND)])
    }

    fn new(size: u64, windows: Vec<Window>) -> Self {
        Self {
            size: size.max(1),
            windows,
            learned: Default::default(),
            is_announced: false,
            closed_until: None,
            external: ExternalUsage::default(),
            calls_of_others: [0; 2],
            remote: None,
            usage: Usage::default(),
            spacing: Spacing::default(),
            is_awaited: false,
            lease: None,
        }
    }

    /// Shares the limit with other replicas.
    pub(crate) fn shared(mut self, config: Option<&LedgerConfig>, now: Instant) -> Self {
        self.lease = config.map(|config| ReplicaLease::new(config, now));
        self
    }

    /// This replica's part, if replicas share the limit.
    pub(crate) fn lease(&self) -> Option<&ReplicaLease> {
        self.lease.as_ref()
    }

    /// True if a permit can be granted only after a response of the ledger.
    pub(crate) fn waits_for_ledger(&self) -> bool {
        let waits =
            |lease: &ReplicaLease| lease.is_starting() || lease.is_live() && lease.is_empty();
        self.lease.as_ref().is_some_and(waits)
    }

    /// Calls allowed in the window, as announced, learned or configured.
    pub(crate) fn size(&self) -> u64 {
        self.learned[0].limit(self.size)
    }

    /// Length of the window.
    pub(crate) fn window(&self) -> Duration {
        self.windows[0].length()
    }

    /// Calls in the window, of this replica and of others.
    pub(crate) fn used(&self, now: Instant) -> u64 {
        self.own_calls().saturating_add(self.other_calls(now)).min(self.size())
    }

    /// Time until which a 429 keeps the limit closed.
    pub(crate) fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.closed_until.filter(|until| *until > now)
    }

    /// Callers of the slots in the window.
    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Sets whether requests of several callers wait for a permit.
    pub(crate) fn set_awaited(&mut self, is_awaited: bool) {
        self.is_awaited = is_awaited;
    }

    /// Estimated time of the permit after `ahead` others.
    pub(crate) fn opens(&self, ahead: usize, now: Instant) -> Instant {
        let closed_until = self.closed_until.unwrap_or(now);
        match &self.lease {
            Some(lease) if lease.is_live() => {
                lease.opens(ahead, self.gap(now), now).max(closed_until)
            }
            // A request that waits, however shortly, makes the replica join the ledger.
            Some(lease) if lease.is_starting() => now + ALMOST_NOW,
            Some(lease) if self.own_part(lease, now) == 0 => {
                now + self.window() / CHECKS_PER_WINDOW
            }
            Some(_) | None => self.window_opens(ahead, now).max(closed_until),
        }
    }

    /// Time of the next check for a permit; `None` if a permit is available now. Other clients may
    /// reduce their calls at any time, without an event here.
    pub(crate) fn next_check(&self, now: Instant) -> Option<Instant> {
        let opens = Some(self.opens(0, now)).filter(|opens| *opens > now);
        let must_wait = self.is_alone() && self.external.must_wait(self.own_usage(), now);
        if opens.is_none() && !must_wait {
            return None;
        }
        let others_active = match &self.lease {
            None => self.external.is_active(now),
            Some(lease) => !lease.is_live() && self.other_calls(now) > 0,
        };
        let check = (must_wait || others_active).then(|| now + self.window() / CHECKS_PER_WINDOW);
        opens.into_iter().chain(check).min()
    }

    /// Acquires a slot for this many requests, and returns its number.
    pub(crate) fn take(&mut self, users: Users, requests: usize, now: Instant) -> u64 {
        self.spacing.take(requests, self.gap(now), now);
        let mut slot = 0;
        for window in &mut self.windows {
            slot = window.take();
        }
        self.on_used();
        self.external.take(slot);
        self.usage.record(slot, users);
        if let Some(lease) = self.lease.as_mut() {
            lease.take(slot, now);
        }
        slot
    }

    /// Records that the call of a slot is sent now.
    pub(crate) fn mark_sent(&mut self, slot: u64, now: Instant) {
        self.external.mark_sent(slot, now);
        self.windows.iter_mut().for_each(|window| window.mark_sent(slot, now));
        if let Some(lease) = self.lease.as_mut() {
            lease.mark_changed(slot);
        }
    }

    /// Records that the call of a slot ended, and returns how long it took.
    pub(crate) fn finish(&mut self, slot: u64, now: Instant) -> Option<Duration> {
        let sent = self.external.finish(slot, self.window(), now);
        self.windows.iter_mut().for_each(|window| window.finish(slot, now));
        if let Some(lease) = self.lease.as_mut() {
            lease.mark_changed(slot);
        }
        sent.map(|sent| now.saturating_duration_since(sent))
    }

    /// Records that a slot was not used.
    pub(crate) fn release(&mut self, slot: u64, now: Instant) {
        self.spacing.release(self.gap(now));
        self.external.release(slot);
        self.windows.iter_mut().for_each(|window| window.release(slot));
        self.usage.remove(slot);
        if let Some(lease) = self.lease.as_mut() {
            lease.release(slot);
        }
    }

    /// Removes slots that have left the window.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.windows.iter_mut().for_each(|window| window.expire(now));
        self.raise_learned(now);
        let first = self.windows[0].first();
        self.usage.expire(first);
        if let Some(lease) = self.lease.as_mut() {
            lease.expire(now);
            lease.forget_before(first);
        }
    }

    /// Time at which the windows and the spacing allow the permit after `ahead` others.
    fn window_opens(&self, ahead: usize, now: Instant) -> Instant {
        let limits = self.window_limits(now);
        let opens =
            self.windows.iter().zip(limits).map(|(window, limit)| window.opens(limit, ahead, now));
        let opens = opens.max().unwrap_or(now);
        if !self.is_spaced(now) {
            return opens;
        }
        self.spacing.due(ahead, self.gap(now)).map_or(opens, |due| opens.max(due))
    }

    fn parameters(&self, now: Instant) -> LimitParameters {
        LimitParameters {
            size: self.size,
            window: self.window(),
            paced: self.is_paced(),
            transit: [0, self.windows.len() - 1].map(|index| self.windows[index].transit()),
            spread: self.spacing.is_on(now)
                || self.learned() != [None; 2]
                || self.is_awaited && self.lease.as_ref().is_some_and(|lease| lease.is_scarce),
        }
    }

    fn own_calls(&self) -> u64 {
        self.windows[0].used() as u64
    }

    /// Calls of others in the window.
    fn other_calls(&self, now: Instant) -> u64 {
        match &self.lease {
            None => self.external.calls(self.window(), now),
            Some(_) => self.remote.map_or(0, |remote| remote.in_window(self.window(), now)),
        }
    }

    fn own_usage(&self) -> OwnUsage {
        OwnUsage { size: self.size(), window: self.window(), used: self.own_calls() }
    }

    /// True if a tenth of the limit holds for each second. Responses announce such limits only, so that
    /// other clients are visible.
    fn is_paced(&self) -> bool {
        self.windows.len() > 1
    }

    /// True if this replica detects other clients without the ledger.
    fn is_alone(&self) -> bool {
        self.is_paced() && self.lease.is_none()
    }

    /// True if slots are spaced evenly.
    fn is_spaced(&self, now: Instant) -> bool {
        // Calls that are sent together would all be rejected by a limit that is not known.
        if self.spacing.is_on(now) || self.learned() != [None; 2] {
            return true;
        }
        // Other clients that are known to be active are left their part, which grows by the second.
        if self.is_alone() && self.external.is_active(now) {
            return self.external.should_spread(self.own_usage(), now);
        }
        self.is_awaited
    }

    /// Maximum number of own calls in the longest window, if replicas share the limit. Without the
    /// ledger it can be 0 until calls of other replicas leave the window.
    fn own_part(&self, lease: &ReplicaLease, now: Instant) -> u64 {
        let size = self.size();
        if lease.is_live() {
            return size;
        }
        let replicas = u64::from(lease.replicas());
        let own = self.own_calls();
        let rest = size.saturating_sub(self.other_calls(now));
        // Others may have used some of the own part.
        let part = rest.min(own + rest.saturating_sub(own) / replicas);
        // One less: it may be in flight while replicas come back to the ledger one by one.
        part.min((size / replicas).saturating_sub(1).max(1))
    }

    /// Maximum number of own calls in each window.
    fn window_limits(&self, now: Instant) -> impl Iterator<Item = usize> {
        let limits = match &self.lease {
            None if self.is_paced() => {
                let (own, per_second) = (self.own_usage(), self.limit_of_second(self.size()));
                [
                    self.external.allowance(own, now),
                    self.external.allowance_per_second(own, per_second, now),
                ]
            }
            None => [self.size(); 2],
            Some(lease) => {
                let part = self.own_part(lease, now);
                let in_second = match (self.is_paced(), lease.is_live()) {
                    (false, _) => part,
                    (true, true) => self.limit_of_second(part),
                    // The parts of replicas are small: rounding down would leave much unused.
                    (true, false) => part.div_ceil(SECONDS_OF_LIMIT),
                };
                [part, in_second]
            }
        };
        let learned = &self.learned;
        let limits = limits.into_iter().zip(learned).map(|(limit, learned)| learned.limit(limit));
        limits.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX).max(1))
    }

    /// Time between two slots that are spaced evenly.
    pub(crate) fn gap(&self, now: Instant) -> Duration {
        let in_second = self.window_limits(now).nth(self.windows.len() - 1).unwrap_or(1);
        SECOND / u32::try_from(in_second).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests;

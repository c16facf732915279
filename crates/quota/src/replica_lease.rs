//! One replica's part of a limit that replicas share: the permits it has leased, and what it has to
//! report.
//!
//! A pure state machine: it neither waits nor reads a clock. `ledger_sync` makes the exchanges that it
//! requests.

mod activity;
mod availability;
mod reports;
mod stock;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use self::{
    activity::{Activity, HEARTBEAT},
    availability::Availability,
    reports::{CountedAt, Reports},
    stock::{LeasedPermit, Stock},
};
use crate::{
    clock_offset::ClockOffset,
    ledger::{ExchangeRequest, Grant, LedgerConfig, LedgerObservation},
    observation::ObservedLimit,
};

pub(crate) use self::stock::ALMOST_NOW;

/// Maximum number of permits per request. More would be missing at other replicas while they are in
/// stock here.
pub(crate) const MAX_WANTED: usize = 4;

/// A wanted permit is used or returned within this time. Requests wait for it, so only a stall of the
/// process takes longer.
const HOLD: Duration = Duration::from_millis(100);

/// A spare permit is returned after this time, so that regular calls find it.
const SPARE_HOLD: Duration = Duration::from_secs(1);

/// Time after which the ledger considers a replica silent and reserves a part for it.
pub(crate) const REPLICA_SILENT: Duration = Duration::from_millis(900);

/// The ledger grants no permit further ahead than this.
const MAX_AHEAD: Duration = Duration::from_secs(2);

/// Minimum pause after an exchange without a permit: forty requests per second at most.
const MIN_PAUSE: Duration = Duration::from_millis(25);

/// Parameters of a bucket that the ledger needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitParameters {
    pub(crate) size: u64,
    pub(crate) window: Duration,
    pub(crate) paced: bool,
    pub(crate) transit: [Duration; 2],
    pub(crate) spread: bool,
}

/// Demand reported to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Number of permits that requests wait for.
    Permits(usize),
    /// Detach: leave the limit to the other replicas, because the process ends.
    Leave,
}

/// A replica's part of one limit.
#[derive(Debug)]
pub(crate) struct ReplicaLease {
    replica: Arc<str>,
    availability: Availability,
    /// `None` until the ledger responds. Nothing can be reported without it.
    offset: Option<ClockOffset>,
    stock: Stock,
    reports: Reports,
    observed: Option<LedgerObservation>,
    /// Limits of the windows that were learned and are not reported yet.
    pub(crate) learned: Option<[Option<u64>; 2]>,
    /// Time until which a 429 closes the limit, if that is not reported yet.
    close: Option<Instant>,
    /// Time until which a 429 closes the limit, while its report is in flight.
    closing: Option<Instant>,
    empty_grant: Option<EmptyGrant>,
    /// True if the ledger granted fewer permits for now than requests waited for.
    pub(crate) is_scarce: bool,
    /// Permits that were granted before the oldest that still counts, by the last response of the ledger.
    oldest: u64,
    replicas: u32,
    activity: Activity,
}

/// An exchange without a granted permit. A repeated request is useless before its time.
#[derive(Debug, Clone, Copy)]
struct EmptyGrant {
    is_wanted: bool,
    ahead: bool,
    until: Instant,
}

// === impl ReplicaLease ===

impl ReplicaLease {
    pub(crate) fn new(config: &LedgerConfig, now: Instant) -> Self {
        Self {
            replica: Arc::clone(&config.replica),
            availability: Availability::Starting,
            offset: None,
            stock: Stock::new(now),
            reports: Reports::default(),
            observed: None,
            learned: None,
            close: None,
            closing: None,
            empty_grant: None,
            is_scarce: false,
            oldest: 0,
            replicas: config.expected_replicas.max(1),
            activity: Activity::default(),
        }
    }

    /// True if the ledger grants permits.
    pub(crate) fn is_live(&self) -> bool {
        self.availability.is_live()
    }

    /// True if the ledger has not responded yet, so that requests wait for it.
    pub(crate) fn is_starting(&self) -> bool {
        self.availability == Availability::Starting
    }

    /// True if the ledger is unavailable.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.availability.is_disconnected() && !self.is_starting()
    }

    /// Number of replicas that share the limit.
    pub(crate) fn replicas(&self) -> u32 {
        self.replicas
    }

    /// Permits that were granted before the oldest that still counts.
    pub(crate) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// True if no permit is in stock.
    pub(crate) fn is_empty(&self) -> bool {
        self.stock.is_empty()
    }

    /// Estimated time of the permit after `ahead` others.
    pub(crate) fn opens(&self, ahead: usize, gap: Duration, now: Instant) -> Instant {
        self.stock.opens(ahead, gap, now)
    }

    /// Returns permits that were in stock for too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(number) = self.stock.pop_expired(now) {
            self.reports.add_unused([number]);
        }
    }

    /// Records a taken slot, with or without the ledger.
    pub(crate) fn take(&mut self, slot: u64, now: Instant) {
        self.activity.taken = Some(now);
        let number = self.stock.pop();
        self.reports.take(slot, number);
    }

    /// Records that the call of a slot was sent or ended.
    pub(crate) fn mark_changed(&mut self, slot: u64) {
        // A ledger that comes back gets a report on all slots.
        if !self.availability.is_disconnected() {
            self.reports.mark_changed(slot);
        }
    }

    /// Records that a slot was not used.
    pub(crate) fn release(&mut self, slot: u64) {
        let number = self.reports.release(slot);
        if !self.is_unavailable() {
            self.reports.add_unused(number);
        }
    }

    /// Removes slots before `first`, which have left the window.
    pub(crate) fn forget_before(&mut self, first: u64) {
        self.reports.forget_before(first);
    }

    /// Records an announced limit. `oldest` is from the time at which its call was sent.
    pub(crate) fn observe(
        &mut self,
        limit: ObservedLimit,
        oldest: u64,
        parameters: LimitParameters,
    ) {
        let Some(remaining) = limit.remaining else { return };
        let size = limit.size.unwrap_or(parameters.size);
        self.observed = Some(LedgerObservation {
            size,
            window: limit.window.unwrap_or(parameters.window),
            used: size.saturating_sub(remaining),
            oldest,
        });
    }

    /// Records limits of the windows that were learned from 429s.
    pub(crate) fn learn(&mut self, caps: [Option<u64>; 2]) {
        self.learned = Some(caps);
    }

    /// Records a 429 that closes the limit until then.
    pub(crate) fn close(&mut self, until: Instant) {
        self.close = Some(self.close.map_or(until, |known| known.max(until)));
    }

    /// The request to send now, if there is anything to report or to ask for.
    pub(crate) fn exchange_request(
        &mut self,
        demand: Demand,
        parameters: LimitParameters,
        counted_at: CountedAt<'_>,
        now: Instant,
    ) -> Option<ExchangeRequest> {
        self.expire(now);
        let demand = match demand {
            Demand::Permits(demand) => demand,
            Demand::Leave if self.activity.is_member => {
                self.activity.stop();
                self.reports.add_unused(self.stock.drain());
                0
            }
            Demand::Leave => return None,
        };
        if demand > 0 {
            self.activity.wanted = Some(now);
        }
        if self.availability.is_backing_off(now) {
            return None;
        }
        let is_active = self.activity.is_active(demand, now);
        let leave = !is_active && self.activity.is_member;
        let (want, spare) = if self.is_live() { self.needs(demand, now) } else { (0, 0) };
        if !leave && !self.is_due(is_active, want, spare, now) {
            return None;
        }
        self.closing = self.close.take().filter(|until| *until > now);
        let slots =
            self.offset.map_or_else(Vec::new, |it| self.reports.take_reports(counted_at, it));
        let LimitParameters { size, window, paced, transit, spread } = parameters;
        Some(ExchangeRequest {
            replica: Arc::clone(&self.replica),
            size,
            window,
            paced,
            want,
            spare,
            first: self.reports.reserve(want + spare),
            ahead: self.stock.is_empty(),
            spread,
            hold: HOLD,
            spare_hold: SPARE_HOLD,
            transit,
            slots,
            observed: self.observed.take(),
            learned: self.learned.take(),
            close: self.closing.map(|until| until.saturating_duration_since(now)),
            // A replica that starts has made no call yet.
            detached: !self.is_live() && !self.is_starting(),
            leave,
        })
    }

    /// Applies the response to `request`, which was sent at `sent_at`.
    pub(crate) fn on_grant(
        &mut self,
        request: &ExchangeRequest,
        grant: &Grant,
        sent_at: Instant,
        now: Instant,
    ) {
        self.closing = None;
        let offset = match self.offset {
            Some(offset) => offset.refined(sent_at, grant.now, now),
            None => ClockOffset::new(sent_at, grant.now, now),
        };
        self.offset = Some(offset);
        self.activity.is_member = !request.leave;
        self.activity.exchanged = Some(sent_at);
        if self.availability.is_disconnected() {
            // The ledger may be a new one: the next exchange reports all slots, at once.
            self.reports.mark_all_changed();
            self.activity.exchanged = None;
        }
        self.availability = self.availability.after_response(grant.warming, grant.live_others, now);
        // A ledger that was unavailable may not know all replicas yet.
        let min_replicas = if self.is_live() { 1 } else { self.replicas };
        self.replicas = grant.replicas.max(min_replicas);
        self.oldest = grant.oldest;
        let next = offset.to_local(grant.next);
        self.stock.set_next(next);
        let granted = grant.permits.iter().filter(|from| **from <= grant.now).count();
        self.is_scarce = granted < request.want || self.is_scarce && request.want == 0;
        self.empty_grant = EmptyGrant::after(request, grant, next, now);
        for (number, (index, from)) in (request.first..).zip(grant.permits.iter().enumerate()) {
            let hold = if index < request.want { request.hold } else { request.spare_hold };
            let from = offset.to_local(*from);
            self.stock.push(LeasedPermit { number, from, until: from + hold });
        }
    }

    /// Records that the ledger did not respond. Reports may be lost: the next exchange
    /// reports all slots and a closed limit.
    pub(crate) fn on_unavailable(&mut self, now: Instant) {
        if let Some(until) = self.closing.take() {
            self.close(until);
        }
        self.availability = Availability::after_failure(now);
        self.activity.exchanged = Some(now);
        self.activity.is_member = false;
        self.stock.drain().for_each(drop);
        self.reports.discard();
        self.offset = None;
    }

    /// Time at which a repeated ledger exchange is due without an event.
    pub(crate) fn next_exchange(&self, demand: usize, now: Instant) -> Option<Instant> {
        if !self.activity.is_active(demand, now) && !self.activity.is_member {
            return None;
        }
        let heartbeat = match self.availability {
            Availability::Unavailable(retry_at) => retry_at,
            Availability::Starting => now,
            Availability::Recovering(_) | Availability::Live => self.activity.heartbeat(now),
        };
        let again = self.empty_grant.map(|empty| empty.until).filter(|until| *until > now);
        [self.stock.expires(), again, Some(heartbeat)].into_iter().flatten().min()
    }

    /// Permits to ask for: for requests that wait, and for one that may come.
    fn needs(&self, demand: usize, now: Instant) -> (usize, usize) {
        if self.stock.ends_later(now) {
            return (0, 0);
        }
        let want = demand.saturating_sub(self.stock.len()).min(MAX_WANTED);
        let is_busy = self.activity.is_busy(now);
        (want, usize::from(is_busy && demand == 0 && self.stock.is_empty()))
    }

    /// True if an exchange is due: for permits, as a heartbeat, to join, or with news. A replica that does
    /// not use the limit stays away from it.
    fn is_due(&self, is_active: bool, want: usize, spare: usize, now: Instant) -> bool {
        let asks = want + spare > 0 && !self.is_denied(want > 0, now);
        let heartbeat_due = is_active && self.activity.heartbeat(now) <= now;
        let joins = is_active && self.availability.is_disconnected();
        let has_news = !self.reports.is_empty()
            || self.observed.is_some()
            || self.learned.is_some()
            || self.close.is_some();
        asks || heartbeat_due || joins || (has_news && self.activity.is_member)
    }

    fn is_denied(&self, is_wanted: bool, now: Instant) -> bool {
        self.empty_grant.is_some_and(|empty| {
            let is_same = empty.is_wanted == is_wanted && empty.ahead == self.stock.is_empty();
            is_same && now < empty.until
        })
    }
}

// === impl EmptyGrant ===

impl EmptyGrant {
    /// `Some` if permits were requested and none was granted. The next one is expected at `next`.
    fn after(
        request: &ExchangeRequest,
        grant: &Grant,
        next: Instant,
        now: Instant,
    ) -> Option<Self> {
        if !grant.permits.is_empty() || request.want + request.spare == 0 {
            return None;
        }
        let is_wanted = request.want > 0;
        let until = match (is_wanted, request.ahead) {
            (true, true) => next.checked_sub(MAX_AHEAD).unwrap_or(now),
            (true, false) => next,
            (false, _) => now + HEARTBEAT,
        };
        Some(Self { is_wanted, ahead: request.ahead, until: until.max(now + MIN_PAUSE) })
    }
}

#[cfg(test)]
mod tests;

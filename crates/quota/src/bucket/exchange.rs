//! A bucket's side of the exchanges with the ledger.

use tokio::time::Instant;

use super::{Bucket, WINDOWS};
use crate::{
    ledger::{ExchangeRequest, Grant, TENTHS},
    remote_usage::RemoteUsage,
    replica_lease::{Demand, REPLICA_SILENT},
};

// === impl Bucket ===

impl Bucket {
    /// The request to send to the ledger now, if there is anything to report or to ask for.
    pub(crate) fn exchange_request(
        &mut self,
        demand: Demand,
        now: Instant,
    ) -> Option<ExchangeRequest> {
        self.expire(now);
        let parameters = self.parameters(now);
        let (long, short) = self.windows.split_first()?;
        let counted = |slot| {
            let long = long.counted_at(slot, now)?;
            // A slot that has left the second can still be in the window.
            let short = short.first().and_then(|short| short.counted_at(slot, now));
            Some([long, short.unwrap_or(long)])
        };
        self.lease.as_mut()?.exchange_request(demand, parameters, &counted, now)
    }

    /// Time at which a repeated ledger exchange is due without an event.
    pub(crate) fn next_exchange(&self, demand: usize, now: Instant) -> Option<Instant> {
        self.lease.as_ref()?.next_exchange(demand, now)
    }

    /// Applies the response to `request`, which was sent at `sent_at`.
    pub(crate) fn on_grant(
        &mut self,
        request: &ExchangeRequest,
        grant: &Grant,
        sent_at: Instant,
        now: Instant,
    ) {
        let Some(lease) = self.lease.as_mut() else { return };
        lease.on_grant(request, grant, sent_at, now);
        if lease.learned.is_none() {
            self.adopt_learned(grant.learned, now);
        }
        let all = [grant.used, grant.used_in_second];
        self.calls_of_others = [0, self.windows.len() - 1]
            .map(|index| all[index.min(1)].saturating_sub(self.windows[index].used() as u64));
        self.size = grant.size.max(1);
        if WINDOWS.contains(&grant.window) {
            self.windows[0].set_length(grant.window);
        }
        if !grant.closed.is_zero() {
            // A 429 that came here during the exchange may be news to the ledger.
            self.close_until(now + grant.closed);
        }
        self.remember_others(grant, now);
    }

    /// Records that the ledger did not respond.
    pub(crate) fn on_unavailable(&mut self, now: Instant) {
        let window = self.window();
        let Some(lease) = self.lease.as_mut() else { return };
        if let (false, Some(remote)) = (lease.is_unavailable(), &mut self.remote) {
            // Others have made calls since the last report. If they can still reach the ledger, they
            // also get the part of this replica until its silence is noticed.
            remote.add_unreported(self.size, window, lease.replicas(), REPLICA_SILENT, now);
        }
        lease.on_unavailable(now);
        let caps = self.learned();
        if let Some(lease) = self.lease.as_mut().filter(|_| caps != [None; 2]) {
            lease.learn(caps);
        }
    }

    /// Keeps the calls of others by tenths of the window, for the time without the ledger.
    fn remember_others(&mut self, grant: &Grant, now: Instant) {
        let known = self.other_calls(now);
        let mut tenths = grant.leaving.map(u64::from);
        for (own, all) in self.windows[0].leaving(now).into_iter().zip(&mut tenths) {
            *all = all.saturating_sub(own);
        }
        let replicas: u64 = tenths.iter().sum();
        let external = grant.used.saturating_sub(self.own_calls()).saturating_sub(replicas);
        // A new ledger does not know all calls yet.
        let unknown = if grant.warming { known.saturating_sub(replicas + external) } else { 0 };
        tenths[TENTHS - 1] += external + unknown;
        self.remote = Some(RemoteUsage::reported(tenths, now));
    }
}

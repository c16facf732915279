//! Limits of connections: unidentified ones in their pool, identified ones by caller and by address.

use std::sync::{Arc, atomic::Ordering};

use super::{
    caller_accounts::CallerAccount,
    limits::{CallerShare, LimitSnapshot, SharedLimit, overloaded},
    unidentified::UnidentifiedPool,
};
use crate::leads::Error;

/// Bounds of the pool of unidentified connections: half as many as identified ones, within this range.
const UNIDENTIFIED: std::ops::RangeInclusive<usize> = 64..=2_048;

/// Limits of connections.
#[derive(Debug)]
pub(crate) struct ConnectionLimits {
    identified: SharedLimit,
    max_per_address: usize,
    unidentified: Arc<UnidentifiedPool>,
}

// === impl ConnectionLimits ===

impl ConnectionLimits {
    pub(crate) fn new(max: usize, max_per_address: usize, caller_share: CallerShare) -> Self {
        let unidentified = (max / 2).clamp(*UNIDENTIFIED.start(), *UNIDENTIFIED.end());
        let per_address = caller_share.part_of(unidentified);
        Self {
            identified: SharedLimit::new("connections", max, caller_share),
            max_per_address,
            unidentified: Arc::new(UnidentifiedPool::new(unidentified, per_address)),
        }
    }

    /// Pool of unidentified connections.
    pub(super) fn pool(&self) -> &Arc<UnidentifiedPool> {
        &self.unidentified
    }

    /// Number of connections.
    pub(crate) fn open(&self) -> usize {
        self.identified.used() + self.unidentified.used()
    }

    /// Snapshots of the limits: identified connections, and unidentified ones.
    pub(crate) fn snapshots(&self) -> [LimitSnapshot; 2] {
        [self.identified.snapshot(), self.unidentified.snapshot()]
    }

    /// Acquires a slot for a connection of `caller` from `address`.
    pub(super) fn acquire(
        &self,
        address: &CallerAccount,
        caller: &CallerAccount,
    ) -> Result<(), Error> {
        if address.from_address.fetch_add(1, Ordering::Relaxed) >= self.max_per_address {
            address.from_address.fetch_sub(1, Ordering::Relaxed);
            self.identified.count_rejection();
            let max = self.max_per_address;
            let text = format!("too many connections from this address (limit {max})");
            return Err(overloaded("connections", &text));
        }
        self.identified.try_acquire(&caller.connections, 1).map_err(|exceeded| {
            address.from_address.fetch_sub(1, Ordering::Relaxed);
            self.identified.overloaded(exceeded, "connections")
        })
    }

    /// Releases the slot of a connection.
    pub(super) fn release(&self, address: &CallerAccount, caller: &CallerAccount) {
        self.identified.release(&caller.connections, 1);
        address.from_address.fetch_sub(1, Ordering::Relaxed);
    }
}

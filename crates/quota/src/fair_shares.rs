//! Start-time fair queueing: the position of a caller's next request among those of all callers.
//!
//! Each request gets a tag: the tag of its caller's request before it, plus the cost of that one. The
//! smallest tag is served first. A caller with a long queue has tags far ahead; a caller with a single
//! request gets the tag that is being served now, and is next. The cost of a permit is divided by the
//! weight of the caller.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::requester::{Caller, Priority};

/// Cost of a permit for a caller of weight 1. Large, so that parts of it for members of batches and for
/// weights up to 1,000 stay exact enough.
const PERMIT_COST: u64 = 1 << 32;

/// Maximum number of callers remembered without a queued request. Callers name themselves: with a new
/// name for each request the map would grow without bound.
const MAX_IDLE_CALLERS: usize = 10_000;

/// Charges between two searches for callers that can be forgotten, which visit all of them.
const PRUNE_INTERVAL: u64 = 1_024;

/// Position in a queue. The smallest is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueKey {
    pub(crate) priority: Priority,
    tag: u64,
    order: u64,
}

/// Positions of all callers.
#[derive(Debug)]
pub(crate) struct FairShares {
    weights: Arc<BTreeMap<String, u32>>,
    callers: HashMap<Caller, CallerState>,
    /// Tag that was served last, for each priority.
    served: [u64; 2],
    /// Number of positions given out.
    orders: u64,
}

#[derive(Debug, Default)]
struct CallerState {
    /// Tag after its newest request, for each priority.
    tags: [u64; 2],
    queued: BTreeSet<QueueKey>,
}

// === impl QueueKey ===

impl QueueKey {
    /// Smallest position of a bulk request.
    pub(crate) const FIRST_BULK: Self = Self { priority: Priority::Bulk, tag: 0, order: 0 };
}

// === impl FairShares ===

impl FairShares {
    /// `weights` are those of unauthenticated callers by name.
    pub(crate) fn new(weights: Arc<BTreeMap<String, u32>>) -> Self {
        Self { weights, callers: HashMap::new(), served: [0; 2], orders: 0 }
    }

    /// Weight of a caller, at least 1.
    pub(crate) fn weight(&self, caller: &Caller) -> u32 {
        let by_name = || self.weights.get(caller.as_str()).copied();
        caller.weight().or_else(by_name).unwrap_or(1).max(1)
    }

    /// Cost of a permit for a caller.
    pub(crate) fn cost(&self, caller: &Caller) -> u64 {
        PERMIT_COST / u64::from(self.weight(caller))
    }

    /// Number of queued requests of a caller.
    pub(crate) fn queued(&self, caller: &Caller) -> usize {
        self.callers.get(caller).map_or(0, |state| state.queued.len())
    }

    /// Callers with queued requests, and their number.
    pub(crate) fn queued_callers(&self) -> impl Iterator<Item = (&Caller, usize)> {
        let all = self.callers.iter().map(|(caller, state)| (caller, state.queued.len()));
        all.filter(|(_, queued)| *queued > 0)
    }

    /// Position of the caller's next request.
    pub(crate) fn next_key(&self, caller: &Caller, priority: Priority) -> QueueKey {
        let class = priority as usize;
        let own = self.callers.get(caller).map_or(0, |state| state.tags[class]);
        QueueKey { priority, tag: own.max(self.served[class]), order: self.orders }
    }

    /// Charges a caller for a request that takes a permit without waiting.
    pub(crate) fn serve_now(&mut self, caller: &Caller, priority: Priority) {
        let key = self.next_key(caller, priority);
        self.charge(key, caller, self.cost(caller));
        self.advance(key);
    }

    /// Queues a request at `key`, and charges its caller.
    pub(crate) fn enqueue(&mut self, key: QueueKey, caller: &Caller, charge: u64) {
        self.charge(key, caller, charge).queued.insert(key);
    }

    /// Removes a request that is served, or whose charge is to be refunded.
    pub(crate) fn dequeue(&mut self, key: QueueKey, caller: &Caller) {
        if let Some(state) = self.callers.get_mut(caller) {
            state.queued.remove(&key);
        }
    }

    /// Refunds the charge of a cancelled request. The caller's next request is still ordered after
    /// its queued requests.
    pub(crate) fn refund(&mut self, key: QueueKey, caller: &Caller, charge: u64) {
        if let Some(state) = self.callers.get_mut(caller) {
            let same = |other: &&QueueKey| other.priority == key.priority;
            let newest = state.queued.iter().rev().find(same).map_or(0, |newest| newest.tag);
            let tag = &mut state.tags[key.priority as usize];
            *tag = tag.saturating_sub(charge).max(newest);
        }
    }

    /// Charges a caller in addition to what its request was charged when it was queued.
    pub(crate) fn charge_more(&mut self, caller: &Caller, priority: Priority, charge: u64) {
        if let Some(state) = self.callers.get_mut(caller) {
            let tag = &mut state.tags[priority as usize];
            *tag = tag.saturating_add(charge);
        }
    }

    /// Records that requests up to `key` are served.
    pub(crate) fn advance(&mut self, key: QueueKey) {
        let served = &mut self.served[key.priority as usize];
        *served = key.tag.max(*served);
    }

    /// Forgets all callers.
    pub(crate) fn clear(&mut self) {
        self.callers.clear();
    }

    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.callers.len()
    }

    /// Records a taken position: the caller's next one is later by `charge`.
    fn charge(&mut self, key: QueueKey, caller: &Caller, charge: u64) -> &mut CallerState {
        self.orders += 1;
        if self.orders.is_multiple_of(PRUNE_INTERVAL) {
            self.prune();
        }
        let state = self.callers.entry(caller.clone()).or_default();
        state.tags[key.priority as usize] = key.tag.saturating_add(charge);
        state
    }

    /// Forgets callers with nothing queued whose tags are served, and all with nothing queued if there
    /// are too many.
    fn prune(&mut self) {
        let served = self.served;
        let is_crowded = self.callers.len() > MAX_IDLE_CALLERS;
        self.callers.retain(|_, state| {
            let is_ahead = state.tags.iter().zip(served).any(|(tag, served)| *tag > served);
            !state.queued.is_empty() || (!is_crowded && is_ahead)
        });
    }
}

#[cfg(test)]
mod tests;

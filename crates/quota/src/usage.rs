//! Use of the slots of a window by callers.

use std::collections::VecDeque;

use crate::requester::Caller;

/// The callers of the requests that share one permit.
#[derive(Debug)]
pub(crate) enum Users {
    /// One request.
    Single(Caller),
    /// A batch: each caller with its number of requests.
    Batch(Vec<(Caller, u32)>),
}

/// Users of each slot in the window, the oldest slot first.
#[derive(Debug, Default)]
pub(crate) struct Usage(VecDeque<(u64, Users)>);

// === impl Usage ===

impl Usage {
    /// Records the users of a new slot.
    pub(crate) fn record(&mut self, slot: u64, users: Users) {
        self.0.push_back((slot, users));
    }

    /// Removes a slot that was not used.
    pub(crate) fn remove(&mut self, slot: u64) {
        self.0.retain(|(own, _)| *own != slot);
    }

    /// Removes all slots before `first`.
    pub(crate) fn expire(&mut self, first: u64) {
        while self.0.front().is_some_and(|(slot, _)| *slot < first) {
            self.0.pop_front();
        }
    }

    /// Each use with its part of a permit. A caller can occur more than once.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Caller, f64)> {
        self.0.iter().flat_map(|(_, users)| {
            let (single, batch) = match users {
                Users::Single(caller) => (Some((caller, 1.0)), [].as_slice()),
                Users::Batch(users) => (None, users.as_slice()),
            };
            let all: u32 = batch.iter().map(|(_, requests)| requests).sum();
            let part = move |requests: u32| f64::from(requests) / f64::from(all.max(1));
            let batch = batch.iter().map(move |(caller, requests)| (caller, part(*requests)));
            single.into_iter().chain(batch)
        })
    }
}

#[cfg(test)]
mod tests;

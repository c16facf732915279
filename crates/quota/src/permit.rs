//! The right to make one HubSpot call, released on every outcome.

use std::{fmt, mem, sync::Arc};

use crate::{
    bucket_name::BucketName,
    observation::{Baseline, Observation},
};

/// The account that issued a permit, as far as the permit needs it.
pub(crate) trait Issuer: fmt::Debug + Send + Sync {
    /// Records that the request of this slot is sent now, for this many leads.
    fn mark_sent(&self, bucket: BucketName, slot: u64, leads: usize) -> Baseline;
    /// Records that the request of this slot ended, with or without a response.
    fn finish(&self, bucket: BucketName, slot: u64, response: Option<(Observation, Baseline)>);
    /// Records that the slot was not used.
    fn release_unused(&self, bucket: BucketName, slot: u64);
}

/// The right to make one HubSpot call.
///
/// - Dropped before [`Permit::mark_sent`]: the slot is free again at once.
/// - Dropped after it: the slot counts for one window from the drop, because HubSpot may have counted
///   the request until then.
/// - [`Permit::observe`]: the same, and the limits in the response are learned.
#[derive(Debug)]
pub struct Permit {
    issuer: Arc<dyn Issuer>,
    bucket: BucketName,
    slot: u64,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Unsent,
    Sent(Baseline),
    Released,
}

// === impl Permit ===

impl Permit {
    pub(crate) fn new(issuer: Arc<dyn Issuer>, bucket: BucketName, slot: u64) -> Self {
        Self { issuer, bucket, slot, state: State::Unsent }
    }

    /// The bucket that the permit counts against.
    pub fn bucket(&self) -> BucketName {
        self.bucket
    }

    /// Marks the request as sent now, for this many leads. Only the first call counts.
    pub fn mark_sent(&mut self, leads: usize) {
        match self.state {
            State::Unsent => {
                self.state = State::Sent(self.issuer.mark_sent(self.bucket, self.slot, leads));
            }
            State::Sent(_) | State::Released => {}
        }
    }

    /// Releases the permit with the limits that the response announces.
    pub fn observe(mut self, observation: Observation) {
        self.release(Some(observation));
    }

    fn release(&mut self, observation: Option<Observation>) {
        match mem::replace(&mut self.state, State::Released) {
            State::Unsent => self.issuer.release_unused(self.bucket, self.slot),
            State::Sent(baseline) => {
                let response = observation.map(|observation| (observation, baseline));
                self.issuer.finish(self.bucket, self.slot, response);
            }
            State::Released => {}
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release(None);
    }
}

#[cfg(test)]
mod tests;

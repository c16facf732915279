//! The right to make one HubSpot call, and the way back for what its answer says.

use std::{sync::Arc, time::Duration};

use super::{
    BucketName,
    account::Account,
    bucket::{ObservedLimit, Oldest},
};

/// The right to make one call. Unused, it goes back when dropped; used, its time counts from when
/// the answer came, or from when it was dropped.
#[derive(Debug)]
pub struct Permit {
    account: Arc<Account>,
    bucket: BucketName,
    number: u64,
    /// Once sent: the oldest call that HubSpot may have counted.
    sent: Option<Oldest>,
}

/// What an answer says about the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observation {
    /// Of the bucket that the permit is of.
    pub limit: ObservedLimit,
    /// Calls a day.
    pub daily: Option<u64>,
    /// Calls left of them.
    pub daily_remaining: Option<u64>,
    /// HubSpot refused the call for its limits.
    pub rate_limited: Option<RateLimited>,
}

/// Which limit HubSpot has refused a call for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimited {
    /// That of the bucket the permit is of; for how long.
    Bucket(Duration),
    /// That of the day.
    Daily,
}

// === impl Permit ===

impl Permit {
    pub(super) fn new(account: Arc<Account>, bucket: BucketName, number: u64) -> Self {
        Self { account, bucket, number, sent: None }
    }

    /// Which bucket it is of.
    pub fn bucket(&self) -> BucketName {
        self.bucket
    }

    /// Marks the request as sent now, for so many leads. Only the first call counts.
    pub fn mark_sent(&mut self, leads: usize) {
        if self.sent.is_none() {
            self.sent = Some(self.account.sent(self.bucket, self.number, leads));
        }
    }

    /// Releases the permit with the limits that the response announces.
    pub fn observe(self, observation: Observation) {
        if let Some(oldest) = self.sent {
            self.account.heard(self.bucket, observation, self.number, oldest);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match self.sent {
            Some(_) => self.account.done(self.bucket, self.number),
            None => self.account.give_back(self.bucket, self.number),
        }
    }
}

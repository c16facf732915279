//! The right to make one HubSpot call, and the way back for what its answer says.

use std::{sync::Arc, time::Duration};

use super::{
    BucketName,
    account::Account,
    bucket::{Oldest, Told},
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
pub struct Heard {
    /// Of the bucket that the permit is of.
    pub told: Told,
    /// Calls a day.
    pub daily: Option<u64>,
    /// Calls left of them.
    pub daily_remaining: Option<u64>,
    /// HubSpot refused the call for its limits.
    pub refused: Option<Refused>,
}

/// Which limit HubSpot has refused a call for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// That of the bucket the permit is of; for how long.
    Bucket(Duration),
    /// That of the day.
    Day,
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

    /// So many leads are what the call is about, by the count of what permits are used for.
    pub fn is_about(&self, leads: usize) {
        self.account.count_leads(self.bucket, leads);
    }

    /// The call is sent now.
    pub fn sent(&mut self) {
        if self.sent.is_none() {
            self.sent = Some(self.account.sent(self.bucket, self.number));
        }
    }

    /// The answer is here.
    pub fn answered(self, heard: Heard) {
        if let Some(oldest) = self.sent {
            self.account.heard(self.bucket, heard, self.number, oldest);
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

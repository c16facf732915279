//! Read models of an account, for metrics and the quota service.

use std::{sync::Arc, time::Duration};

use crate::{
    bucket_name::BucketName, requester::Caller, wait_histogram::WaitHistogram,
    write_queue::WriteQueueSnapshot,
};

/// The quota of one portal at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountSnapshot {
    /// The portal.
    pub portal: Arc<str>,
    /// Limits of the account: burst, search, daily.
    pub buckets: Vec<BucketSnapshot>,
    /// Writes that wait for an earlier write to the same lead.
    pub write_queue: WriteQueueSnapshot,
}

/// One limit at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketSnapshot {
    /// Name of the limit.
    pub name: BucketName,
    /// Calls allowed in the window. `None` for no limit.
    pub size: Option<u64>,
    /// Length of the window. For the daily limit, the rest of the day.
    pub window: Duration,
    /// Calls in the window, of this replica and of other known clients.
    pub used: u64,
    /// Time until the next call may be made, zero if one may be made now. For the daily limit, the rest
    /// of the day.
    pub reset: Duration,
    /// Duration for which a 429 keeps the limit closed; zero if it is open.
    pub closed: Duration,
    /// Requests in the queue.
    pub waiting: usize,
    /// Callers with calls in the window or in the queue, sorted by name.
    pub callers: Vec<CallerSnapshot>,
    /// Counters since the start.
    pub counts: BucketCounters,
    /// State of the ledger. `None` if replicas do not share the limit.
    pub ledger: Option<LedgerSnapshot>,
}

/// State of the ledger of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerSnapshot {
    /// True if the ledger is unavailable, so that each replica keeps to its own part.
    pub is_unavailable: bool,
    /// Replicas that use the limit, as last reported.
    pub replicas: u32,
}

/// Usage of one caller.
#[derive(Debug, Clone, PartialEq)]
pub struct CallerSnapshot {
    /// The caller.
    pub caller: Caller,
    /// Weight of the caller. Quota is divided among waiting callers in proportion to weight.
    pub weight: u32,
    /// Calls in the window. A batch counts for each of its callers in proportion.
    pub used: f64,
    /// Requests in the queue.
    pub waiting: usize,
}

/// Counters of one bucket since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketCounters {
    /// HubSpot calls sent.
    pub permits: u64,
    /// Requests that were sent with these calls.
    pub calls: u64,
    /// Leads that these calls were for. A page and a search count as one.
    pub leads: u64,
    /// Waiting times of the requests that waited for a permit.
    pub waits: WaitHistogram,
    /// Requests rejected because the permit would come after their deadline.
    pub deadline: u64,
    /// Requests rejected because the queue is full.
    pub queue_full: u64,
    /// Requests rejected because the calls of the day are exhausted.
    pub exhausted: u64,
    /// Calls that HubSpot rejected with 429.
    pub upstream_429: u64,
}

// === impl BucketSnapshot ===

impl BucketSnapshot {
    /// Calls left in the window. `None` for no limit.
    pub fn remaining(&self) -> Option<u64> {
        self.size.map(|size| size.saturating_sub(self.used))
    }
}

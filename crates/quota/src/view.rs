//! How a quota stands, for those who look at it from outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{BucketName, Caller};

/// The quota of one portal.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountSnapshot {
    /// The portal.
    pub portal: Arc<str>,
    /// Its limits.
    pub buckets: Vec<BucketSnapshot>,
    /// Writes that wait for an earlier one to the same lead.
    pub write_queue: WriteQueueSnapshot,
}

/// Writes that wait for an earlier one to the same lead, before they wait for a permit.
#[derive(Debug, Default)]
pub struct WriteQueueStats {
    waiting: AtomicUsize,
    deadline: AtomicU64,
    queue_full: AtomicU64,
}

/// What waits for an earlier write to the same lead, and what was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteQueueSnapshot {
    /// Writes that wait.
    pub waiting: usize,
    /// Writes refused because their turn would have come too late.
    pub deadline: u64,
    /// Writes refused because too many were waiting.
    pub queue_full: u64,
}

/// One limit.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketSnapshot {
    /// Which.
    pub name: BucketName,
    /// Calls in the window; `None` for no limit.
    pub size: Option<u64>,
    /// Length of the window; for the day, what is left of it.
    pub window: Duration,
    /// Calls in the window, ours and those of others that HubSpot told of.
    pub used: u64,
    /// Time until the next call may go; zero if one may go now. For the day: until it is over.
    pub reset: Duration,
    /// How long a refusal by HubSpot keeps it closed; zero if it is open.
    pub closed: Duration,
    /// Calls that wait.
    pub waiting: usize,
    /// Who has used it within the window or waits for it, in order of their names.
    pub callers: Vec<CallerSnapshot>,
    /// What has happened so far.
    pub counts: BucketCounters,
    /// With whom the limit is shared; `None` if it is not.
    pub ledger: Option<LedgerSnapshot>,
}

/// How a limit is shared among replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerSnapshot {
    /// Whether the shared store cannot be reached: then each replica keeps to its part.
    pub is_unavailable: bool,
    /// Replicas that use the limit, as far as is known.
    pub replicas: u32,
}

/// One caller's part.
#[derive(Debug, Clone, PartialEq)]
pub struct CallerSnapshot {
    /// Who.
    pub caller: Caller,
    /// Shares: with all of them waiting, each caller gets as much as its shares are of all.
    pub weight: u32,
    /// Calls in the window; one that went together with others counts as its part.
    pub used: f64,
    /// Calls that wait.
    pub waiting: usize,
}

/// What has happened to one bucket since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketCounters {
    /// Permits used: HubSpot calls sent.
    pub permits: u64,
    /// Calls that went with them.
    pub calls: u64,
    /// Leads that the HubSpot calls were about; a page and a search count as one.
    pub leads: u64,
    /// How many of these calls have waited.
    pub waits: u64,
    /// How long, all together.
    pub waited: Duration,
    /// Calls refused because their permit would have come too late.
    pub deadline: u64,
    /// Calls refused because too many were waiting.
    pub queue_full: u64,
    /// Calls refused because the day's were used up.
    pub exhausted: u64,
    /// Refusals by HubSpot: there should be none.
    pub upstream_429: u64,
}

// === impl WriteQueueStats ===

impl WriteQueueStats {
    /// Sets how many writes wait.
    pub fn set_waiting(&self, writes: usize) {
        self.waiting.store(writes, Ordering::Relaxed);
    }

    /// Counts a write that was rejected because its turn would come after its deadline.
    pub fn count_deadline(&self) {
        self.deadline.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a write that was rejected because too many writes wait.
    pub fn count_queue_full(&self) {
        self.queue_full.fetch_add(1, Ordering::Relaxed);
    }

    /// The statistics now.
    pub fn snapshot(&self) -> WriteQueueSnapshot {
        WriteQueueSnapshot {
            waiting: self.waiting.load(Ordering::Relaxed),
            deadline: self.deadline.load(Ordering::Relaxed),
            queue_full: self.queue_full.load(Ordering::Relaxed),
        }
    }
}

// === impl BucketSnapshot ===

impl BucketSnapshot {
    /// Calls left in the window; `None` for no limit.
    pub fn remaining(&self) -> Option<u64> {
        self.size.map(|size| size.saturating_sub(self.used))
    }
}

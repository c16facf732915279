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
pub struct View {
    /// The portal.
    pub portal: Arc<str>,
    /// Its limits.
    pub buckets: Vec<BucketView>,
    /// Writes that wait for an earlier one to the same lead.
    pub turns: TurnsView,
}

/// Writes that wait for an earlier one to the same lead, before they wait for a permit.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: AtomicUsize,
    late: AtomicU64,
    full: AtomicU64,
}

/// What waits for an earlier write to the same lead, and what was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TurnsView {
    /// Writes that wait.
    pub waiting: usize,
    /// Writes refused because their turn would have come too late.
    pub late: u64,
    /// Writes refused because too many were waiting.
    pub full: u64,
}

/// One limit.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketView {
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
    pub callers: Vec<CallerView>,
    /// What has happened so far.
    pub counts: Counts,
    /// With whom the limit is shared; `None` if it is not.
    pub sharing: Option<SharingView>,
}

/// How a limit is shared among replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharingView {
    /// Whether the shared store cannot be reached: then each replica keeps to its part.
    pub is_away: bool,
    /// Replicas that use the limit, as far as is known.
    pub replicas: u32,
}

/// One caller's part.
#[derive(Debug, Clone, PartialEq)]
pub struct CallerView {
    /// Who.
    pub caller: Caller,
    /// Shares: with all of them waiting, each caller gets as much as its shares are of all.
    pub shares: u32,
    /// Calls in the window; one that went together with others counts as its part.
    pub used: f64,
    /// Calls that wait.
    pub waiting: usize,
}

/// What has happened to one bucket since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
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
    pub late: u64,
    /// Calls refused because too many were waiting.
    pub full: u64,
    /// Calls refused because the day's were used up.
    pub used_up: u64,
    /// Refusals by HubSpot: there should be none.
    pub upstream: u64,
}

// === impl Turns ===

impl Turns {
    /// So many wait now.
    pub fn set_waiting(&self, writes: usize) {
        self.waiting.store(writes, Ordering::Relaxed);
    }

    /// One is refused: because too many wait, or because its turn would come too late.
    pub fn refuse(&self, is_full: bool) {
        let count = if is_full { &self.full } else { &self.late };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How they stand.
    pub fn view(&self) -> TurnsView {
        TurnsView {
            waiting: self.waiting.load(Ordering::Relaxed),
            late: self.late.load(Ordering::Relaxed),
            full: self.full.load(Ordering::Relaxed),
        }
    }
}

// === impl BucketView ===

impl BucketView {
    /// Calls left in the window; `None` for no limit.
    pub fn remaining(&self) -> Option<u64> {
        self.size.map(|size| size.saturating_sub(self.used))
    }
}

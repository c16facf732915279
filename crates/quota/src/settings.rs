//! Configuration of the quotas.

use std::{collections::BTreeMap, time::Duration};

use leadsd_base::time::Zone;

use crate::ledger::LedgerConfig;

/// Bounds of the queue for one bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    /// Maximum number of requests.
    pub(crate) max: usize,
    /// Maximum number of requests of one caller.
    pub(crate) max_per_caller: usize,
}

/// Limits until HubSpot's response headers announce others, and bounds of the queues.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Calls in a window.
    pub burst: u64,
    /// Length of the window.
    pub burst_window: Duration,
    /// Searches in a second.
    pub search_per_second: u64,
    /// Calls in a day. `None` for no limit.
    pub daily: Option<u64>,
    /// Maximum number of requests queued for one bucket of one portal.
    pub max_queue: usize,
    /// Maximum number of calls in progress for one bucket of one portal.
    pub max_concurrency: usize,
    /// Part of `max_queue` that one caller may hold, from 0 to 1.
    pub max_caller_share: f64,
    /// Weights of unauthenticated callers by name. The default is 1.
    pub weights: BTreeMap<String, u32>,
    /// Time zones of portals, for the end of the day.
    pub zones: BTreeMap<String, Zone>,
    /// Time zone of all other portals.
    pub zone: Zone,
    /// Ledger that replicas share; `None` if each replica counts alone.
    pub ledger: Option<LedgerConfig>,
}

// === impl QueueLimits ===

impl QueueLimits {
    /// Limits of a queue of which one caller may hold this part, rounded up and at least one request.
    #[expect(clippy::cast_possible_truncation, reason = "the part is at most `max`")]
    pub(crate) fn new(max: usize, caller_share: f64) -> Self {
        let part = (max as f64 * caller_share).ceil() as usize;
        Self { max, max_per_caller: part.clamp(1, max.max(1)) }
    }
}

//! Configuration of the quotas.

use std::{collections::BTreeMap, time::Duration};

use leadsd_base::time::Zone;

use crate::ledger::LedgerConfig;

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
    /// Weights of unauthenticated callers by name. The default is 1.
    pub weights: BTreeMap<String, u32>,
    /// Time zones of portals, for the end of the day.
    pub zones: BTreeMap<String, Zone>,
    /// Time zone of all other portals.
    pub zone: Zone,
    /// Ledger that replicas share; `None` if each replica counts alone.
    pub ledger: Option<LedgerConfig>,
}

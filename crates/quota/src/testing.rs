//! Doubles for tests of this and other crates, in simulated time.
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! use leadsd_quota::{
//!     LedgerConfig, Quota, Settings,
//!     testing::{InMemoryLedger, SimulatedClock, settings},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let ledger = InMemoryLedger::new(Duration::from_micros(200));
//! let settings =
//!     Settings { ledger: Some(LedgerConfig::new(ledger, "replica-1", 2)), ..settings(190) };
//! let clock = SimulatedClock::starting_at("2026-03-01T12:00:00Z".parse().unwrap());
//! let account = Quota::new(settings, Arc::new(clock)).account("default");
//! # }
//! ```

mod in_memory_ledger;

use std::{collections::BTreeMap, time::Duration};

use leadsd_base::time::{Timestamp, WallClock, Zone};
use tokio::time::Instant;

pub use self::in_memory_ledger::InMemoryLedger;
#[cfg(test)]
pub(crate) use self::in_memory_ledger::LedgerEntry;
use crate::settings::Settings;

/// A wall clock that runs with tokio's time, paused or not.
#[derive(Debug)]
pub struct SimulatedClock {
    created: Instant,
    start: Timestamp,
}

// === impl SimulatedClock ===

impl SimulatedClock {
    /// A clock that shows `start` now.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { created: Instant::now(), start }
    }
}

impl WallClock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.start.checked_add(self.created.elapsed()).unwrap_or(Timestamp::MAX)
    }
}

/// Settings of a portal that allows `burst` calls in ten seconds and five searches in a second, without
/// a daily limit and without a ledger. One caller may fill the queue.
pub fn settings(burst: u64) -> Settings {
    Settings {
        burst,
        burst_window: Duration::from_secs(10),
        search_per_second: 5,
        daily: None,
        max_queue: 10_000,
        max_concurrency: 1_000,
        max_caller_share: 1.0,
        weights: BTreeMap::new(),
        zones: BTreeMap::new(),
        zone: Zone::default(),
        ledger: None,
    }
}

//! Memory pressure: the resident memory of the process against its limit.
//!
//! The kernel kills a process that exceeds the limit of its cgroup. Work is rejected before that, by the
//! [`PressureLevel`]:
//!
//! - A supervised task compares the resident memory with the limit ten times a second.
//! - [`MemoryPressure::level`] is one relaxed load, for the path of each call.
//! - A level ends five percent below the value at which it begins, so that it does not alternate.

mod cgroup;
mod resident;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

pub use self::{cgroup::cgroup_limit, resident::resident_bytes};
use crate::{supervise::Supervisor, task::Task};

/// Interval between two measurements. In this time, a client cannot fill the memory between two levels.
const INTERVAL: Duration = Duration::from_millis(100);

/// Percentage of the limit at which [`PressureLevel::High`] begins.
const HIGH: u64 = 80;

/// Percentage of the limit at which [`PressureLevel::Critical`] begins.
const CRITICAL: u64 = 90;

/// Percentage by which the resident memory falls below the start of a level before the level ends.
const HYSTERESIS: u64 = 5;

/// Level of memory pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PressureLevel {
    /// Less than 80 % of the limit, or no limit.
    #[default]
    Normal,
    /// At least 80 % of the limit.
    High,
    /// At least 90 % of the limit.
    Critical,
}

/// Resident memory and its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Resident memory in bytes at the last measurement.
    pub resident: u64,
    /// Limit in bytes.
    pub limit: u64,
}

/// Handle to the memory pressure of the process. The default has no limit.
#[derive(Debug, Clone, Default)]
pub struct MemoryPressure(Arc<State>);

#[derive(Debug, Default)]
struct State {
    level: AtomicU8,
    resident: AtomicU64,
    /// `None` without a limit.
    limit: Option<u64>,
}

// === impl PressureLevel ===

impl PressureLevel {
    /// Level at this percentage of the limit, after `self`.
    fn next(self, percent: u64) -> Self {
        let begins =
            |level: Self, at: u64| percent >= if self >= level { at - HYSTERESIS } else { at };
        if begins(Self::Critical, CRITICAL) {
            Self::Critical
        } else if begins(Self::High, HIGH) {
            Self::High
        } else {
            Self::Normal
        }
    }
}

// === impl MemoryUsage ===

impl MemoryUsage {
    /// Resident memory as a percentage of the limit.
    pub fn percent(self) -> u64 {
        self.resident.saturating_mul(100) / self.limit.max(1)
    }
}

// === impl MemoryPressure ===

impl MemoryPressure {
    /// Starts to measure with `resident`, which returns the resident memory in bytes, or `None` if it
    /// cannot be read. Dropping the task keeps the last level.
    pub fn watch(
        limit: u64,
        resident: impl Fn() -> Option<u64> + Clone + Send + Sync + 'static,
    ) -> (Self, Task) {
        let pressure = Self(Arc::new(State { limit: Some(limit), ..State::default() }));
        // The first level is known before the first call.
        pressure.measure(&resident);
        let measured = pressure.clone();
        let task = Supervisor::new("memory pressure", "").spawn(move || {
            let (pressure, resident) = (measured.clone(), resident.clone());
            async move {
                let mut ticks = interval(INTERVAL);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    pressure.measure(&resident);
                }
            }
        });
        (pressure, task)
    }

    /// Current level.
    pub fn level(&self) -> PressureLevel {
        match self.0.level.load(Ordering::Relaxed) {
            0 => PressureLevel::Normal,
            1 => PressureLevel::High,
            _ => PressureLevel::Critical,
        }
    }

    /// Level if the resident memory were larger by `bytes`, at least the current one.
    pub fn level_with(&self, bytes: u64) -> PressureLevel {
        let level = self.level();
        self.usage().map_or(level, |MemoryUsage { resident, limit }| {
            let resident = resident.saturating_add(bytes);
            level.max(PressureLevel::Normal.next(MemoryUsage { resident, limit }.percent()))
        })
    }

    /// Usage at the last measurement; `None` without a limit.
    pub fn usage(&self) -> Option<MemoryUsage> {
        let State { level: _, resident, limit } = &*self.0;
        let resident = resident.load(Ordering::Relaxed);
        limit.map(|limit| MemoryUsage { resident, limit })
    }

    fn measure(&self, resident: impl Fn() -> Option<u64>) {
        // Without a measurement, no work is rejected.
        self.0.resident.store(resident().unwrap_or(0), Ordering::Relaxed);
        let Some(usage) = self.usage() else { return };
        let before = self.level();
        let level = before.next(usage.percent());
        self.0.level.store(level as u8, Ordering::Relaxed);
        let MemoryUsage { resident, limit } = usage;
        if level > before {
            warn!(
                memory.resident = resident,
                memory.limit = limit,
                "Memory pressure rose: rejecting large requests, and from 90 % of the limit most calls"
            );
        } else if level < before {
            info!(memory.resident = resident, memory.limit = limit, "Memory pressure fell");
        }
    }
}

#[cfg(test)]
mod tests;

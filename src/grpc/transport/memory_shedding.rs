//! Rejects calls and bytes while the process is close to its memory limit, so that the kernel does not
//! kill it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::limits::overloaded;
use crate::leads::Error;
use leadsd_base::memory::{MemoryPressure, PressureLevel};

/// Name of the limit in errors and metrics.
pub(crate) const PROCESS_MEMORY: &str = "process_memory";

/// Size in bytes above which a request or response is large. Those of single leads are far smaller.
pub(super) const LARGE_MESSAGE: usize = 64 << 10;

/// Bytes of memory that a charged byte of a request or response takes later: decoded, and encoded for
/// HubSpot. They are not resident yet when the next request is admitted.
const EXPANSION: usize = 2;

/// Load shedding by the memory pressure of the process.
#[derive(Debug, Default)]
pub(crate) struct MemoryShedding {
    pressure: MemoryPressure,
    rejected: AtomicU64,
}

// === impl MemoryShedding ===

impl MemoryShedding {
    pub(crate) fn new(pressure: MemoryPressure) -> Self {
        Self { pressure, rejected: AtomicU64::new(0) }
    }

    /// Memory pressure of the process.
    pub(crate) fn pressure(&self) -> &MemoryPressure {
        &self.pressure
    }

    /// Number of rejected calls.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Admits a new call that is no health probe. At the critical level, only small reads are admitted.
    pub(crate) fn admit_call(&self, is_small_read: impl Fn() -> bool) -> Result<(), Error> {
        match self.pressure.level() {
            PressureLevel::Normal | PressureLevel::High => Ok(()),
            PressureLevel::Critical if is_small_read() => Ok(()),
            PressureLevel::Critical => {
                Err(self.reject("only reads of a single lead, of quota and of health are served"))
            }
        }
    }

    /// Admits the growth of a request or response from `before` to `bytes`, while all calls are charged `charged` bytes.
    /// From the high level on, none becomes large; at the critical level, large ones stop to grow.
    pub(crate) fn admit_bytes(
        &self,
        before: usize,
        bytes: usize,
        charged: usize,
    ) -> Result<(), Error> {
        if bytes <= LARGE_MESSAGE {
            return Ok(());
        }
        let expected = charged.saturating_add(bytes - before).saturating_mul(EXPANSION);
        let expected = u64::try_from(expected).unwrap_or(u64::MAX);
        let admitted = match self.pressure.level_with(expected) {
            PressureLevel::Normal => true,
            PressureLevel::High => before > LARGE_MESSAGE,
            PressureLevel::Critical => false,
        };
        if admitted {
            return Ok(());
        }
        Err(self.reject(&format!("messages over {LARGE_MESSAGE} bytes are rejected")))
    }

    fn reject(&self, consequence: &str) -> Error {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        let cause = match self.pressure.usage() {
            Some(usage) => format!(
                "the service is close to its memory limit ({} of {} bytes in use): {consequence}",
                usage.resident, usage.limit
            ),
            None => format!("the service is close to its memory limit: {consequence}"),
        };
        overloaded(PROCESS_MEMORY, &cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::Reason;

    /// Shedding at this percentage of a limit of 100 MiB.
    fn at(percent: u64) -> MemoryShedding {
        let (pressure, task) = MemoryPressure::watch(100 << 20, move || Some(percent << 20));
        task.detach();
        MemoryShedding::new(pressure)
    }

    #[tokio::test(start_paused = true)]
    async fn the_high_level_rejects_new_large_requests() {
        let shedding = at(80);
        shedding.admit_call(|| false).unwrap();
        shedding.admit_bytes(0, LARGE_MESSAGE, 0).unwrap();
        shedding.admit_bytes(LARGE_MESSAGE + 1, 1 << 20, 0).expect("an admitted request continues");
        let error = shedding.admit_bytes(0, LARGE_MESSAGE + 1, 0).unwrap_err();
        assert_eq!((error.reason(), error.bucket()), (Reason::Overloaded, Some(PROCESS_MEMORY)));
        assert!(error.retry_after().is_some());
        let text = error.message();
        assert!(text.contains("memory limit (83886080 of 104857600 bytes in use)"), "{text}");
        assert!(text.contains("messages over 65536 bytes are rejected; retry after"), "{text}");
        assert_eq!(shedding.rejected(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_critical_level_serves_only_small_reads() {
        let shedding = at(90);
        shedding.admit_call(|| true).unwrap();
        let error = shedding.admit_call(|| false).unwrap_err();
        assert_eq!(error.bucket(), Some(PROCESS_MEMORY));
        assert!(error.message().contains("only reads of a single lead"), "{error}");
        shedding.admit_bytes(0, LARGE_MESSAGE, 0).unwrap();
        let error = shedding.admit_bytes(LARGE_MESSAGE + 1, LARGE_MESSAGE + 2, 0).unwrap_err();
        assert!(error.message().contains("94371840 of"), "{error}");
        assert_eq!(shedding.rejected(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_are_charged_count_before_they_are_measured() {
        let (shedding, mib) = (at(50), 1 << 20);
        shedding.admit_bytes(0, mib, 13 * mib).unwrap();
        assert!(shedding.admit_bytes(0, mib, 14 * mib).is_err(), "30 MiB to come are too many");
        shedding.admit_bytes(mib, 2 * mib, 14 * mib).expect("an admitted request continues");
        assert!(shedding.admit_bytes(mib, 2 * mib, 19 * mib).is_err());
        shedding.admit_bytes(0, LARGE_MESSAGE, usize::MAX).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_pressure_everything_is_admitted() {
        for shedding in [at(79), MemoryShedding::default()] {
            shedding.admit_call(|| false).unwrap();
            shedding.admit_bytes(0, LARGE_MESSAGE + 1, 0).unwrap();
            assert_eq!(shedding.rejected(), 0);
        }
    }
}

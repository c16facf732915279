//! Limits of admission control: slots, and a byte budget.
//!
//! Slots are permits of a [`Semaphore`]. The byte budget is a counter, because a semaphore does not fit:
//! - A response in memory must be charged even over the budget, so that it blocks later requests. A
//!   semaphore has no debt.
//! - A charge changes with every DATA frame, which would split and merge permits each time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::leads::{Error, LocalLimit, Reason};

/// `RetryInfo` of a call rejected by a limit of this replica. Slots usually become free within a second.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Maximum number of concurrent items.
#[derive(Debug)]
pub(crate) struct SlotLimit {
    name: &'static str,
    max: usize,
    slots: Arc<Semaphore>,
    rejected: AtomicU64,
}

/// Maximum number of bytes in use.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    name: &'static str,
    max: usize,
    used: AtomicUsize,
    rejected: AtomicU64,
}

/// Snapshot of a limit.
#[derive(Debug, Clone, Copy)]
pub struct LimitSnapshot {
    /// Name of the limit.
    pub name: &'static str,
    /// Slots or bytes in use.
    pub used: usize,
    /// Maximum number of slots or bytes.
    pub max: usize,
    /// Number of rejections.
    pub rejected: u64,
}

// === impl SlotLimit ===

impl SlotLimit {
    pub(crate) fn new(name: &'static str, max: usize) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self { name, max, slots: Arc::new(Semaphore::new(max)), rejected: AtomicU64::new(0) }
    }

    /// Acquires a slot without waiting; counts a rejection if no slot is free.
    pub(crate) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok();
        if permit.is_none() {
            self.count_rejection();
        }
        permit
    }

    /// Counts a rejection by a narrower limit that is reported under the name of this limit.
    pub(crate) fn count_rejection(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of slots in use.
    pub(crate) fn used(&self) -> usize {
        self.max - self.slots.available_permits()
    }

    /// Builds the error of a call without a slot; `items` names the limited items.
    pub(crate) fn overloaded(&self, items: &str) -> Error {
        overloaded(self.name, &format!("too many concurrent {items} (limit {})", self.max))
    }

    /// Current snapshot.
    pub(crate) fn snapshot(&self) -> LimitSnapshot {
        let rejected = self.rejected.load(Ordering::Relaxed);
        LimitSnapshot { name: self.name, used: self.used(), max: self.max, rejected }
    }
}

// === impl ByteBudget ===

impl ByteBudget {
    pub(crate) fn new(name: &'static str, max: usize) -> Self {
        Self { name, max, used: AtomicUsize::new(0), rejected: AtomicU64::new(0) }
    }

    /// Charges bytes within the budget. Errors and counts a rejection if they exceed it.
    pub(crate) fn try_charge(&self, bytes: usize) -> Result<(), Error> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= self.max {
            return Ok(());
        }
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.rejected.fetch_add(1, Ordering::Relaxed);
        let text = format!("requests and responses exceed the memory limit ({} bytes)", self.max);
        Err(overloaded(self.name, &text))
    }

    /// Charges bytes that are already in memory, even over the budget.
    pub(crate) fn charge(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Releases bytes.
    pub(crate) fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Number of charged bytes.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Current snapshot.
    pub(crate) fn snapshot(&self) -> LimitSnapshot {
        let rejected = self.rejected.load(Ordering::Relaxed);
        LimitSnapshot { name: self.name, used: self.used(), max: self.max, rejected }
    }
}

/// Builds the error of a call that exceeds a limit of this replica.
pub(super) fn overloaded(name: &'static str, cause: &str) -> Error {
    Error::new(Reason::Overloaded, format!("{cause}; retry after 1 s"))
        .with_local_limit(LocalLimit::Admission(name))
        .with_retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_released_with_their_guards() {
        let limit = SlotLimit::new("calls", 2);
        let held = [limit.try_acquire().unwrap(), limit.try_acquire().unwrap()];
        assert!(limit.try_acquire().is_none());
        assert_eq!((limit.snapshot().used, limit.snapshot().rejected), (2, 1));
        drop(held);
        assert_eq!(limit.used(), 0);
        assert!(limit.try_acquire().is_some());
    }

    #[test]
    fn the_error_names_the_limit_and_the_retry_delay() {
        let error = SlotLimit::new("in_flight", 7).overloaded("calls");
        assert_eq!((error.reason(), error.bucket()), (Reason::Overloaded, Some("in_flight")));
        assert_eq!(error.retry_after(), Some(RETRY_AFTER));
        assert!(error.message().contains("too many concurrent calls (limit 7)"), "{error}");
    }

    #[test]
    fn a_charge_over_the_budget_blocks_others_until_it_is_released() {
        let budget = ByteBudget::new("memory", 100);
        budget.try_charge(60).unwrap();
        budget.charge(500);
        assert_eq!(budget.try_charge(1).unwrap_err().bucket(), Some("memory"));
        budget.release(500);
        budget.try_charge(40).unwrap();
        assert!(budget.try_charge(1).is_err());
        assert_eq!((budget.used(), budget.snapshot().rejected), (100, 2));
    }

    #[test]
    fn the_largest_configurable_limit_is_accepted() {
        assert!(SlotLimit::new("connections", usize::MAX).try_acquire().is_some());
        assert!(ByteBudget::new("memory", usize::MAX).try_charge(usize::MAX).is_ok());
    }
}

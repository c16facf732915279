//! The two kinds of limits: slots, of which one thing takes one, and a budget of bytes.
//!
//! Slots are permits of a [`Semaphore`]: they return when their guard drops. The byte budget is a
//! counter of its own, for two reasons. A response that exists already must be charged even if the
//! budget is used up, so that it keeps later requests out; a semaphore has no debt. And one charge
//! grows and shrinks with every DATA frame, which would split and merge permits each time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::leads::{Error, LocalLimit, Reason};

/// `RetryInfo` of a call that was rejected by a limit of this replica, where slots become free within
/// moments.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// A maximum number of things at the same time.
#[derive(Debug)]
pub(crate) struct SlotLimit {
    name: &'static str,
    max: usize,
    slots: Arc<Semaphore>,
    rejected: AtomicU64,
}

/// A maximum number of bytes at the same time.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    name: &'static str,
    max: usize,
    used: AtomicUsize,
    rejected: AtomicU64,
}

/// A limit at one moment.
#[derive(Debug, Clone, Copy)]
pub struct LimitSnapshot {
    /// Name of the limit.
    pub name: &'static str,
    /// Slots or bytes in use.
    pub used: usize,
    /// Maximum of slots or bytes.
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

    /// Acquires a slot without waiting; counts a rejection if there is none.
    pub(crate) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok();
        if permit.is_none() {
            self.count_rejection();
        }
        permit
    }

    /// Counts a rejection by a narrower limit that is reported under this one's name.
    pub(crate) fn count_rejection(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of slots in use.
    pub(crate) fn used(&self) -> usize {
        self.max - self.slots.available_permits()
    }

    /// The error of a call that finds no slot; `what` names what there is too much of.
    pub(crate) fn overloaded(&self, what: &str) -> Error {
        overloaded(self.name, self.max, what)
    }

    /// The limit now.
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

    /// Charges bytes if the budget has room for them, or counts a rejection.
    pub(crate) fn try_charge(&self, bytes: usize) -> Result<(), Error> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= self.max {
            return Ok(());
        }
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.rejected.fetch_add(1, Ordering::Relaxed);
        Err(overloaded(self.name, self.max, "bytes of requests and responses"))
    }

    /// Charges bytes that exist already, beyond the maximum if need be.
    pub(crate) fn charge(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns bytes.
    pub(crate) fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Number of bytes charged.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The budget now.
    pub(crate) fn snapshot(&self) -> LimitSnapshot {
        let rejected = self.rejected.load(Ordering::Relaxed);
        LimitSnapshot { name: self.name, used: self.used(), max: self.max, rejected }
    }
}

fn overloaded(name: &'static str, max: usize, what: &str) -> Error {
    let text = format!("too many {what} at the same time (limit {max}); retry after 1 s");
    Error::new(Reason::Overloaded, text)
        .with_local_limit(LocalLimit::Admission(name))
        .with_retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_return_with_their_guards() {
        let limit = SlotLimit::new("calls", 2);
        let held = [limit.try_acquire().unwrap(), limit.try_acquire().unwrap()];
        assert!(limit.try_acquire().is_none());
        assert_eq!((limit.snapshot().used, limit.snapshot().rejected), (2, 1));
        drop(held);
        assert_eq!(limit.used(), 0);
        assert!(limit.try_acquire().is_some());
    }

    #[test]
    fn the_error_names_the_limit_and_when_to_retry() {
        let error = SlotLimit::new("in_flight", 7).overloaded("calls");
        assert_eq!((error.reason(), error.bucket()), (Reason::Overloaded, Some("in_flight")));
        assert_eq!(error.retry_after(), Some(RETRY_AFTER));
        assert!(error.message().contains("too many calls at the same time (limit 7)"), "{error}");
    }

    #[test]
    fn a_charge_beyond_the_budget_keeps_others_out_until_it_is_released() {
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

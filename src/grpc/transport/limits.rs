//! Limits of admission control: slots, and shared limits that are divided among callers.
//!
//! Slots are permits of a [`Semaphore`]. A shared limit is a counter per replica and one per caller,
//! because a semaphore does not fit:
//! - A response in memory must be charged even over the limit, so that it blocks later requests. A
//!   semaphore has no debt.
//! - A charge changes with every DATA frame, which would split and merge permits each time.
//! - Admission depends on the use of the caller and on the number of other callers.

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

/// Maximum number of items or bytes in use, divided among callers.
///
/// - A caller never holds more than `max_per_caller`, except by [`charge`](Self::charge).
/// - While less than three quarters are in use, a caller may use whatever is free.
/// - Beyond that, if there are other callers, a caller gets no more than an equal part. One part is kept
///   for a caller that is not there yet.
#[derive(Debug)]
pub(crate) struct SharedLimit {
    name: &'static str,
    max: usize,
    max_per_caller: usize,
    used: AtomicUsize,
    /// Number of callers that use the limit.
    callers: AtomicUsize,
    rejected: AtomicU64,
}

/// Part of each limit that one caller may hold, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallerShare(pub f64);

/// Use of a shared limit by one caller.
#[derive(Debug, Default)]
pub(crate) struct CallerUse(AtomicUsize);

/// Rejection by a shared limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// The replica has no more.
    Total,
    /// The caller holds its share of this size.
    Share(usize),
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

// === impl SharedLimit ===

impl SharedLimit {
    /// Creates a limit of which one caller may hold at most `caller_share`.
    pub(crate) fn new(name: &'static str, max: usize, caller_share: CallerShare) -> Self {
        Self {
            name,
            max,
            max_per_caller: caller_share.part_of(max),
            used: AtomicUsize::new(0),
            callers: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
        }
    }

    /// Acquires `amount` for a caller; counts a rejection if it exceeds the limit or the caller's share.
    pub(crate) fn try_acquire(&self, caller: &CallerUse, amount: usize) -> Result<(), Exceeded> {
        let (used, own) = self.add(caller, amount);
        let exceeded = if used > self.max {
            Exceeded::Total
        } else {
            let share = self.share(used);
            if own <= share {
                return Ok(());
            }
            Exceeded::Share(share)
        };
        self.release(caller, amount);
        self.count_rejection();
        Err(exceeded)
    }

    /// Counts a rejection by a narrower limit that is reported under the name of this limit.
    pub(crate) fn count_rejection(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Charges bytes that are already in memory, even over the limit.
    pub(crate) fn charge(&self, caller: &CallerUse, amount: usize) {
        self.add(caller, amount);
    }

    /// Releases what was acquired or charged.
    pub(crate) fn release(&self, caller: &CallerUse, amount: usize) {
        if amount == 0 {
            return;
        }
        if caller.0.fetch_sub(amount, Ordering::Relaxed) == amount {
            self.callers.fetch_sub(1, Ordering::Relaxed);
        }
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }

    /// Number of items or bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Builds the error of a rejected call; `items` names the limited items.
    pub(crate) fn overloaded(&self, exceeded: Exceeded, items: &str) -> Error {
        let cause = match exceeded {
            Exceeded::Total => format!("too many {items} (limit {})", self.max),
            Exceeded::Share(share) => {
                format!("too many {items} of this caller (share {share} of the limit {})", self.max)
            }
        };
        overloaded(self.name, &cause)
    }

    /// Checks that a request that takes `bytes` of memory can fit if nothing else is in use. Otherwise no
    /// later time is better.
    pub(crate) fn check_request(&self, bytes: usize) -> Result<(), Error> {
        self.check_fits(bytes, Reason::RequestTooLarge, "the request", "send it in parts")
    }

    /// Checks the same of a response of HubSpot to one request.
    pub(crate) fn check_response(&self, bytes: usize) -> Result<(), Error> {
        let remedy = "request a smaller page or fewer properties";
        self.check_fits(bytes, Reason::ResponseTooLarge, "HubSpot's response", remedy)
    }

    fn check_fits(
        &self,
        bytes: usize,
        reason: Reason,
        message: &str,
        remedy: &str,
    ) -> Result<(), Error> {
        let Self { max, max_per_caller: share, .. } = self;
        if bytes <= *share {
            return Ok(());
        }
        self.count_rejection();
        let text = format!(
            "{message} takes {bytes} bytes of memory, more than one caller may hold \
             (share {share} of the limit {max}); {remedy}"
        );
        Err(Error::new(reason, text).with_local_limit(LocalLimit::Admission(self.name)))
    }

    /// Current snapshot.
    pub(crate) fn snapshot(&self) -> LimitSnapshot {
        let rejected = self.rejected.load(Ordering::Relaxed);
        LimitSnapshot { name: self.name, used: self.used(), max: self.max, rejected }
    }

    /// Adds to both counters and returns their values.
    fn add(&self, caller: &CallerUse, amount: usize) -> (usize, usize) {
        let before = caller.0.fetch_add(amount, Ordering::Relaxed);
        if before == 0 && amount > 0 {
            self.callers.fetch_add(1, Ordering::Relaxed);
        }
        let used = self.used.fetch_add(amount, Ordering::Relaxed);
        (used.saturating_add(amount), before.saturating_add(amount))
    }

    /// Maximum that one caller may hold while `used` is in use.
    fn share(&self, used: usize) -> usize {
        if used <= self.max - self.max / 4 {
            return self.max_per_caller;
        }
        match self.callers.load(Ordering::Relaxed) {
            0 | 1 => self.max_per_caller,
            callers => self.max_per_caller.min((self.max / (callers + 1)).max(1)),
        }
    }
}

// === impl CallerShare ===

impl CallerShare {
    /// Part of a limit, rounded up and at least 1.
    #[expect(clippy::cast_possible_truncation, reason = "the part is at most `max`")]
    pub(crate) fn part_of(self, max: usize) -> usize {
        ((max as f64 * self.0).ceil() as usize).clamp(1, max.max(1))
    }
}

// === impl CallerUse ===

impl CallerUse {
    /// Number of items or bytes in use.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Builds the error of a call that exceeds the limit of this name.
pub(super) fn overloaded(name: &'static str, cause: &str) -> Error {
    Error::new(Reason::Overloaded, format!("{cause}; retry after 1 s"))
        .with_local_limit(LocalLimit::Admission(name))
        .with_retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests;

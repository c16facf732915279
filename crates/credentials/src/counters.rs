//! Counters of the engine, per portal and in total.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Counts since the portal was added, or since the start in the total of all portals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Token requests that were granted.
    pub grants_ok: u64,
    /// Token requests that failed and may succeed later.
    pub grants_failed: u64,
    /// Token requests that were rejected permanently.
    pub grants_rejected: u64,
    /// Reads of a secret.
    pub store_reads: u64,
    /// Polls of a secret's version.
    pub store_polls: u64,
    /// Attempts to save a rotated refresh token.
    pub store_writes: u64,
    /// Failed calls to the secret store, for any reason.
    pub store_failures: u64,
    /// Rotated refresh tokens that conflicted with another change of the secret.
    pub conflicts: u64,
    /// Times a secret was found deleted or destroyed.
    pub secrets_deleted: u64,
    /// Access tokens that callers reported as rejected by HubSpot, each counted once.
    pub rejections: u64,
    /// Panics that were caught.
    pub panics: u64,
}

/// Event that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    GrantOk,
    GrantFailed,
    GrantRejected,
    StoreRead,
    StorePoll,
    StoreWrite,
    StoreFailure,
    Conflict,
    SecretDeleted,
    Rejection,
    Panic,
}

/// Counters that many tasks increment.
#[derive(Debug, Default)]
pub(crate) struct SharedCounters([AtomicU64; 11]);

/// Counts for one portal and for all of them.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    portal: Arc<SharedCounters>,
    total: Arc<SharedCounters>,
}

// === impl SharedCounters ===

impl SharedCounters {
    pub(crate) fn add(&self, what: Count) {
        self.0[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counters {
        let load = |what: Count| self.0[what as usize].load(Ordering::Relaxed);
        Counters {
            grants_ok: load(Count::GrantOk),
            grants_failed: load(Count::GrantFailed),
            grants_rejected: load(Count::GrantRejected),
            store_reads: load(Count::StoreRead),
            store_polls: load(Count::StorePoll),
            store_writes: load(Count::StoreWrite),
            store_failures: load(Count::StoreFailure),
            conflicts: load(Count::Conflict),
            secrets_deleted: load(Count::SecretDeleted),
            rejections: load(Count::Rejection),
            panics: load(Count::Panic),
        }
    }
}

// === impl Meter ===

impl Meter {
    /// A meter for a new portal.
    pub(crate) fn new(total: &Arc<SharedCounters>) -> Self {
        Self { portal: Arc::default(), total: Arc::clone(total) }
    }

    pub(crate) fn count(&self, what: Count) {
        self.portal.add(what);
        self.total.add(what);
    }

    /// The portal's own counts.
    pub(crate) fn read(&self) -> Counters {
        self.portal.read()
    }
}

//! Signals from callers and operators to a portal's engine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// Collects signals. Any number of signals of one kind is one signal, so nothing here can grow.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    wake: Notify,
    token_wanted: AtomicBool,
    refresh_now: AtomicBool,
    closing: AtomicBool,
    /// Highest generation that HubSpot rejected; 0 if none.
    rejected: AtomicU64,
    /// Highest generation that HubSpot rejected for a request that it had rejected with the previous one; 0
    /// if none.
    rejected_again: AtomicU64,
    /// Highest generation that HubSpot accepted after it had rejected the previous one; 0 if none.
    accepted: AtomicU64,
}

/// The signals since they were last taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PendingSignals {
    /// True once a caller or the eager start has requested a token.
    pub(crate) token_wanted: bool,
    /// An operator wants the credential tried again.
    pub(crate) refresh_now: bool,
    /// Highest generation that HubSpot rejected with status 401.
    pub(crate) rejected: Option<u64>,
    /// Highest generation that HubSpot rejected for a request that it had rejected with the previous one.
    pub(crate) rejected_again: Option<u64>,
    /// Highest generation that HubSpot accepted after it had rejected the previous one.
    pub(crate) accepted: Option<u64>,
}

// === impl Signals ===

impl Signals {
    /// Waits for the next signal; one that came since the last wait counts.
    pub(crate) async fn notified(&self) {
        self.wake.notified().await;
    }

    /// Takes the pending signals.
    pub(crate) fn take(&self) -> PendingSignals {
        let taken = |generation: &AtomicU64| match generation.swap(0, Ordering::AcqRel) {
            0 => None,
            generation => Some(generation),
        };
        PendingSignals {
            token_wanted: self.token_wanted.load(Ordering::Acquire),
            refresh_now: self.refresh_now.swap(false, Ordering::AcqRel),
            rejected: taken(&self.rejected),
            rejected_again: taken(&self.rejected_again),
            accepted: taken(&self.accepted),
        }
    }

    /// Signals that a token is wanted.
    pub(crate) fn want_token(&self) {
        if !self.token_wanted.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// Signals that HubSpot rejected the token of this generation.
    pub(crate) fn reject(&self, generation: u64) {
        if self.rejected.fetch_max(generation, Ordering::AcqRel) < generation {
            self.wake.notify_one();
        }
    }

    /// Signals that HubSpot rejected the token of this generation for a request that it had rejected with
    /// the previous one.
    pub(crate) fn reject_again(&self, generation: u64) {
        if self.rejected_again.fetch_max(generation, Ordering::AcqRel) < generation {
            self.wake.notify_one();
        }
    }

    /// Signals that HubSpot accepted the token of this generation in place of a rejected one.
    pub(crate) fn accept(&self, generation: u64) {
        if self.accepted.fetch_max(generation, Ordering::AcqRel) < generation {
            self.wake.notify_one();
        }
    }

    /// Signals that an operator wants everything tried again.
    pub(crate) fn refresh_now(&self) {
        self.refresh_now.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Signals that the engine has to end once nothing would be lost.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

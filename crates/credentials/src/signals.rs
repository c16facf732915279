//! Signals from callers and operators to a portal's engine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::token::Rejection;

/// Collects signals. Any number of signals of one kind is one signal, so nothing here can grow.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    wake: Notify,
    token_wanted: AtomicBool,
    refresh_now: AtomicBool,
    closing: AtomicBool,
    /// Highest generation reported as such; 0 if none is.
    expired: AtomicU64,
    invalid: AtomicU64,
}

/// The signals since they were last taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PendingSignals {
    /// True once a caller or the eager start has requested a token.
    pub(crate) token_wanted: bool,
    /// An operator wants the credential tried again.
    pub(crate) refresh_now: bool,
    /// Highest generation that HubSpot called expired.
    pub(crate) expired: Option<u64>,
    /// Highest generation that HubSpot rejected for another reason.
    pub(crate) invalid: Option<u64>,
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
            expired: taken(&self.expired),
            invalid: taken(&self.invalid),
        }
    }

    /// Signals that a token is wanted.
    pub(crate) fn want_token(&self) {
        if !self.token_wanted.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// Signals that HubSpot rejected the token of this generation.
    pub(crate) fn report(&self, generation: u64, rejection: Rejection) {
        let highest = match rejection {
            Rejection::Expired => &self.expired,
            Rejection::Invalid => &self.invalid,
        };
        if highest.fetch_max(generation, Ordering::AcqRel) < generation {
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

//! Availability of the ledger.

use std::time::Duration;

use tokio::time::Instant;

/// Pause between attempts to reach an unavailable ledger: permits wait for none of them.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Time for which a replica keeps its fixed part after the ledger responds again. All other
/// replicas that had lost it need up to two retries and one exchange to report their calls.
const SETTLE_TIME: Duration = Duration::from_millis(1_200);

/// State of the ledger as one replica sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Availability {
    /// The ledger has not responded yet.
    Starting,
    /// The ledger is unavailable; next attempt at this time.
    Unavailable(Instant),
    /// The ledger has responded since this time; other replicas may not have reported to it yet.
    Recovering(Instant),
    /// The ledger grants permits.
    Live,
}

// === impl Availability ===

impl Availability {
    /// State after an exchange without a response.
    pub(super) fn after_failure(now: Instant) -> Self {
        Self::Unavailable(now + RETRY_INTERVAL)
    }

    /// State after a response. A ledger that is `warming` is new itself. While it grants permits to
    /// `live_others`, it knows the calls of all replicas, and a replica that starts has made none.
    pub(super) fn after_response(self, warming: bool, live_others: u32, now: Instant) -> Self {
        match self {
            Self::Starting if !warming && live_others > 0 => Self::Live,
            Self::Starting | Self::Unavailable(_) => Self::Recovering(now),
            Self::Recovering(since) if warming || now < since + SETTLE_TIME => {
                Self::Recovering(since)
            }
            Self::Live if warming => Self::Recovering(now),
            Self::Recovering(_) | Self::Live => Self::Live,
        }
    }

    /// True if the ledger grants permits.
    pub(super) fn is_live(self) -> bool {
        match self {
            Self::Live => true,
            Self::Starting | Self::Unavailable(_) | Self::Recovering(_) => false,
        }
    }

    /// True if this replica has yet to join: it does with its first request.
    pub(super) fn is_disconnected(self) -> bool {
        match self {
            Self::Starting | Self::Unavailable(_) => true,
            Self::Recovering(_) | Self::Live => false,
        }
    }

    /// True if an attempt to reach the ledger has to wait.
    pub(super) fn is_backing_off(self, now: Instant) -> bool {
        match self {
            Self::Unavailable(retry_at) => now < retry_at,
            Self::Starting | Self::Recovering(_) | Self::Live => false,
        }
    }
}

#[cfg(test)]
mod tests;

//! Whether the ledger can be used.

use std::time::Duration;

use tokio::time::Instant;

/// Pause between attempts to reach an unavailable ledger: permits wait for none of them.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How long a replica keeps to its own part after the ledger responds again: all other replicas that had
/// lost it need up to two retries and one exchange to report what they used.
const SETTLE_TIME: Duration = Duration::from_millis(1_200);

/// State of the ledger as one replica sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Availability {
    /// It has not responded yet.
    Starting,
    /// It is unavailable. The next attempt is made then.
    Unavailable(Instant),
    /// It responds since then; other replicas may not have reported to it yet.
    Recovering(Instant),
    /// It grants permits.
    Live,
}

// === impl Availability ===

impl Availability {
    /// After an exchange without a response.
    pub(super) fn after_failure(now: Instant) -> Self {
        Self::Unavailable(now + RETRY_INTERVAL)
    }

    /// After a response. A ledger that is `warming` is new itself.
    pub(super) fn after_response(self, warming: bool, now: Instant) -> Self {
        match self {
            Self::Starting | Self::Unavailable(_) => Self::Recovering(now),
            Self::Recovering(since) if warming || now < since + SETTLE_TIME => {
                Self::Recovering(since)
            }
            Self::Live if warming => Self::Recovering(now),
            Self::Recovering(_) | Self::Live => Self::Live,
        }
    }

    /// Whether the ledger grants permits.
    pub(super) fn is_live(self) -> bool {
        match self {
            Self::Live => true,
            Self::Starting | Self::Unavailable(_) | Self::Recovering(_) => false,
        }
    }

    /// Whether this replica has yet to join: it does with its first request.
    pub(super) fn is_disconnected(self) -> bool {
        match self {
            Self::Starting | Self::Unavailable(_) => true,
            Self::Recovering(_) | Self::Live => false,
        }
    }

    /// Whether an attempt to reach the ledger has to wait.
    pub(super) fn is_backing_off(self, now: Instant) -> bool {
        match self {
            Self::Unavailable(retry_at) => now < retry_at,
            Self::Starting | Self::Recovering(_) | Self::Live => false,
        }
    }
}

#[cfg(test)]
mod tests;

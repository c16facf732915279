//! Time in its two kinds: wall-clock time behind a port, so that tests choose it, and the points in
//! time that HubSpot and Vault send.
//!
//! Durations and deadlines use `tokio::time::Instant`, which tests can pause.

use std::fmt;

/// A point in wall-clock time, in UTC.
pub use jiff::Timestamp;

/// Tells the wall-clock time.
pub trait WallClock: fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

// === impl SystemClock ===

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

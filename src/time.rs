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

/// A time zone of the IANA database, which is compiled in: images often have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(jiff::tz::TimeZone);

// === impl Zone ===

impl Zone {
    /// The zone of a name such as `Europe/Berlin` or `UTC`; `None` if there is no such zone.
    pub fn parse(name: &str) -> Option<Self> {
        jiff::tz::TimeZone::get(name).ok().map(Self)
    }

    /// The beginning of the next day.
    pub fn midnight_after(&self, now: Timestamp) -> Timestamp {
        let tomorrow = now.to_zoned_datetime(self.0.clone()).tomorrow();
        let midnight = tomorrow.and_then(|tomorrow| tomorrow.start_of_day());
        midnight.map_or(Timestamp::MAX, |midnight| midnight.timestamp())
    }
}

impl Default for Zone {
    /// UTC.
    fn default() -> Self {
        Self(jiff::tz::TimeZone::UTC)
    }
}

// === impl SystemClock ===

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

//! Wall-clock time behind a port, so that tests choose it, and the formats of time in HTTP headers.
//!
//! Durations and deadlines use `tokio::time::Instant`, which tests can pause.

use std::fmt;

/// A point in wall-clock time, in UTC.
pub use jiff::Timestamp;

/// Source of wall-clock time.
pub trait WallClock: fmt::Debug + Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// Clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// Time zone of the IANA database. The database is compiled in, since images often have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(jiff::tz::TimeZone);

/// Parses an HTTP date, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

/// Formats an HTTP date.
pub fn to_http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

// === impl Zone ===

impl Zone {
    /// Zone of a name such as `Europe/Berlin` or `UTC`; `None` if there is no such zone.
    pub fn parse(name: &str) -> Option<Self> {
        jiff::tz::TimeZone::get(name).ok().map(Self)
    }

    /// Beginning of the next day.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_read_as_they_are_written() {
        let text = "Sun, 06 Nov 1994 08:49:37 GMT";
        let time = http_date(text).unwrap();
        assert_eq!(time.as_second(), 784_111_777);
        assert_eq!(to_http_date(time), text);
        assert_eq!(http_date("yesterday"), None);
    }
}

//! Wall-clock time behind a port, so that tests choose it, and the formats of time in HTTP headers.
//!
//! Durations and deadlines use `tokio::time::Instant`, which tests can pause.

use std::fmt;

/// A point in wall-clock time, in UTC.
pub use jiff::Timestamp;

/// A date of the Gregorian calendar.
pub use jiff::civil::Date as CivilDate;

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

/// Parses an HTTP date, such as `Sun, 06 Nov 1994 08:49:37 GMT`, or one in the two obsolete forms.
pub fn http_date(text: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(text.trim()).ok()?.try_into().ok()
}

/// Formats an HTTP date.
pub fn to_http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Parses an ISO 8601 date with or without a time, and without an offset, as UTC.
pub fn utc_date_time(text: &str) -> Option<Timestamp> {
    let local: jiff::civil::DateTime = text.trim().parse().ok()?;
    jiff::tz::Offset::UTC.to_timestamp(local).ok()
}

/// Parses an ISO 8601 date of the form YYYY-MM-DD; `None` if it does not exist.
pub fn civil_date(text: &str) -> Option<CivilDate> {
    (text.len() == "YYYY-MM-DD".len()).then(|| text.parse().ok()).flatten()
}

/// Date whose midnight in UTC this is; `None` for another time of day.
pub fn date_of_utc_midnight(time: Timestamp) -> Option<CivilDate> {
    let local = jiff::tz::Offset::UTC.to_datetime(time);
    (local.time() == jiff::civil::Time::midnight()).then(|| local.date())
}

// === impl Zone ===

impl Zone {
    /// Zone of a name such as `Europe/Berlin` or `UTC`; `None` if there is no such zone.
    pub fn parse(name: &str) -> Option<Self> {
        jiff::tz::TimeZone::get(name).ok().map(Self)
    }

    /// True if both zones have the same time now and in half a year, whatever their names are.
    pub fn agrees_with(&self, other: &Self, now: Timestamp) -> bool {
        let half_a_year = std::time::Duration::from_secs(182 * 86_400);
        let times = [Some(now), now.checked_add(half_a_year).ok()];
        times.into_iter().flatten().all(|at| self.0.to_offset(at) == other.0.to_offset(at))
    }

    /// Offset from UTC in minutes.
    pub fn offset_minutes(&self, now: Timestamp) -> i32 {
        self.0.to_offset(now).seconds() / 60
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
    fn zones_agree_by_their_time_and_not_by_their_name() {
        let zone = |name: &str| Zone::parse(name).unwrap();
        for now in ["2026-01-15T12:00:00Z", "2026-07-15T12:00:00Z"] {
            let agree =
                |one: &str, other: &str| zone(one).agrees_with(&zone(other), now.parse().unwrap());
            assert!(agree("US/Eastern", "America/New_York"));
            assert!(agree("UTC", "Etc/UTC"));
            // The same time in winter.
            assert!(!agree("Europe/London", "UTC"));
            assert!(!agree("Europe/Berlin", "Europe/London"));
        }
    }

    #[test]
    fn offsets_follow_daylight_saving_time() {
        let offset =
            |zone: &str, now: &str| Zone::parse(zone).unwrap().offset_minutes(now.parse().unwrap());
        assert_eq!(offset("US/Eastern", "2026-01-15T12:00:00Z"), -300);
        assert_eq!(offset("US/Eastern", "2026-07-15T12:00:00Z"), -240);
        assert_eq!(offset("Asia/Kolkata", "2026-07-15T12:00:00Z"), 330);
        assert_eq!(Zone::default().offset_minutes("2026-07-15T12:00:00Z".parse().unwrap()), 0);
    }

    #[test]
    fn http_dates_are_read_as_they_are_written() {
        let text = "Sun, 06 Nov 1994 08:49:37 GMT";
        let time = http_date(text).unwrap();
        assert_eq!(time.as_second(), 784_111_777);
        assert_eq!(to_http_date(time), text);
        assert_eq!(http_date("Sunday, 06-Nov-94 08:49:37 GMT"), Some(time));
        assert_eq!(http_date("Sun Nov  6 08:49:37 1994"), Some(time));
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn only_midnight_in_utc_is_a_date() {
        for (time, expected) in [
            ("2026-04-01T00:00:00Z", Some("2026-04-01")),
            ("1969-12-31T00:00:00Z", Some("1969-12-31")),
            ("2026-04-01T00:00:00+02:00", None),
            ("2026-04-01T00:00:00.001Z", None),
        ] {
            let date = date_of_utc_midnight(time.parse().unwrap());
            assert_eq!(date.map(|date| date.to_string()).as_deref(), expected, "{time}");
        }
        assert_eq!(
            civil_date("2024-02-29"),
            date_of_utc_midnight("2024-02-29T00:00Z".parse().unwrap())
        );
        assert_eq!([civil_date("2023-02-29"), civil_date("2023-2-1"), civil_date("")], [None; 3]);
    }

    #[test]
    fn dates_without_an_offset_are_in_utc() {
        for (text, expected) in [
            ("2026-04-01", Some("2026-04-01T00:00:00Z")),
            ("2026-04-01T10:00:00.5", Some("2026-04-01T10:00:00.5Z")),
            ("2026-04-01 10:00", Some("2026-04-01T10:00:00Z")),
            ("2026-13-01", None),
            ("April", None),
        ] {
            let time = utc_date_time(text).map(|time| time.to_string());
            assert_eq!(time.as_deref(), expected, "{text}");
        }
    }
}

//! Dates and points in time, as HubSpot accepts them.

use leadsd_base::time::{Timestamp, civil_date, utc_date_time};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// Forms of dates and times that HubSpot accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DateRules {
    /// ISO 8601 and milliseconds: the versions before 2026-09.
    Strict,
    /// These, and forms that HubSpot normalizes: 2026-09.
    #[default]
    Lenient,
}

// === impl DateRules ===

impl DateRules {
    /// True if HubSpot may accept the value of a date property: an ISO 8601 date, or midnight in UTC. With
    /// lenient rules also a time of day, and numbers of day, month and year.
    pub(super) fn accepts_date(self, value: &str) -> bool {
        let value = value.trim();
        if civil_date(value).is_some() {
            return true;
        }
        let millis = value.parse::<i64>().ok().or_else(|| milliseconds(value));
        match self {
            Self::Strict => millis.is_some_and(|millis| millis % DAY == 0),
            Self::Lenient => millis.is_some() || is_numeric_date(value),
        }
    }

    /// True if HubSpot may accept the value of a datetime property: ISO 8601, or milliseconds since 1970.
    /// With lenient rules also numbers of day, month and year.
    pub(super) fn accepts_time(self, value: &str) -> bool {
        let value = value.trim();
        value.parse::<i64>().is_ok()
            || milliseconds(value).is_some()
            || (self == Self::Lenient && is_numeric_date(value))
    }
}

/// Milliseconds since 1970 of an ISO 8601 time. A time without an offset is in UTC.
fn milliseconds(value: &str) -> Option<i64> {
    let time = value.parse::<Timestamp>().ok().or_else(|| utc_date_time(value));
    time.map(Timestamp::as_millisecond)
}

/// True for day, month and year as numbers in any order, separated by one of `/`, `.` and `-`, such as
/// `12/31/2026`. A form that begins with the year and `-` is ISO 8601, which HubSpot does not guess.
fn is_numeric_date(value: &str) -> bool {
    let Some(separator) = value.chars().find(|c| !c.is_ascii_digit()) else { return false };
    if !matches!(separator, '/' | '.' | '-') {
        return false;
    }
    let parts: Vec<&str> = value.split(separator).collect();
    let [first, second, third] = parts.as_slice() else { return false };
    let number = |text: &str| {
        let is_short = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        is_short.then(|| text.parse::<u32>().ok()).flatten()
    };
    let numbers = (number(first), number(second), number(third));
    let (Some(first_number), Some(second), Some(third)) = numbers else { return false };
    let is_iso = separator == '-' && first.len() == 4;
    let fits = |day: u32, month: u32| (1..=31).contains(&day) && (1..=12).contains(&month);
    let (a, b) = match first.len() {
        4 => (second, third),
        _ => (first_number, second),
    };
    !is_iso && (fits(a, b) || fits(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_accepted_by_the_rules_of_the_version() {
        use DateRules::{Lenient, Strict};
        for (value, strict, lenient) in [
            ("2026-11-30", true, true),
            ("2024-02-29", true, true),
            ("1969-12-31", true, true),
            ("0001-01-01", true, true),
            ("1767225600000", true, true),
            ("-86400000", true, true),
            ("0", true, true),
            ("2026-11-30T00:00:00Z", true, true),
            ("2026-11-30T00:00:00.000Z", true, true),
            ("2026-11-30T10:00:00Z", false, true),
            ("1767225600001", false, true),
            ("12/31/2026", false, true),
            ("31/12/2026", false, true),
            ("31.12.2026", false, true),
            ("2026/12/31", false, true),
            ("2023-02-29", false, false),
            ("2026-13-01", false, false),
            ("2026-1-1", false, false),
            ("31/31/2026", false, false),
            ("tomorrow", false, false),
            ("30 Nov 2026", false, false),
            ("2026-11", false, false),
            ("1.5", false, false),
            ("99999999999999999999", false, false),
        ] {
            assert_eq!(Strict.accepts_date(value), strict, "{value}");
            assert_eq!(Lenient.accepts_date(value), lenient, "{value}");
        }
    }

    #[test]
    fn times_are_accepted_by_the_rules_of_the_version() {
        use DateRules::{Lenient, Strict};
        for (value, strict, lenient) in [
            ("2026-11-30T10:00:00Z", true, true),
            ("2026-11-30T10:00:00.123456789+02:00", true, true),
            ("1969-12-31T23:59:59Z", true, true),
            ("2026-11-30T10:00:00", true, true),
            ("2026-11-30", true, true),
            ("1764496800000", true, true),
            ("-1", true, true),
            ("11/30/2026", false, true),
            ("2026-02-30T10:00:00Z", false, false),
            ("2026-11-30T25:00:00Z", false, false),
            ("10:00", false, false),
            ("now", false, false),
            ("1.7e12", false, false),
        ] {
            assert_eq!(Strict.accepts_time(value), strict, "{value}");
            assert_eq!(Lenient.accepts_time(value), lenient, "{value}");
        }
    }
}

//! `Retry-After` of a response: seconds or an HTTP date.

use std::time::Duration;

use http::{HeaderMap, header};

use leadsd_base::time::{SystemClock, Timestamp, WallClock as _, http_date};

/// Maximum pause; longer ones are shortened to it. HubSpot states up to a day for an account that it moves.
const MAX_PAUSE: Duration = Duration::from_secs(24 * 3_600);

/// The pause that a response states; `None` if it states none, or a time that has passed.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = seconds(text).or_else(|| until(text, now(headers)))?;
    Some(pause.min(MAX_PAUSE))
}

/// Parses seconds, with or without a fraction.
fn seconds(text: &str) -> Option<Duration> {
    let is_number = text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let seconds: f64 = text.parse().ok().filter(|_| is_number)?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(MAX_PAUSE))
}

/// Time until a date; `None` if it has passed.
fn until(text: &str, now: Timestamp) -> Option<Duration> {
    let wait = http_date(text)?.duration_since(now);
    Duration::try_from(wait).ok().filter(|wait| !wait.is_zero())
}

/// Time of the response by the clock of its sender, since the clocks may differ. Without it, the time of
/// this machine.
fn now(headers: &HeaderMap) -> Timestamp {
    let date = headers.get(header::DATE).and_then(|date| http_date(date.to_str().ok()?));
    date.unwrap_or_else(|| SystemClock.now())
}

#[cfg(test)]
mod tests {
    use leadsd_base::time::to_http_date;

    use super::*;

    const DATE: &str = "Mon, 30 Nov 2026 04:00:00 GMT";

    fn pause(date: Option<&str>, value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(header::DATE, date.parse().unwrap());
        }
        retry_after(&headers)
    }

    #[test]
    fn seconds_and_the_three_forms_of_dates_are_read() {
        for value in [
            "3",
            " 3 ",
            "3.0",
            "Mon, 30 Nov 2026 04:00:03 GMT",
            "Monday, 30-Nov-26 04:00:03 GMT",
            "Mon Nov 30 04:00:03 2026",
        ] {
            assert_eq!(pause(Some(DATE), value), Some(Duration::from_secs(3)), "{value}");
        }
        assert_eq!(pause(Some(DATE), "0"), Some(Duration::ZERO));
    }

    #[test]
    fn values_that_are_no_pause_are_ignored() {
        let past = "Mon, 30 Nov 2026 03:59:59 GMT";
        for value in ["", ".", "-3", "soon", "3 s", "inf", "NaN", "1e9", past, DATE] {
            assert_eq!(pause(Some(DATE), value), None, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn long_pauses_are_a_day_at_most() {
        for value in ["86401", "99999999999999999999999", "Tue, 30 Nov 2027 04:00:00 GMT"] {
            assert_eq!(pause(Some(DATE), value), Some(MAX_PAUSE), "{value}");
        }
        assert_eq!(pause(Some(DATE), "3600"), Some(Duration::from_secs(3_600)));
    }

    #[test]
    fn the_clock_of_the_sender_counts_and_without_it_that_of_the_machine() {
        let at = |seconds: u64| {
            to_http_date(SystemClock.now().checked_add(Duration::from_secs(seconds)).unwrap())
        };
        let wait = pause(None, &at(60)).unwrap();
        assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(60), "{wait:?}");
        assert_eq!(pause(Some(&at(3_600)), &at(3_603)), Some(Duration::from_secs(3)));
    }
}

//! Compares a written value with the value that HubSpot shows for it.
//!
//! HubSpot shows some values in another form: a date as milliseconds or as ISO text, `1.0` as `1`, a
//! word in another case, text without surrounding spaces. Only values that plainly differ show that a
//! result belongs to another input. Values that may be two forms of one value are inconclusive.

use leadsd_base::time::{Timestamp, utc_date_time};

/// Minimum number that is read as a time in milliseconds: the year 1973. HubSpot does not send seconds.
const MIN_MILLISECONDS: i64 = 100_000_000_000;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// Length of a text that HubSpot may shorten.
const LONG_TEXT: usize = 64;

/// Result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agreement {
    /// The values mean the same.
    Same,
    /// One value may be another form of the other.
    Unclear,
    /// The values differ.
    Different,
}

/// A point in time in one of its forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    /// Milliseconds since 1970.
    Milliseconds(i64),
    /// Date and time, in milliseconds since 1970.
    Instant(i64),
    /// Date, as its midnight in UTC.
    Date(i64),
}

// === impl Agreement ===

impl Agreement {
    /// Agreement of several values: one that differs outweighs all others.
    pub(super) fn combine(all: impl IntoIterator<Item = Self>) -> Self {
        let mut whole = Self::Unclear;
        for one in all {
            match one {
                Self::Same => whole = Self::Same,
                Self::Unclear => {}
                Self::Different => return Self::Different,
            }
        }
        whole
    }
}

// === impl Time ===

impl Time {
    fn parse(text: &str) -> Option<Self> {
        if !text.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        if let Ok(number) = text.parse::<i64>() {
            return (number >= MIN_MILLISECONDS).then_some(Self::Milliseconds(number));
        }
        let time: Option<Timestamp> = text.parse().ok().or_else(|| utc_date_time(text));
        let is_date = !text.contains([':', 'T', 't']);
        let form = if is_date { Self::Date } else { Self::Instant };
        time.map(|time| form(time.as_millisecond()))
    }

    /// Compares two times. A date has no time of day, and HubSpot may have converted it from another zone,
    /// unless it is written as midnight in UTC.
    fn compare(self, other: Self) -> Agreement {
        let (a, b) = (self.milliseconds(), other.milliseconds());
        let has_date = |time| matches!(time, Self::Date(_));
        let are_days = a % DAY == 0 && b % DAY == 0;
        let is_one_day = a.div_euclid(DAY) == b.div_euclid(DAY);
        let is_truncated = a.abs_diff(b) < 1_000 && (a % 1_000 == 0 || b % 1_000 == 0);
        match (has_date(self), has_date(other)) {
            _ if a == b => Agreement::Same,
            (false, false) if is_truncated => Agreement::Same,
            (true, false) | (false, true) if is_one_day => Agreement::Same,
            (true, false) | (false, true) if !are_days && a.abs_diff(b) <= DAY.unsigned_abs() => {
                Agreement::Unclear
            }
            _ => Agreement::Different,
        }
    }

    fn milliseconds(self) -> i64 {
        match self {
            Self::Milliseconds(time) | Self::Instant(time) | Self::Date(time) => time,
        }
    }
}

/// Compares a written value with the shown one. Empty and absent values decide nothing.
pub(super) fn compare(written: &str, shown: &str) -> Agreement {
    let (written, shown) = (written.trim(), shown.trim());
    if written == shown {
        return if written.is_empty() { Agreement::Unclear } else { Agreement::Same };
    }
    if written.is_empty() || shown.is_empty() {
        return Agreement::Unclear;
    }
    // Most values are ASCII, which is compared without copies.
    let is_folded = || !written.is_ascii() && folded(written) == folded(shown);
    if written.eq_ignore_ascii_case(shown) || is_folded() {
        return Agreement::Same;
    }
    compare_forms(written, shown).unwrap_or_else(|| {
        let are_words = [written, shown].iter().all(|text| text.starts_with(char::is_alphabetic));
        let differ = are_words && !is_respelled(written, shown);
        if differ { Agreement::Different } else { Agreement::Unclear }
    })
}

/// The normal form of a unique value: HubSpot compares them without regard to case.
pub(super) fn folded(value: &str) -> String {
    value.to_lowercase()
}

/// Compares values of which both are flags, numbers or times; `None` for others.
fn compare_forms(written: &str, shown: &str) -> Option<Agreement> {
    if let (Some(written), Some(shown)) = (flag(written), flag(shown)) {
        return Some(if written == shown { Agreement::Same } else { Agreement::Different });
    }
    if let Some(agreement) = compare_numbers(written, shown) {
        return Some(agreement);
    }
    Some(Time::parse(written)?.compare(Time::parse(shown)?))
}

/// Compares two numbers; `None` if one of the texts is not a number.
fn compare_numbers(written: &str, shown: &str) -> Option<Agreement> {
    // Integers of any length.
    if let (Some(written), Some(shown)) = (integer(written), integer(shown)) {
        return Some(if written == shown { Agreement::Same } else { Agreement::Different });
    }
    let number = |text: &str| {
        let may_be_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        text.parse::<f64>().ok().filter(|number| may_be_number && number.is_finite())
    };
    let (written, shown) = (number(written)?, number(shown)?);
    Some(match (written - shown).abs() {
        difference if difference <= f64::EPSILON * written.abs() => Agreement::Same,
        // HubSpot may round.
        difference if difference < 1.0 => Agreement::Unclear,
        _ => Agreement::Different,
    })
}

/// Sign and digits of an integer without leading zeros; `None` for other texts.
fn integer(text: &str) -> Option<(bool, &str)> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    Some((is_negative && !digits.is_empty(), digits))
}

/// Flag in one of its forms; `None` for other texts.
fn flag(text: &str) -> Option<bool> {
    let is = |names: [&str; 3]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    match () {
        () if is(["true", "yes", "1"]) => Some(true),
        () if is(["false", "no", "0"]) => Some(false),
        () => None,
    }
}

/// True if two words may be one value in two spellings: an option and its label, or a text that HubSpot
/// shortened.
fn is_respelled(written: &str, shown: &str) -> bool {
    let is_short = written.len() <= LONG_TEXT;
    let mut written = letters(written);
    letters(shown).all(|letter| written.next() == Some(letter))
        && !(is_short && written.next().is_some())
}

fn letters(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str =
        "The beginning of a long text, which HubSpot may cut at some length or other";

    #[test]
    fn values_agree_in_every_form_that_hubspot_shows() {
        use Agreement::{Different, Same, Unclear};
        for (written, shown, expected) in [
            ("n1", "n1", Same),
            ("n1", "n2", Different),
            ("HOT", "hot", Same),
            ("Ä", "ä", Same),
            ("  Ada ", "Ada", Same),
            ("NEW_BUSINESS", "New business", Unclear),
            ("HOT", "WARM", Different),
            ("HOT", "", Unclear),
            ("", "HOT", Unclear),
            ("", "", Unclear),
            ("1", "1.0", Same),
            ("1e0", "1", Same),
            ("1.50", "1.5", Same),
            ("+7", "7", Same),
            ("007", "7", Same),
            ("-0", "0", Same),
            ("7", "-7", Different),
            ("12345678901234567", "12345678901234568", Different),
            ("171591000198", "171591000200", Different),
            ("7", "8", Different),
            ("1.005", "1.01", Unclear),
            ("1e3", "2000", Different),
            ("true", "TRUE", Same),
            ("1", "true", Same),
            ("no", "false", Same),
            ("true", "false", Different),
            ("1767225600000", "2026-01-01", Same),
            ("2026-01-01", "1767225600000", Same),
            ("2026-01-01", "2026-01-01T00:00:00Z", Same),
            ("2026-01-01T00:00:00.000Z", "2026-01-01T01:00:00+01:00", Same),
            ("2026-01-01T00:00:00.123Z", "2026-01-01T00:00:00Z", Same),
            ("1767225600123", "2026-01-01T00:00:00Z", Same),
            ("1767229200000", "2026-01-01", Same),
            ("1767229200000", "1767225600000", Different),
            ("2026-01-01T23:00:00Z", "2026-01-02", Unclear),
            ("2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z", Different),
            ("2026-01-01", "2026-01-02", Different),
            ("2026-01-01", "2026-03-01", Different),
            ("1767225600000", "2026-01-02", Different),
            ("1767225600001", "2026-01-02", Unclear),
            ("1767225600001", "2026-01-03", Different),
            ("2026-01-01", "soon", Unclear),
            ("5", "five", Unclear),
            ("<b>x</b>", "x", Unclear),
            ("Ada Lovelace", "Ada", Different),
            (LONG, "The beginning of a long text", Unclear),
            (LONG, "The end of a long text", Different),
            ("+1 (555) 0102", "+15550102", Unclear),
        ] {
            assert_eq!(compare(written, shown), expected, "{written} shown as {shown}");
        }
    }

    #[test]
    fn one_difference_outweighs_any_agreement() {
        use Agreement::{Different, Same, Unclear};
        for (all, whole) in [
            (vec![], Unclear),
            (vec![Unclear, Same, Unclear], Same),
            (vec![Same, Different, Same], Different),
            (vec![Unclear, Unclear], Unclear),
        ] {
            assert_eq!(Agreement::combine(all), whole);
        }
    }
}

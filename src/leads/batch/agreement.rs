//! Compares a written value with the value that HubSpot shows for it.
//!
//! HubSpot shows some values in another form: a date as milliseconds or as ISO text, `1.0` as `1`, a
//! word in another case, text without surrounding spaces, a list in another order, `&` as `&amp;`. Only values that plainly differ show that a
//! result belongs to another input. Values that may be two forms of one value are inconclusive.

mod number;

use std::{borrow::Cow, collections::HashSet};

use leadsd_base::time::{Timestamp, utc_date_time};

use self::number::compare_numbers;

/// Minimum number that is read as a time in milliseconds: the year 1973. HubSpot does not send seconds.
const MIN_MILLISECONDS: i64 = 100_000_000_000;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// Length of a text that HubSpot may shorten.
const LONG_TEXT: usize = 64;

/// Maximum number of values of a list that are compared one by one.
const MAX_COMPARED: usize = 32;

/// Separator of the values of a list.
const LIST_SEPARATOR: char = ';';

/// Maximum length of an entity in bytes, such as `&#x10FFFF;`.
const MAX_ENTITY: usize = 10;

/// Minimum number of digits of a phone number without its country code.
const MIN_PHONE_NUMBER: usize = 6;

/// Beginnings of addresses that HubSpot adds or omits.
const ADDRESS_PREFIXES: [&str; 3] = ["https://", "http://", "www."];

/// Result of a comparison. The order is from agreement to difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    compare_texts(decoded(written).trim(), decoded(shown).trim())
}

fn compare_texts(written: &str, shown: &str) -> Agreement {
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
    let compared = compare_forms(written, shown).or_else(|| compare_lists(written, shown));
    compared.unwrap_or_else(|| {
        let are_words = [written, shown].iter().all(|text| text.starts_with(char::is_alphabetic));
        let has_marks = [written, shown].iter().any(|text| text.contains(is_combining_mark));
        let differ = are_words && !has_marks && !is_respelled(written, shown);
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
    if may_be_phone_number(written, shown) {
        return Some(Agreement::Unclear);
    }
    if let Some(agreement) = compare_numbers(written, shown) {
        return Some(agreement);
    }
    Some(Time::parse(written)?.compare(Time::parse(shown)?))
}

/// True if two texts may be one phone number with and without its country code: one has a prefix, and its digits
/// end with those of the other.
fn may_be_phone_number(written: &str, shown: &str) -> bool {
    let digits = |text: &str| {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let is_number = digits.bytes().all(|c| c.is_ascii_digit());
        is_number.then(|| digits.trim_start_matches('0').to_owned())
    };
    let has_prefix = |text: &str| text.starts_with(['+', '0']);
    let (Some(one), Some(other)) = (digits(written), digits(shown)) else { return false };
    let (short, long) = if one.len() < other.len() { (one, other) } else { (other, one) };
    (has_prefix(written) || has_prefix(shown))
        && (MIN_PHONE_NUMBER..long.len()).contains(&short.len())
        && long.ends_with(&short)
}

/// True for the accents of letters that are written as two characters.
fn is_combining_mark(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

/// Compares two lists, whose order is not significant; `None` if they are not the same.
fn compare_lists(written: &str, shown: &str) -> Option<Agreement> {
    if !written.contains(LIST_SEPARATOR) && !shown.contains(LIST_SEPARATOR) {
        return None;
    }
    let values = |list: &str| -> HashSet<String> {
        let values = list.split(LIST_SEPARATOR).map(str::trim).filter(|value| !value.is_empty());
        values.map(folded).collect()
    };
    let (written, shown) = (values(written), values(shown));
    if written == shown {
        return Some(Agreement::Same);
    }
    if written.len() != shown.len() || written.len() > MAX_COMPARED {
        return None;
    }
    let closest = |value: &String, others: &HashSet<String>| {
        others.iter().map(|other| compare_texts(value, other)).min()
    };
    let all = written.iter().map(|value| closest(value, &shown));
    let worst = all.chain(shown.iter().map(|value| closest(value, &written))).flatten().max()?;
    (worst != Agreement::Different).then_some(worst)
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
    let mut written = letters(without_prefix(written));
    letters(without_prefix(shown)).all(|letter| written.next() == Some(letter))
        && !(is_short && written.next().is_some())
}

/// An address without what HubSpot adds or omits.
fn without_prefix(text: &str) -> &str {
    ADDRESS_PREFIXES.iter().fold(text, |text, prefix| text.strip_prefix(prefix).unwrap_or(text))
}

/// The text with its HTML entities replaced by their characters.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, entity)) = rest.split_once('&') {
        decoded.push_str(before);
        let end = entity.bytes().take(MAX_ENTITY).position(|c| c == b';');
        let found = end.and_then(|end| Some((character(&entity[..end])?, end)));
        if let Some((character, end)) = found {
            decoded.push(character);
            rest = &entity[end + 1..];
        } else {
            decoded.push('&');
            rest = entity;
        }
    }
    decoded.push_str(rest);
    Cow::Owned(decoded)
}

/// Character of an HTML entity without its delimiters; `None` if it is unknown.
fn character(entity: &str) -> Option<char> {
    if let Some(number) = entity.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => number.parse().ok(),
        };
        return code.and_then(char::from_u32);
    }
    let known = match entity {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ => return None,
    };
    Some(known)
}

fn letters(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests;

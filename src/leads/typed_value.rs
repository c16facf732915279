//! Values of properties with their types, and their text as HubSpot stores it.
//!
//! Text of a typed value is text that HubSpot accepts for each property of its type, so a write needs no
//! schema. [`TypedValue::parse`] reads it back. Whatever it does not recognize stays text.

use std::collections::HashSet;

use leadsd_base::time::{CivilDate, Timestamp, civil_date, date_of_utc_midnight};

use super::schema::PropertyDefinition;

/// Separator of the values of a list.
const SEPARATOR: char = ';';

/// Nanoseconds of a millisecond.
const MILLISECOND: i32 = 1_000_000;

/// Years of times and dates, as in protobuf.
const YEARS: std::ops::RangeInclusive<i16> = 1..=9999;

/// First second of the year 1, since 1970.
const START: i64 = -62_135_596_800;

/// First second that is not a time, since 1970: the year 10000, less 26 hours, so that every time exists in
/// every time zone.
const END: i64 = 253_402_207_200;

/// Value of a property with its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TypedValue<'a> {
    /// Text, or a value of unknown type.
    Text(&'a str),
    /// Truth value.
    Boolean(bool),
    /// Whole number in its normal form.
    Integer(i64),
    /// Any other decimal number.
    Decimal(&'a str),
    /// Point in time, in milliseconds.
    Time(Timestamp),
    /// Date.
    Date(CivilDate),
    /// Values of an enumeration, separated by semicolons: at least one, none of them empty, none twice.
    List(&'a str),
}

// === impl TypedValue ===

impl<'a> TypedValue<'a> {
    /// Reads the text of a property with this definition. A text that is not of the type, or has no
    /// definition, stays text.
    pub fn parse(text: &'a str, property: Option<&PropertyDefinition>) -> Self {
        let typed = property.and_then(|property| match property.type_name.as_str() {
            "number" => number(text),
            "bool" => boolean(text),
            "datetime" => time(text).map(Self::Time),
            "date" => date(text).map(Self::Date),
            "enumeration" if property.is_flag() => boolean(text),
            "enumeration" if property.is_list() => list(text, property),
            _ => None,
        });
        typed.unwrap_or(Self::Text(text))
    }
}

/// Values of the text of a list.
pub fn list_values(text: &str) -> impl Iterator<Item = &str> + Clone {
    text.split(SEPARATOR)
}

/// True for a decimal number. It is not parsed: it may have any number of digits.
pub fn is_decimal(text: &str) -> bool {
    let has_allowed_bytes =
        text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    has_allowed_bytes && text.parse::<f64>().is_ok()
}

/// Text of a time in seconds and nanoseconds since 1970. Errors with the reason if HubSpot cannot store it.
pub fn time_text(seconds: i64, nanos: i32) -> Result<String, &'static str> {
    if nanos % MILLISECOND != 0 {
        return Err(
            "is more precise than a millisecond, which HubSpot cannot store; round it first",
        );
    }
    let is_valid = (START..END).contains(&seconds) && (0..1_000 * MILLISECOND).contains(&nanos);
    let time = is_valid.then(|| Timestamp::new(seconds, nanos).ok()).flatten();
    // The form in which HubSpot returns times.
    time.map(|time| format!("{time:.3}")).ok_or(
        "is not a time from 0001-01-01 to 9999-12-30T22:00:00Z with 0 to 999,999,999 nanoseconds",
    )
}

/// Text of a date. Errors with the reason if it does not exist.
pub fn date_text(year: i32, month: i32, day: i32) -> Result<String, &'static str> {
    let date = || {
        let year = i16::try_from(year).ok().filter(|year| YEARS.contains(year))?;
        CivilDate::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
    };
    date().map(|date| date.to_string()).ok_or("is not a date between the years 1 and 9999")
}

/// Text of a list; empty for one without values, which clears the property. Errors with the reason if it
/// cannot be read back.
pub fn list_text(values: &[String]) -> Result<String, &'static str> {
    if values.iter().any(String::is_empty) {
        return Err("has an empty value");
    }
    if values.iter().any(|value| value.contains(SEPARATOR)) {
        return Err("has a value with `;`, which separates values in HubSpot");
    }
    if !are_distinct(values.iter().map(String::as_str)) {
        return Err("has a value twice");
    }
    Ok(values.join(";"))
}

fn are_distinct<'a>(values: impl Iterator<Item = &'a str> + Clone) -> bool {
    let mut seen = HashSet::with_capacity(values.size_hint().0);
    values.clone().nth(1).is_none() || values.into_iter().all(|value| seen.insert(value))
}

fn number(text: &str) -> Option<TypedValue<'_>> {
    match integer(text) {
        Some(number) => Some(TypedValue::Integer(number)),
        None => is_decimal(text).then_some(TypedValue::Decimal(text)),
    }
}

/// A whole number without plus sign or leading zeros, so that its text can be restored.
fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_normal = text == "0" || digits.starts_with(|c: char| ('1'..='9').contains(&c));
    is_normal.then(|| text.parse().ok()).flatten()
}

fn boolean(text: &str) -> Option<TypedValue<'_>> {
    match text {
        "true" => Some(TypedValue::Boolean(true)),
        "false" => Some(TypedValue::Boolean(false)),
        _ => None,
    }
}

/// A time in ISO 8601 with an offset, or in milliseconds since 1970.
fn time(text: &str) -> Option<Timestamp> {
    let time = match integer(text) {
        Some(milliseconds) => Timestamp::from_millisecond(milliseconds).ok()?,
        None => text.parse().ok()?,
    };
    let is_exact = time.subsec_nanosecond() % MILLISECOND == 0;
    let is_in_range =
        Timestamp::from_second(START).is_ok_and(|start| time >= start) && time.as_second() < END;
    (is_exact && is_in_range).then_some(time)
}

/// A date in ISO 8601, or a time at midnight in UTC.
fn date(text: &str) -> Option<CivilDate> {
    let date = civil_date(text).or_else(|| date_of_utc_midnight(time(text)?))?;
    YEARS.contains(&date.year()).then_some(date)
}

fn list<'a>(text: &'a str, property: &PropertyDefinition) -> Option<TypedValue<'a>> {
    let is_list = list_values(text).all(|value| !value.is_empty())
        && are_distinct(list_values(text))
        // One option may contain the separator.
        && !(text.contains(SEPARATOR) && property.options.iter().any(|own| own.value == text));
    is_list.then_some(TypedValue::List(text))
}

#[cfg(test)]
mod tests;

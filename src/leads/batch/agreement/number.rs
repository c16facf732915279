//! Compares numbers in their forms: `7`, `7.0`, `+07`, `7e0`, `1e21` and all its digits.

use super::Agreement;

/// Maximum length of a number in bytes. A double has at most 309 digits before the point; longer texts are
/// compared as texts, which costs far less.
const MAX_LENGTH: usize = 400;

/// A decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal<'a> {
    is_negative: bool,
    /// Digits before and after the decimal point, without zeros at the beginning and at the end.
    digits: (&'a str, &'a str),
    exponent: i32,
    /// Power of ten of the last digit of the text.
    unit: i32,
}

/// Compares two numbers; `None` if one of the texts is not a number.
pub(super) fn compare_numbers(written: &str, shown: &str) -> Option<Agreement> {
    let (written_decimal, shown_decimal) = (Decimal::parse(written)?, Decimal::parse(shown)?);
    if written_decimal.is_equal(shown_decimal) {
        return Some(Agreement::Same);
    }
    // Numbers beyond the range of a double parse as infinite, and HubSpot may show its end instead.
    let clamped = |text: &str| Some(text.parse::<f64>().ok()?.clamp(f64::MIN, f64::MAX));
    let (written, shown) = (clamped(written)?, clamped(shown)?);
    if written.abs() >= f64::MAX {
        let is_end = (written - shown).abs() <= f64::EPSILON * f64::MAX;
        return Some(if is_end { Agreement::Unclear } else { Agreement::Different });
    }
    let difference = (written - shown).abs();
    if difference <= f64::EPSILON * written.abs() {
        // HubSpot may store a number with this precision. Long integers may also be two ids.
        let are_integers = written_decimal.is_integer() && shown_decimal.is_integer();
        if !are_integers {
            return Some(Agreement::Same);
        }
        let is_rounded = Decimal::parse(&written.to_string())
            .is_some_and(|stored| stored.is_equal(shown_decimal));
        return Some(if is_rounded { Agreement::Unclear } else { Agreement::Different });
    }
    // HubSpot may round to the digits that it shows.
    let may_be_rounded =
        !(written_decimal.is_integer() && shown_decimal.unit >= 0) || shown_decimal.exponent > 0;
    let is_near = difference < 10_f64.powi(shown_decimal.unit);
    Some(if may_be_rounded && is_near { Agreement::Unclear } else { Agreement::Different })
}

// === impl Decimal ===

impl<'a> Decimal<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse().ok()?),
            None => (text, 0_i32),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let are_digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
        if !are_digits(whole) || !are_digits(fraction) || whole.len() + fraction.len() == 0 {
            return None;
        }
        let unit = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let digits = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        Some(Self { is_negative, digits, exponent, unit })
    }

    /// True for a text of digits only.
    fn is_integer(self) -> bool {
        self.unit == 0 && self.exponent == 0
    }

    fn is_equal(self, other: Self) -> bool {
        let (own, others) = (self.significant(), other.significant());
        let is_zero = own.0.is_empty() && others.0.is_empty();
        is_zero || self.is_negative == other.is_negative && own == others
    }

    /// Digits without zeros at both ends, and the power of ten of the last one.
    fn significant(self) -> (String, i64) {
        let (whole, fraction) = self.digits;
        let digits = [whole, fraction].concat();
        let trimmed = digits.trim_end_matches('0');
        let dropped = digits.len() - trimmed.len();
        let places = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        let dropped = i64::try_from(dropped).unwrap_or(i64::MAX);
        let unit = i64::from(self.exponent).saturating_sub(places).saturating_add(dropped);
        (trimmed.trim_start_matches('0').to_owned(), unit)
    }
}

//! Validation rules that the portal defines for a property.
//!
//! Only rules whose arguments HubSpot documents without doubt are checked: lengths, numbers, kinds of
//! characters and decimal places. HubSpot decides the others, and values that it normalizes first.

use crate::leads::{schema::ValidationRule, typed_value::is_decimal};

/// Description of the first rule that a value violates. An empty value clears the property.
pub(super) fn fault(rules: &[ValidationRule], value: &str) -> Option<String> {
    let rules = rules.iter().filter(|_| !value.is_empty());
    rules.filter(|rule| !rule.is_normalized).find_map(|rule| violation(rule, value))
}

fn violation(rule: &ValidationRule, value: &str) -> Option<String> {
    let argument = rule.arguments.first()?.trim();
    let count = || argument.parse::<usize>().ok();
    match rule.kind.as_str() {
        "MIN_LENGTH" => {
            // HubSpot may count UTF-16 units, of which there are never fewer than characters.
            let length = value.encode_utf16().count();
            count().filter(|min| length < *min).map(|min| {
                format!(
                    "is too short for a rule of the portal (minimum {min} characters, has {length})"
                )
            })
        }
        "MAX_LENGTH" => {
            // HubSpot may remove white space at the ends.
            let length = value.trim().chars().count();
            count().filter(|max| length > *max).map(|max| {
                format!(
                    "is too long for a rule of the portal (limit {max} characters, has {length})"
                )
            })
        }
        "MIN_NUMBER" => numbers(value, argument)
            .filter(|(value, min)| value < min)
            .map(|_| format!("is less than {argument}, the minimum by a rule of the portal")),
        "MAX_NUMBER" => numbers(value, argument)
            .filter(|(value, max)| value > max)
            .map(|_| format!("is greater than {argument}, the maximum by a rule of the portal")),
        "DECIMAL" => {
            count().filter(|max| decimals(value).is_some_and(|own| own > *max)).map(|max| {
                format!("has too many decimal places for a rule of the portal (limit {max})")
            })
        }
        "ALPHANUMERIC" => {
            // Of white space and characters beyond ASCII, HubSpot decides which ones it accepts.
            let (is_refused, what): (fn(char) -> bool, _) = match argument {
                "ALPHANUMERIC" => (|own| own.is_ascii_punctuation(), "letters and digits"),
                "ALPHA_ONLY" => {
                    (|own| own.is_ascii_punctuation() || own.is_ascii_digit(), "letters")
                }
                "NUMERIC_ONLY" => (|own| own.is_ascii_alphabetic(), "digits"),
                _ => return None,
            };
            let is_valid = !value.chars().any(is_refused);
            (!is_valid).then(|| format!("may only have {what}, by a rule of the portal"))
        }
        _ => None,
    }
}

/// A value and the argument of a rule as numbers. Rounding changes no order, so that unequal results are certain.
fn numbers(value: &str, argument: &str) -> Option<(f64, f64)> {
    let number = |text: &str| is_decimal(text).then(|| text.parse().ok()).flatten();
    Some((number(value.trim())?, number(argument)?))
}

/// Number of decimal places without trailing zeros; `None` for a number with an exponent.
fn decimals(value: &str) -> Option<usize> {
    let value = value.trim();
    let is_plain = is_decimal(value) && !value.contains(['e', 'E']);
    let fraction = value.split_once('.').map_or("", |(_, fraction)| fraction);
    is_plain.then(|| fraction.trim_end_matches('0').len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: &str, argument: &str) -> ValidationRule {
        let (kind, arguments) = (kind.to_owned(), vec![argument.to_owned()]);
        ValidationRule { kind, arguments, is_normalized: false }
    }

    #[test]
    fn values_are_checked_by_the_rules_that_are_documented() {
        for (kind, argument, value, is_valid) in [
            ("MIN_LENGTH", "3", "größe", true),
            ("MIN_LENGTH", "3", "ße", false),
            ("MIN_LENGTH", "2", "😀", true),
            ("MAX_LENGTH", "5", "größe", true),
            ("MAX_LENGTH", "4", "größe", false),
            ("MAX_LENGTH", "5", " größe ", true),
            ("MAX_LENGTH", "1", "😀", true),
            ("MIN_NUMBER", "1", "1.0", true),
            ("MIN_NUMBER", "1", "0.999", false),
            ("MIN_NUMBER", "-5", "-5e0", true),
            ("MAX_NUMBER", "100", "100", true),
            ("MAX_NUMBER", "100", "100.5", false),
            ("MAX_NUMBER", "9007199254740993", "9007199254740992", true),
            ("MAX_NUMBER", "100", "many", true),
            ("MAX_NUMBER", "none", "1", true),
            ("DECIMAL", "2", "1.25", true),
            ("DECIMAL", "2", "1.2500", true),
            ("DECIMAL", "2", "1.255", false),
            ("DECIMAL", "0", "7", true),
            ("DECIMAL", "0", "1e-9", true),
            ("ALPHANUMERIC", "ALPHANUMERIC", "größe7", true),
            ("ALPHANUMERIC", "ALPHANUMERIC", "a b", true),
            ("ALPHANUMERIC", "ALPHANUMERIC", "a-b", false),
            ("ALPHANUMERIC", "ALPHA_ONLY", "e\u{301}", true),
            ("ALPHANUMERIC", "ALPHA_ONLY", "a7", false),
            ("ALPHANUMERIC", "NUMERIC_ONLY", "12345", true),
            ("ALPHANUMERIC", "NUMERIC_ONLY", "123-45", true),
            ("ALPHANUMERIC", "NUMERIC_ONLY", "12a", false),
            ("ALPHANUMERIC", "SOMETHING", "?", true),
            ("REGEX", "^a$", "b", true),
            ("RULE_OF_TOMORROW", "1", "x", true),
            ("MIN_LENGTH", "3", "", true),
        ] {
            let found = fault(&[rule(kind, argument)], value);
            assert_eq!(found.is_none(), is_valid, "{kind} {argument} {value}: {found:?}");
        }
    }

    #[test]
    fn a_value_that_hubspot_normalizes_and_a_rule_without_arguments_are_not_checked() {
        let strict = rule("MIN_LENGTH", "3");
        let normalized = ValidationRule { is_normalized: true, ..strict.clone() };
        let empty = ValidationRule { arguments: Vec::new(), ..strict.clone() };
        assert_eq!(fault(&[normalized, empty], "a"), None);
        let max = rule("MAX_LENGTH", "0");
        let first = fault(&[strict, max], "a").unwrap();
        assert_eq!(first, "is too short for a rule of the portal (minimum 3 characters, has 1)");
    }
}

//! Values of properties by the type of the property.

use std::collections::HashSet;

use super::{
    hints::{Candidate, Hints},
    time::DateRules,
    violation::ViolationKind,
};
use crate::leads::{schema::PropertyDefinition, typed_value::is_decimal};

/// Maximum length of a text in characters, as HubSpot documents it.
const MAX_TEXT: usize = 65_536;

/// Property whose values are ids of owners.
const OWNER: &str = "hubspot_owner_id";

/// Length of a value above which its options are looked up by hash, in bytes.
const LONG_VALUE: usize = 256;

/// Rule that a value violates, with a description for the caller; `None` if HubSpot may accept the value. An
/// empty value clears the property.
pub(super) fn fault(
    property: &PropertyDefinition,
    value: &str,
    dates: DateRules,
    hints: &mut Hints,
) -> Option<(ViolationKind, String)> {
    if property.is_read_only {
        let text = match property.is_calculated {
            true => "is computed by HubSpot and cannot be written",
            false => "is read-only",
        };
        return Some((ViolationKind::ReadOnly, text.to_owned()));
    }
    if value.is_empty() {
        return None;
    }
    let (kind, text) = match property.type_name.as_str() {
        "string" if value.chars().count() > MAX_TEXT => (
            ViolationKind::Length,
            format!("is too long (limit {MAX_TEXT} characters, has {})", value.chars().count()),
        ),
        "number" if !is_decimal(value.trim()) => (
            ViolationKind::Number,
            "is not a number; write digits with an optional sign, point and exponent, without \
             separators of thousands"
                .to_owned(),
        ),
        "bool" if !is_boolean(value) => {
            (ViolationKind::Boolean, "must be true or false".to_owned())
        }
        "date" if !dates.accepts_date(value) => (
            ViolationKind::Date,
            "is not a date; write YYYY-MM-DD, or milliseconds since 1970 at midnight in UTC"
                .to_owned(),
        ),
        "datetime" if !dates.accepts_time(value) => (
            ViolationKind::DateTime,
            "is not a time; write ISO 8601 such as 2026-11-30T10:00:00Z, or milliseconds since 1970"
                .to_owned(),
        ),
        "enumeration" => return option_fault(property, value, hints),
        _ => return None,
    };
    Some((kind, text))
}

fn is_boolean(value: &str) -> bool {
    ["true", "false"].iter().any(|own| own.eq_ignore_ascii_case(value.trim()))
}

/// Checks the options of an enumeration, as far as they are known.
fn option_fault(
    property: &PropertyDefinition,
    value: &str,
    hints: &mut Hints,
) -> Option<(ViolationKind, String)> {
    if property.name == OWNER {
        let is_id = value.trim().bytes().all(|b| b.is_ascii_digit());
        let text = "is not the id of an owner, which is a number; ListOwners returns the ids";
        return (!is_id).then(|| (ViolationKind::Owner, text.to_owned()));
    }
    if property.is_flag() && is_boolean(value) {
        return None;
    }
    let is_known = !property.has_external_options
        && !property.has_more_options
        && !property.options.is_empty();
    let values = property.options.iter().map(|option| option.value.as_str());
    // A long list may repeat its entries.
    let set: HashSet<&str> = match value.len() > LONG_VALUE {
        true => values.clone().collect(),
        false => HashSet::new(),
    };
    let has = |value: &str| match set.is_empty() {
        true => values.clone().any(|own| own == value),
        false => set.contains(value),
    };
    if !is_known || has(value) {
        return None;
    }
    let is_list = property.is_list();
    // An empty entry at the beginning keeps the values that the lead has.
    let wrong = match is_list {
        true => value.split(';').map(str::trim).find(|entry| !entry.is_empty() && !has(entry))?,
        false => value,
    };
    let what = match is_list {
        true => "has an entry that is not an option of the property",
        false => "is not an option of the property",
    };
    let options = || {
        let own = property.options.iter();
        own.map(|option| Candidate { value: &option.value, label: &option.label })
    };
    let near = hints.did_you_mean(wrong, options());
    let allowed = hints.allowed(options());
    Some((ViolationKind::Option, format!("{what}{near}{allowed}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::schema::PropertyOption;

    fn property(type_name: &str, field_type: &str, options: &[(&str, &str)]) -> PropertyDefinition {
        let option = |(value, label): &(&str, &str)| PropertyOption {
            value: (*value).to_owned(),
            label: (*label).to_owned(),
            ..PropertyOption::default()
        };
        PropertyDefinition {
            name: "own".to_owned(),
            type_name: type_name.to_owned(),
            field_type: field_type.to_owned(),
            options: options.iter().map(option).collect(),
            ..PropertyDefinition::default()
        }
    }

    fn kind(property: &PropertyDefinition, value: &str) -> Option<ViolationKind> {
        fault(property, value, DateRules::Lenient, &mut Hints::default()).map(|(kind, _)| kind)
    }

    #[test]
    fn values_are_checked_by_the_type_of_the_property() {
        use ViolationKind::{Boolean, Date, DateTime, Length, Number};
        let (longest, long) = ("ä".repeat(65_536), "x".repeat(65_537));
        for (type_name, value, expected) in [
            ("string", "any text\n", None),
            ("string", &longest, None),
            ("string", &long, Some(Length)),
            ("number", "1", None),
            ("number", "-1.50", None),
            ("number", "+1e3", None),
            ("number", ".5", None),
            ("number", "99999999999999999999999999.5", None),
            ("number", "1,000", Some(Number)),
            ("number", "1 000", Some(Number)),
            ("number", "12 EUR", Some(Number)),
            ("number", "0x1f", Some(Number)),
            ("number", "NaN", Some(Number)),
            ("number", "infinity", Some(Number)),
            ("number", "1e", Some(Number)),
            ("bool", "true", None),
            ("bool", "FALSE", None),
            ("bool", "yes", Some(Boolean)),
            ("bool", "1", Some(Boolean)),
            ("date", "2026-11-30", None),
            ("date", "next week", Some(Date)),
            ("datetime", "2026-11-30T10:00:00Z", None),
            ("datetime", "later", Some(DateTime)),
            ("phone_number", "anything", None),
            ("json", "{", None),
            ("type of tomorrow", "?", None),
        ] {
            let found = kind(&property(type_name, "text", &[]), value);
            assert_eq!(found, expected, "{type_name} {}", &value[..value.len().min(40)]);
        }
    }

    #[test]
    fn an_empty_value_clears_any_property_that_can_be_written() {
        for type_name in ["string", "number", "bool", "date", "datetime", "enumeration"] {
            let mut own = property(type_name, "select", &[("A", "")]);
            assert_eq!(kind(&own, ""), None, "{type_name}");
            own.is_read_only = true;
            assert_eq!(kind(&own, ""), Some(ViolationKind::ReadOnly), "{type_name}");
        }
    }

    #[test]
    fn options_are_checked_as_one_value_or_as_a_list() {
        let options = [("HOT", "Hot"), ("A;B", ""), ("COLD", "")];
        let (one, list) = (
            property("enumeration", "select", &options),
            property("enumeration", "checkbox", &options),
        );
        for (value, in_one, in_list) in [
            ("HOT", true, true),
            ("A;B", true, true),
            ("hot", false, false),
            ("Hot", false, false),
            ("HOT;COLD", false, true),
            (";COLD", false, true),
            ("HOT; COLD;", false, true),
            ("HOT;MILD", false, false),
        ] {
            assert_eq!(kind(&one, value).is_none(), in_one, "{value}");
            assert_eq!(kind(&list, value).is_none(), in_list, "{value}");
        }
    }

    #[test]
    fn a_flag_may_be_an_enumeration() {
        let flag = property("enumeration", "booleancheckbox", &[("true", "Yes"), ("false", "No")]);
        for (value, is_valid) in [("true", true), ("False", true), ("Yes", false), ("1", false)] {
            assert_eq!(kind(&flag, value).is_none(), is_valid, "{value}");
        }
    }

    #[test]
    fn a_long_list_is_checked_like_a_short_one() {
        let list = property("enumeration", "checkbox", &[("HOT", ""), ("COLD", "")]);
        let valid = "HOT;COLD;".repeat(100);
        assert_eq!(kind(&list, &valid), None);
        assert_eq!(kind(&list, &format!("{valid}MILD")), Some(ViolationKind::Option));
    }

    #[test]
    fn options_that_are_not_all_known_are_not_checked() {
        let own = property("enumeration", "select", &[("HOT", "")]);
        let external = PropertyDefinition { has_external_options: true, ..own.clone() };
        let more = PropertyDefinition { has_more_options: true, ..own.clone() };
        let none = PropertyDefinition { options: Vec::new(), ..own };
        for own in [external, more, none] {
            assert_eq!(kind(&own, "MILD"), None);
        }
    }

    #[test]
    fn an_owner_is_a_number() {
        let mut own = property("enumeration", "select", &[]);
        own.name = OWNER.to_owned();
        own.has_external_options = true;
        assert_eq!(kind(&own, "9001"), None);
        assert_eq!(kind(&own, "jane@example.com"), Some(ViolationKind::Owner));
    }

    #[test]
    fn a_description_names_the_option_that_was_meant_and_no_value_of_the_caller() {
        let own = property("enumeration", "select", &[("HOT", "Hot"), ("WARM", "Warm")]);
        let text =
            |value: &str| fault(&own, value, DateRules::Lenient, &mut Hints::default()).unwrap().1;
        assert_eq!(
            text("wram"),
            "is not an option of the property; did you mean WARM (Warm)?; allowed: HOT, WARM"
        );
        assert!(!text("secret@example.com").contains("secret"));
    }
}

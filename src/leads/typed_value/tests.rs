//! Types of values by the definitions of their properties, and texts that are read back.

use proptest::prelude::*;

use super::*;
use crate::leads::schema::PropertyOption;

fn property(type_name: &str, field_type: &str) -> PropertyDefinition {
    let (type_name, field_type) = (type_name.to_owned(), field_type.to_owned());
    PropertyDefinition { type_name, field_type, ..PropertyDefinition::default() }
}

fn at(text: &str) -> TypedValue<'_> {
    TypedValue::Time(text.parse().unwrap())
}

fn on(text: &str) -> TypedValue<'_> {
    TypedValue::Date(text.parse().unwrap())
}

#[test]
fn the_type_of_a_value_is_that_of_its_property() {
    use TypedValue::{Boolean, Decimal, Integer, List, Text};
    for (type_name, field_type, text, expected) in [
        ("string", "text", "1", Text("1")),
        ("number", "number", "0", Integer(0)),
        ("number", "number", "-7", Integer(-7)),
        ("number", "number", "9223372036854775807", Integer(i64::MAX)),
        ("number", "number", "-9223372036854775808", Integer(i64::MIN)),
        ("number", "number", "9223372036854775808", Decimal("9223372036854775808")),
        ("number", "number", "007", Decimal("007")),
        ("number", "number", "+7", Decimal("+7")),
        ("number", "number", "-0", Decimal("-0")),
        ("number", "number", "12.50", Decimal("12.50")),
        ("number", "number", "1e6", Decimal("1e6")),
        ("number", "number", ".5", Decimal(".5")),
        ("number", "number", "0.10000000000000000000001", Decimal("0.10000000000000000000001")),
        ("number", "number", "", Text("")),
        ("number", "number", "NaN", Text("NaN")),
        ("number", "number", "-", Text("-")),
        ("number", "number", "1,5", Text("1,5")),
        ("number", "number", " 1", Text(" 1")),
        ("bool", "booleancheckbox", "true", Boolean(true)),
        ("bool", "booleancheckbox", "false", Boolean(false)),
        ("bool", "booleancheckbox", "TRUE", Text("TRUE")),
        ("bool", "booleancheckbox", "yes", Text("yes")),
        ("enumeration", "booleancheckbox", "true", Boolean(true)),
        ("enumeration", "booleancheckbox", "maybe", Text("maybe")),
        ("datetime", "date", "2026-11-30T10:00:00.123Z", at("2026-11-30T10:00:00.123Z")),
        ("datetime", "date", "2026-11-30T10:00:00Z", at("2026-11-30T10:00:00Z")),
        ("datetime", "date", "2026-11-30T12:00:00+02:00", at("2026-11-30T10:00:00Z")),
        ("datetime", "date", "1764496800000", at("2025-11-30T10:00:00Z")),
        ("datetime", "date", "-1", at("1969-12-31T23:59:59.999Z")),
        ("datetime", "date", "2026-11-30T10:00:00.1234Z", Text("2026-11-30T10:00:00.1234Z")),
        ("datetime", "date", "2026-11-30", Text("2026-11-30")),
        ("datetime", "date", "0000-12-31T23:59:59Z", Text("0000-12-31T23:59:59Z")),
        ("datetime", "date", "99999999999999999", Text("99999999999999999")),
        ("datetime", "date", "soon", Text("soon")),
        ("date", "date", "2026-11-30", on("2026-11-30")),
        ("date", "date", "1764460800000", on("2025-11-30")),
        ("date", "date", "2026-11-30T00:00:00Z", on("2026-11-30")),
        ("date", "date", "2026-11-30T10:00:00Z", Text("2026-11-30T10:00:00Z")),
        ("date", "date", "1764460800001", Text("1764460800001")),
        ("date", "date", "2026-02-30", Text("2026-02-30")),
        ("date", "date", "0000-01-01", Text("0000-01-01")),
        ("enumeration", "checkbox", "a;b", List("a;b")),
        ("enumeration", "checkbox", "a", List("a")),
        ("enumeration", "checkbox", "", Text("")),
        ("enumeration", "checkbox", "a;", Text("a;")),
        ("enumeration", "checkbox", ";a", Text(";a")),
        ("enumeration", "checkbox", "a;a", Text("a;a")),
        ("enumeration", "checkbox", "A;B", Text("A;B")),
        ("enumeration", "select", "a;b", Text("a;b")),
        ("json", "text", "{}", Text("{}")),
        ("type of tomorrow", "", "1", Text("1")),
    ] {
        let option = PropertyOption { value: "A;B".to_owned(), ..PropertyOption::default() };
        let mut own = property(type_name, field_type);
        own.options.push(option);
        assert_eq!(TypedValue::parse(text, Some(&own)), expected, "{type_name} {text}");
        assert_eq!(TypedValue::parse(text, None), Text(text));
    }
}

#[test]
fn what_cannot_be_stored_or_read_back_has_no_text() {
    for (seconds, nanos, expected) in [
        (0, 0, Ok("1970-01-01T00:00:00.000Z")),
        (-1, 1_000_000, Ok("1969-12-31T23:59:59.001Z")),
        (START, 0, Ok("0001-01-01T00:00:00.000Z")),
        (END - 1, 999_000_000, Ok("9999-12-30T21:59:59.999Z")),
        (0, 1, Err("is more precise than a millisecond")),
        (0, 999_999_999, Err("is more precise than a millisecond")),
        (END, 0, Err("is not a time")),
        (START - 1, 0, Err("is not a time")),
        (0, -1_000_000, Err("is not a time")),
        (0, 1_000_000_000, Err("is not a time")),
        (i64::MAX, 0, Err("is not a time")),
    ] {
        let text = time_text(seconds, nanos);
        match expected {
            Ok(expected) => assert_eq!(text.as_deref(), Ok(expected)),
            Err(start) => assert!(text.unwrap_err().starts_with(start), "{seconds} {nanos}"),
        }
    }
    for (date, expected) in [
        ((2024, 2, 29), Some("2024-02-29")),
        ((1, 1, 1), Some("0001-01-01")),
        ((9999, 12, 31), Some("9999-12-31")),
        ((2023, 2, 29), None),
        ((0, 1, 1), None),
        ((10_000, 1, 1), None),
        ((2026, 0, 1), None),
        ((2026, 1, 0), None),
        ((2026, 13, 1), None),
        ((i32::MIN, 1, 300), None),
    ] {
        let (year, month, day) = date;
        assert_eq!(date_text(year, month, day).ok().as_deref(), expected, "{date:?}");
    }
    for (values, expected) in [
        (&[][..], Ok("")),
        (&["a"], Ok("a")),
        (&["a", " b", "ä"], Ok("a; b;ä")),
        (&[""], Err("has an empty value")),
        (&["a", "b;c"], Err("has a value with `;`, which separates values in HubSpot")),
        (&["a", "b", "a"], Err("has a value twice")),
    ] {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        assert_eq!(list_text(&values), expected.map(str::to_owned));
    }
}

proptest! {
    #[test]
    fn a_time_is_read_back(milliseconds in START * 1_000..END * 1_000) {
        let time = Timestamp::from_millisecond(milliseconds).unwrap();
        let (seconds, nanos) = (milliseconds.div_euclid(1_000), milliseconds.rem_euclid(1_000));
        let text = time_text(seconds, i32::try_from(nanos).unwrap() * MILLISECOND).unwrap();
        let own = property("datetime", "date");
        prop_assert_eq!(TypedValue::parse(&text, Some(&own)), TypedValue::Time(time));
    }

    #[test]
    fn a_number_is_read_back(integer in any::<i64>(), decimal in "[+-]?[0-9]{1,40}(\\.[0-9]{0,40})?([eE][+-]?[0-9]{1,5})?") {
        let own = property("number", "number");
        let text = integer.to_string();
        prop_assert_eq!(TypedValue::parse(&text, Some(&own)), TypedValue::Integer(integer));
        prop_assert!(is_decimal(&decimal));
        let read = TypedValue::parse(&decimal, Some(&own));
        match decimal.parse::<i64>().ok().filter(|number| number.to_string() == decimal) {
            Some(number) => prop_assert_eq!(read, TypedValue::Integer(number)),
            None => prop_assert_eq!(read, TypedValue::Decimal(&decimal)),
        }
    }

    #[test]
    fn no_text_of_any_type_is_lost(text in "[0-9a-zTZ:;.+-]{0,30}") {
        for (type_name, field_type) in
            [("number", ""), ("bool", ""), ("datetime", ""), ("date", ""), ("enumeration", "checkbox")]
        {
            let own = property(type_name, field_type);
            let shown = match TypedValue::parse(&text, Some(&own)) {
                TypedValue::Text(text) | TypedValue::Decimal(text) | TypedValue::List(text) => text.to_owned(),
                TypedValue::Integer(number) => number.to_string(),
                TypedValue::Boolean(is_true) => is_true.to_string(),
                // Other forms of the same time are equal.
                TypedValue::Time(_) | TypedValue::Date(_) => text.clone(),
            };
            prop_assert_eq!(&shown, &text);
        }
    }
}

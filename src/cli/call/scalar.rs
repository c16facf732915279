//! Scalars from text, typed by the descriptor. Errors are predicates of the field, such as
//! `"ten" is not a 32-bit integer`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MessageDescriptor, Value};

use super::contract::hint;
use crate::config;

/// Maximum length in characters of a value that an error quotes.
const MAX_QUOTED: usize = 64;

/// Maximum number of values of an enum that an error lists.
const MAX_LISTED: usize = 16;

/// Parses a scalar, an enum value, or a message with a text form, such as a duration.
pub(super) fn parse_scalar(kind: &Kind, text: &str) -> Result<Value, String> {
    let not = |what: &str| format!("{} is not {what}", quoted(text));
    let integer = |bits: u32, sign: &str| not(&format!("a {bits}-bit {sign}integer"));
    match kind {
        Kind::Double => text.parse().map(Value::F64).map_err(|_| not("a number")),
        Kind::Float => text.parse().map(Value::F32).map_err(|_| not("a number")),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            text.parse().map(Value::I32).map_err(|_| integer(32, ""))
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            text.parse().map(Value::I64).map_err(|_| integer(64, ""))
        }
        Kind::Uint32 | Kind::Fixed32 => {
            text.parse().map(Value::U32).map_err(|_| integer(32, "unsigned "))
        }
        Kind::Uint64 | Kind::Fixed64 => {
            text.parse().map(Value::U64).map_err(|_| integer(64, "unsigned "))
        }
        Kind::Bool => text.parse().map(Value::Bool).map_err(|_| not("true or false")),
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bytes => {
            let bytes = STANDARD.decode(text).map_err(|_| not("Base64"))?;
            Ok(Value::Bytes(bytes.into()))
        }
        Kind::Enum(declared) => parse_enum(declared, text),
        Kind::Message(message) => parse_message(message, text),
    }
}

/// Parses a value of an enum: its name, its name without the prefix of the enum, or its number.
fn parse_enum(declared: &EnumDescriptor, text: &str) -> Result<Value, String> {
    if let Ok(number) = text.parse() {
        return Ok(Value::EnumNumber(number));
    }
    let prefix = prefix(declared.name());
    let found = declared.get_value_by_name(text);
    let found = found.or_else(|| declared.get_value_by_name(&format!("{prefix}{text}")));
    if let Some(value) = found {
        return Ok(Value::EnumNumber(value.number()));
    }
    let names: Vec<String> = declared
        .values()
        .map(|value| value.name().trim_start_matches(&*prefix).to_owned())
        .collect();
    let known = text.strip_prefix(&prefix).unwrap_or(text);
    let hint = match hint(known, names.iter().map(String::as_str)) {
        hint if !hint.is_empty() => hint,
        _ if names.len() > MAX_LISTED => String::new(),
        _ => format!("; it has {}", names.join(", ")),
    };
    Err(format!("{} is no value of {}{hint}", quoted(text), declared.name()))
}

/// Common prefix of the values of an enum: `FILTER_OPERATOR_` for `FilterOperator`.
fn prefix(name: &str) -> String {
    let mut prefix = String::new();
    for (index, letter) in name.char_indices() {
        if index > 0 && letter.is_ascii_uppercase() {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix + "_"
}

/// Parses a message that JSON has as text: a time or a duration.
fn parse_message(message: &MessageDescriptor, text: &str) -> Result<Value, String> {
    let mut parsed = DynamicMessage::new(message.clone());
    let done = match message.full_name() {
        "google.protobuf.Timestamp" => {
            let time: prost_types::Timestamp = text.parse().map_err(|_| {
                format!("{} is not a time such as 2026-01-31T12:00:00Z", quoted(text))
            })?;
            parsed.transcode_from(&time)
        }
        "google.protobuf.Duration" => {
            let duration = config::duration(text)
                .and_then(|duration| prost_types::Duration::try_from(duration).ok())
                .or_else(|| text.parse().ok())
                .ok_or_else(|| format!("{} is not a duration such as 1.5s or 10m", quoted(text)))?;
            parsed.transcode_from(&duration)
        }
        _ => return Err(format!("{} is not a {} object", quoted(text), message.name())),
    };
    done.map_err(|error| error.to_string())?;
    Ok(Value::Message(parsed))
}

/// True if JSON has messages of this type as text.
pub(super) fn has_text_form(message: &MessageDescriptor) -> bool {
    matches!(message.full_name(), "google.protobuf.Timestamp" | "google.protobuf.Duration")
}

/// Value in quotes, cut and without control characters.
fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(MAX_QUOTED).collect();
    let more = if cut.len() < text.len() { "..." } else { "" };
    format!("{cut:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::call::contract::{Described, find, find_message};

    #[test]
    fn text_becomes_the_value_of_its_type() {
        for (kind, text, expected) in [
            (Kind::Int32, "-5", Value::I32(-5)),
            (Kind::Sint64, "9223372036854775807", Value::I64(i64::MAX)),
            (Kind::Fixed32, "4294967295", Value::U32(u32::MAX)),
            (Kind::Uint64, "0", Value::U64(0)),
            (Kind::Double, "1.5", Value::F64(1.5)),
            (Kind::Float, "1e3", Value::F32(1000.0)),
            (Kind::Bool, "true", Value::Bool(true)),
            (Kind::String, " a=b\n", Value::String(" a=b\n".to_owned())),
            (Kind::String, "", Value::String(String::new())),
            (Kind::Bytes, "aGk=", Value::Bytes("hi".into())),
        ] {
            assert_eq!(parse_scalar(&kind, text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn errors_quote_the_value_and_name_the_type() {
        let long = "x".repeat(1000);
        for (kind, text, expected) in [
            (Kind::Int32, "ten", "\"ten\" is not a 32-bit integer"),
            (Kind::Int32, "2147483648", "\"2147483648\" is not a 32-bit integer"),
            (Kind::Uint64, "-1", "\"-1\" is not a 64-bit unsigned integer"),
            (Kind::Int64, "1.5", "\"1.5\" is not a 64-bit integer"),
            (Kind::Bool, "yes", "\"yes\" is not true or false"),
            (Kind::Double, "", "\"\" is not a number"),
            (Kind::Bytes, "%", "\"%\" is not Base64"),
            (Kind::Int32, "\u{1b}[31m", "\"\\u{1b}[31m\" is not a 32-bit integer"),
        ] {
            assert_eq!(parse_scalar(&kind, text), Err(expected.to_owned()), "{text}");
        }
        let error = parse_scalar(&Kind::Int32, &long).unwrap_err();
        assert!(error.len() < 110 && error.contains("x\"... is"), "{error}");
    }

    #[test]
    fn enum_values_have_short_names_and_suggestions() {
        let Ok(Described::Enum(operator)) = find("FilterOperator") else { panic!("an enum") };
        let kind = Kind::Enum(operator);
        for text in ["FILTER_OPERATOR_IN", "IN", "8"] {
            assert_eq!(parse_scalar(&kind, text), Ok(Value::EnumNumber(8)), "{text}");
        }
        let near = parse_scalar(&kind, "BETWEN").unwrap_err();
        assert_eq!(near, "\"BETWEN\" is no value of FilterOperator; did you mean \"BETWEEN\"?");
        let near = parse_scalar(&kind, "FILTER_OPERATOR_BETWEN").unwrap_err();
        assert!(near.ends_with("did you mean \"BETWEEN\"?"), "{near}");
        let far = parse_scalar(&kind, "?").unwrap_err();
        assert!(far.contains("it has UNSPECIFIED, EQ, NEQ"), "{far}");
    }

    #[test]
    fn times_and_durations_have_a_text_form() {
        let kind = |name: &str| Kind::Message(find_message(name).unwrap());
        let fields = |value: Value| {
            let message = value.as_message().unwrap().clone();
            let number = |name: &str| message.get_field_by_name(name).unwrap().into_owned();
            (number("seconds").as_i64().unwrap(), number("nanos").as_i32().unwrap())
        };
        for (name, text, expected) in [
            ("google.protobuf.Duration", "1.5s", (1, 500_000_000)),
            ("google.protobuf.Duration", "250ms", (0, 250_000_000)),
            ("google.protobuf.Duration", "10m", (600, 0)),
            ("google.protobuf.Duration", "-1s", (-1, 0)),
            ("google.protobuf.Timestamp", "1970-01-01T00:00:01Z", (1, 0)),
            ("google.protobuf.Timestamp", "1970-01-01T01:00:00+01:00", (0, 0)),
        ] {
            assert_eq!(fields(parse_scalar(&kind(name), text).unwrap()), expected, "{text}");
        }
        for (name, text, expected) in [
            ("google.protobuf.Duration", "soon", "\"soon\" is not a duration such as"),
            ("google.protobuf.Timestamp", "now", "\"now\" is not a time such as"),
            ("leadsd.v1.Filter", "x", "\"x\" is not a Filter object"),
        ] {
            let error = parse_scalar(&kind(name), text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}

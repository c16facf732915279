//! Messages as ordered trees, which JSON and the output for people are written from.
//!
//! A server may send anything: a detail of an unknown type, a time in the year 300,000, or details nested
//! a million times. None of these is an error; such parts are shown as they arrived.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value};

use super::contract::find_message;

/// Maximum depth of `google.protobuf.Any` inside each other. Each is decoded separately, so prost does not
/// bound it.
const MAX_ANY_DEPTH: usize = 8;

/// Seconds of the years 1 to 9999, which a time in JSON has.
const TIMES: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Maximum seconds of a duration in JSON: about 10,000 years.
const MAX_DURATION: i64 = 315_576_000_000;

/// Value in output.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    /// Number of at most 53 bits, or true or false.
    Literal(String),
    /// Integer of 64 bits, which JSON has as text.
    Integer(String),
    Text(String),
    List(Vec<Tree>),
    /// Fields in the order of their numbers, or entries in the order of their keys.
    Object(Vec<(String, Tree)>),
}

/// Spelling of the fields of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldNames {
    /// Names in JSON: `nextPageToken`.
    Json,
    /// Names in the proto, in arguments and in errors: `next_page_token`.
    Proto,
}

/// Tree of a message. Fields without a value are left out.
pub(super) fn tree(message: &DynamicMessage, names: FieldNames) -> Tree {
    message_tree(message, names, 0)
}

fn message_tree(message: &DynamicMessage, names: FieldNames, depth: usize) -> Tree {
    let descriptor = message.descriptor();
    let special = match descriptor.full_name() {
        "google.protobuf.Timestamp" => time_text(message).map(Tree::Text),
        "google.protobuf.Duration" => duration_text(message).map(Tree::Text),
        "google.protobuf.Any" => Some(any_tree(message, names, depth)),
        _ => None,
    };
    special.unwrap_or_else(|| Tree::Object(fields(message, names, depth)))
}

fn fields(message: &DynamicMessage, names: FieldNames, depth: usize) -> Vec<(String, Tree)> {
    let name = |field: &FieldDescriptor| match names {
        FieldNames::Json => field.json_name().to_owned(),
        FieldNames::Proto => field.name().to_owned(),
    };
    let fields = message.fields();
    fields
        .map(|(field, value)| (name(&field), value_tree(&field.kind(), value, names, depth)))
        .collect()
}

fn value_tree(kind: &Kind, value: &Value, names: FieldNames, depth: usize) -> Tree {
    match value {
        Value::Bool(value) => Tree::Literal(value.to_string()),
        Value::I32(value) => Tree::Literal(value.to_string()),
        Value::U32(value) => Tree::Literal(value.to_string()),
        Value::I64(value) => Tree::Integer(value.to_string()),
        Value::U64(value) => Tree::Integer(value.to_string()),
        Value::F32(value) => float_tree(f64::from(*value), value.to_string()),
        Value::F64(value) => float_tree(*value, value.to_string()),
        Value::String(text) => Tree::Text(text.clone()),
        Value::Bytes(bytes) => Tree::Text(STANDARD.encode(bytes)),
        Value::EnumNumber(number) => {
            let name = kind.as_enum().and_then(|declared| declared.get_value(*number));
            match name {
                Some(name) => Tree::Text(name.name().to_owned()),
                None => Tree::Literal(number.to_string()),
            }
        }
        Value::Message(message) => message_tree(message, names, depth),
        Value::List(list) => {
            Tree::List(list.iter().map(|value| value_tree(kind, value, names, depth)).collect())
        }
        Value::Map(map) => {
            let entry = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
            let kind = entry.as_ref().unwrap_or(kind);
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entry = |(key, value): (&MapKey, &Value)| {
                (key_text(key), value_tree(kind, value, names, depth))
            };
            Tree::Object(entries.into_iter().map(entry).collect())
        }
    }
}

/// Tree of a float. JSON has no infinity.
fn float_tree(value: f64, text: String) -> Tree {
    if value.is_finite() {
        return Tree::Literal(text);
    }
    let name = match (value.is_nan(), value.is_sign_negative()) {
        (true, _) => "NaN",
        (false, false) => "Infinity",
        (false, true) => "-Infinity",
    };
    Tree::Text(name.to_owned())
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// Tree of a message of any type: its fields beside `@type`, or its bytes as `@value` if its type is
/// unknown or the bytes are no message of it.
fn any_tree(any: &DynamicMessage, names: FieldNames, depth: usize) -> Tree {
    let part = |name: &str| any.get_field_by_name(name);
    let url = part("type_url").and_then(|url| url.as_str().map(str::to_owned)).unwrap_or_default();
    let bytes: Bytes =
        part("value").and_then(|value| value.as_bytes().cloned()).unwrap_or_default();
    let name = url.rsplit('/').next().unwrap_or_default();
    let decoded = find_message(name)
        .filter(|_| depth < MAX_ANY_DEPTH)
        .and_then(|descriptor| DynamicMessage::decode(descriptor, bytes.clone()).ok());
    let mut entries = vec![("@type".to_owned(), Tree::Text(url))];
    match decoded.map(|message| message_tree(&message, names, depth + 1)) {
        Some(Tree::Object(fields)) => entries.extend(fields),
        Some(text) => entries.push(("value".to_owned(), text)),
        None => entries.push(("@value".to_owned(), Tree::Text(STANDARD.encode(&bytes)))),
    }
    Tree::Object(entries)
}

/// Time in RFC 3339; `None` if it is out of range.
fn time_text(message: &DynamicMessage) -> Option<String> {
    let time: prost_types::Timestamp = message.transcode_to().ok()?;
    let is_valid = TIMES.contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    is_valid.then(|| time.to_string())
}

/// Duration in seconds, such as `1.500s`; `None` if it is out of range.
fn duration_text(message: &DynamicMessage) -> Option<String> {
    let duration: prost_types::Duration = message.transcode_to().ok()?;
    let (seconds, nanos) = (duration.seconds, duration.nanos);
    let has_one_sign = (seconds <= 0 && nanos <= 0) || (seconds >= 0 && nanos >= 0);
    let is_valid = (-MAX_DURATION..=MAX_DURATION).contains(&seconds)
        && (-999_999_999..1_000_000_000).contains(&nanos)
        && has_one_sign;
    is_valid.then(|| duration.to_string())
}

#[cfg(test)]
mod tests;

//! Trace ids anywhere in an error. leadsd's trace ids are random UUIDs, so a text that contains one names its
//! input, under whatever key and in whatever form.

use serde_json::{Map, Value};

/// Field with the id of the response, which is a UUID as well.
const CORRELATION_ID: &str = "correlationId";

/// Maximum number of UUIDs that are read from an error: one for each input of a batch, and some of others.
const MAX_UUIDS: usize = 200;

/// Length of a UUID with its hyphens.
const UUID_LENGTH: usize = 36;

/// Positions of the hyphens in a UUID.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The UUIDs in the names and texts of an error, without its correlation id.
pub(super) fn uuids_in_error(error: &Map<String, Value>) -> Vec<String> {
    let mut uuids = Vec::new();
    add_object(&mut uuids, error);
    uuids.truncate(MAX_UUIDS);
    uuids
}

/// The UUIDs in a text.
pub(super) fn uuids_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_');
    words.filter(|word| is_uuid(word))
}

/// Reports whether a word has the form of a UUID.
pub(super) fn is_uuid(word: &str) -> bool {
    let fits = |(position, c): (usize, u8)| match HYPHENS.contains(&position) {
        true => c == b'-',
        false => c.is_ascii_hexdigit(),
    };
    word.len() == UUID_LENGTH && word.bytes().enumerate().all(fits)
}

fn add(uuids: &mut Vec<String>, value: &Value) {
    if uuids.len() >= MAX_UUIDS {
        return;
    }
    match value {
        Value::String(text) => uuids.extend(uuids_in(text).map(str::to_owned)),
        Value::Array(values) => values.iter().for_each(|value| add(uuids, value)),
        Value::Object(object) => add_object(uuids, object),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn add_object(uuids: &mut Vec<String>, object: &Map<String, Value>) {
    for (name, value) in object.iter().filter(|(name, _)| *name != CORRELATION_ID) {
        uuids.extend(uuids_in(name).map(str::to_owned));
        add(uuids, value);
    }
}

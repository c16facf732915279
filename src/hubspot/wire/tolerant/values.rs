//! Values that have no fields of known names: scalars, lists, maps and parts of error objects.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::{Field, Losses};
use crate::hubspot::wire::{
    scan::Elements,
    value::{PropertyValues, Text, Texts, Time},
};

/// Maximum nesting of an error object that is read in part. HubSpot's have four levels.
const MAX_ERROR_DEPTH: usize = 8;

// === impl Field ===

impl Field for PropertyValues {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut values = Self::default();
        if is_null(raw) {
            return Some(values);
        }
        losses.members(raw, |losses, name, value| {
            if let Some(value) = losses.value(value) {
                values.insert(name, value);
            }
        })?;
        Some(values)
    }
}

impl Field for Text {
    fn read(raw: &[u8], _: &mut Losses<'_>) -> Option<Self> {
        match raw.first()? {
            b'"' => serde_json::from_slice(raw).ok().map(|text| Self(Some(text))),
            b'{' | b'[' => None,
            b'n' => is_null(raw).then(Self::default),
            // Numbers keep their text: `1.0`, `1e3` and long ones change if they are converted.
            _ => {
                serde_json::from_slice::<IgnoredAny>(raw).ok()?;
                Some(Self(Some(str::from_utf8(raw).ok()?.to_owned())))
            }
        }
    }
}

impl Field for Texts {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let Some(elements) = Elements::parse(raw) else {
            let Text(text) = Field::read(raw, losses)?;
            return Some(Self(text.into_iter().collect()));
        };
        let texts =
            elements.filter_map(|element| losses.value(element).and_then(|Text(text)| text));
        Some(Self(texts.collect()))
    }
}

impl Field for Time {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let Text(text) = Field::read(raw, losses)?;
        text.map_or_else(|| Some(Self::default()), |text| Self::parse(text.trim()))
    }
}

impl Field for bool {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let Text(text) = Field::read(raw, losses)?;
        text?.parse().ok()
    }
}

impl Field for i64 {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let Text(text) = Field::read(raw, losses)?;
        text?.parse().ok()
    }
}

impl Field for u64 {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let Text(text) = Field::read(raw, losses)?;
        text?.parse().ok()
    }
}

impl Field for Value {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        error_value(raw, losses)
    }
}

impl<T: Field> Field for Option<T> {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        if is_null(raw) { Some(None) } else { T::read(raw, losses).map(Some) }
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let elements = Elements::parse(raw)?;
        Some(elements.filter_map(|element| losses.value(element)).collect())
    }
}

impl<T: Field> Field for BTreeMap<String, T> {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut map = Self::new();
        losses.members(raw, |losses, name, value| {
            if let Some(value) = losses.value(value) {
                map.insert(name, value);
            }
        })?;
        Some(map)
    }
}

/// Reads an error object or a part of one.
pub(super) fn error_value(raw: &[u8], losses: &mut Losses<'_>) -> Option<Value> {
    value(raw, MAX_ERROR_DEPTH, losses)
}

fn value(raw: &[u8], depth: usize, losses: &mut Losses<'_>) -> Option<Value> {
    if let Ok(value) = serde_json::from_slice(raw) {
        return Some(value);
    }
    let depth = depth.checked_sub(1)?;
    if let Some(elements) = Elements::parse(raw) {
        let mut values = Vec::new();
        for element in elements {
            match value(element, depth, losses) {
                Some(element) => values.push(element),
                None => losses.count(),
            }
        }
        return Some(Value::Array(values));
    }
    let mut object = Map::new();
    losses.members(raw, |losses, name, member| match value(member, depth, losses) {
        Some(member) => drop(object.insert(name, member)),
        None => losses.count(),
    })?;
    Some(Value::Object(object))
}

pub(super) fn is_null(raw: &[u8]) -> bool {
    raw == b"null"
}

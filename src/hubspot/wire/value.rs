//! Property values and other scalars of HubSpot, parsed leniently.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use leadsd_base::time::Timestamp;

/// Property values by name, converted like [`as_text`]; other values are dropped. Most of a response
/// consists of properties, so they are parsed without an intermediate [`Value`].
#[derive(Debug, Default)]
pub(super) struct PropertyValues(pub(super) BTreeMap<String, String>);

/// Property value, converted like [`as_text`].
struct PropertyValue(Option<String>);

// === impl PropertyValues ===

impl<'de> Deserialize<'de> for PropertyValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PropertyValuesVisitor;

        impl<'de> Visitor<'de> for PropertyValuesVisitor {
            type Value = PropertyValues;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or null")
            }

            fn visit_unit<E>(self) -> Result<PropertyValues, E> {
                Ok(PropertyValues::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PropertyValues, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((name, PropertyValue(value))) = map.next_entry()? {
                    // The last value of a duplicate name wins.
                    match value {
                        Some(value) => texts.insert(name, value),
                        None => texts.remove(&name),
                    };
                }
                Ok(PropertyValues(texts))
            }
        }

        deserializer.deserialize_any(PropertyValuesVisitor)
    }
}

// === impl PropertyValue ===

impl<'de> Deserialize<'de> for PropertyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PropertyValueVisitor;

        impl<'de> Visitor<'de> for PropertyValueVisitor {
            type Value = PropertyValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_str<E>(self, text: &str) -> Result<PropertyValue, E> {
                Ok(PropertyValue(Some(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<PropertyValue, E> {
                Ok(PropertyValue(Some(text)))
            }

            fn visit_bool<E>(self, flag: bool) -> Result<PropertyValue, E> {
                Ok(PropertyValue(as_text(Value::Bool(flag))))
            }

            fn visit_u64<E>(self, number: u64) -> Result<PropertyValue, E> {
                Ok(PropertyValue(as_text(number.into())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<PropertyValue, E> {
                Ok(PropertyValue(as_text(number.into())))
            }

            fn visit_f64<E>(self, number: f64) -> Result<PropertyValue, E> {
                Ok(PropertyValue(as_text(number.into())))
            }

            fn visit_unit<E>(self) -> Result<PropertyValue, E> {
                Ok(PropertyValue(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PropertyValue, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(PropertyValue(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PropertyValue, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(PropertyValue(None))
            }
        }

        deserializer.deserialize_any(PropertyValueVisitor)
    }
}

/// Converts a string, number or boolean to text; `None` for other values.
pub(in crate::hubspot) fn as_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Converts one value or an array of values to texts.
pub(in crate::hubspot) fn as_texts(value: Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.into_iter().filter_map(as_text).collect(),
        value @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_)) => as_text(value).into_iter().collect(),
    }
}

/// Parses ISO 8601 with or without a fraction, or milliseconds since 1970.
pub(super) fn as_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => {
            text.parse().ok().or_else(|| Timestamp::from_millisecond(text.parse().ok()?).ok())
        }
        Value::Number(number) => Timestamp::from_millisecond(number.as_i64()?).ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Deserializes a value as text; empty if the value is not a string, number or boolean.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(as_text(Value::deserialize(deserializer)?).unwrap_or_default())
}

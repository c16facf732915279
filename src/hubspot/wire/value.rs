//! Property values and other scalars of HubSpot.
//!
//! The types here parse what HubSpot documents, without an intermediate [`Value`]: most of a response
//! consists of such values. They reject everything else, and `tolerant` reads it.

use std::{collections::BTreeMap, fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

use leadsd_base::time::{self, Timestamp};

/// Property values by name.
#[derive(Debug, Default)]
pub(super) struct PropertyValues {
    texts: BTreeMap<String, String>,
    /// Names of the properties whose value is null, which HubSpot returns of those that exist.
    unset: Vec<String>,
}

/// Text of a string, integer or boolean; `None` for null. A fraction has no unique text once it is
/// parsed.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) Option<String>);

/// Texts of one value or of an array of values.
#[derive(Debug, Default)]
pub(super) struct Texts(pub(super) Vec<String>);

/// Point in time: ISO 8601, or milliseconds since 1970. `None` for null and empty text.
#[derive(Debug, Default)]
pub(super) struct Time(pub(super) Option<Timestamp>);

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
                let mut values = PropertyValues::default();
                while let Some((name, value)) = map.next_entry()? {
                    values.insert(name, value);
                }
                Ok(values)
            }
        }

        deserializer.deserialize_any(PropertyValuesVisitor)
    }
}

impl PropertyValues {
    /// Adds a value. The last value of a duplicate name wins.
    pub(super) fn insert(&mut self, name: String, Text(value): Text) {
        if let Some(value) = value {
            self.texts.insert(name, value);
        } else {
            self.texts.remove(&name);
            self.unset.push(name);
        }
    }

    /// Text of a property.
    pub(super) fn get(&self, name: &str) -> Option<&String> {
        self.texts.get(name)
    }

    /// The texts, and the names of the properties without a value, each once and in order.
    pub(super) fn into_parts(self) -> (BTreeMap<String, String>, Vec<String>) {
        let Self { texts, mut unset } = self;
        unset.retain(|name| !texts.contains_key(name));
        unset.sort_unstable();
        unset.dedup();
        (texts, unset)
    }
}

// === impl Text ===

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, an integer, a boolean or null")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Text, E> {
                Ok(Text(Some(text)))
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Text, E> {
                Ok(Text(Some(flag.to_string())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
                Ok(Text(Some(number.to_string())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
                Ok(Text(Some(number.to_string())))
            }

            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text(None))
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

// === impl Texts ===

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;

        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or an array of texts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_unit<E>(self) -> Result<Texts, E> {
                Ok(Texts::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
                let mut texts = Texts::default();
                while let Some(Text(text)) = seq.next_element()? {
                    texts.0.extend(text);
                }
                Ok(texts)
            }
        }

        deserializer.deserialize_any(TextsVisitor)
    }
}

// === impl Time ===

impl Time {
    /// Parses a time. `None` for an unknown form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(None));
        }
        let milliseconds = || Timestamp::from_millisecond(text.parse().ok()?).ok();
        let time = text.parse().ok().or_else(milliseconds);
        time.or_else(|| time::utc_date_time(text)).map(|time| Self(Some(time)))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeVisitor;

        impl Visitor<'_> for TimeVisitor {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time or null")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                Time::parse(text).ok_or_else(|| E::custom("not a time"))
            }

            fn visit_i64<E: Error>(self, milliseconds: i64) -> Result<Time, E> {
                let time = Timestamp::from_millisecond(milliseconds);
                time.map(|time| Time(Some(time))).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, milliseconds: u64) -> Result<Time, E> {
                self.visit_i64(i64::try_from(milliseconds).map_err(E::custom)?)
            }

            fn visit_unit<E>(self) -> Result<Time, E> {
                Ok(Time(None))
            }
        }

        deserializer.deserialize_any(TimeVisitor)
    }
}

/// Deserializes an integer, also as text; `None` for null.
pub(super) fn integer<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    let Text(text) = Text::deserialize(deserializer)?;
    let parse = |text: String| text.parse().map_err(|_| Error::custom("not an integer"));
    text.map(parse).transpose()
}

/// Deserializes text that is not empty.
pub(super) fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
    let text = Text::deserialize(deserializer)?;
    if text.0.as_ref().is_none_or(String::is_empty) {
        return Err(Error::custom("no text"));
    }
    Ok(text)
}

/// Deserializes an object or null. A derived type would accept an array of its fields as well.
pub(super) fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct ObjectVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object or null")
        }

        fn visit_unit<E>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    deserializer.deserialize_any(ObjectVisitor(PhantomData))
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

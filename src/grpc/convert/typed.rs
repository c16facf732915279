//! Typed values of properties in messages: those of writes become text, and those of reads get their types
//! from the schema. Errors of writes name the map in which the caller gave the property.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use prost::Message as _;

use super::encoding::{field, text, timestamp};
use crate::{
    grpc::{
        pb::{self, typed_value::Kind},
        validate::shown_name,
    },
    leads::{
        Error, FieldFault, Reason,
        schema::PropertyCopy,
        typed_value::{TypedValue, list_values},
    },
};

/// Names of the properties that a write has in `typed_properties`. Hashed, so that they take little memory
/// while the write runs.
#[derive(Debug, Default)]
pub(crate) struct TypedNames(Box<[u64]>);

/// Request with properties in two maps.
pub(crate) trait TypedWrite {
    /// The typed properties.
    fn typed_properties(&self) -> &BTreeMap<String, pb::TypedValue>;
}

/// Form of the properties of the leads in a response.
#[derive(Debug, Clone, Default)]
pub(crate) enum PropertyForm {
    /// Text.
    #[default]
    Text,
    /// Values with the types of the schema. Without a schema, every value has the type of a text.
    Typed(Option<Arc<PropertyCopy>>),
}

macro_rules! typed_write {
    ($($message:ident),*) => {$(
        impl TypedWrite for pb::$message {
            fn typed_properties(&self) -> &BTreeMap<String, pb::TypedValue> {
                &self.typed_properties
            }
        }
    )*};
}

typed_write!(CreateLeadRequest, UpdateLeadRequest, UpsertLeadRequest);
typed_write!(LeadCreate, LeadUpdate, LeadUpsert);

// === impl TypedNames ===

impl TypedNames {
    pub(crate) fn new(write: &impl TypedWrite) -> Self {
        let names = write.typed_properties().keys();
        Self(names.map(|name| hash_of(&quoted(shown_name(name)))).collect())
    }

    /// True if all values of the write are text.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The error of the write, with the paths of its typed properties.
    pub(crate) fn rename(&self, error: Error) -> Error {
        let Some(first) = error.fields().iter().find(|fault| self.has(fault)) else { return error };
        let old = first.field.clone();
        let faults: Vec<FieldFault> =
            error.fields().iter().cloned().map(|fault| self.rename_fault(fault)).collect();
        if error.reason() == Reason::InvalidRequest {
            // The message lists the fields.
            return Error::invalid(faults);
        }
        let message = error.message().replace(&old, &format!("typed_{old}"));
        error.with_fields(faults).with_message(message)
    }

    /// A violation, with the path of its property in the request.
    pub(super) fn rename_fault(&self, fault: FieldFault) -> FieldFault {
        match self.has(&fault) {
            true => FieldFault::new(format!("typed_{}", fault.field), fault.description),
            false => fault,
        }
    }

    fn has(&self, fault: &FieldFault) -> bool {
        let name = fault.property().filter(|_| !self.is_empty());
        name.is_some_and(|name| self.0.contains(&hash_of(name)))
    }
}

fn hash_of(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// A name as it is in the path of a field, without the quotation marks.
fn quoted(name: &str) -> String {
    let quoted = format!("{name:?}");
    quoted[1..quoted.len() - 1].to_owned()
}

// === impl PropertyForm ===

impl PropertyForm {
    /// Divides the properties of a lead between the fields `properties` and `typed_properties`.
    pub(super) fn split(
        &self,
        properties: BTreeMap<String, String>,
    ) -> (BTreeMap<String, String>, BTreeMap<String, pb::TypedValue>) {
        let Self::Typed(types) = self else { return (properties, BTreeMap::new()) };
        let typed = |(name, text): (String, String)| {
            let property = types.as_ref().and_then(|types| types.get(&name));
            let kind = match TypedValue::parse(&text, property) {
                TypedValue::Text(_) => Kind::StringValue(text),
                TypedValue::Decimal(_) => Kind::DecimalValue(text),
                TypedValue::List(_) => {
                    let values = list_values(&text).map(str::to_owned).collect();
                    Kind::EnumValues(pb::EnumValues { values })
                }
                TypedValue::Boolean(value) => Kind::BoolValue(value),
                TypedValue::Integer(value) => Kind::Int64Value(value),
                TypedValue::Time(time) => Kind::TimestampValue(timestamp(time)),
                TypedValue::Date(date) => Kind::DateValue(pb::Date {
                    year: date.year().into(),
                    month: date.month().into(),
                    day: date.day().into(),
                }),
            };
            (name, pb::TypedValue { kind: Some(kind) })
        };
        (BTreeMap::new(), properties.into_iter().map(typed).collect())
    }

    /// Encoded size of the properties of a lead in bytes.
    pub(super) fn size(&self, properties: &BTreeMap<String, String>) -> usize {
        let Self::Typed(types) = self else {
            return properties.iter().map(|(name, value)| field(text(name) + text(value))).sum();
        };
        let entry = |(name, value): (&String, &String)| {
            let property = types.as_ref().and_then(|types| types.get(name));
            // A field of a oneof is encoded even if it is empty.
            let value = match TypedValue::parse(value, property) {
                TypedValue::Text(text) | TypedValue::Decimal(text) => field(text.len()),
                TypedValue::List(list) => {
                    field(list_values(list).map(|value| field(value.len())).sum())
                }
                TypedValue::Boolean(_) => 2,
                TypedValue::Integer(number) => {
                    1 + prost::encoding::encoded_len_varint(number as u64)
                }
                TypedValue::Time(time) => field(timestamp(time).encoded_len()),
                // Year, month and day.
                TypedValue::Date(date) if date.year() < 128 => field(6),
                TypedValue::Date(_) => field(7),
            };
            field(text(name) + field(value))
        };
        properties.iter().map(entry).sum()
    }

    /// Memory of the values of lists besides their encoded bytes and that of their entries.
    pub(super) fn list_memory(&self, properties: &BTreeMap<String, String>) -> usize {
        /// Memory of a short text besides its bytes.
        const TEXT: usize = 40;
        match self {
            Self::Text => 0,
            Self::Typed(_) => {
                properties.values().map(|text| list_values(text).count() * TEXT).sum()
            }
        }
    }
}

#[cfg(test)]
mod tests;

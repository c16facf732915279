//! Validates the typed properties of writes.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{FieldFaults, shown_name};
use crate::{
    grpc::{
        pb::{self, typed_value::Kind},
        shape::MAX_PROPERTIES,
    },
    leads::typed_value::{date_text, is_decimal, list_text, time_text},
};

/// Stands for a value that is invalid, so that its property counts as set.
const INVALID: &str = "invalid";

// === impl FieldFaults ===

impl FieldFaults {
    /// Adds typed properties to the others, as text. A property may be in one of the two maps.
    pub(crate) fn typed_properties(
        &mut self,
        mut properties: BTreeMap<String, String>,
        typed: BTreeMap<String, pb::TypedValue>,
    ) -> BTreeMap<String, String> {
        let count = properties.len() + typed.len();
        if !typed.is_empty() && count > MAX_PROPERTIES as usize {
            let description = format!(
                "must not exceed {MAX_PROPERTIES} entries together with properties, has {count}"
            );
            self.add("typed_properties", description);
        }
        for (name, value) in typed {
            let path = |name: &str| format!("typed_properties[{:?}]", shown_name(name));
            match properties.entry(name) {
                Entry::Vacant(entry) => {
                    let text = typed_text(value).unwrap_or_else(|description| {
                        self.add(path(entry.key()), description);
                        INVALID.to_owned()
                    });
                    entry.insert(text);
                }
                Entry::Occupied(entry) => {
                    self.add(path(entry.key()), "is in properties as well; set it in one of them");
                }
            }
        }
        properties
    }
}

/// Text of a typed value, as HubSpot stores it. Errors with the reason if there is none.
fn typed_text(value: pb::TypedValue) -> Result<String, &'static str> {
    match value.kind.ok_or("has no value; set one of the fields of TypedValue")? {
        Kind::StringValue(text) => Ok(text),
        Kind::BoolValue(value) => Ok(value.to_string()),
        Kind::Int64Value(number) => Ok(number.to_string()),
        Kind::DecimalValue(text) if is_decimal(&text) => Ok(text),
        Kind::DecimalValue(_) => {
            Err("is not a decimal number; write digits with an optional sign, point and exponent")
        }
        Kind::TimestampValue(time) => time_text(time.seconds, time.nanos),
        Kind::DateValue(pb::Date { year, month, day }) => date_text(year, month, day),
        Kind::EnumValues(pb::EnumValues { values }) => list_text(&values),
    }
}

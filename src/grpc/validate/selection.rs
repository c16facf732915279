//! Validates what a read returns: properties, object types, and the size of a page.

use std::collections::HashSet;

use super::FieldFaults;
use crate::leads::{ALL_PROPERTIES, Selection};

/// Number of names above which duplicates are found by hashing.
const LONG_LIST: usize = 64;

// === impl FieldFaults ===

impl FieldFaults {
    pub(crate) fn names(&mut self, field: &str, names: Vec<String>) -> Vec<String> {
        // Comparing each name with each other is quadratic.
        let mut seen = HashSet::new();
        let is_long = names.len() > LONG_LIST;
        let mut out: Vec<String> = Vec::with_capacity(names.len());
        for (index, name) in names.into_iter().enumerate() {
            let is_valid = self.check_name(&format_args!("{field}[{index}]"), &name);
            let is_new = match is_long {
                true => seen.insert(name.clone()),
                false => !out.contains(&name),
            };
            if is_valid && is_new {
                out.push(name);
            }
        }
        out
    }

    /// Validates the properties to return with their history.
    pub(crate) fn history(&mut self, names: Vec<String>) -> Vec<String> {
        let field = "properties_with_history";
        let names = self.names(field, names);
        if names.iter().any(|name| name == ALL_PROPERTIES) {
            self.add(field, "must name the properties: `*` selects all only in properties");
        }
        names
    }

    pub(crate) fn selection(
        &mut self,
        properties: Vec<String>,
        properties_with_history: Vec<String>,
        associations: Vec<String>,
    ) -> Selection {
        Selection {
            properties: self.names("properties", properties),
            properties_with_history: self.history(properties_with_history),
            associations: self.names("associations", associations),
        }
    }

    /// Validates a page size; 0 is `default`, and a larger one than `max` is lowered to it (AIP-158).
    pub(crate) fn page_size(&mut self, size: i32, default: u32, max: u32) -> u32 {
        match u32::try_from(size) {
            Ok(0) => default,
            Ok(size) => size.min(max),
            Err(_) => {
                self.add("page_size", "must not be negative");
                max
            }
        }
    }
}

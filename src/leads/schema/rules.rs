//! Validation rules that a portal defines for values of its lead properties.

use leadsd_base::time::Timestamp;

use super::{
    copies::bound,
    definition::{PropertyRules, ValidationRule},
};
use crate::leads::memory::HeapSize;

/// Copy of the validation rules.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleCopy {
    /// Time at which HubSpot was asked.
    pub fetch_time: Timestamp,
    /// False if rules were left out because they exceed the bound of a copy.
    pub is_complete: bool,
    /// Sorted by property.
    properties: Vec<PropertyRules>,
}

// === impl RuleCopy ===

impl RuleCopy {
    pub(in crate::leads) fn new(fetch_time: Timestamp, mut properties: Vec<PropertyRules>) -> Self {
        let is_complete = bound(&mut properties);
        properties.sort_by(|a, b| a.property.cmp(&b.property));
        Self { fetch_time, is_complete, properties }
    }

    /// The rules of a property; none if the portal defines none.
    pub fn of_property(&self, name: &str) -> &[ValidationRule] {
        let found = self.properties.binary_search_by(|own| own.property.as_str().cmp(name));
        let found = found.ok().and_then(|index| self.properties.get(index));
        found.map_or(&[], |own| &own.rules)
    }

    pub(super) fn bytes(&self) -> usize {
        self.properties.heap_size()
    }
}

//! Identifies the inputs of each kind of batch in a response.

use std::collections::BTreeMap;

use crate::leads::{
    lead::Lead,
    query::LeadId,
    request::BatchItem,
    write::{CreateLead, Traced, UpdateLead, UpsertLead},
};

/// Features of an input that identify its result in a response. An input has few of them, so each
/// has a default.
pub trait BatchInput: Clone + Send + Sync {
    /// Trace id that was sent with the input.
    fn trace_id(&self) -> Option<&str> {
        None
    }

    /// Lead that the input names; `None` if it names none.
    fn reference(&self) -> Option<LeadReference<'_>> {
        None
    }

    /// Properties that the input writes; `None` if it writes none.
    fn written(&self) -> Option<&BTreeMap<String, String>> {
        None
    }

    /// True if `item` has the identity that the input names. `None` if it names none.
    fn has_identity(&self, item: &BatchItem) -> Option<bool> {
        Some(self.reference()?.identifies(&item.lead))
    }

    /// True if `item` returns what the input wrote, and nothing else identifies the input.
    fn echoes(&self, _: &BatchItem) -> bool {
        false
    }

    /// Record id or unique value in the input; `None` if absent.
    fn id(&self) -> Option<&str> {
        self.reference().map(|reference| reference.id.as_str())
    }

    /// True if the input writes the property.
    fn mentions(&self, property: &str) -> bool {
        self.written().is_some_and(|written| written.contains_key(property))
    }
}

/// Input of a batch read.
#[derive(Debug, Clone)]
pub struct ReadInput {
    /// Record id, or value of the unique property.
    pub id: LeadId,
    /// Unique property; `None` for record ids.
    pub id_property: Option<String>,
}

/// A lead by its record id or by the value of a unique property.
#[derive(Debug, Clone, Copy)]
pub struct LeadReference<'a> {
    /// Record id, or value of the unique property.
    pub id: &'a LeadId,
    /// The unique property. `None` for record ids.
    pub id_property: Option<&'a str>,
}

// === impl BatchInput ===

impl BatchInput for ReadInput {
    fn reference(&self) -> Option<LeadReference<'_>> {
        Some(LeadReference { id: &self.id, id_property: self.id_property.as_deref() })
    }
}

impl BatchInput for LeadId {
    fn reference(&self) -> Option<LeadReference<'_>> {
        Some(LeadReference { id: self, id_property: None })
    }
}

impl BatchInput for Traced<CreateLead> {
    fn trace_id(&self) -> Option<&str> {
        Some(&self.trace_id)
    }

    fn written(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.input.properties)
    }

    fn echoes(&self, item: &BatchItem) -> bool {
        self.input.properties.iter().all(|(name, value)| {
            item.lead.properties.get(name).map_or("", String::as_str) == value.as_str()
        })
    }
}

impl BatchInput for Traced<UpdateLead> {
    fn trace_id(&self) -> Option<&str> {
        Some(&self.trace_id)
    }

    fn reference(&self) -> Option<LeadReference<'_>> {
        let UpdateLead { id, id_property, properties: _ } = &self.input;
        Some(LeadReference { id, id_property: id_property.as_deref() })
    }

    fn written(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.input.properties)
    }
}

impl BatchInput for Traced<UpsertLead> {
    fn trace_id(&self) -> Option<&str> {
        Some(&self.trace_id)
    }

    fn reference(&self) -> Option<LeadReference<'_>> {
        let UpsertLead { id, id_property, properties: _, associations: _ } = &self.input;
        Some(LeadReference { id, id_property: id_property.as_deref() })
    }

    fn written(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.input.properties)
    }
}

// === impl LeadReference ===

impl LeadReference<'_> {
    /// True if it refers to `lead`. HubSpot compares unique text without regard to case.
    pub fn identifies(self, lead: &Lead) -> bool {
        match self.id_property {
            None => lead.id == self.id.as_str(),
            Some(property) => lead
                .properties
                .get(property)
                .is_some_and(|value| value.to_lowercase() == self.id.as_str().to_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests;

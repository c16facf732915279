//! Identifies the inputs of each kind of batch in a response.

use crate::leads::{
    lead::Lead,
    query::LeadId,
    request::BatchItem,
    write::{CreateLead, Traced, UpdateLead, UpsertLead},
};

/// The features of an input by which a response can be matched with it.
pub trait BatchInput: Clone + Send + Sync {
    /// The trace id that was sent with the input.
    fn trace_id(&self) -> Option<&str>;

    /// The record id or unique value that the input names. `None` if it names none.
    fn id(&self) -> Option<&str>;

    /// Whether `item` has the identity that the input names. `None` if it names none.
    fn has_identity(&self, item: &BatchItem) -> Option<bool>;

    /// Whether `item` returns what the input wrote.
    fn echoes(&self, item: &BatchItem) -> bool;

    /// Whether the input writes the property.
    fn mentions(&self, property: &str) -> bool;
}

/// An id of a batch read.
#[derive(Debug, Clone)]
pub struct ReadInput {
    /// Record id, or value of the unique property.
    pub id: LeadId,
    /// The unique property. `None` for record ids.
    pub id_property: Option<String>,
}

impl BatchInput for ReadInput {
    fn trace_id(&self) -> Option<&str> {
        None
    }

    fn id(&self) -> Option<&str> {
        Some(self.id.as_str())
    }

    fn has_identity(&self, item: &BatchItem) -> Option<bool> {
        Some(is_identified_by(&item.lead, &self.id, self.id_property.as_deref()))
    }

    fn echoes(&self, _: &BatchItem) -> bool {
        false
    }

    fn mentions(&self, _: &str) -> bool {
        false
    }
}

impl BatchInput for LeadId {
    fn trace_id(&self) -> Option<&str> {
        None
    }

    fn id(&self) -> Option<&str> {
        Some(self.as_str())
    }

    fn has_identity(&self, item: &BatchItem) -> Option<bool> {
        Some(is_identified_by(&item.lead, self, None))
    }

    fn echoes(&self, _: &BatchItem) -> bool {
        false
    }

    fn mentions(&self, _: &str) -> bool {
        false
    }
}

impl BatchInput for Traced<CreateLead> {
    fn trace_id(&self) -> Option<&str> {
        Some(&self.trace_id)
    }

    fn id(&self) -> Option<&str> {
        None
    }

    fn has_identity(&self, _: &BatchItem) -> Option<bool> {
        None
    }

    fn echoes(&self, item: &BatchItem) -> bool {
        self.input.properties.iter().all(|(name, value)| {
            item.lead.properties.get(name).map_or("", String::as_str) == value.as_str()
        })
    }

    fn mentions(&self, property: &str) -> bool {
        self.input.properties.contains_key(property)
    }
}

impl BatchInput for Traced<UpdateLead> {
    fn trace_id(&self) -> Option<&str> {
        Some(&self.trace_id)
    }

    fn id(&self) -> Option<&str> {
        Some(self.input.id.as_str())
    }

    fn has_identity(&self, item: &BatchItem) -> Option<bool> {
        Some(is_identified_by(&item.lead, &self.input.id, self.input.id_property.as_deref()))
    }

    fn echoes(&self, _: &BatchItem) -> bool {
        false
    }

    fn mentions(&self, property: &str) -> bool {
        self.input.properties.contains_key(property)
    }
}

impl BatchInput for Traced<UpsertLead> {
    fn trace_id(&self) -> Option<&str> {
        Some(&self.trace_id)
    }

    fn id(&self) -> Option<&str> {
        Some(self.input.id.as_str())
    }

    fn has_identity(&self, item: &BatchItem) -> Option<bool> {
        Some(is_identified_by(&item.lead, &self.input.id, self.input.id_property.as_deref()))
    }

    fn echoes(&self, _: &BatchItem) -> bool {
        false
    }

    fn mentions(&self, property: &str) -> bool {
        self.input.properties.contains_key(property)
    }
}

/// Whether `id` identifies `lead`. HubSpot compares unique text without regard to case.
fn is_identified_by(lead: &Lead, id: &LeadId, id_property: Option<&str>) -> bool {
    match id_property {
        None => lead.id == id.as_str(),
        Some(property) => lead
            .properties
            .get(property)
            .is_some_and(|value| value.to_lowercase() == id.as_str().to_lowercase()),
    }
}

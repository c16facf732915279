//! What the inputs of each kind of batch can be recognised by in an answer.

use super::{
    batch::Input,
    lead::Lead,
    query::LeadId,
    upstream::BatchItem,
    write::{CreateLead, Traced, UpdateLead, UpsertLead},
};

/// An id of a batch read.
#[derive(Debug, Clone)]
pub(super) struct ReadInput {
    pub(super) id: LeadId,
    pub(super) id_property: Option<String>,
}

// === impl Input for the inputs of each batch ===

impl Input for ReadInput {
    fn trace_id(&self) -> Option<&str> {
        None
    }

    fn id(&self) -> Option<&str> {
        Some(self.id.as_str())
    }

    fn is_answered_by(&self, item: &BatchItem) -> Option<bool> {
        Some(is_called(&item.lead, &self.id, self.id_property.as_deref()))
    }

    fn has_written(&self, _: &BatchItem) -> bool {
        false
    }

    fn mentions(&self, _: &str) -> bool {
        false
    }
}

impl Input for LeadId {
    fn trace_id(&self) -> Option<&str> {
        None
    }

    fn id(&self) -> Option<&str> {
        Some(self.as_str())
    }

    fn is_answered_by(&self, item: &BatchItem) -> Option<bool> {
        Some(is_called(&item.lead, self, None))
    }

    fn has_written(&self, _: &BatchItem) -> bool {
        false
    }

    fn mentions(&self, _: &str) -> bool {
        false
    }
}

impl Input for Traced<CreateLead> {
    fn trace_id(&self) -> Option<&str> {
        Some(&self.trace_id)
    }

    fn id(&self) -> Option<&str> {
        None
    }

    fn is_answered_by(&self, _: &BatchItem) -> Option<bool> {
        None
    }

    fn has_written(&self, item: &BatchItem) -> bool {
        self.input.properties.iter().all(|(name, value)| {
            item.lead.properties.get(name).map_or("", String::as_str) == value.as_str()
        })
    }

    fn mentions(&self, property: &str) -> bool {
        self.input.properties.contains_key(property)
    }
}

impl Input for Traced<UpdateLead> {
    fn trace_id(&self) -> Option<&str> {
        Some(&self.trace_id)
    }

    fn id(&self) -> Option<&str> {
        Some(self.input.id.as_str())
    }

    fn is_answered_by(&self, item: &BatchItem) -> Option<bool> {
        Some(is_called(&item.lead, &self.input.id, self.input.id_property.as_deref()))
    }

    fn has_written(&self, _: &BatchItem) -> bool {
        false
    }

    fn mentions(&self, property: &str) -> bool {
        self.input.properties.contains_key(property)
    }
}

impl Input for Traced<UpsertLead> {
    fn trace_id(&self) -> Option<&str> {
        Some(&self.trace_id)
    }

    fn id(&self) -> Option<&str> {
        Some(self.input.id.as_str())
    }

    fn is_answered_by(&self, item: &BatchItem) -> Option<bool> {
        Some(is_called(&item.lead, &self.input.id, self.input.id_property.as_deref()))
    }

    fn has_written(&self, _: &BatchItem) -> bool {
        false
    }

    fn mentions(&self, property: &str) -> bool {
        self.input.properties.contains_key(property)
    }
}

/// Whether `lead` is the one that `id` names. HubSpot compares unique text without regard to case.
fn is_called(lead: &Lead, id: &LeadId, id_property: Option<&str>) -> bool {
    match id_property {
        None => lead.id == id.as_str(),
        Some(property) => lead
            .properties
            .get(property)
            .is_some_and(|value| value.to_lowercase() == id.as_str().to_lowercase()),
    }
}

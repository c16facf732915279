//! Identifies the inputs of each kind of batch in a response.

use std::{borrow::Cow, collections::BTreeMap};

use super::agreement::{Agreement, compare, folded};
use crate::leads::{
    RECORD_ID,
    association_change::AssociationChange,
    contacts::{ADDITIONAL_EMAILS, ContactEmail, EMAIL, NewContact},
    error::Error,
    lead::Lead,
    query::LeadId,
    request::BatchItem,
    write::{CreateLead, Traced, UpdateLead, UpsertLead},
};

/// Property with the record ids of the leads that were merged into a lead, separated by semicolons.
pub const MERGED_IDS: &str = "hs_merged_object_ids";

/// Category of an error about records that do not exist.
pub const OBJECT_NOT_FOUND: &str = "OBJECT_NOT_FOUND";

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

    /// True if `item` has the identity that the input names. `None` if it names none, or if the result
    /// is inconclusive.
    fn has_identity(&self, item: &BatchItem) -> Option<bool> {
        self.reference()?.identifies(&item.lead)
    }

    /// Record id or unique value in the input; `None` if absent.
    fn id(&self) -> Option<&str> {
        self.reference().map(|reference| reference.id.as_str())
    }

    /// True if the ids that an error names are those of the input. `None` if [`id`](Self::id) decides.
    fn is_named_by(&self, _: &Error) -> Option<bool> {
        None
    }

    /// Record ids that the input associates.
    fn associated_ids(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
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

    fn associated_ids(&self) -> impl Iterator<Item = &str> {
        self.input.associations.iter().map(|association| association.to_id.as_str())
    }
}

impl BatchInput for Traced<UpdateLead> {
    fn trace_id(&self) -> Option<&str> {
        Some(&self.trace_id)
    }

    fn reference(&self) -> Option<LeadReference<'_>> {
        let UpdateLead { id, id_property, properties: _, trace_id: _ } = &self.input;
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
        let UpsertLead { id, id_property, properties: _, associations: _, contact: _ } =
            &self.input;
        Some(LeadReference { id, id_property: id_property.as_deref() })
    }

    fn written(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.input.properties)
    }
}

impl BatchInput for ContactEmail {
    fn reference(&self) -> Option<LeadReference<'_>> {
        Some(LeadReference { id: self.value(), id_property: Some(EMAIL) })
    }

    /// HubSpot also finds a contact by its further addresses.
    fn has_identity(&self, item: &BatchItem) -> Option<bool> {
        let properties = &item.lead.properties;
        let own = properties.get(EMAIL);
        let further = properties.get(ADDITIONAL_EMAILS).map_or("", String::as_str);
        let mut all = own.map(String::as_str).into_iter().chain(further.split(';'));
        if all.any(|address| address.trim().to_lowercase() == self.as_str()) {
            return Some(true);
        }
        own.map(|_| false)
    }
}

impl BatchInput for Traced<NewContact> {
    fn trace_id(&self) -> Option<&str> {
        Some(&self.trace_id)
    }

    fn has_identity(&self, item: &BatchItem) -> Option<bool> {
        self.input.email.has_identity(item)
    }
}

impl BatchInput for AssociationChange {
    fn associated_ids(&self) -> impl Iterator<Item = &str> {
        [self.lead.as_str(), self.to_id.as_str()].into_iter()
    }

    /// Several changes of a batch may have the same lead, or the same record. An error that names several
    /// ids is about the change that has both, unless it says which records do not exist.
    fn is_named_by(&self, error: &Error) -> Option<bool> {
        let ids = &error.affected_inputs().ids;
        let is_named = |own: &LeadId| ids.iter().any(|id| id == own.as_str());
        let (is_lead, is_record) = (is_named(&self.lead), is_named(&self.to_id));
        let is_missing = error.upstream().category.as_deref() == Some(OBJECT_NOT_FOUND);
        Some(if ids.len() < 2 || is_missing { is_lead || is_record } else { is_lead && is_record })
    }
}

// === impl LeadReference ===

impl<'a> LeadReference<'a> {
    /// The unique property; `None` for a record id, which may be named by its property as well.
    pub fn unique_property(self) -> Option<&'a str> {
        self.id_property.filter(|name| *name != RECORD_ID)
    }

    /// Normal form in which references to one lead are equal: HubSpot compares unique values without
    /// regard to case. Whether it does so beyond ASCII is not known, and the lead of another value must
    /// not be returned.
    pub fn normalized(self) -> Cow<'a, str> {
        match self.unique_property() {
            Some(_) => Cow::Owned(self.id.as_str().to_ascii_lowercase()),
            None => Cow::Borrowed(self.id.as_str()),
        }
    }

    /// True if it refers to `lead`: by its id, the id of a lead that was merged into it, or its unique
    /// value, which HubSpot compares without regard to case. `None` if the lead is inconclusive:
    /// another id may be that of a merged lead, and a value may be absent or in another form.
    pub fn identifies(self, lead: &Lead) -> Option<bool> {
        let id = self.id.as_str();
        let Some(property) = self.unique_property() else {
            return (lead.id == id || merged_ids(lead).any(|merged| merged == id)).then_some(true);
        };
        let value = lead.properties.get(property)?;
        match compare(id, value) {
            // Whether HubSpot ignores surrounding spaces is not known.
            Agreement::Same if id.trim() == id || folded(id) == folded(value) => Some(true),
            Agreement::Same | Agreement::Unclear => None,
            Agreement::Different => Some(false),
        }
    }

    /// True if the lead has the unique value in the same spelling.
    pub(super) fn is_exact(self, lead: &Lead) -> bool {
        let value = self.unique_property().and_then(|property| lead.properties.get(property));
        value.is_some_and(|value| value == self.id.as_str())
    }

    /// Normal form of the unique value, by which equal ones are found.
    pub(super) fn folded(self) -> String {
        folded(self.id.as_str())
    }
}

/// Record ids of the leads that were merged into this one, as far as the lead shows them.
pub(super) fn merged_ids(lead: &Lead) -> impl Iterator<Item = &str> {
    let ids = lead.properties.get(MERGED_IDS).map_or("", String::as_str);
    ids.split(';').map(str::trim).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests;

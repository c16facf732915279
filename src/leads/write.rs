//! Write requests.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    association_type::AssociationType, contacts::ContactByEmail, lead::Lead, query::LeadId,
};

/// Property that HubSpot requires of every lead.
pub const LEAD_NAME: &str = "hs_lead_name";

/// Property that holds the record id.
pub const RECORD_ID: &str = "hs_object_id";

/// A new lead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CreateLead {
    /// Values by internal property name.
    pub properties: BTreeMap<String, String>,
    /// At least one, to an existing contact, unless `contact` names it.
    pub associations: Vec<Association>,
    /// Primary contact that the pipeline looks up. `None` in requests to HubSpot.
    pub contact: Option<ContactByEmail>,
    /// Trace id of the caller for a single create. Inputs of a batch have theirs in [`Traced`].
    pub trace_id: Option<String>,
}

/// An association to make while a lead is created.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Association {
    /// Record id of the other object.
    pub to_id: LeadId,
    /// Association types; at least one.
    pub types: Vec<AssociationType>,
    /// Index in the caller's list; `None` for the primary contact, which has a separate field.
    pub position: Option<usize>,
}

/// New values for one lead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpdateLead {
    /// Id of the lead.
    pub id: LeadId,
    /// The unique property that `id` is a value of.
    pub id_property: Option<String>,
    /// Values by internal property name; an empty one clears.
    pub properties: BTreeMap<String, String>,
    /// Trace id of the caller for a single update. Inputs of a batch have theirs in [`Traced`].
    pub trace_id: Option<String>,
}

/// A lead to create or change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpsertLead {
    /// Value of the unique property.
    pub id: LeadId,
    /// Name of the unique property. `None` if `id` is a record id: then the lead must exist.
    pub id_property: Option<String>,
    /// Values by internal property name.
    pub properties: BTreeMap<String, String>,
    /// Associations of a new lead.
    pub associations: Vec<Association>,
    /// Primary contact of a new lead, looked up only if the lead does not exist.
    pub contact: Option<ContactByEmail>,
}

/// Result of an upsert.
#[derive(Debug, Clone, PartialEq)]
pub struct Upserted {
    /// The lead after it.
    pub lead: Arc<Lead>,
    /// True if the upsert created it. `None` if another client may have created it.
    pub created: Option<bool>,
}

/// Input of a batch with its `objectWriteTraceId`, unique in the batch: the only reliable way to match
/// the input with its result.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Traced<T> {
    /// Returned by HubSpot with the result or the error of this input.
    pub trace_id: String,
    /// The input.
    pub input: T,
}

// === impl CreateLead ===

impl CreateLead {
    /// The lead with this primary contact instead of the one to look up.
    #[must_use]
    pub fn with_primary_contact(&self, to_id: LeadId) -> Self {
        let types = vec![AssociationType::PRIMARY_CONTACT];
        let primary = Association { to_id, types, position: None };
        let associations = [primary].into_iter().chain(self.associations.iter().cloned());
        Self { associations: associations.collect(), contact: None, ..self.clone() }
    }
}

// === impl Association ===

impl Association {
    /// True if a type of the association is one of a contact, or a label of the portal, whose object
    /// type only HubSpot knows.
    pub fn may_name_contact(&self) -> bool {
        self.types.iter().any(|kind| kind.may_name_contact())
    }
}

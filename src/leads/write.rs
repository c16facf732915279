//! Write requests.

use std::{collections::BTreeMap, sync::Arc};

use super::{lead::Lead, query::LeadId};

/// Property that HubSpot requires of every lead.
pub const LEAD_NAME: &str = "hs_lead_name";

/// A new lead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CreateLead {
    /// Values by internal property name.
    pub properties: BTreeMap<String, String>,
    /// At least one, to an existing contact.
    pub associations: Vec<Association>,
}

/// An association to make while a lead is created.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Association {
    /// Record id of the other object.
    pub to_id: LeadId,
    /// Association types; at least one.
    pub types: Vec<AssociationType>,
}

/// Association type: a category and an id within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AssociationType {
    /// Owner of the type.
    pub category: AssociationCategory,
    /// Id within the category.
    pub type_id: i32,
}

/// Owner of an association type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AssociationCategory {
    /// Comes with HubSpot.
    HubspotDefined,
    /// A label made in the portal.
    UserDefined,
    /// Made by an installed app.
    IntegratorDefined,
    /// HubSpot's own category of that name.
    Work,
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
}

/// Result of an upsert.
#[derive(Debug, Clone, PartialEq)]
pub struct Upserted {
    /// The lead after it.
    pub lead: Arc<Lead>,
    /// True if it is new.
    pub created: bool,
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

// === impl Association ===

impl Association {
    /// True if a type of the association is one of a contact, or a label of the portal, whose object
    /// type only HubSpot knows.
    pub fn may_name_contact(&self) -> bool {
        self.types.iter().any(|kind| kind.may_name_contact())
    }
}

// === impl AssociationType ===

impl AssociationType {
    /// Type of a lead's primary contact.
    pub const PRIMARY_CONTACT: Self =
        Self { category: AssociationCategory::HubspotDefined, type_id: 578 };

    /// Type of any contact of a lead.
    pub const CONTACT: Self = Self { category: AssociationCategory::HubspotDefined, type_id: 608 };

    fn may_name_contact(self) -> bool {
        match self.category {
            AssociationCategory::HubspotDefined => {
                self == Self::PRIMARY_CONTACT || self == Self::CONTACT
            }
            AssociationCategory::UserDefined => true,
            AssociationCategory::IntegratorDefined | AssociationCategory::Work => false,
        }
    }
}

// === impl AssociationCategory ===

impl AssociationCategory {
    const ALL: [Self; 4] =
        [Self::HubspotDefined, Self::UserDefined, Self::IntegratorDefined, Self::Work];

    /// The category of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.as_str() == name)
    }

    /// The name HubSpot gives it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HubspotDefined => "HUBSPOT_DEFINED",
            Self::UserDefined => "USER_DEFINED",
            Self::IntegratorDefined => "INTEGRATOR_DEFINED",
            Self::Work => "WORK",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_is_parsed_from_the_name_that_hubspot_gives_it() {
        for category in AssociationCategory::ALL {
            assert_eq!(AssociationCategory::parse(category.as_str()), Some(category));
        }
        assert_eq!(
            AssociationCategory::parse("USER_DEFINED"),
            Some(AssociationCategory::UserDefined)
        );
        assert_eq!(AssociationCategory::parse("user_defined"), None);
        assert_eq!(AssociationCategory::parse(""), None);
    }
}

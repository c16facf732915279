//! Association types from leads: those that HubSpot defines for every portal, and the copy of those to
//! one object type.

use std::sync::Arc;

use leadsd_base::time::Timestamp;

use super::{
    copies::{bound, is_same_label},
    definition::AssociationTypeDefinition,
};
use crate::leads::{AssociationCategory, AssociationType, Error, memory::HeapSize};

/// Association type that HubSpot defines, with the object type it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubspotDefined {
    /// Plural name of the object type.
    pub to: &'static str,
    /// Type id.
    pub type_id: i32,
    /// Label; empty for an association without one.
    pub label: &'static str,
    /// Type id of the opposite direction, where HubSpot documents it.
    pub inverse_type_id: Option<i32>,
}

/// Association types that HubSpot documents for leads of every portal.
pub const HUBSPOT_DEFINED: [HubspotDefined; 13] = [
    hubspot_defined("contacts", 578, "Primary", None),
    hubspot_defined("contacts", 608, "", Some(609)),
    hubspot_defined("companies", 580, "Primary", None),
    hubspot_defined("companies", 610, "", Some(611)),
    hubspot_defined("deals", 582, "Primary", Some(583)),
    hubspot_defined("deals", 1_037, "", Some(1_038)),
    hubspot_defined("calls", 596, "", Some(597)),
    hubspot_defined("emails", 598, "", None),
    hubspot_defined("meetings", 600, "", Some(601)),
    hubspot_defined("communications", 602, "", Some(603)),
    hubspot_defined("tasks", 646, "", Some(647)),
    hubspot_defined("notes", 854, "", Some(855)),
    hubspot_defined("feedback_submissions", 1_162, "", None),
];

/// Names of an object type: plural, singular and id.
const OBJECT_TYPES: [[&str; 3]; 11] = [
    ["contacts", "contact", "0-1"],
    ["companies", "company", "0-2"],
    ["deals", "deal", "0-3"],
    ["tickets", "ticket", "0-5"],
    ["calls", "call", "0-48"],
    ["emails", "email", "0-49"],
    ["meetings", "meeting", "0-47"],
    ["notes", "note", "0-46"],
    ["tasks", "task", "0-27"],
    ["communications", "communication", "0-18"],
    ["feedback_submissions", "feedback_submission", "0-19"],
];

/// Copy of the association types from leads to one object type.
#[derive(Debug, Clone, PartialEq)]
pub struct AssociationTypeCopy {
    /// Time at which HubSpot was asked. `None` if it was not asked yet: then only the types that HubSpot
    /// defines for every portal are known.
    pub fetch_time: Option<Timestamp>,
    /// False if types were left out because they exceed the bound of a copy, or were not read yet.
    pub is_complete: bool,
    types: Vec<AssociationTypeDefinition>,
}

/// Object type, and its association types or the error of their read.
pub type AssociationTypesResult = (String, Result<Arc<AssociationTypeCopy>, Error>);

const fn hubspot_defined(
    to: &'static str,
    type_id: i32,
    label: &'static str,
    inverse_type_id: Option<i32>,
) -> HubspotDefined {
    HubspotDefined { to, type_id, label, inverse_type_id }
}

/// Canonical name of an object type, given any of its names: the plural name of those that HubSpot
/// defines, and the name itself of others.
pub fn object_type(name: &str) -> &str {
    let known = OBJECT_TYPES.iter().find(|names| names.contains(&name));
    known.map_or(name, |[plural, ..]| plural)
}

/// True if HubSpot defines the object type for every portal.
pub(super) fn is_standard(canonical: &str) -> bool {
    OBJECT_TYPES.iter().any(|[plural, ..]| *plural == canonical)
}

// === impl AssociationTypeCopy ===

impl AssociationTypeCopy {
    pub(in crate::leads) fn new(
        fetch_time: Timestamp,
        mut types: Vec<AssociationTypeDefinition>,
    ) -> Self {
        for own in &mut types {
            let id = own.association_type.type_id;
            let known = HUBSPOT_DEFINED.iter().find(|known| known.type_id == id);
            own.inverse_type_id = known
                .filter(|_| own.association_type.category == AssociationCategory::HubspotDefined)
                .and_then(|known| known.inverse_type_id);
        }
        let is_complete = bound(&mut types);
        types.sort_by_key(|own| own.association_type.type_id);
        Self { fetch_time: Some(fetch_time), is_complete, types }
    }

    /// The types that HubSpot defines for every portal, before it was asked for those of this one.
    pub(super) fn hubspot_defined(to: &str) -> Self {
        let types = HUBSPOT_DEFINED.iter().filter(|known| known.to == to).map(|known| {
            let category = AssociationCategory::HubspotDefined;
            AssociationTypeDefinition {
                association_type: AssociationType { category, type_id: known.type_id },
                label: known.label.to_owned(),
                inverse_type_id: known.inverse_type_id,
            }
        });
        Self { fetch_time: None, is_complete: false, types: types.collect() }
    }

    /// All types, sorted by id.
    pub fn all(&self) -> &[AssociationTypeDefinition] {
        &self.types
    }

    /// The types of this label, ignoring case.
    pub fn by_label<'a>(
        &'a self,
        label: &'a str,
    ) -> impl Iterator<Item = &'a AssociationTypeDefinition> {
        self.types.iter().filter(move |own| is_same_label(&own.label, label))
    }

    pub(super) fn bytes(&self) -> usize {
        self.types.heap_size()
    }
}

//! Page of the associations of one lead to one object type.

use serde::Deserialize;

use super::{
    WirePaging, next,
    value::{Text, integer, object},
};
use crate::leads::{Associated, AssociatedObject, AssociationCategory, AssociationType};

/// Page of associations. A second pass reads what these types reject, see `tolerant`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::hubspot) struct WireAssociationPage {
    pub(super) results: Option<Vec<WirePageRecord>>,
    #[serde(deserialize_with = "object")]
    pub(super) paging: Option<WirePaging>,
}

/// Associated record with its association types.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WirePageRecord {
    pub(super) to_object_id: Text,
    pub(super) association_types: Option<Vec<WireLabeledType>>,
}

/// Association type with its label.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireLabeledType {
    pub(super) category: Text,
    #[serde(deserialize_with = "integer")]
    pub(super) type_id: Option<i32>,
    pub(super) label: Text,
}

// === impl WireAssociationPage ===

impl WireAssociationPage {
    /// True if every record has an id.
    pub(super) fn has_ids(&self) -> bool {
        self.results.iter().flatten().all(WirePageRecord::has_id)
    }

    /// Converts to the domain type: one entry for each type of a record. `None` without results.
    pub(in crate::hubspot) fn into_domain(self) -> Option<Associated> {
        Some(page(self.results?, self.paging))
    }
}

/// Converts records: one entry for each type of a record. Records without an id are left out.
pub(super) fn page(records: Vec<WirePageRecord>, paging: Option<WirePaging>) -> Associated {
    let records = records.into_iter().filter(WirePageRecord::has_id);
    let mut objects: Vec<_> = records.flat_map(WirePageRecord::into_objects).collect();
    // HubSpot does not guarantee an order. Stable: the types of a record keep theirs.
    objects.sort_by(AssociatedObject::by_record);
    Associated { objects, next: next(paging) }
}

// === impl WirePageRecord ===

impl WirePageRecord {
    pub(super) fn has_id(&self) -> bool {
        self.to_object_id.0.as_ref().is_some_and(|id| !id.is_empty())
    }

    fn into_objects(self) -> Vec<AssociatedObject> {
        let id = self.to_object_id.0.unwrap_or_default();
        let types = self.association_types.unwrap_or_default();
        if types.is_empty() {
            return vec![AssociatedObject::named(id, "")];
        }
        types.into_iter().map(|kind| kind.into_object(id.clone())).collect()
    }
}

// === impl WireLabeledType ===

impl WireLabeledType {
    fn into_object(self, id: String) -> AssociatedObject {
        let category = self.category.0.and_then(|name| AssociationCategory::parse(&name));
        let association_type = category
            .zip(self.type_id)
            .map(|(category, type_id)| AssociationType { category, type_id });
        let label = self.label.0.filter(|label| !label.is_empty());
        AssociatedObject { association_type, label, ..AssociatedObject::named(id, "") }
    }
}

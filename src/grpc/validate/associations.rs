//! Validates the fields of requests about associations.

use super::{FieldFaults, IdPlace, labels::LabelledTypes};
use crate::{
    grpc::pb,
    leads::{AssociationAction, AssociationChange, Labelled, Labels, LeadId},
};

// === impl FieldFaults ===

impl FieldFaults {
    /// Validates the id of an associated record. HubSpot has no record id with an `@`.
    pub(super) fn record_id(&mut self, field: &str, text: &str) -> Option<LeadId> {
        if text.contains('@') {
            self.add(field, "must be a record id; new leads name a contact by contact.email");
            return None;
        }
        self.lead_id(IdPlace::Body, field, text)
    }

    /// Validates names of object types that are segments of URLs. Duplicates are removed.
    pub(crate) fn object_types(&mut self, field: &str, names: Vec<String>) -> Vec<String> {
        let mut out: Vec<String> = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            let name = self.object_type(&format!("{field}[{index}]"), name);
            out.extend(name.filter(|name| !out.contains(name)));
        }
        out
    }

    /// Validates the name of an object type that is a segment of a URL's path.
    pub(crate) fn object_type(&mut self, field: &str, text: &str) -> Option<String> {
        let name = self.name(&field, text)?;
        match LeadId::parse(&name) {
            Ok(_) => Some(name),
            Err(_) => {
                self.add(field, "must not contain `/`, `\\`, `?` or `#`, or be `.` or `..`");
                None
            }
        }
    }

    /// Validates an association to make or to remove, with a record of the object type `to`.
    pub(crate) fn association_change(
        &mut self,
        action: AssociationAction,
        to: &str,
        change: &pb::LeadAssociation,
    ) -> Option<Labelled<AssociationChange>> {
        let pb::LeadAssociation { lead_id, to_id, types, type_labels } = change;
        let lead = self.lead_id(IdPlace::Body, "lead_id", lead_id);
        let to_id = self.record_id("to_id", to_id);
        if types.is_empty() && type_labels.is_empty() && action == AssociationAction::Associate {
            self.add("types", "must not be empty");
        }
        let mut valid = Vec::with_capacity(types.len());
        for (index, kind) in types.iter().enumerate() {
            valid.extend(self.association_type(&format!("types[{index}]"), kind));
        }
        let associations =
            self.type_labels(LabelledTypes { parent: "", association: None, to }, type_labels);
        let input = AssociationChange { lead: lead?, to_id: to_id?, types: valid };
        Some(Labelled { input, labels: Labels { associations, ..Labels::default() } })
    }
}

//! Associations to make or remove.

use super::{association_type::AssociationType, query::LeadId};

/// Associations to make or remove, of leads with records of one object type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChangeAssociations {
    /// Kind of the change.
    pub kind: AssociationChangeKind,
    /// Object type of the records, such as `contacts`.
    pub to: String,
    /// The changes: 1 to 100.
    pub changes: Vec<AssociationChange>,
}

/// Kind of a change of associations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssociationChangeKind {
    /// Adds the association types.
    Create,
    /// Removes all association types.
    Remove,
    /// Removes only the association types of the change.
    RemoveTypes,
}

/// Association of one lead with one record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AssociationChange {
    /// Record id of the lead.
    pub lead: LeadId,
    /// Record id of the other object.
    pub to_id: LeadId,
    /// Association types. Empty only for a removal of all types.
    pub types: Vec<AssociationType>,
}

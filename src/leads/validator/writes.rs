//! Writes of one call, as they are validated.

use crate::leads::{
    association_change::AssociationChange,
    schema::{AssociationTypeCopy, PartKey, object_type},
    validation::{Draft, Drafted, Hints, SchemaView, Violation, check, check_change},
};

/// Maximum number of violations of a single write.
const MAX_VIOLATIONS: usize = 16;

/// Maximum number of violations of an input of a batch: those of all inputs are held at once.
const MAX_INPUT_VIOLATIONS: usize = 4;

/// Number of invalid inputs of a batch after which one violation of each input is reported.
const MAX_DETAILED_INPUTS: usize = 100;

/// Writes of one call.
#[derive(Debug)]
pub(in crate::leads) enum Writes<'a> {
    /// Leads to create or change.
    Leads(Vec<Draft<'a>>),
    /// Associations to make or remove.
    Associations {
        /// Object type of the records.
        to: &'a str,
        /// The changes.
        changes: Vec<&'a AssociationChange>,
    },
}

/// A write that can be validated.
pub(in crate::leads) trait Proposed: Sized + Send + Sync {
    /// The writes of one call; `to` is the object type of associations.
    fn writes<'a>(inputs: Vec<&'a Self>, to: &'a str) -> Writes<'a>;
}

// === impl Writes ===

impl<'a> Writes<'a> {
    /// One write.
    pub(in crate::leads) fn one(write: &'a impl Drafted) -> Self {
        Self::Leads(vec![write.draft()])
    }

    /// Several writes.
    pub(in crate::leads) fn many<T: Drafted + 'a>(writes: impl IntoIterator<Item = &'a T>) -> Self {
        Self::Leads(writes.into_iter().map(Drafted::draft).collect())
    }

    /// Number of writes.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Leads(drafts) => drafts.len(),
            Self::Associations { changes, .. } => changes.len(),
        }
    }

    /// Parts of the schema without which the writes are not checked completely.
    pub(super) fn required_parts(&self) -> Vec<PartKey> {
        match self {
            Self::Leads(drafts) => {
                let names = ["hs_pipeline", "hs_pipeline_stage"];
                let has_stage = drafts.iter().any(|draft| draft.sets_any(&names));
                let pipelines = has_stage.then_some(PartKey::Pipelines);
                std::iter::once(PartKey::Properties).chain(pipelines).collect()
            }
            Self::Associations { .. } => Vec::new(),
        }
    }

    /// Part of the schema that has a substitute: association types, of which HubSpot defines some for every
    /// portal.
    pub(super) fn optional_part(&self) -> Option<PartKey> {
        match self {
            Self::Leads(_) => None,
            Self::Associations { to, changes } => {
                let has_types = changes.iter().any(|change| !change.types.is_empty());
                has_types.then(|| PartKey::AssociationTypes(object_type(to).to_owned()))
            }
        }
    }

    /// Part of the schema that is checked if there is a copy, and not read.
    pub(super) fn known_part(&self) -> Option<PartKey> {
        match self {
            Self::Leads(_) => Some(PartKey::ValidationRules),
            Self::Associations { .. } => None,
        }
    }

    /// The violations of each write that has some, with its index.
    pub(super) fn violations(
        &self,
        schema: &SchemaView,
        types: Option<&AssociationTypeCopy>,
        hints: &mut Hints,
    ) -> Vec<(usize, Vec<Violation>)> {
        let mut found = Vec::new();
        for index in 0..self.count() {
            let max = match self.count() {
                1 => MAX_VIOLATIONS,
                _ if found.len() < MAX_DETAILED_INPUTS => MAX_INPUT_VIOLATIONS,
                _ => 1,
            };
            let violations = match self {
                Self::Leads(drafts) => check(&drafts[index], schema, hints, max),
                Self::Associations { to, changes } => {
                    check_change(to, changes[index], types, hints, max)
                }
            };
            if !violations.is_empty() {
                found.push((index, violations));
            }
        }
        found
    }
}

// === impl Proposed ===

impl<T: Drafted + Send + Sync> Proposed for T {
    fn writes<'a>(inputs: Vec<&'a Self>, _: &'a str) -> Writes<'a> {
        Writes::many(inputs)
    }
}

impl Proposed for AssociationChange {
    fn writes<'a>(changes: Vec<&'a Self>, to: &'a str) -> Writes<'a> {
        Writes::Associations { to, changes }
    }
}

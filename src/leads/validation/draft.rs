//! Borrowed view of a write that is validated.

use std::collections::BTreeMap;

use crate::leads::write::{Association, CreateLead, Traced, UpdateLead, UpsertLead};

/// Kind of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::leads) enum DraftKind {
    /// A new lead.
    Create,
    /// A lead that exists.
    Update,
    /// A lead that may exist.
    Upsert,
}

/// Content of one write.
#[derive(Debug, Clone, Copy)]
pub(in crate::leads) struct Draft<'a> {
    /// Kind of the write.
    pub(in crate::leads) kind: DraftKind,
    /// Values by internal property name.
    pub(in crate::leads) properties: &'a BTreeMap<String, String>,
    /// Unique property that identifies the lead, with its value. `None` for a record id.
    pub(in crate::leads) identity: Option<(&'a str, &'a str)>,
    /// Associations of a new lead.
    pub(in crate::leads) associations: &'a [Association],
}

/// A write that has a [`Draft`].
pub(in crate::leads) trait Drafted {
    /// The content of the write.
    fn draft(&self) -> Draft<'_>;
}

// === impl Draft ===

impl Draft<'_> {
    /// True if the write has a value for one of the properties.
    pub(in crate::leads) fn sets_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.properties.get(*name).is_some_and(|value| !value.is_empty()))
    }
}

// === impl Drafted ===

impl Drafted for CreateLead {
    fn draft(&self) -> Draft<'_> {
        let Self { properties, associations, contact: _, trace_id: _ } = self;
        Draft { kind: DraftKind::Create, properties, identity: None, associations }
    }
}

impl Drafted for UpdateLead {
    fn draft(&self) -> Draft<'_> {
        let Self { id, id_property, properties, trace_id: _ } = self;
        let identity = id_property.as_deref().map(|name| (name, id.as_str()));
        Draft { kind: DraftKind::Update, properties, identity, associations: &[] }
    }
}

impl Drafted for UpsertLead {
    fn draft(&self) -> Draft<'_> {
        let Self { id, id_property, properties, associations, contact: _ } = self;
        let identity = id_property.as_deref().map(|name| (name, id.as_str()));
        Draft { kind: DraftKind::Upsert, properties, identity, associations }
    }
}

impl<T: Drafted> Drafted for Traced<T> {
    fn draft(&self) -> Draft<'_> {
        self.input.draft()
    }
}

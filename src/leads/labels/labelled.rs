//! Inputs with labels.

use std::collections::BTreeMap;

/// Input with its labels, which are resolved to ids before it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Labelled<T> {
    /// The input, without what the labels stand for.
    pub input: T,
    /// The labels.
    pub labels: Labels,
}

/// Labels of one input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Labels {
    /// Labels of values by internal property name.
    pub properties: BTreeMap<String, String>,
    /// Labels of association types.
    pub associations: Vec<AssociationLabel>,
    /// Filters whose operands are labels.
    pub filters: Vec<FilterPosition>,
}

/// Label of an association type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AssociationLabel {
    /// Index of the association in the list of the caller; `None` for a change of one association.
    pub association: Option<usize>,
    /// Index of the label in the list of its association.
    pub index: usize,
    /// Object type of the record.
    pub to: String,
    /// The label.
    pub label: String,
}

/// Position of a filter in a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FilterPosition {
    /// Index of its group.
    pub group: usize,
    /// Index in the group.
    pub filter: usize,
}

// === impl Labelled ===

impl<T> From<T> for Labelled<T> {
    /// An input without labels.
    fn from(input: T) -> Self {
        Self { input, labels: Labels::default() }
    }
}

// === impl Labels ===

impl Labels {
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        let Self { properties, associations, filters } = self;
        properties.is_empty() && associations.is_empty() && filters.is_empty()
    }
}

//! Validates the fields of requests that have labels in place of ids.

use std::collections::BTreeMap;

use super::{FieldFaults, MAX_SHOWN_NAME};
use crate::leads::AssociationLabel;

/// Maximum length of a label in characters.
const MAX_LABEL_CHARS: usize = 255;

/// Values of the properties of a write.
#[derive(Debug)]
pub(crate) struct Values {
    /// Values by internal name.
    pub(crate) properties: BTreeMap<String, String>,
    /// Labels of values by internal name.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Association whose types have labels.
#[derive(Debug, Clone, Copy)]
pub(super) struct LabelledTypes<'a> {
    /// Path of the association with a trailing dot, or empty.
    pub(super) parent: &'a str,
    /// Index of the association in the list of the caller; `None` for a change of one association.
    pub(super) association: Option<usize>,
    /// Object type of the record.
    pub(super) to: &'a str,
}

// === impl Values ===

impl Values {
    /// True if there is no value.
    pub(super) fn is_empty(&self) -> bool {
        self.properties.is_empty() && self.labels.is_empty()
    }
}

// === impl FieldFaults ===

impl FieldFaults {
    /// Validates the labels of values. A property has a value or a label.
    pub(super) fn labels(&mut self, prefix: &str, values: &Values) {
        for (name, label) in &values.labels {
            let shown = &name[..name.floor_char_boundary(MAX_SHOWN_NAME)];
            let field = format!("{prefix}labels[{shown:?}]");
            self.check_name(&field, name);
            if values.properties.contains_key(name) {
                self.add(&field, "must not be in properties as well");
            }
            self.label(&field, label);
        }
    }

    /// Validates the labels of association types.
    pub(super) fn type_labels(
        &mut self,
        LabelledTypes { parent, association, to }: LabelledTypes<'_>,
        labels: &[String],
    ) -> Vec<AssociationLabel> {
        for (index, label) in labels.iter().enumerate() {
            self.label(&format!("{parent}type_labels[{index}]"), label);
        }
        let labelled = |(index, label): (usize, &String)| AssociationLabel {
            association,
            index,
            to: to.to_owned(),
            label: label.clone(),
        };
        labels.iter().enumerate().map(labelled).collect()
    }

    fn label(&mut self, field: &str, label: &str) {
        if label.trim().is_empty() {
            self.add(field, "must not be empty");
        } else if label.len() > MAX_LABEL_CHARS && label.chars().count() > MAX_LABEL_CHARS {
            self.add(field, "must not be longer than 255 characters");
        }
    }
}

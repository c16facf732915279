//! Labels beside the ids in leads that were read.

use std::{sync::Arc, time::Duration};

use super::{
    lookup::{OWNER, SchemaCopies},
    resolver::LabelResolver,
};
use crate::leads::{
    context::CallContext,
    error::Error,
    lead::Lead,
    schema::{PartKey, PropertyDefinition},
    validation::{PIPELINE, STAGE},
};

/// Maximum time for which a read waits for labels: without them it has its values.
const WAIT: Duration = Duration::from_secs(3);

/// Separator of the values of a property with several values, and of their labels.
const SEPARATOR: char = ';';

/// Labels of the values of leads, from copies of the schema. Labels of writes stand for the same values.
#[derive(Debug, Default)]
pub struct DisplayLabels {
    copies: SchemaCopies,
    /// Error of the first part of the schema that has no copy.
    error: Option<Error>,
}

// === impl LabelResolver ===

impl LabelResolver {
    /// Reads the parts of the schema that have labels for the values of leads.
    pub(in crate::leads) async fn display(
        &self,
        ctx: &CallContext,
        leads: impl Iterator<Item = &Lead>,
    ) -> DisplayLabels {
        let mut keys = Vec::new();
        for (name, _) in leads.flat_map(|lead| &lead.properties) {
            let key = match name.as_str() {
                PIPELINE | STAGE => PartKey::Pipelines,
                OWNER => PartKey::Owners,
                _ => PartKey::Properties,
            };
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let (copies, errors) = self.read_copies(ctx, keys, WAIT).await;
        DisplayLabels { copies, error: errors.into_iter().next() }
    }
}

// === impl DisplayLabels ===

impl DisplayLabels {
    /// Error because of which labels are missing; `None` if none are.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// The lead with the labels of its values.
    #[must_use]
    pub fn add_to(&self, lead: Arc<Lead>) -> Arc<Lead> {
        let mut lead = Arc::unwrap_or_clone(lead);
        self.add(&mut lead);
        Arc::new(lead)
    }

    /// Adds the labels of the values of a lead.
    pub fn add(&self, lead: &mut Lead) {
        let values = lead.properties.iter().filter(|(_, value)| !value.is_empty());
        let labels =
            values.filter_map(|(name, value)| Some((name.clone(), self.label(name, value)?)));
        lead.labels = labels.filter(|(_, label)| !label.is_empty()).collect();
    }

    /// The label of a value; `None` if it has none or is not known.
    fn label(&self, name: &str, value: &str) -> Option<String> {
        let SchemaCopies { properties, pipelines, owners, association_types: _ } = &self.copies;
        match name {
            PIPELINE => Some(pipelines.as_ref()?.get(value)?.label.clone()),
            STAGE => {
                let mut stages = pipelines.as_ref()?.all().iter().flat_map(|own| &own.stages);
                Some(stages.find(|stage| stage.id == value)?.label.clone())
            }
            OWNER => Some(owners.as_ref()?.get(value)?.email.clone()),
            _ => options(properties.as_ref()?.get(name)?, value),
        }
    }
}

/// The labels of the options of a property, in the order of its values.
fn options(property: &PropertyDefinition, value: &str) -> Option<String> {
    let label = |value: &str| {
        let option = property.options.iter().find(|option| option.value == value)?;
        Some(option.label.as_str())
    };
    if let Some(label) = label(value) {
        return Some(label.to_owned());
    }
    let labels: Option<Vec<&str>> = value.split(SEPARATOR).map(label).collect();
    labels.map(|labels| labels.join(&SEPARATOR.to_string()))
}

#[cfg(test)]
mod tests;

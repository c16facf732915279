//! Inputs that take the ids for their labels.

use std::collections::BTreeMap;

use super::{
    labelled::{AssociationLabel, FilterPosition, Labels},
    lookup::{Lookup, OWNER, Unresolved, parts_of},
};
use crate::leads::{
    association_change::AssociationChange,
    association_type::AssociationType,
    error::FieldFault,
    export::ExportLeads,
    paged_search::PagedSearch,
    query::{Filter, FilterGroup, FilterOperator, SearchLeads},
    schema::{PartKey, object_type},
    validation::{PIPELINE, STAGE},
    write::{Association, CreateLead, Traced, UpdateLead, UpsertLead},
};

/// Label that is not resolved, with the path of its field in the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::leads) struct LabelFault {
    /// Path of the field.
    pub(super) field: String,
    /// Cause.
    pub(super) unresolved: Unresolved,
}

/// Input that takes the ids for its labels.
pub(in crate::leads) trait LabelTarget: Send + Sync {
    /// Adds the parts of the schema in which the labels are looked up.
    fn parts(&self, labels: &Labels, parts: &mut Vec<PartKey>) {
        for (property, label) in &labels.properties {
            add(parts, parts_of(property, label));
        }
        for AssociationLabel { to, .. } in &labels.associations {
            add(parts, [PartKey::AssociationTypes(object_type(to).to_owned())]);
        }
    }

    /// Looks the labels up, and takes the ids. Errors with every label that is not resolved; the input is
    /// then unchanged.
    fn resolve(&mut self, labels: &Labels, lookup: &mut Lookup<'_>) -> Result<(), Vec<LabelFault>>;
}

/// Resolved values and association types of one input.
#[derive(Debug, Default)]
struct Resolved {
    values: Vec<(String, String)>,
    types: Vec<(Option<usize>, AssociationType)>,
    faults: Vec<LabelFault>,
}

fn add(parts: &mut Vec<PartKey>, more: impl IntoIterator<Item = PartKey>) {
    for part in more {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
}

// === impl Resolved ===

impl Resolved {
    /// Looks up the labels of a write with these values.
    fn new(
        labels: &Labels,
        values: &BTreeMap<String, String>,
        is_new: bool,
        lookup: &mut Lookup<'_>,
    ) -> Self {
        let mut own = Self::default();
        let given = values.get(PIPELINE).filter(|id| !id.is_empty());
        let (mut pipeline, mut has_pipeline) = (given.cloned(), true);
        if let Some(label) = labels.properties.get(PIPELINE) {
            let found = own.take(PIPELINE, lookup.pipeline(label));
            has_pipeline = found.is_some();
            own.values.extend(found.clone().map(|id| (PIPELINE.to_owned(), id)));
            pipeline = found;
        }
        for (property, label) in &labels.properties {
            match property.as_str() {
                PIPELINE => {}
                // Without the pipeline, nothing is known of its stages.
                STAGE if !has_pipeline => {}
                STAGE => {
                    let found = lookup.stage(label, pipeline.as_deref(), is_new);
                    let Some(stage) = own.take(STAGE, found) else { continue };
                    if is_new && pipeline.is_none() {
                        own.values.push((PIPELINE.to_owned(), stage.pipeline));
                    }
                    own.values.push((STAGE.to_owned(), stage.id));
                }
                OWNER => {
                    let found = own.take(OWNER, lookup.owner(label));
                    own.values.extend(found.map(|id| (OWNER.to_owned(), id)));
                }
                _ => {
                    let found = own.take(property, lookup.option(property, label));
                    own.values.extend(found.map(|value| (property.clone(), value)));
                }
            }
        }
        own.add_types(&labels.associations, lookup);
        own
    }

    fn add_types(&mut self, labels: &[AssociationLabel], lookup: &mut Lookup<'_>) {
        for AssociationLabel { association, index, to, label } in labels {
            match lookup.association_type(to, label) {
                Ok(kind) => self.types.push((*association, kind)),
                Err(unresolved) => {
                    let parent = association.map(|at| format!("associations[{at}]."));
                    let field = format!("{}type_labels[{index}]", parent.unwrap_or_default());
                    self.faults.push(LabelFault { field, unresolved });
                }
            }
        }
    }

    /// Takes the result of a lookup for a property.
    fn take<T>(&mut self, property: &str, found: Result<T, Unresolved>) -> Option<T> {
        let error = match found {
            Ok(found) => return Some(found),
            Err(unresolved) => unresolved,
        };
        let path = FieldFault::for_property(property, "").field;
        let field = path.replacen("properties", "labels", 1);
        self.faults.push(LabelFault { field, unresolved: error });
        None
    }

    /// Adds the ids to a write.
    fn apply(
        self,
        values: &mut BTreeMap<String, String>,
        associations: &mut [Association],
    ) -> Result<(), Vec<LabelFault>> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        values.extend(self.values);
        for (position, kind) in self.types {
            let own = associations.iter_mut().find(|own| own.position == position);
            if let Some(own) = own.filter(|own| !own.types.contains(&kind)) {
                own.types.push(kind);
            }
        }
        Ok(())
    }
}

// === impl LabelTarget ===

impl LabelTarget for CreateLead {
    fn resolve(&mut self, labels: &Labels, lookup: &mut Lookup<'_>) -> Result<(), Vec<LabelFault>> {
        let resolved = Resolved::new(labels, &self.properties, true, lookup);
        resolved.apply(&mut self.properties, &mut self.associations)
    }
}

impl LabelTarget for UpdateLead {
    fn resolve(&mut self, labels: &Labels, lookup: &mut Lookup<'_>) -> Result<(), Vec<LabelFault>> {
        let resolved = Resolved::new(labels, &self.properties, false, lookup);
        resolved.apply(&mut self.properties, &mut [])
    }
}

impl LabelTarget for UpsertLead {
    fn resolve(&mut self, labels: &Labels, lookup: &mut Lookup<'_>) -> Result<(), Vec<LabelFault>> {
        let resolved = Resolved::new(labels, &self.properties, false, lookup);
        resolved.apply(&mut self.properties, &mut self.associations)
    }
}

impl<T: LabelTarget> LabelTarget for Traced<T> {
    fn resolve(&mut self, labels: &Labels, lookup: &mut Lookup<'_>) -> Result<(), Vec<LabelFault>> {
        self.input.resolve(labels, lookup)
    }
}

impl LabelTarget for AssociationChange {
    fn resolve(&mut self, labels: &Labels, lookup: &mut Lookup<'_>) -> Result<(), Vec<LabelFault>> {
        let mut resolved = Resolved::default();
        resolved.add_types(&labels.associations, lookup);
        if !resolved.faults.is_empty() {
            return Err(resolved.faults);
        }
        for (_, kind) in resolved.types {
            if !self.types.contains(&kind) {
                self.types.push(kind);
            }
        }
        Ok(())
    }
}

impl LabelTarget for SearchLeads {
    fn parts(&self, labels: &Labels, parts: &mut Vec<PartKey>) {
        filter_parts(&self.filter_groups, labels, parts);
    }

    fn resolve(&mut self, labels: &Labels, lookup: &mut Lookup<'_>) -> Result<(), Vec<LabelFault>> {
        resolve_filters(&mut self.filter_groups, labels, lookup)
    }
}

impl LabelTarget for ExportLeads {
    fn parts(&self, labels: &Labels, parts: &mut Vec<PartKey>) {
        filter_parts(&self.filter_groups, labels, parts);
    }

    fn resolve(&mut self, labels: &Labels, lookup: &mut Lookup<'_>) -> Result<(), Vec<LabelFault>> {
        resolve_filters(&mut self.filter_groups, labels, lookup)
    }
}

impl LabelTarget for PagedSearch {
    fn parts(&self, labels: &Labels, parts: &mut Vec<PartKey>) {
        self.search().parts(labels, parts);
    }

    fn resolve(&mut self, labels: &Labels, lookup: &mut Lookup<'_>) -> Result<(), Vec<LabelFault>> {
        self.search_mut().resolve(labels, lookup)
    }
}

/// Adds the parts of the schema in which the labels of filters are looked up.
fn filter_parts(groups: &[FilterGroup], labels: &Labels, parts: &mut Vec<PartKey>) {
    for position in &labels.filters {
        let Some(filter) = filter(groups, *position) else { continue };
        for (_, label) in operands(filter) {
            add(parts, parts_of(&filter.property_name, label));
        }
    }
}

/// Looks the labels of filters up. Errors with every label that is not resolved; the filters are then unchanged.
fn resolve_filters(
    own: &mut Vec<FilterGroup>,
    labels: &Labels,
    lookup: &mut Lookup<'_>,
) -> Result<(), Vec<LabelFault>> {
    let mut groups = own.clone();
    let mut faults = Vec::new();
    // Filters on pipelines first: stages depend on them.
    let mut positions = labels.filters.clone();
    let is_pipeline =
        |at: &FilterPosition| filter(own, *at).is_some_and(|found| found.property_name == PIPELINE);
    positions.sort_by_key(|at| !is_pipeline(at));
    for position in positions {
        let Some(group) = groups.get_mut(position.group) else { continue };
        let pipeline = pipeline_of(group);
        let Some(filter) = group.filters.get_mut(position.filter) else { continue };
        let property = filter.property_name.clone();
        let mut ids = Vec::new();
        for (path, label) in operands(filter) {
            let found = match property.as_str() {
                PIPELINE => lookup.pipeline(label),
                STAGE => lookup.stage(label, pipeline.as_deref(), false).map(|stage| stage.id),
                OWNER => lookup.owner(label),
                _ => lookup.option(&property, label),
            };
            match found {
                Ok(id) => ids.push(id),
                Err(unresolved) => {
                    let FilterPosition { group, filter } = position;
                    let field = format!("filter_groups[{group}].filters[{filter}].{path}");
                    faults.push(LabelFault { field, unresolved });
                }
            }
        }
        match filter.value {
            Some(_) => filter.value = ids.pop(),
            None => filter.values = ids,
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    *own = groups;
    Ok(())
}

fn filter(groups: &[FilterGroup], at: FilterPosition) -> Option<&Filter> {
    groups.get(at.group)?.filters.get(at.filter)
}

/// The labels of a filter, each with the end of its path.
fn operands(filter: &Filter) -> Vec<(String, &str)> {
    let values = filter.values.iter().enumerate();
    let values = values.map(|(index, label)| (format!("values[{index}]"), label.as_str()));
    let value = filter.value.iter().map(|label| ("value".to_owned(), label.as_str()));
    value.chain(values).collect()
}

/// Id of the pipeline to which a group is limited.
fn pipeline_of(group: &FilterGroup) -> Option<String> {
    let is_pipeline =
        |own: &&Filter| own.property_name == PIPELINE && own.operator == FilterOperator::Eq;
    group.filters.iter().find(is_pipeline)?.value.clone()
}

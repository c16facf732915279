//! JSON of properties, validation rules, pipelines, owners and association labels.
//!
//! Only the field of an unreadable value is lost and counted, as of a lead.

use std::collections::BTreeMap;

use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use super::{
    WirePaging, next,
    tolerant::{Body, Losses, results_and_paging},
    value::{Text, integer, object},
};
use crate::leads::{
    AssociationCategory, AssociationType,
    schema::{
        AssociationTypeDefinition, Owner, Pipeline, PipelineStage, PropertyDefinition,
        PropertyOption, PropertyRules, SchemaPage, ValidationRule,
    },
};

/// Response with a list of results.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub(in crate::hubspot) struct WireResults<T> {
    #[serde(default = "none")]
    results: Option<Vec<Element<T>>>,
    #[serde(default, deserialize_with = "object")]
    paging: Option<WirePaging>,
}

/// Result that is an object; `None` for null. The types accept an array of their fields.
#[derive(Debug, Deserialize)]
#[serde(transparent, bound = "T: DeserializeOwned")]
pub(super) struct Element<T>(#[serde(deserialize_with = "object")] Option<T>);

/// Property definition.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::hubspot) struct WireProperty {
    name: Text,
    label: Text,
    description: Text,
    group_name: Text,
    #[serde(rename = "type")]
    type_name: Text,
    field_type: Text,
    options: Option<Vec<WireOption>>,
    has_unique_value: Option<bool>,
    calculated: Option<bool>,
    hidden: Option<bool>,
    hubspot_defined: Option<bool>,
    external_options: Option<bool>,
    archived: Option<bool>,
    modification_metadata: Option<WireModificationMetadata>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireModificationMetadata {
    read_only_value: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireOption {
    label: Text,
    value: Text,
    description: Text,
    hidden: Option<bool>,
    #[serde(deserialize_with = "integer")]
    display_order: Option<i64>,
}

/// Validation rules of a property.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::hubspot) struct WirePropertyRules {
    property_name: Text,
    property_validation_rules: Option<Vec<WireRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireRule {
    rule_type: Text,
    rule_arguments: Option<Vec<Text>>,
    should_apply_normalization: Option<bool>,
}

/// Pipeline.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::hubspot) struct WirePipeline {
    id: Text,
    label: Text,
    #[serde(deserialize_with = "integer")]
    display_order: Option<i64>,
    archived: Option<bool>,
    stages: Option<Vec<WireStage>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireStage {
    id: Text,
    label: Text,
    #[serde(deserialize_with = "integer")]
    display_order: Option<i64>,
    archived: Option<bool>,
    metadata: Option<BTreeMap<String, Text>>,
}

/// Owner.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::hubspot) struct WireOwner {
    id: Text,
    email: Text,
    first_name: Text,
    last_name: Text,
    user_id: Option<IgnoredAny>,
    user_id_including_inactive: Option<IgnoredAny>,
    archived: Option<bool>,
}

/// Association label.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::hubspot) struct WireLabel {
    category: Text,
    #[serde(deserialize_with = "integer")]
    type_id: Option<i32>,
    label: Text,
}

fn none<T>() -> Option<T> {
    None
}

// === impl WireResults ===

impl<T> Default for WireResults<T> {
    fn default() -> Self {
        Self { results: None, paging: None }
    }
}

impl<T: DeserializeOwned> Body for WireResults<T> {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let (results, paging) = results_and_paging(raw, losses)?;
        Some(Self { results, paging })
    }
}

impl<T> WireResults<T> {
    /// Converts each result that has what identifies it; `None` without a list.
    fn convert<U>(self, convert: impl Fn(T) -> Option<U>) -> Option<Vec<U>> {
        let results = self.results?.into_iter().filter_map(|Element(result)| result);
        Some(results.filter_map(convert).collect())
    }
}

impl WireResults<WireProperty> {
    pub(in crate::hubspot) fn into_properties(self) -> Option<SchemaPage> {
        self.convert(WireProperty::into_domain).map(SchemaPage::Properties)
    }
}

impl WireResults<WirePropertyRules> {
    pub(in crate::hubspot) fn into_rules(self) -> Option<SchemaPage> {
        self.convert(WirePropertyRules::into_domain).map(SchemaPage::ValidationRules)
    }
}

impl WireResults<WirePipeline> {
    pub(in crate::hubspot) fn into_pipelines(self) -> Option<SchemaPage> {
        self.convert(WirePipeline::into_domain).map(SchemaPage::Pipelines)
    }
}

impl WireResults<WireOwner> {
    pub(in crate::hubspot) fn into_owners(mut self) -> Option<SchemaPage> {
        let after = next(self.paging.take());
        self.convert(WireOwner::into_domain).map(|owners| SchemaPage::Owners { owners, after })
    }
}

impl WireResults<WireLabel> {
    pub(in crate::hubspot) fn into_association_types(self) -> Option<SchemaPage> {
        self.convert(WireLabel::into_domain).map(SchemaPage::AssociationTypes)
    }
}

// === impl WireProperty ===

impl WireProperty {
    fn into_domain(self) -> Option<PropertyDefinition> {
        let name = identity(self.name)?;
        let mut options = self.options.unwrap_or_default();
        options.sort_by_key(|option| option.display_order);
        let metadata = self.modification_metadata.unwrap_or_default();
        let is_calculated = self.calculated.unwrap_or(false);
        let definition = PropertyDefinition {
            name,
            label: text(self.label),
            description: text(self.description),
            group: text(self.group_name),
            type_name: text(self.type_name),
            field_type: text(self.field_type),
            options: options.into_iter().filter_map(WireOption::into_domain).collect(),
            has_more_options: false,
            is_read_only: metadata.read_only_value.unwrap_or(false) || is_calculated,
            has_unique_values: self.has_unique_value.unwrap_or(false),
            is_calculated,
            is_hidden: self.hidden.unwrap_or(false),
            is_hubspot_defined: self.hubspot_defined.unwrap_or(false),
            has_external_options: self.external_options.unwrap_or(false),
        };
        (!self.archived.unwrap_or(false)).then_some(definition)
    }
}

// === impl WireOption ===

impl WireOption {
    fn into_domain(self) -> Option<PropertyOption> {
        Some(PropertyOption {
            value: identity(self.value)?,
            label: text(self.label),
            description: text(self.description),
            is_hidden: self.hidden.unwrap_or(false),
        })
    }
}

// === impl WirePropertyRules ===

impl WirePropertyRules {
    fn into_domain(self) -> Option<PropertyRules> {
        let rules = self.property_validation_rules.unwrap_or_default().into_iter();
        let rules = rules.filter_map(WireRule::into_domain).collect();
        Some(PropertyRules { property: identity(self.property_name)?, rules })
    }
}

// === impl WireRule ===

impl WireRule {
    fn into_domain(self) -> Option<ValidationRule> {
        let arguments = self.rule_arguments.unwrap_or_default().into_iter();
        Some(ValidationRule {
            kind: identity(self.rule_type)?,
            arguments: arguments.map(text).collect(),
            is_normalized: self.should_apply_normalization.unwrap_or(false),
        })
    }
}

// === impl WirePipeline ===

impl WirePipeline {
    fn into_domain(self) -> Option<Pipeline> {
        let id = identity(self.id)?;
        let stages = self.stages.unwrap_or_default().into_iter();
        let pipeline = Pipeline {
            id,
            label: text(self.label),
            display_order: self.display_order.unwrap_or(0),
            stages: stages.filter_map(WireStage::into_domain).collect(),
        };
        (!self.archived.unwrap_or(false)).then_some(pipeline)
    }
}

// === impl WireStage ===

impl WireStage {
    fn into_domain(self) -> Option<PipelineStage> {
        let id = identity(self.id)?;
        let metadata = self.metadata.unwrap_or_default().into_iter();
        let stage = PipelineStage {
            id,
            label: text(self.label),
            display_order: self.display_order.unwrap_or(0),
            metadata: metadata.filter_map(|(key, value)| Some((key, value.0?))).collect(),
        };
        (!self.archived.unwrap_or(false)).then_some(stage)
    }
}

// === impl WireOwner ===

impl WireOwner {
    fn into_domain(self) -> Option<Owner> {
        // HubSpot removes `userId` of a deactivated user and keeps the other one.
        let is_deactivated = self.user_id.is_none() && self.user_id_including_inactive.is_some();
        Some(Owner {
            id: identity(self.id)?,
            email: text(self.email),
            first_name: text(self.first_name),
            last_name: text(self.last_name),
            is_active: !is_deactivated && !self.archived.unwrap_or(false),
        })
    }
}

// === impl WireLabel ===

impl WireLabel {
    /// `None` without an id or with an unknown category.
    fn into_domain(self) -> Option<AssociationTypeDefinition> {
        let category = AssociationCategory::parse(&self.category.0?)?;
        let association_type = AssociationType { category, type_id: self.type_id? };
        let label = self.label.0.unwrap_or_default();
        Some(AssociationTypeDefinition { association_type, label, inverse_type_id: None })
    }
}

fn identity(Text(value): Text) -> Option<String> {
    value.filter(|text| !text.is_empty())
}

fn text(Text(value): Text) -> String {
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests;

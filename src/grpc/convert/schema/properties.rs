//! Converts properties and their validation rules.

use std::sync::Arc;

use super::{Filter, ListPage, SchemaFit};
use crate::{
    grpc::{convert::encoding::timestamp, pb, status},
    leads::{
        Error, LEAD_NAME,
        schema::{PropertyCopy, PropertyDefinition, RuleCopy, ValidationRule},
    },
};

// === impl SchemaFit ===

impl SchemaFit {
    /// Builds a page of properties, with their rules or the error of reading them if the caller wants them.
    pub(crate) fn properties(
        &self,
        copy: &PropertyCopy,
        rules: Option<Result<Arc<RuleCopy>, Error>>,
        list: &ListPage,
    ) -> Result<pb::ListLeadPropertiesResponse, Error> {
        let is_selected = |property: &&PropertyDefinition| match &list.filter {
            Filter::All | Filter::Email(_) => true,
            Filter::Names(names) => names.contains(&property.name),
        };
        let start = list.position.after().map_or(0, |after| {
            copy.all().partition_point(|property| property.name.as_str() <= after)
        });
        let rest = copy.all()[start..].iter().filter(is_selected);
        let (known, error) = match rules {
            Some(Ok(rules)) => (Some(rules), None),
            Some(Err(error)) => (None, Some(status::for_item(&error))),
            None => (None, None),
        };
        let convert = |own: &PropertyDefinition| property(own, known.as_deref());
        let page = self.page(list, rest, |property| property.name.as_str(), convert)?;
        Ok(pb::ListLeadPropertiesResponse {
            properties: page.items,
            next_page_token: page.next_page_token,
            fetch_time: Some(timestamp(copy.fetch_time)),
            incomplete: !copy.is_complete,
            validation_rules_fetch_time: known.map(|rules| timestamp(rules.fetch_time)),
            validation_rules_error: error,
        })
    }
}

fn property(property: &PropertyDefinition, rules: Option<&RuleCopy>) -> pb::LeadProperty {
    let rules = rules.map(|rules| rules.of_property(&property.name)).unwrap_or_default();
    let options = property.options.iter().map(|option| pb::PropertyOption {
        value: option.value.clone(),
        label: option.label.clone(),
        description: option.description.clone(),
        hidden: option.is_hidden,
    });
    pb::LeadProperty {
        name: property.name.clone(),
        label: property.label.clone(),
        r#type: property.type_name.clone(),
        field_type: property.field_type.clone(),
        options: options.collect(),
        has_more_options: property.has_more_options,
        has_external_options: property.has_external_options,
        group: property.group.clone(),
        description: property.description.clone(),
        read_only: property.is_read_only,
        required: property.name == LEAD_NAME,
        unique: property.has_unique_values,
        calculated: property.is_calculated,
        hidden: property.is_hidden,
        hubspot_defined: property.is_hubspot_defined,
        validation_rules: rules.iter().map(rule).collect(),
    }
}

fn rule(rule: &ValidationRule) -> pb::ValidationRule {
    pb::ValidationRule {
        r#type: rule.kind.clone(),
        arguments: rule.arguments.clone(),
        normalized: rule.is_normalized,
    }
}

//! Definitions that HubSpot returns, and the reads that return them.

use std::collections::BTreeMap;

use crate::leads::{association_type::AssociationType, memory::HeapSize};

/// Type of properties whose values are options.
const ENUMERATION: &str = "enumeration";

/// Field type of an enumeration with the options `true` and `false`.
const FLAG: &str = "booleancheckbox";

/// Field type of an enumeration with several values.
const CHECKBOX: &str = "checkbox";

/// One HubSpot call that reads a part of the schema. It is sent once: neither retried nor replayed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SchemaRead {
    /// Reads all lead properties.
    Properties,
    /// Reads the validation rules of all lead properties.
    ValidationRules,
    /// Reads all lead pipelines with their stages.
    Pipelines,
    /// Reads one page of owners.
    Owners {
        /// HubSpot's cursor; `None` for the first page.
        after: Option<String>,
    },
    /// Reads the association types from leads to one object type.
    AssociationTypes {
        /// Plural name or id of the object type.
        to: String,
    },
}

/// Response to a [`SchemaRead`].
#[derive(Debug, Clone, PartialEq)]
pub enum SchemaPage {
    /// All properties.
    Properties(Vec<PropertyDefinition>),
    /// The rules of the properties that have some.
    ValidationRules(Vec<PropertyRules>),
    /// All pipelines.
    Pipelines(Vec<Pipeline>),
    /// One page of owners.
    Owners {
        /// The owners.
        owners: Vec<Owner>,
        /// HubSpot's cursor of the next page; `None` on the last page.
        after: Option<String>,
    },
    /// Association types to one object type.
    AssociationTypes(Vec<AssociationTypeDefinition>),
}

/// Definition of a lead property.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PropertyDefinition {
    /// Internal name.
    pub name: String,
    /// Label in HubSpot's user interface.
    pub label: String,
    /// Explanation of the property.
    pub description: String,
    /// Internal name of its group.
    pub group: String,
    /// HubSpot's name of the type, such as `enumeration`.
    pub type_name: String,
    /// HubSpot's name of the form field, such as `select`.
    pub field_type: String,
    /// Options of an enumeration, in display order.
    pub options: Vec<PropertyOption>,
    /// True if further options were left out.
    pub has_more_options: bool,
    /// True if values cannot be written.
    pub is_read_only: bool,
    /// True if no two leads have the same value.
    pub has_unique_values: bool,
    /// True if HubSpot computes the value.
    pub is_calculated: bool,
    /// True if HubSpot's user interface hides the property.
    pub is_hidden: bool,
    /// True if HubSpot defines the property, false if the portal does.
    pub is_hubspot_defined: bool,
    /// True if the options are records of another part, such as owners, and are not listed.
    pub has_external_options: bool,
}

/// Option of an enumeration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PropertyOption {
    /// Value that leads have.
    pub value: String,
    /// Label in HubSpot's user interface.
    pub label: String,
    /// Explanation of the option.
    pub description: String,
    /// True if HubSpot's user interface hides the option.
    pub is_hidden: bool,
}

/// Validation rules of one property.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PropertyRules {
    /// Internal name of the property.
    pub property: String,
    /// Rules of the property.
    pub rules: Vec<ValidationRule>,
}

/// Rule that values of a property have to follow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ValidationRule {
    /// HubSpot's name of the kind, such as `MAX_LENGTH`.
    pub kind: String,
    /// Arguments, such as a number of characters.
    pub arguments: Vec<String>,
    /// True if HubSpot normalizes a value before it applies the rule.
    pub is_normalized: bool,
}

/// Lead pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pipeline {
    /// Id, the value of `hs_pipeline`.
    pub id: String,
    /// Label in HubSpot's user interface.
    pub label: String,
    /// Position among the pipelines.
    pub display_order: i64,
    /// Stages, in display order.
    pub stages: Vec<PipelineStage>,
}

/// Stage of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PipelineStage {
    /// Id, the value of `hs_pipeline_stage`.
    pub id: String,
    /// Label in HubSpot's user interface.
    pub label: String,
    /// Position in the pipeline.
    pub display_order: i64,
    /// HubSpot's settings of the stage, such as `leadState`.
    pub metadata: BTreeMap<String, String>,
}

/// Owner: a user that leads can be assigned to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// Id, the value of `hubspot_owner_id`.
    pub id: String,
    /// E-mail address; empty if HubSpot has none.
    pub email: String,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// True if the user is active.
    pub is_active: bool,
}

/// Association type from leads to an object type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationTypeDefinition {
    /// Category and id.
    pub association_type: AssociationType,
    /// Label; empty for an association without one.
    pub label: String,
    /// Type id of the opposite direction. `None` if it is not known.
    pub inverse_type_id: Option<i32>,
}

// === impl PropertyDefinition ===

impl PropertyDefinition {
    /// True for an enumeration with the options `true` and `false`.
    pub fn is_flag(&self) -> bool {
        self.type_name == ENUMERATION && self.field_type == FLAG
    }

    /// True for an enumeration whose values are lists, separated by semicolons.
    pub fn is_list(&self) -> bool {
        self.type_name == ENUMERATION && self.field_type == CHECKBOX
    }
}

// === impl HeapSize ===

impl HeapSize for PropertyDefinition {
    fn heap_size(&self) -> usize {
        let texts = [&self.name, &self.label, &self.description, &self.group];
        texts.into_iter().map(HeapSize::heap_size).sum::<usize>()
            + self.type_name.heap_size()
            + self.field_type.heap_size()
            + self.options.heap_size()
    }
}

impl HeapSize for PropertyOption {
    fn heap_size(&self) -> usize {
        self.value.heap_size() + self.label.heap_size() + self.description.heap_size()
    }
}

impl HeapSize for PropertyRules {
    fn heap_size(&self) -> usize {
        self.property.heap_size() + self.rules.heap_size()
    }
}

impl HeapSize for ValidationRule {
    fn heap_size(&self) -> usize {
        self.kind.heap_size() + self.arguments.heap_size()
    }
}

impl HeapSize for Pipeline {
    fn heap_size(&self) -> usize {
        self.id.heap_size() + self.label.heap_size() + self.stages.heap_size()
    }
}

impl HeapSize for PipelineStage {
    fn heap_size(&self) -> usize {
        self.id.heap_size() + self.label.heap_size() + self.metadata.heap_size()
    }
}

impl HeapSize for Owner {
    fn heap_size(&self) -> usize {
        [&self.id, &self.email, &self.first_name, &self.last_name]
            .into_iter()
            .map(HeapSize::heap_size)
            .sum()
    }
}

impl HeapSize for AssociationTypeDefinition {
    fn heap_size(&self) -> usize {
        self.label.heap_size()
    }
}

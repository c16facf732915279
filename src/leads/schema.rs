//! Schema of a portal: lead properties with their validation rules, pipelines, owners and association types.
//!
//! [`Schemas`] keeps one typed copy of each part per portal, and reads it from HubSpot when it is asked
//! for and too old. A small budget of HubSpot calls per portal holds whatever is asked. While HubSpot
//! fails, the old copy stays in use.

mod association_types;
mod budget;
mod cache;
mod copies;
mod current;
mod definition;
mod evidence;
mod load;
mod part;
mod rules;
mod state;

pub use self::{
    association_types::{
        AssociationTypeCopy, AssociationTypesResult, HUBSPOT_DEFINED, HubspotDefined, object_type,
    },
    cache::{DEFAULT_MAX_AGE, Schemas},
    copies::{OwnerCopy, PipelineCopy, PropertyCopy},
    definition::{
        AssociationTypeDefinition, Owner, Pipeline, PipelineStage, PropertyDefinition,
        PropertyOption, PropertyRules, SchemaPage, SchemaRead, ValidationRule,
    },
    rules::RuleCopy,
};

pub(super) use self::part::{PartCopy, PartKey};

#[cfg(test)]
mod tests;

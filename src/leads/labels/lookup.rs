//! Lookup of labels in copies of the schema, without I/O.
//!
//! Descriptions name what the schema has, and never the label of the caller.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::index::{Entry, Found, LabelIndex};
use crate::leads::{
    association_type::AssociationType,
    schema::{
        AssociationTypeCopy, OwnerCopy, PartCopy, PartKey, Pipeline, PipelineCopy, PropertyCopy,
        PropertyDefinition, object_type,
    },
    validation::{Candidate, Hints, PIPELINE, STAGE, shown},
};

/// Property with the id of the owner.
pub(super) const OWNER: &str = "hubspot_owner_id";

/// Id that HubSpot gives to the default pipeline of leads, in which new leads without a pipeline are.
const DEFAULT_PIPELINE: &str = "lead-pipeline-id";

/// Form field of properties with several values, separated by [`SEPARATOR`].
const CHECKBOXES: &str = "checkbox";

const SEPARATOR: char = ';';

/// Number of failed inputs of a call after which descriptions have no hints.
const MAX_DETAILED: usize = 100;

/// End of a description if the copy lacks what exceeds its bounds, or was not read yet.
const NOT_COMPLETE: &str = "; leadsd has not read all of them";

/// Copies of the schema.
#[derive(Debug, Default)]
pub(super) struct SchemaCopies {
    pub(super) properties: Option<Arc<PropertyCopy>>,
    pub(super) pipelines: Option<Arc<PipelineCopy>>,
    pub(super) owners: Option<Arc<OwnerCopy>>,
    pub(super) association_types: BTreeMap<String, Arc<AssociationTypeCopy>>,
}

/// Label that stands for nothing, or for several ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::leads) struct Unresolved {
    /// Part of the schema in which the label was looked up.
    pub(super) part: PartKey,
    /// Reason for the caller. `None` if there is no copy of the part.
    pub(super) description: Option<String>,
}

/// Lookup of the labels of one call.
#[derive(Debug)]
pub(in crate::leads) struct Lookup<'a> {
    copies: &'a SchemaCopies,
    hints: Hints,
    failed: usize,
    options: HashMap<&'a str, LabelIndex<'a, &'a str>>,
    pipelines: Option<LabelIndex<'a, &'a Pipeline>>,
    /// Stages by the id of the pipeline; those of all pipelines by the empty text.
    stages: HashMap<&'a str, LabelIndex<'a, Stage<'a>>>,
    types: HashMap<&'a str, LabelIndex<'a, AssociationType>>,
}

/// Stage with its pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stage<'a> {
    pipeline: &'a Pipeline,
    id: &'a str,
}

/// Resolved stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvedStage {
    /// Id of the stage.
    pub(super) id: String,
    /// Id of its pipeline.
    pub(super) pipeline: String,
}

/// Parts of the schema that resolve a label of this property. Of other properties than those of HubSpot, an
/// address may be that of an owner.
pub(super) fn parts_of(property: &str, label: &str) -> Vec<PartKey> {
    match property {
        PIPELINE | STAGE => vec![PartKey::Pipelines],
        OWNER => vec![PartKey::Owners],
        _ if label.contains('@') => vec![PartKey::Properties, PartKey::Owners],
        _ => vec![PartKey::Properties],
    }
}

// === impl SchemaCopies ===

impl SchemaCopies {
    /// Sets the copy of a part.
    pub(super) fn set(&mut self, key: &PartKey, copy: PartCopy) {
        match copy {
            PartCopy::Properties(copy) => self.properties = Some(copy),
            PartCopy::Pipelines(copy) => self.pipelines = Some(copy),
            PartCopy::Owners(copy) => self.owners = Some(copy),
            PartCopy::AssociationTypes(copy) => {
                if let PartKey::AssociationTypes(to) = key {
                    self.association_types.insert(to.clone(), copy);
                }
            }
            // Rules have no labels.
            PartCopy::ValidationRules(_) => {}
        }
    }
}

// === impl Unresolved ===

impl Unresolved {
    fn no_copy(part: PartKey) -> Self {
        Self { part, description: None }
    }
}

// === impl Lookup ===

impl<'a> Lookup<'a> {
    /// Creates a lookup in these copies.
    pub(super) fn new(copies: &'a SchemaCopies) -> Self {
        Self {
            copies,
            hints: Hints::default(),
            failed: 0,
            options: HashMap::new(),
            pipelines: None,
            stages: HashMap::new(),
            types: HashMap::new(),
        }
    }

    /// Id of a pipeline.
    pub(super) fn pipeline(&mut self, label: &str) -> Result<String, Unresolved> {
        let part = PartKey::Pipelines;
        let Some(copy) = &self.copies.pipelines else { return Err(Unresolved::no_copy(part)) };
        let index = self.pipelines.get_or_insert_with(|| {
            LabelIndex::new(copy.all().iter().map(|own| Entry { label: &own.label, key: own }))
        });
        match index.find(label) {
            Found::One(pipeline) => Ok(pipeline.id.clone()),
            Found::Many(all) => {
                let ids = all.iter().map(|own| own.id.clone()).collect();
                Err(self.ambiguous(part, ids))
            }
            Found::None => {
                let all = copy.all().iter().map(|own| (own.label.as_str(), own.id.as_str()));
                Err(self.unknown(part, "a lead pipeline", label, all, copy.is_complete))
            }
        }
    }

    /// Id of a stage. `pipeline` is the id of the pipeline of the write, if it has one. The stage of a new
    /// lead may be that of the default pipeline.
    pub(super) fn stage(
        &mut self,
        label: &str,
        pipeline: Option<&str>,
        is_new: bool,
    ) -> Result<ResolvedStage, Unresolved> {
        let part = PartKey::Pipelines;
        let Some(copy) = &self.copies.pipelines else { return Err(Unresolved::no_copy(part)) };
        let only = match copy.all() {
            [only] if copy.is_complete => Some(only),
            _ => None,
        };
        let own = match pipeline {
            Some(id) => match copy.get(id) {
                Some(own) => Some(own),
                None => {
                    let text = "needs a lead pipeline: the one of the request is not known";
                    return Err(Unresolved { part, description: Some(text.to_owned()) });
                }
            },
            None => only,
        };
        let index = self.stages.entry(own.map_or("", |own| &own.id)).or_insert_with(|| {
            let all = copy.all().iter().filter(|other| own.is_none_or(|own| own.id == other.id));
            LabelIndex::new(all.flat_map(|pipeline| {
                let key = |id| Stage { pipeline, id };
                pipeline
                    .stages
                    .iter()
                    .map(move |stage| Entry { label: &stage.label, key: key(&stage.id) })
            }))
        });
        match index.find(label) {
            Found::One(stage) => Ok(stage.into()),
            Found::Many(all) => {
                let is_default = |stage: &&Stage<'_>| stage.pipeline.id == DEFAULT_PIPELINE;
                let defaults: Vec<&Stage<'_>> = all.iter().filter(is_default).collect();
                if let ([stage], true) = (defaults.as_slice(), is_new) {
                    return Ok((**stage).into());
                }
                let shown = |stage: &Stage<'_>| match own {
                    Some(_) => stage.id.to_owned(),
                    None => format!("{} of pipeline {}", stage.id, shown(&stage.pipeline.label)),
                };
                let ids = all.iter().map(shown).collect();
                Err(self.ambiguous(part, ids))
            }
            Found::None => {
                let (all, what) = match own {
                    Some(own) => (std::slice::from_ref(own), "a stage of the pipeline"),
                    None => (copy.all(), "a stage of a lead pipeline"),
                };
                let stages = all.iter().flat_map(|own| &own.stages);
                let stages = stages.map(|own| (own.label.as_str(), own.id.as_str()));
                let is_complete = copy.is_complete || own.is_some();
                Err(self.unknown(part, what, label, stages, is_complete))
            }
        }
    }

    /// Id of an owner.
    pub(super) fn owner(&mut self, email: &str) -> Result<String, Unresolved> {
        let part = PartKey::Owners;
        let Some(copy) = &self.copies.owners else { return Err(Unresolved::no_copy(part)) };
        let all: Vec<_> = copy.by_email(email.trim()).collect();
        let active: Vec<_> = all.iter().filter(|own| own.is_active).collect();
        match (active.as_slice(), all.as_slice()) {
            ([own], _) => return Ok(own.id.clone()),
            ([], [own]) => return Ok(own.id.clone()),
            _ => {}
        }
        if !all.is_empty() {
            let ids = all.iter().map(|own| own.id.clone()).collect();
            return Err(self.ambiguous(part, ids));
        }
        let more = match copy.is_complete {
            true => "; ListOwners lists them",
            false => "; leadsd has not read all owners yet, so use the id in properties",
        };
        let near = match self.is_detailed() {
            true => {
                let all = copy.all().iter().map(|own| Candidate::plain(&own.email));
                self.hints.did_you_mean(email, all)
            }
            false => String::new(),
        };
        let text = format!("is not the e-mail address of an owner{near}{more}");
        Err(Unresolved { part, description: Some(text) })
    }

    /// Value of a property with options. Owners are named by e-mail address.
    pub(super) fn option(&mut self, property: &str, label: &str) -> Result<String, Unresolved> {
        let part = PartKey::Properties;
        let Some(copy) = &self.copies.properties else { return Err(Unresolved::no_copy(part)) };
        let Some(definition) = copy.get(property) else {
            let near = match self.is_detailed() {
                true => {
                    let all = copy.all().iter().filter(|own| !own.options.is_empty());
                    let all = all.map(|own| Candidate { value: &own.name, label: &own.label });
                    self.hints.did_you_mean(property, all)
                }
                false => String::new(),
            };
            let more = if copy.is_complete { "" } else { NOT_COMPLETE };
            let text = format!("is not a property of leads{near}{more}");
            return Err(Unresolved { part, description: Some(text) });
        };
        if definition.options.is_empty() {
            if definition.has_external_options && label.contains('@') {
                return self.owner(label);
            }
            let text = "has no options with labels; put the value in properties";
            return Err(Unresolved { part, description: Some(text.to_owned()) });
        }
        let whole = self.one_option(definition, label);
        if whole.is_ok() || definition.field_type != CHECKBOXES || !label.contains(SEPARATOR) {
            return whole;
        }
        let mut values = Vec::new();
        for (position, part) in label.split(SEPARATOR).enumerate() {
            // HubSpot adds the values after a leading separator to those of the lead.
            if part.trim().is_empty() && position == 0 {
                values.push(String::new());
            } else {
                values.push(self.one_option(definition, part)?);
            }
        }
        Ok(values.join(&SEPARATOR.to_string()))
    }

    fn one_option(
        &mut self,
        definition: &'a PropertyDefinition,
        label: &str,
    ) -> Result<String, Unresolved> {
        let index = self.options.entry(&definition.name).or_insert_with(|| {
            let all = definition.options.iter();
            LabelIndex::new(all.map(|own| Entry { label: &own.label, key: own.value.as_str() }))
        });
        let part = PartKey::Properties;
        match index.find(label) {
            Found::One(value) => Ok(value.to_owned()),
            Found::Many(all) => {
                let ids = all.into_iter().map(str::to_owned).collect();
                Err(self.ambiguous(part, ids))
            }
            Found::None => {
                let all = definition.options.iter();
                let all = all.map(|own| (own.label.as_str(), own.value.as_str()));
                let is_complete = !definition.has_more_options;
                Err(self.unknown(part, "an option of the property", label, all, is_complete))
            }
        }
    }

    /// Association type of leads with records of an object type.
    pub(super) fn association_type(
        &mut self,
        to: &str,
        label: &str,
    ) -> Result<AssociationType, Unresolved> {
        let part = PartKey::AssociationTypes(object_type(to).to_owned());
        let Some((to, copy)) = self.copies.association_types.get_key_value(object_type(to)) else {
            return Err(Unresolved::no_copy(part));
        };
        let index = self.types.entry(to).or_insert_with(|| {
            let all = copy.all().iter();
            LabelIndex::new(all.map(|own| Entry { label: &own.label, key: own.association_type }))
        });
        match index.find(label) {
            Found::One(kind) => Ok(kind),
            Found::Many(all) => {
                let shown =
                    |kind: AssociationType| format!("{} {}", kind.category.as_str(), kind.type_id);
                let ids = all.into_iter().map(shown).collect();
                Err(self.ambiguous(part, ids))
            }
            Found::None => {
                let all = copy.all().iter().map(|own| (own.label.as_str(), ""));
                let is_complete = copy.is_complete && copy.fetch_time.is_some();
                Err(self.unknown(part, "an association type", label, all, is_complete))
            }
        }
    }

    /// Describes a label that stands for several ids.
    fn ambiguous(&mut self, part: PartKey, ids: Vec<String>) -> Unresolved {
        let allowed = match self.is_detailed() {
            true => self.hints.allowed(ids.iter().map(|id| Candidate::plain(id))),
            false => String::new(),
        };
        let text = format!("stands for {} ids; use one of them instead{allowed}", ids.len());
        Unresolved { part, description: Some(text) }
    }

    /// Describes a label that is not among `all`, which are labels with their ids.
    fn unknown<'b>(
        &mut self,
        part: PartKey,
        what: &str,
        label: &str,
        all: impl Iterator<Item = (&'b str, &'b str)> + Clone,
        is_complete: bool,
    ) -> Unresolved {
        let more = if is_complete { "" } else { NOT_COMPLETE };
        let (mut near, mut allowed) = (String::new(), String::new());
        if self.is_detailed() {
            let named = all.filter(|(label, _)| !label.is_empty());
            let named = named.map(|(value, label)| Candidate { value, label });
            near = self.hints.did_you_mean(label, named.clone());
            let named: Vec<Candidate<'_>> = named.collect();
            allowed = self.hints.allowed(named.into_iter());
        }
        let text = format!("is not the label of {what}{near}{allowed}{more}");
        Unresolved { part, description: Some(text) }
    }

    /// Counts a failed label. True if its description has hints.
    fn is_detailed(&mut self) -> bool {
        self.failed += 1;
        self.failed <= MAX_DETAILED
    }
}

// === impl ResolvedStage ===

impl From<Stage<'_>> for ResolvedStage {
    fn from(Stage { pipeline, id }: Stage<'_>) -> Self {
        Self { id: id.to_owned(), pipeline: pipeline.id.clone() }
    }
}

#[cfg(test)]
mod tests;

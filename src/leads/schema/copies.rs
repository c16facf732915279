//! Typed copies of the parts of a schema, with lookups by name, id, label and e-mail address.

use std::collections::HashMap;

use leadsd_base::time::Timestamp;

use super::definition::{Owner, Pipeline, PipelineStage, PropertyDefinition};
use crate::leads::memory::{HeapSize, memory_of};

/// Maximum memory of one part of one portal, in bytes. Ten times what a large portal needs.
pub(super) const MAX_PART_BYTES: usize = 4 << 20;

/// Maximum number of options that are kept of one property.
const MAX_OPTIONS: usize = 5_000;

/// Copy of the lead properties.
#[derive(Debug, Clone, PartialEq)]
pub struct PropertyCopy {
    /// Time at which HubSpot was asked.
    pub fetch_time: Timestamp,
    /// False if properties were left out because they exceed the bound of a copy.
    pub is_complete: bool,
    /// Sorted by name.
    properties: Vec<PropertyDefinition>,
}

/// Copy of the lead pipelines.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineCopy {
    /// Time at which HubSpot was asked.
    pub fetch_time: Timestamp,
    /// False if pipelines were left out because they exceed the bound of a copy.
    pub is_complete: bool,
    /// In display order.
    pipelines: Vec<Pipeline>,
}

/// Copy of the owners.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnerCopy {
    /// Time at which HubSpot was asked for the first page.
    pub fetch_time: Timestamp,
    /// False if owners are missing: pages that are not read yet, or that exceed the bound of a copy.
    pub is_complete: bool,
    /// Sorted by id.
    owners: Vec<Owner>,
    /// Positions by e-mail address in lower case.
    by_email: HashMap<String, Vec<u32>>,
}

// === impl PropertyCopy ===

impl PropertyCopy {
    /// Creates a copy of the properties that HubSpot was asked for at `fetch_time`.
    pub fn new(fetch_time: Timestamp, mut properties: Vec<PropertyDefinition>) -> Self {
        for property in &mut properties {
            if property.options.len() > MAX_OPTIONS {
                property.options.truncate(MAX_OPTIONS);
                property.options.shrink_to_fit();
                property.has_more_options = true;
            }
        }
        let is_complete = bound(&mut properties);
        properties.sort_by(|a, b| a.name.cmp(&b.name));
        properties.dedup_by(|a, b| a.name == b.name);
        Self { fetch_time, is_complete, properties }
    }

    /// All properties, sorted by name.
    pub fn all(&self) -> &[PropertyDefinition] {
        &self.properties
    }

    /// The property of this internal name.
    pub fn get(&self, name: &str) -> Option<&PropertyDefinition> {
        let index = self.properties.binary_search_by(|own| own.name.as_str().cmp(name)).ok()?;
        self.properties.get(index)
    }

    pub(super) fn bytes(&self) -> usize {
        self.properties.heap_size()
    }
}

// === impl PipelineCopy ===

impl PipelineCopy {
    pub(in crate::leads) fn new(fetch_time: Timestamp, mut pipelines: Vec<Pipeline>) -> Self {
        let is_complete = bound(&mut pipelines);
        for pipeline in &mut pipelines {
            pipeline.stages.sort_by(|a, b| (a.display_order, &a.id).cmp(&(b.display_order, &b.id)));
        }
        pipelines.sort_by(|a, b| (a.display_order, &a.id).cmp(&(b.display_order, &b.id)));
        Self { fetch_time, is_complete, pipelines }
    }

    /// All pipelines, in display order.
    pub fn all(&self) -> &[Pipeline] {
        &self.pipelines
    }

    /// The pipeline of this id.
    pub fn get(&self, id: &str) -> Option<&Pipeline> {
        self.pipelines.iter().find(|pipeline| pipeline.id == id)
    }

    /// The pipelines of this label, ignoring case.
    pub fn by_label<'a>(&'a self, label: &'a str) -> impl Iterator<Item = &'a Pipeline> {
        self.pipelines.iter().filter(move |pipeline| is_same_label(&pipeline.label, label))
    }

    /// The stages of this label, ignoring case, each with its pipeline.
    pub fn stages_by_label<'a>(
        &'a self,
        label: &'a str,
    ) -> impl Iterator<Item = (&'a Pipeline, &'a PipelineStage)> {
        let stages = self
            .pipelines
            .iter()
            .flat_map(|pipeline| pipeline.stages.iter().map(move |stage| (pipeline, stage)));
        stages.filter(move |(_, stage)| is_same_label(&stage.label, label))
    }

    pub(super) fn bytes(&self) -> usize {
        self.pipelines.heap_size()
    }
}

// === impl OwnerCopy ===

impl OwnerCopy {
    /// Creates a copy. `is_last` is true if no page is missing.
    pub(in crate::leads) fn new(
        fetch_time: Timestamp,
        mut owners: Vec<Owner>,
        is_last: bool,
    ) -> Self {
        let is_complete = bound(&mut owners) && is_last;
        owners.sort_by(|a, b| id_order(&a.id).cmp(&id_order(&b.id)));
        owners.dedup_by(|a, b| a.id == b.id);
        let mut by_email: HashMap<String, Vec<u32>> = HashMap::with_capacity(owners.len());
        for (index, owner) in (0..).zip(&owners) {
            if !owner.email.is_empty() {
                by_email.entry(owner.email.to_lowercase()).or_default().push(index);
            }
        }
        Self { fetch_time, is_complete, owners, by_email }
    }

    /// All owners, sorted by id.
    pub fn all(&self) -> &[Owner] {
        &self.owners
    }

    /// The owner of this id.
    pub fn get(&self, id: &str) -> Option<&Owner> {
        let order = id_order(id);
        let index = self.owners.binary_search_by(|own| id_order(&own.id).cmp(&order)).ok()?;
        self.owners.get(index)
    }

    /// The owners with this e-mail address, ignoring case.
    pub fn by_email(&self, email: &str) -> impl Iterator<Item = &Owner> {
        let positions = self.by_email.get(&email.to_lowercase()).into_iter().flatten();
        positions.filter_map(|index| self.owners.get(usize::try_from(*index).ok()?))
    }

    pub(super) fn bytes(&self) -> usize {
        let index = |(email, positions): (&String, &Vec<u32>)| {
            memory_of(email) + size_of::<Vec<u32>>() + positions.capacity() * size_of::<u32>()
        };
        self.owners.heap_size() + self.by_email.iter().map(index).sum::<usize>()
    }
}

/// Order of ids: by number, as far as they are numbers.
pub(super) fn id_order(id: &str) -> (usize, &str) {
    (id.len(), id)
}

/// True if two labels are the same for a person: HubSpot shows labels with any case and outer spaces.
pub(super) fn is_same_label(own: &str, asked: &str) -> bool {
    let (own, asked) = (own.trim(), asked.trim());
    own == asked || own.to_lowercase() == asked.to_lowercase()
}

/// Leaves out the items beyond [`MAX_PART_BYTES`]. Returns true if all fit.
pub(super) fn bound<T: HeapSize>(items: &mut Vec<T>) -> bool {
    let mut bytes = 0;
    let fits = |item: &&T| {
        bytes += memory_of(*item);
        bytes <= MAX_PART_BYTES
    };
    let count = items.iter().take_while(fits).count();
    let is_complete = count == items.len();
    items.truncate(count);
    items.shrink_to_fit();
    is_complete
}

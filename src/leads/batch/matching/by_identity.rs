//! Matches results with the inputs that name their lead.

use std::collections::{HashMap, HashSet};

use super::Matching;
use crate::leads::{
    batch::{
        agreement::folded,
        input::{BatchInput, LeadReference, merged_ids},
    },
    error::{AffectedInputs, Error},
    lead::Lead,
};

/// Index of results by record id and unique value. Comparing every input with every result would be
/// quadratic.
struct Index<'a> {
    /// Ids and unique values that errors name in this spelling.
    named: HashSet<&'a str>,
    leads: Vec<Option<&'a Lead>>,
    by_id: HashMap<&'a str, usize>,
    /// By unique property and folded value.
    by_value: HashMap<&'a str, HashMap<String, Vec<usize>>>,
}

// === impl Matching ===

impl<I: BatchInput> Matching<'_, I> {
    /// Matches the inputs that name a lead with the result that is this lead.
    pub(super) fn by_identity(&mut self) {
        let open = self.open_inputs();
        let mut found = self.identified(&open);
        let uses = self.uses(&found);
        found.retain(|(index, slot)| uses[*slot] == 1 || self.may_share(*index, *slot));
        let mut left = self.uses(&found);
        let mut leads = HashSet::new();
        for (index, slot) in found {
            left[slot] -= 1;
            // The last use takes the result: a copy is made only if several inputs name it.
            let is_last = left[slot] == 0;
            let item = if is_last { self.results[slot].take() } else { self.results[slot].clone() };
            if is_last && self.inputs[index].written().is_none() {
                leads.extend(item.as_ref().map(|item| item.lead.id.clone()));
            }
            self.outcomes[index] = Some(Ok(item));
        }
        // HubSpot may return a lead twice to a read of several ids of it.
        for slot in &mut self.results {
            slot.take_if(|item| leads.contains(&item.lead.id));
        }
        // Inputs without a reference, and values that HubSpot shows in another form.
        let named = named(&self.errors);
        let named: HashSet<String> = named.into_iter().map(str::to_owned).collect();
        self.match_where(|input, item| {
            input.has_identity(item) == Some(true)
                && !input.id().is_some_and(|id| named.contains(id))
        });
    }

    /// Number of inputs that name each result.
    fn uses(&self, found: &[(usize, usize)]) -> Vec<usize> {
        let mut uses = vec![0; self.results.len()];
        found.iter().for_each(|(_, slot)| uses[*slot] += 1);
        uses
    }

    /// True if the result is that of the input even if other inputs name it as well. An error that names no
    /// input may be about one of two spellings.
    fn may_share(&self, index: usize, slot: usize) -> bool {
        let input = &self.inputs[index];
        let is_certain =
            input.reference().zip(self.results[slot].as_ref()).is_some_and(|(reference, item)| {
                reference.unique_property().is_none() || reference.is_exact(&item.lead)
            });
        input.written().is_none() && (is_certain || self.errors.iter().all(names_input))
    }

    /// The results of open inputs, by index of input and result.
    fn identified(&self, open: &[usize]) -> Vec<(usize, usize)> {
        let references = open.iter().filter_map(|&index| {
            let reference = self.inputs[index].reference()?;
            Some((index, reference))
        });
        let references: Vec<_> = references.collect();
        if references.is_empty() {
            return Vec::new();
        }
        let leads = self.results.iter().map(|item| item.as_ref().map(|item| &item.lead)).collect();
        let index = Index::new(leads, &references, named(&self.errors));
        // If an error names the id of a read, the result is that of a lead that was merged.
        let is_read = |input: &usize| self.inputs[*input].written().is_none();
        let found = |(input, reference)| {
            let slot = index.find(reference)?;
            let is_missing = is_read(&input) && index.is_missing(reference);
            (!is_missing).then_some((input, slot))
        };
        references.into_iter().filter_map(found).collect()
    }
}

// === impl Index ===

impl<'a> Index<'a> {
    fn new(
        leads: Vec<Option<&'a Lead>>,
        references: &[(usize, LeadReference<'a>)],
        named: HashSet<&'a str>,
    ) -> Self {
        let mut by_id = HashMap::with_capacity(leads.len());
        let present = || leads.iter().enumerate().filter_map(|(slot, lead)| Some((slot, (*lead)?)));
        for (slot, lead) in present() {
            by_id.entry(lead.id.as_str()).or_insert(slot);
        }
        // The current id of a lead comes before the ids of leads that were merged into others.
        for (slot, lead) in present() {
            for id in merged_ids(lead) {
                by_id.entry(id).or_insert(slot);
            }
        }
        let mut by_value: HashMap<&str, HashMap<String, Vec<usize>>> = HashMap::new();
        for (_, reference) in references {
            let Some(property) = reference.unique_property() else { continue };
            if by_value.contains_key(property) {
                continue;
            }
            let mut values: HashMap<String, Vec<usize>> = HashMap::with_capacity(leads.len());
            for (slot, lead) in present() {
                if let Some(value) = lead.properties.get(property) {
                    values.entry(folded(value)).or_default().push(slot);
                }
            }
            by_value.insert(property, values);
        }
        Self { named, leads, by_id, by_value }
    }

    /// True if an error names the record id.
    fn is_missing(&self, reference: LeadReference<'_>) -> bool {
        reference.unique_property().is_none() && self.named.contains(reference.id.as_str())
    }

    /// The result that is the lead. A unique value in the same spelling comes first, and then an error
    /// that names it. `None` if several leads have it.
    fn find(&self, reference: LeadReference<'_>) -> Option<usize> {
        let Some(property) = reference.unique_property() else {
            return self.by_id.get(reference.id.as_str()).copied();
        };
        let lead = |slot: &usize| self.leads[*slot];
        let slots = self.by_value.get(property)?.get(&reference.folded())?;
        let is_exact = |slot: &&usize| lead(slot).is_some_and(|lead| reference.is_exact(lead));
        if let Some(slot) = slots.iter().find(is_exact) {
            return Some(*slot);
        }
        if self.named.contains(reference.id.as_str()) {
            return None;
        }
        let id = |slot| lead(slot).map(|lead| &lead.id);
        let first = slots.first()?;
        slots.iter().all(|slot| id(slot) == id(first)).then_some(*first)
    }
}

fn names_input(error: &Error) -> bool {
    let AffectedInputs { trace_ids, ids, positions, uuids: _, unknown_properties: _ } =
        error.affected_inputs();
    !(trace_ids.is_empty() && ids.is_empty() && positions.is_empty())
}

/// Ids and unique values that errors name.
fn named(errors: &[Error]) -> HashSet<&str> {
    errors.iter().flat_map(|error| &error.affected_inputs().ids).map(String::as_str).collect()
}

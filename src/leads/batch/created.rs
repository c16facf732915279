//! Tells which of several creates a new lead belongs to, where HubSpot returns no trace ids: by the values
//! of the lead, and by its contacts.

use std::collections::{BTreeSet, HashMap};

use super::{
    assignment::certain_inputs,
    forms::ShownForms,
    matching::{is_affected, match_response, may_be_one_of_results, may_be_result},
};
use crate::leads::{
    association_type::AssociationCategory,
    request::{BatchItem, BatchResponse, Outcome},
    write::{Association, CreateLead, Traced},
};

/// Ids of the association types with contacts that HubSpot defines: any contact, and the primary one.
const CONTACT_TYPES: [i32; 2] = [608, 578];

/// The creates of a batch by the record ids of their leads, as far as they are known.
#[derive(Debug)]
pub struct CreatedLeads<'a> {
    inputs: &'a [Traced<CreateLead>],
    /// Index of the create, by record id.
    owners: HashMap<String, usize>,
    /// For each create, whether its outcome is not known.
    is_open: Vec<bool>,
    /// True if each error of the response is that of a create.
    has_all_errors: bool,
}

// === impl CreatedLeads ===

impl<'a> CreatedLeads<'a> {
    /// Matches the leads of a response with the creates by trace ids and values.
    pub fn by_values(inputs: &'a [Traced<CreateLead>], response: &BatchResponse) -> Self {
        let (outcomes, unmatched) = match_response(inputs, response.clone(), is_affected);
        let is_open = outcomes.iter().map(Option::is_none).collect();
        let owner = |(index, outcome): (usize, Option<Outcome>)| {
            let item: Option<BatchItem> = outcome?.ok()?;
            Some((item?.lead.id, index))
        };
        let owners = outcomes.into_iter().enumerate().filter_map(owner).collect();
        Self { inputs, owners, is_open, has_all_errors: unmatched.errors.is_empty() }
    }

    /// The create of a lead; `None` if it is not known.
    pub fn input(&self, lead: &str) -> Option<&'a Traced<CreateLead>> {
        self.owners.get(lead).map(|&index| &self.inputs[index])
    }

    /// Matches the other leads by their contacts as well. Creates that nothing distinguishes are
    /// interchangeable. Leads without an entry in `contacts` are left out.
    pub fn add_by_contacts(
        &mut self,
        response: &BatchResponse,
        contacts: &HashMap<String, BTreeSet<String>>,
    ) {
        let left = response.results.iter().filter(|item| !self.owners.contains_key(&item.lead.id));
        let left: Vec<&BatchItem> = left.collect();
        let known = left.iter().filter_map(|item| Some((*item, contacts.get(&item.lead.id)?)));
        let known: Vec<(&BatchItem, &BTreeSet<String>)> = known.collect();
        let open = self.is_open.iter().filter(|is_open| **is_open).count();
        if self.has_all_errors && known.len() == left.len() && known.len() == open {
            self.add_as_a_whole(&known);
        }
        for (item, contacts) in known {
            if self.owners.contains_key(&item.lead.id) {
                continue;
            }
            let fits = |index: &usize| {
                may_be_result(&self.inputs[*index], item) && self.fits(*index, contacts)
            };
            let mut fitting = (0..self.inputs.len()).filter(fits);
            let Some(first) = fitting.next() else { continue };
            if fitting.all(|other| self.are_alike(first, other)) {
                self.add(item, first);
            }
        }
    }

    /// Matches leads of which each belongs to one open create, and each open create has one.
    fn add_as_a_whole(&mut self, leads: &[(&BatchItem, &BTreeSet<String>)]) {
        let open = self.inputs.iter().zip(&self.is_open);
        let open = open.filter_map(|(input, is_open)| is_open.then_some(input));
        let forms = ShownForms::new(open, leads.iter().map(|(item, _)| *item));
        let fits = |(item, contacts): &(&BatchItem, &BTreeSet<String>)| -> Vec<usize> {
            let fits = |index: &usize| {
                self.fits(*index, contacts)
                    && may_be_one_of_results(&self.inputs[*index], item, &forms)
            };
            (0..self.inputs.len()).filter(fits).collect()
        };
        let fits: Vec<Vec<usize>> = leads.iter().map(fits).collect();
        let are_alike = |one: usize, other: usize| self.are_alike(one, other);
        let are_equal = |one: (usize, usize), other: (usize, usize)| {
            let [one, other] =
                [one, other].map(|(lead, input)| (&self.inputs[input], leads[lead].0));
            one.0.input.associations == other.0.input.associations && forms.are_equal(one, other)
        };
        let certain = certain_inputs(&fits, self.inputs.len(), are_alike, are_equal);
        for ((item, _), input) in leads.iter().zip(certain) {
            if let Some(index) = input {
                self.add(item, index);
            }
        }
    }

    fn add(&mut self, item: &BatchItem, index: usize) {
        self.is_open[index] = false;
        self.owners.insert(item.lead.id.clone(), index);
    }

    /// True if an open create may have a lead with these contacts.
    fn fits(&self, index: usize, contacts: &BTreeSet<String>) -> bool {
        self.is_open[index] && has_contacts(&self.inputs[index].input.associations, contacts)
    }

    /// True if two creates have leads that do not differ. A property with an empty value is not set.
    fn are_alike(&self, one: usize, other: usize) -> bool {
        let [one, other] = [one, other].map(|index| &self.inputs[index].input);
        let set = |create: &'a CreateLead| {
            create.properties.iter().filter(|(_, value)| !value.is_empty())
        };
        set(one).eq(set(other)) && one.associations == other.associations
    }
}

/// True if `contacts` may be those of a new lead with these associations. An association type of the account
/// may be one with a contact or with another record.
fn has_contacts(associations: &[Association], contacts: &BTreeSet<String>) -> bool {
    let is_contact = |association: &&Association| {
        association.types.iter().any(|own| {
            own.category == AssociationCategory::HubspotDefined
                && CONTACT_TYPES.contains(&own.type_id)
        })
    };
    let ids = |association: &Association| association.to_id.to_string();
    let known: BTreeSet<String> = associations.iter().filter(is_contact).map(ids).collect();
    let all: BTreeSet<String> = associations.iter().map(ids).collect();
    known.is_subset(contacts) && contacts.is_subset(&all)
}

#[cfg(test)]
mod tests;

//! Tells which of several creates a new lead belongs to, where HubSpot returns no trace ids: by the values
//! of the lead, and by its contacts.

use std::collections::{BTreeSet, HashMap};

use super::{
    input::BatchInput as _,
    matching::{is_affected, match_response, may_be_result},
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
}

// === impl CreatedLeads ===

impl<'a> CreatedLeads<'a> {
    /// Matches the leads of a response with the creates by trace ids and values.
    pub fn by_values(inputs: &'a [Traced<CreateLead>], response: &BatchResponse) -> Self {
        let (outcomes, _) = match_response(inputs, response.clone(), is_affected);
        let owner = |(index, outcome): (usize, Option<Outcome>)| {
            let item: Option<BatchItem> = outcome?.ok()?;
            Some((item?.lead.id, index))
        };
        Self { inputs, owners: outcomes.into_iter().enumerate().filter_map(owner).collect() }
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
        let mut is_open = vec![true; self.inputs.len()];
        self.owners.values().for_each(|&index| is_open[index] = false);
        for item in &response.results {
            let Some(contacts) = contacts.get(&item.lead.id) else { continue };
            if self.owners.contains_key(&item.lead.id) {
                continue;
            }
            let fits = |&index: &usize| {
                let input = &self.inputs[index];
                is_open[index]
                    && may_be_result(input, item)
                    && has_contacts(&input.input.associations, contacts)
            };
            let mut fitting = (0..self.inputs.len()).filter(fits);
            let Some(first) = fitting.next() else { continue };
            if fitting.all(|other| self.are_alike(first, other)) {
                is_open[first] = false;
                self.owners.insert(item.lead.id.clone(), first);
            }
        }
    }

    /// True if two creates differ only in their trace ids.
    fn are_alike(&self, one: usize, other: usize) -> bool {
        let [one, other] = [one, other].map(|index| &self.inputs[index]);
        one.written() == other.written() && one.input.associations == other.input.associations
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

//! Identification of created leads by values and contacts, without trace ids.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
use crate::leads::{association_type::AssociationType, lead::Lead, query::LeadId};

/// Ids of the contacts.
const CONTACTS: [&str; 2] = ["101", "102"];

/// Values of each property: first the written text, then its normal form.
const VALUES: [(&str, &[(&str, &str)]); 7] = [
    (
        "budget",
        &[
            ("", ""),
            ("1e21", "1000000000000000000000"),
            ("1000000000000000000000", "1000000000000000000000"),
            ("007", "7"),
            ("7.0", "7"),
            ("7.25", "7.25"),
            ("7.50", "7.5"),
            ("12345678901234567", "12345678901234568"),
            ("12345678901234568", "12345678901234568"),
            ("1e400", "1e400"),
            ("-3e2", "-300"),
        ],
    ),
    ("is_vip", &[("", ""), ("true", "true"), ("false", "false"), ("1", "true")]),
    ("hs_lead_label", &[("", ""), ("HOT", "HOT"), ("hot", "HOT"), ("WARM", "WARM")]),
    (
        "interests",
        &[
            ("", ""),
            ("skiing;chess", "chess;skiing"),
            ("chess;skiing", "chess;skiing"),
            ("chess", "chess"),
            ("chess;", "chess"),
        ],
    ),
    (
        "close_date",
        &[
            ("", ""),
            ("2026-01-01", "2026-01-01"),
            ("1767225600000", "2026-01-01"),
            ("2026-01-01T00:00:00Z", "2026-01-01"),
            ("2026-01-02", "2026-01-02"),
        ],
    ),
    ("note", &[("", ""), ("Tom & Co", "Tom &amp; Co"), (" x ", "x"), ("x", "x"), ("xy", "xy")]),
    ("hs_pipeline", &[("", "default"), ("default", "default"), ("other", "other")]),
];

/// How HubSpot shows the values of a batch.
#[derive(Debug, Clone, Copy)]
struct HubSpot {
    /// Values are in their normal form instead of the written one.
    is_normal: bool,
    /// A property without a value is shown as an empty text instead of being absent.
    shows_empty: bool,
    /// Leads have a default pipeline.
    has_default: bool,
}

// === impl HubSpot ===

impl HubSpot {
    fn shown(self, written: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (name, values) in VALUES {
            let value = written.get(name).map_or("", String::as_str);
            let is_set = !value.is_empty() || self.has_default && name == "hs_pipeline";
            let normal = values.iter().find(|(text, _)| *text == value).map(|(_, normal)| *normal);
            let is_normal = self.is_normal || value.is_empty();
            let shown = normal.filter(|_| is_normal).unwrap_or(value);
            if is_set {
                all.insert(name.to_owned(), shown.to_owned());
            } else if self.shows_empty {
                all.insert(name.to_owned(), String::new());
            }
        }
        all.insert("hs_lead_name".to_owned(), "Jane".to_owned());
        all
    }
}

fn create(number: usize, values: &[(&str, &str)], contact: &str) -> Traced<CreateLead> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut properties: BTreeMap<String, String> = values.iter().map(own).collect();
    properties.insert("hs_lead_name".to_owned(), "Jane".to_owned());
    let primary = AssociationType { category: AssociationCategory::HubspotDefined, type_id: 578 };
    let association = Association {
        to_id: LeadId::parse(contact).expect("a valid id"),
        types: vec![primary],
        position: None,
    };
    let input =
        CreateLead { properties, associations: vec![association], contact: None, trace_id: None };
    Traced { trace_id: format!("trace-{number}"), input }
}

/// Creates and leads of a batch; the lead of the first create has the id 900, and the next one 901.
struct World {
    inputs: Vec<Traced<CreateLead>>,
    response: BatchResponse,
    contacts: HashMap<String, BTreeSet<String>>,
}

// === impl World ===

impl World {
    fn new(hubspot: HubSpot, inputs: Vec<Traced<CreateLead>>, rotation: usize) -> Self {
        let id = |number: usize| (900 + number).to_string();
        let item = |(number, input): (usize, &Traced<CreateLead>)| {
            let properties = hubspot.shown(&input.input.properties);
            let lead = Lead { id: id(number), properties, ..Lead::default() };
            BatchItem { lead, trace_id: None, created: None }
        };
        let mut results: Vec<BatchItem> = inputs.iter().enumerate().map(item).rev().collect();
        let middle = rotation % (results.len() + 1);
        results.rotate_left(middle);
        let contact = |(number, input): (usize, &Traced<CreateLead>)| {
            let ids = input.input.associations.iter().map(|own| own.to_id.to_string());
            (id(number), ids.collect())
        };
        let contacts = inputs.iter().enumerate().map(contact).collect();
        Self { inputs, response: BatchResponse { results, errors: Vec::new() }, contacts }
    }

    /// For each lead, in the order of their creates, the number of the create that it is assigned to.
    fn assigned(&self) -> Vec<Option<usize>> {
        let mut created = CreatedLeads::by_values(&self.inputs, &self.response);
        created.add_by_contacts(&self.response, &self.contacts);
        let number = |lead: usize| {
            let input = created.input(&(900 + lead).to_string())?;
            self.inputs.iter().position(|own| own.trace_id == input.trace_id)
        };
        (0..self.inputs.len()).map(number).collect()
    }

    /// Content of the lead of a create.
    fn content(&self, number: usize) -> (&BTreeMap<String, String>, &BTreeSet<String>) {
        let id = (900 + number).to_string();
        let item = self.response.results.iter().find(|item| item.lead.id == id);
        (&item.expect("a result").lead.properties, &self.contacts[&id])
    }
}

#[test]
fn creates_that_differ_little_have_their_own_leads() {
    const RAW: HubSpot = HubSpot { is_normal: false, shows_empty: false, has_default: false };
    const EMPTY: HubSpot = HubSpot { shows_empty: true, ..RAW };
    let a: &[(&str, &str)] = &[("budget", "7.25")];
    let b: &[(&str, &str)] = &[("budget", "7.50")];
    for (hubspot, all) in [
        (RAW, vec![a, b]),
        // The second and the third may exchange their leads.
        (RAW, vec![a, &[], &[], b]),
        (EMPTY, vec![a, &[], &[], b, &[("is_vip", "")], &[("is_vip", "true")]]),
        (RAW, vec![&[("is_vip", "")], &[("is_vip", "")], &[("is_vip", "true"), ("budget", "")]]),
        (RAW, vec![&[], &[], &[("note", "x")], &[("note", "xy")], &[("note", " x ")]]),
        (
            RAW,
            vec![&[], &[], &[("budget", "12345678901234567")], &[("budget", "12345678901234568")]],
        ),
        (RAW, vec![&[], &[], &[("interests", "chess;skiing")], &[("interests", "skiing;chess")]]),
        (RAW, vec![&[], &[], &[("close_date", "1767225600000")], &[("close_date", "2026-01-01")]]),
    ] {
        for rotation in 0..all.len() {
            let inputs = all.iter().enumerate().map(|(n, values)| create(n, values, "101"));
            let world = World::new(hubspot, inputs.collect(), rotation);
            for (number, assigned) in world.assigned().into_iter().enumerate() {
                let assigned = assigned.expect("a lead without a create");
                let set = |number: usize| {
                    let own = world.inputs[number].input.properties.clone();
                    own.into_iter().filter(|(_, value)| !value.is_empty()).collect::<Vec<_>>()
                };
                assert_eq!(set(assigned), set(number), "{all:?}");
            }
        }
    }
}

#[test]
fn equal_leads_of_creates_in_different_forms_are_interchangeable() {
    let hubspot = HubSpot { is_normal: true, shows_empty: false, has_default: true };
    let all: [&[(&str, &str)]; 6] = [
        &[("budget", "1e21")],
        &[("budget", "1000000000000000000000")],
        &[("hs_pipeline", "default"), ("interests", "chess;skiing")],
        &[("hs_pipeline", ""), ("interests", "skiing;chess")],
        &[("hs_pipeline", "other"), ("close_date", "1767225600000")],
        &[("hs_pipeline", "other"), ("close_date", "2026-01-01")],
    ];
    let inputs = all.iter().enumerate().map(|(n, values)| create(n, values, "101")).collect();
    let world = World::new(hubspot, inputs, 3);
    let mut assigned = world.assigned();
    assigned.sort_unstable();
    assert_eq!(assigned, (0..6).map(Some).collect::<Vec<_>>());
}

#[test]
fn creates_whose_differences_are_hidden_have_no_lead() {
    let hubspot = HubSpot { is_normal: false, shows_empty: false, has_default: false };
    let inputs = vec![
        create(0, &[("unknown_to_hubspot", "1")], "101"),
        create(1, &[("unknown_to_hubspot", "2")], "101"),
        create(2, &[("unknown_to_hubspot", "2")], "102"),
    ];
    let world = World::new(hubspot, inputs, 1);
    assert_eq!(world.assigned(), [None, None, Some(2)]);
}

/// Written properties, as indices into [`VALUES`], and the index of the contact.
fn written() -> impl Strategy<Value = (Vec<Option<usize>>, usize)> {
    (
        prop::collection::vec(prop::option::weighted(0.3, 0..12_usize), VALUES.len()),
        0..CONTACTS.len(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Every lead has a create, and the lead of each create has the content that it would have alone.
    #[test]
    fn every_lead_belongs_to_a_create_with_its_content(
        all in prop::collection::vec(written(), 1..30),
        is_normal: bool,
        shows_empty: bool,
        has_default: bool,
        rotation in 0..30_usize,
    ) {
        let input = |(number, (values, contact)): (usize, &(Vec<Option<usize>>, usize))| {
            let own = VALUES.iter().zip(values).filter_map(|((name, texts), index)| {
                Some((*name, texts[(*index)? % texts.len()].0))
            });
            create(number, &own.collect::<Vec<_>>(), CONTACTS[*contact])
        };
        let hubspot = HubSpot { is_normal, shows_empty, has_default };
        let world = World::new(hubspot, all.iter().enumerate().map(input).collect(), rotation);
        let mut taken = BTreeSet::new();
        for (lead, create) in world.assigned().into_iter().enumerate() {
            prop_assert!(create.is_some(), "lead {} of {:?}", lead, world.inputs);
            let create = create.unwrap_or_default();
            prop_assert!(taken.insert(create));
            prop_assert_eq!(world.content(lead), world.content(create));
        }
    }
}

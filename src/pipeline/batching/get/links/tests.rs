//! Choice of the lead that teaches labels, and associations that are added to a lead.

use super::*;
use crate::leads::{
    Associated, AssociatedObject, AssociationCategory, AssociationType, Link, testing,
};

const CONTACTS: &str = "contacts";
const COMPANIES: &str = "companies";

fn record(id: &str) -> Link {
    let category = AssociationCategory::HubspotDefined;
    Link { id: id.to_owned(), types: vec![AssociationType { category, type_id: 578 }] }
}

/// The associations of a lead with this many records.
fn links(lead: &str, records: usize) -> Links {
    let records: Vec<_> = (0..records).map(|number| record(&number.to_string())).collect();
    testing::links(lead, &records)
}

/// The leads `0`, `1`, ... by index.
fn leads(count: usize) -> BTreeMap<usize, Lead> {
    let lead = |index: usize| (index, Lead { id: index.to_string(), ..Lead::default() });
    (0..count).map(lead).collect()
}

/// Associations of the leads `0`, `1`, ... with these numbers of records.
fn linked(to: &'static str, records: &[usize]) -> Linked<'static> {
    let of_lead = |(lead, &records): (usize, &usize)| {
        let lead = lead.to_string();
        (lead.clone(), links(&lead, records))
    };
    (to, records.iter().enumerate().map(of_lead).collect())
}

/// Capabilities that know the label of a lead with one contact and none of companies.
fn taught() -> PortalCapabilities {
    let capabilities = PortalCapabilities::default();
    let shown = Associated { objects: vec![AssociatedObject::named("0", "primary")], next: None };
    capabilities.association_labels.observe(CONTACTS, &links("0", 1), Some(&shown));
    capabilities
}

#[tokio::test(start_paused = true)]
async fn the_lead_with_the_most_associations_is_read_individually() {
    let capabilities = PortalCapabilities::default();
    let contacts = linked(CONTACTS, &[1, 2, 1]);
    let lead = calibration_lead(&capabilities, &leads(3), std::slice::from_ref(&contacts));
    assert_eq!(lead, Some(1));
    // Associations of all object types count.
    let both = [contacts, linked(COMPANIES, &[1, 1, 4])];
    assert_eq!(calibration_lead(&capabilities, &leads(3), &both), Some(2));
}

#[tokio::test(start_paused = true)]
async fn no_lead_is_read_individually_if_all_labels_are_known() {
    let capabilities = taught();
    let known = [linked(CONTACTS, &[1, 1])];
    assert_eq!(calibration_lead(&capabilities, &leads(2), &known), None);
    // The labels of one object type are unknown, or a list is longer than any observed one.
    let both = [linked(CONTACTS, &[1, 1]), linked(COMPANIES, &[0, 1])];
    assert_eq!(calibration_lead(&capabilities, &leads(2), &both), Some(1));
    let longer = [linked(CONTACTS, &[1, 2, 1])];
    assert_eq!(calibration_lead(&capabilities, &leads(3), &longer), Some(1));
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_or_missing_list_teaches_nothing() {
    let capabilities = PortalCapabilities::default();
    let (to, mut by_lead) = linked(CONTACTS, &[1, 5]);
    by_lead.get_mut("1").expect("its links").is_whole = false;
    assert_eq!(calibration_lead(&capabilities, &leads(3), &[(to, by_lead)]), Some(0));
}

#[tokio::test(start_paused = true)]
async fn known_associations_are_added_to_a_lead() {
    let capabilities = taught();
    let mut lead = Lead { id: "0".to_owned(), ..Lead::default() };
    let (to, by_lead) = linked(CONTACTS, &[1]);
    assert_eq!(add_links(&capabilities, to, &by_lead, &mut lead), Ok(()));
    assert_eq!(lead.associations[CONTACTS].objects[0].kind, "primary");
    let mut other = Lead { id: "other".to_owned(), ..Lead::default() };
    assert_eq!(add_links(&capabilities, to, &by_lead, &mut other), Err(Unknown));
    assert!(other.associations.is_empty());
}

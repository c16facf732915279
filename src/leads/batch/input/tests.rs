//! By what the inputs of each kind of batch are found in a response.

use std::collections::BTreeMap;

use super::*;
use crate::leads::{AffectedInputs, Reason, UpstreamFacts};

fn id(text: &str) -> LeadId {
    LeadId::parse(text).expect("a valid id")
}

fn properties(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A result with this record id and these properties.
fn item(id: &str, values: &[(&str, &str)]) -> BatchItem {
    let lead = Lead { id: id.to_owned(), properties: properties(values), ..Lead::default() };
    BatchItem { lead, trace_id: None, created: None }
}

fn traced<T>(input: T) -> Traced<T> {
    Traced { trace_id: "t".to_owned(), input }
}

/// An input that names `id` and is found by its record id, or by `id_property`.
fn assert_identified(input: &impl BatchInput, id: &str, id_property: Option<&str>) {
    assert_eq!(input.id(), Some(id));
    let (own, other) = match id_property {
        None => (item(id, &[]), item("other", &[])),
        Some(name) => (item("1", &[(name, &id.to_uppercase())]), item(id, &[(name, "other")])),
    };
    assert_eq!(input.has_identity(&own), Some(true));
    // Another record id may be that of a lead into which this one was merged.
    assert_eq!(input.has_identity(&other), id_property.map(|_| false));
    assert_eq!(input.has_identity(&item("other", &[])), None);
    let merged = item("other", &[(MERGED_IDS, &format!("5; {id};6"))]);
    assert_eq!(input.has_identity(&merged), id_property.is_none().then_some(true));
}

#[test]
fn a_read_is_found_by_its_id_and_mentions_no_property() {
    let by_record = ReadInput { id: id("7"), id_property: None };
    assert_identified(&by_record, "7", None);
    let by_email = ReadInput { id: id("ada"), id_property: Some("email".to_owned()) };
    assert_identified(&by_email, "ada", Some("email"));
    assert_eq!(by_record.trace_id(), None);
    assert!(!by_record.mentions("email"));
}

#[test]
fn an_archive_is_found_by_its_record_id_and_mentions_no_property() {
    assert_identified(&id("7"), "7", None);
    assert_eq!(id("7").trace_id(), None);
    assert!(!id("7").mentions("7"));
}

#[test]
fn a_create_is_found_by_its_trace_id_and_names_no_lead() {
    let values = [("hs_lead_name", "Ada")];
    let input = traced(CreateLead {
        properties: properties(&values),
        associations: Vec::new(),
        contact: None,
        trace_id: None,
    });
    assert_eq!(input.trace_id(), Some("t"));
    assert_eq!(input.id(), None);
    assert_eq!(input.has_identity(&item("7", &[])), None);
    assert!(input.mentions("hs_lead_name"));
    assert!(!input.mentions("hs_lead_label"));
}

#[test]
fn an_update_is_found_by_its_trace_id_and_its_id() {
    let update = |id_property: Option<&str>| {
        traced(UpdateLead {
            id: id("ada"),
            id_property: id_property.map(str::to_owned),
            properties: properties(&[("hs_lead_name", "Ada")]),
            trace_id: None,
        })
    };
    assert_identified(&update(None), "ada", None);
    assert_identified(&update(Some("email")), "ada", Some("email"));
    assert_eq!(update(None).trace_id(), Some("t"));
    assert!(update(None).mentions("hs_lead_name"));
    assert!(!update(None).mentions("hs_lead_label"));
}

#[test]
fn an_upsert_is_found_by_its_trace_id_and_its_unique_value() {
    let upsert = traced(UpsertLead {
        id: id("ada"),
        id_property: Some("email".to_owned()),
        properties: properties(&[("hs_lead_name", "Ada")]),
        associations: Vec::new(),
        contact: None,
    });
    assert_identified(&upsert, "ada", Some("email"));
    assert_eq!(upsert.trace_id(), Some("t"));
    assert!(upsert.mentions("hs_lead_name"));
    assert!(!upsert.mentions("hs_lead_label"));
}

#[test]
fn a_unique_value_identifies_a_lead_in_every_form() {
    for (value, shown, expected) in [
        ("Ada", Some("Ada"), Some(true)),
        ("Ada", Some("aDA"), Some(true)),
        (" Ada", Some(" ada"), Some(true)),
        (" Ada", Some("ada"), None),
        ("7", Some("7.0"), Some(true)),
        ("2026-01-01", Some("1767225600000"), Some(true)),
        ("Ada", Some("Bob"), Some(false)),
        ("7", Some("8"), Some(false)),
        ("7", Some("seven"), None),
        ("Ada", Some(""), None),
        ("Ada", None, None),
    ] {
        let input = ReadInput { id: id(value), id_property: Some("key".to_owned()) };
        let shown: Vec<_> = shown.map(|shown| ("key", shown)).into_iter().collect();
        assert_eq!(input.has_identity(&item("1", &shown)), expected, "{value} {shown:?}");
    }
    // The record id may be named by its property.
    let input = ReadInput { id: id("7"), id_property: Some(RECORD_ID.to_owned()) };
    assert_eq!(input.has_identity(&item("7", &[])), Some(true));
}

#[test]
fn an_error_with_several_ids_is_about_the_change_of_both() {
    let change = |lead: &str, to_id: &str| AssociationChange {
        lead: LeadId::parse(lead).unwrap(),
        to_id: LeadId::parse(to_id).unwrap(),
        types: Vec::new(),
    };
    let changes = [change("1", "7"), change("1", "8"), change("2", "7")];
    let error = |ids: &[&str], category: &str| {
        let ids = ids.iter().map(|&id| id.to_owned()).collect();
        Error::new(Reason::ValidationFailed, "no")
            .with_affected_inputs(AffectedInputs { ids, ..AffectedInputs::default() })
            .with_upstream(UpstreamFacts {
                category: Some(category.to_owned()),
                ..UpstreamFacts::default()
            })
    };
    for (ids, category, named) in [
        (&["1", "8"][..], "VALIDATION_ERROR", [false, true, false]),
        (&["8"][..], "VALIDATION_ERROR", [false, true, false]),
        (&["7"][..], "VALIDATION_ERROR", [true, false, true]),
        (&["1"][..], "OBJECT_NOT_FOUND", [true, true, false]),
        (&["2", "8"][..], "OBJECT_NOT_FOUND", [false, true, true]),
        (&[][..], "VALIDATION_ERROR", [false, false, false]),
    ] {
        let error = error(ids, category);
        let found = changes.each_ref().map(|change| change.is_named_by(&error));
        assert_eq!(found, named.map(Some), "{ids:?} {category}");
    }
}

#[test]
fn a_create_has_the_ids_of_its_associated_records() {
    let create = CreateLead {
        properties: properties(&[("hs_lead_name", "Ada")]),
        associations: Vec::new(),
        contact: None,
        trace_id: None,
    };
    assert_eq!(traced(create.clone()).associated_ids().count(), 0);
    let create = traced(create.with_primary_contact(id("7")).with_primary_contact(id("8")));
    assert_eq!(create.associated_ids().collect::<Vec<_>>(), ["8", "7"]);
    assert_eq!(id("7").associated_ids().count(), 0);
}

#[test]
fn a_contact_is_known_by_all_of_its_addresses_whatever_their_case() {
    let ada = ContactEmail::parse("Ada@example.com").unwrap();
    for (pairs, expected) in [
        (&[("email", "ADA@example.com")][..], Some(true)),
        (&[("email", "b@x.de"), ("hs_additional_emails", "c@x.de; Ada@Example.com")], Some(true)),
        (&[("email", "b@x.de"), ("hs_additional_emails", "c@x.de")], Some(false)),
        (&[("email", "xada@example.com")], Some(false)),
        (&[], None),
    ] {
        assert_eq!(ada.has_identity(&item("1", pairs)), expected, "{pairs:?}");
    }
}

//! By what the inputs of each kind of batch are found in a response.

use std::collections::BTreeMap;

use super::*;

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
    assert_eq!(input.has_identity(&other), Some(false));
    // Written values prove nothing: two inputs may write the same.
    assert!(!input.echoes(&own));
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
fn a_create_is_found_by_its_trace_id_and_its_values() {
    let values = [("hs_lead_name", "Ada"), ("note", "")];
    let input = traced(CreateLead { properties: properties(&values), associations: Vec::new() });
    assert_eq!(input.trace_id(), Some("t"));
    assert_eq!(input.id(), None);
    assert_eq!(input.has_identity(&item("7", &[])), None);
    // HubSpot omits empty values and adds others.
    assert!(input.echoes(&item("7", &[("hs_lead_name", "Ada"), ("hs_object_id", "7")])));
    assert!(!input.echoes(&item("7", &[("hs_lead_name", "Bob")])));
    assert!(!input.echoes(&item("7", &[("hs_lead_name", "Ada"), ("note", "x")])));
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
    });
    assert_identified(&upsert, "ada", Some("email"));
    assert_eq!(upsert.trace_id(), Some("t"));
    assert!(upsert.mentions("hs_lead_name"));
    assert!(!upsert.mentions("hs_lead_label"));
}

//! URLs and limits of requests.

use super::*;
use crate::leads::{FilterGroup, FilterOperator, GetLead, ListAssociations, ListLeads};

fn encoder(version: ApiVersion) -> RequestEncoder {
    RequestEncoder::new(&Url::parse("https://api.hubapi.com").unwrap(), version)
}

fn get(id: &str, properties: Vec<String>) -> Request {
    let selection = Selection { properties, ..Selection::default() };
    let id = LeadId::parse(id).unwrap();
    Request::Get(GetLead { id, id_property: None, selection, archived: false })
}

#[test]
fn an_id_cannot_change_the_path() {
    for (id, encoded) in [("a b%2f", "a%20b%252f"), ("ä&x=1", "%C3%A4&x=1"), ("...", "...")] {
        let request = encoder(ApiVersion::V3).encode(&get(id, Vec::new()));
        assert_eq!(request.url.path(), format!("/crm/v3/objects/leads/{encoded}"));
        assert_eq!(request.url.query(), Some("archived=false"));
    }
}

#[test]
fn every_api_version_has_its_path() {
    for (version, path) in [
        (ApiVersion::V2026_09, "/crm/associations/2026-09/leads/contacts/batch/read"),
        (ApiVersion::V2026_03, "/crm/associations/2026-03/leads/contacts/batch/read"),
        (ApiVersion::V3, "/crm/v4/associations/leads/contacts/batch/read"),
    ] {
        let request = Request::ReadAssociations { leads: Vec::new(), to: "contacts".to_owned() };
        assert_eq!(encoder(version).encode(&request).url.path(), path);
    }
}

#[test]
fn a_page_of_associations_names_lead_and_object_type_in_its_path() {
    let list = |to: &str, after: Option<&str>| {
        Request::ListAssociations(ListAssociations {
            lead: LeadId::parse("7").unwrap(),
            to: to.to_owned(),
            limit: 50,
            after: after.map(str::to_owned),
        })
    };
    for (version, path) in [
        (ApiVersion::V2026_09, "/crm/objects/2026-09/leads/7/associations/"),
        (ApiVersion::V2026_03, "/crm/objects/2026-03/leads/7/associations/"),
        (ApiVersion::V3, "/crm/v4/objects/leads/7/associations/"),
    ] {
        let first = encoder(version).encode(&list("contacts", None));
        assert_eq!(first.url.path(), format!("{path}contacts"));
        assert_eq!((first.url.query(), first.body), (Some("limit=50"), None));
        let next = encoder(version).encode(&list("a b%2f", Some("x&limit=9")));
        assert_eq!(next.url.path(), format!("{path}a%20b%252f"));
        assert_eq!(next.url.query(), Some("limit=50&after=x%26limit%3D9"));
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("property_{n:05}")).collect()
}

#[test]
fn a_selection_is_long_if_its_url_exceeds_the_maximum() {
    let encoder = encoder(ApiVersion::V3);
    for (count, expected) in [
        (10, RequestFit::Fits),
        (400, RequestFit::Fits),
        (1_000, RequestFit::LongSelection),
        (100_000, RequestFit::LongSelection),
    ] {
        assert_eq!(encoder.check(&get("1", names(count))), Ok(expected), "{count}");
        let history = Selection { properties_with_history: names(count), ..Selection::default() };
        let list = ListLeads { limit: 100, after: None, selection: history, archived: true };
        assert_eq!(encoder.check(&Request::List(list)), Ok(expected), "{count}");
    }
    // Object types of associations are possible in a URL only.
    let selection = Selection { associations: names(1_000), ..Selection::default() };
    let id = LeadId::parse("1").unwrap();
    let get = GetLead { id, id_property: None, selection, archived: false };
    let error = encoder.check(&Request::Get(get)).unwrap_err();
    assert_eq!(error.fields()[0].field, "associations");
}

#[test]
fn only_query_and_filters_of_a_search_are_bounded() {
    let encoder = encoder(ApiVersion::V3);
    let search = |query: usize, values: usize| {
        let filter = Filter {
            property_name: "hs_lead_name".to_owned(),
            operator: FilterOperator::In,
            value: None,
            high_value: None,
            values: (0..values).map(|value| format!("{value:010}")).collect(),
        };
        Request::Search(SearchLeads {
            query: "ü".repeat(query),
            filter_groups: vec![FilterGroup { filters: vec![filter] }],
            sort: None,
            properties: (0..1_000).map(|n| format!("property_with_thirty_chars_{n:03}")).collect(),
            limit: 200,
            after: Some("400".to_owned()),
        })
    };
    for (query, values, fits) in [
        (0, 1, true),
        (2_800, 1, true),
        (0, 200, true),
        (1_000, 100, true),
        (2_980, 1, false),
        (0, 300, false),
        (1_500, 150, false),
    ] {
        let error = encoder.check(&search(query, values)).err();
        let field = error.map(|error| error.fields()[0].field.clone());
        assert_eq!(field.as_deref(), (!fits).then_some("filter_groups"), "{query} {values}");
    }
}

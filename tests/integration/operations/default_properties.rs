//! Properties of reads that select none or all, and the sizes of pages.

use leadsd::grpc::pb;
use leadsd_hubspot_fake::{ApiError, ScriptedResponse};
use tonic::Code;

use crate::harness::{TestApp, failure};

/// Default properties that the lead of [`start`] has.
const SET: [&str; 10] = [
    "hs_createdate",
    "hs_lastmodifieddate",
    "hs_lead_label",
    "hs_lead_name",
    "hs_lead_type",
    "hs_object_id",
    "hs_pipeline",
    "hs_pipeline_stage",
    "hs_primary_company_id",
    "hs_primary_contact_id",
];

/// A service, with one lead that has a contact, a company and no owner.
async fn start() -> (TestApp, String) {
    let app = TestApp::start().await;
    let lead = add_lead(&app).await;
    (app, lead)
}

async fn add_lead(app: &TestApp) -> String {
    let more = [("hs_lead_label", "HOT"), ("hs_lead_type", "UPSELL"), ("hs_lead_source", "web")];
    let pb::LeadCreate { properties, primary_contact_id, .. } = app.create_input("Jane", &more);
    let primary_company = pb::AssociationType { type_id: 580, ..Default::default() };
    let company = app.hubspot.add_company("Example Ltd");
    let create = pb::CreateLeadRequest {
        properties,
        primary_contact_id,
        associations: vec![pb::Association {
            to_id: company,
            types: vec![primary_company],
            ..Default::default()
        }],
        ..Default::default()
    };
    let created = app.leads.clone().create_lead(create).await.expect("a lead").into_inner();
    app.hubspot.clear_log();
    created.lead.expect("a lead").id
}

/// The lead as each of the four methods reads it.
async fn read_all_ways(app: &TestApp, id: &str, properties: &[&str]) -> Vec<pb::Lead> {
    let properties: Vec<String> = properties.iter().map(|&name| name.to_owned()).collect();
    let mut leads = app.leads.clone();
    let get = pb::GetLeadRequest {
        id: id.to_owned(),
        properties: properties.clone(),
        ..Default::default()
    };
    let got = leads.get_lead(get).await.expect("a lead").into_inner().lead;
    let list = pb::ListLeadsRequest { properties: properties.clone(), ..Default::default() };
    let listed = leads.list_leads(list).await.expect("a page").into_inner().leads;
    let search = pb::SearchLeadsRequest { properties: properties.clone(), ..Default::default() };
    let found = leads.search_leads(search).await.expect("a page").into_inner().leads;
    let batch =
        pb::BatchGetLeadsRequest { ids: vec![id.to_owned()], properties, ..Default::default() };
    let results = leads.batch_get_leads(batch).await.expect("results").into_inner().results;
    let read = results.into_iter().map(|result| match result.outcome {
        Some(pb::lead_read_result::Outcome::Lead(lead)) => lead,
        other => panic!("no lead: {other:?}"),
    });
    got.into_iter().chain(listed).chain(found).chain(read).collect()
}

/// Names of the properties of a lead, without those that HubSpot adds to every selection.
fn selected(lead: &pb::Lead) -> Vec<&str> {
    let added = ["hs_createdate", "hs_lastmodifieddate", "hs_object_id"];
    lead.properties.keys().map(String::as_str).filter(|name| !added.contains(name)).collect()
}

#[tokio::test]
async fn a_read_without_a_selection_shows_what_a_person_needs() {
    let (app, id) = start().await;
    let leads = read_all_ways(&app, &id, &[]).await;
    assert_eq!(leads.len(), 4);
    for lead in leads {
        assert_eq!(lead.properties.keys().collect::<Vec<_>>(), SET);
        assert_eq!(lead.properties["hs_primary_contact_id"], app.contact);
        assert_eq!(lead.unset_properties, ["hubspot_owner_id"]);
    }
    assert_eq!(app.hubspot_calls().len(), 4);
}

#[tokio::test]
async fn a_default_property_that_the_portal_does_not_have_is_left_out() {
    let names = r#"["hs_lead_name", "region"]"#;
    let app = TestApp::builder().set("HUBSPOT__DEFAULT_PROPERTIES", names).start().await;
    let id = add_lead(&app).await;
    let leads = read_all_ways(&app, &id, &[]).await;
    assert_eq!(leads.len(), 4);
    for lead in leads {
        assert_eq!(selected(&lead), ["hs_lead_name"]);
        assert_eq!(lead.unset_properties, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_portal_has_its_own_default_properties() {
    let names = r#"["hs_lead_source"]"#;
    let app = TestApp::builder().set("PORTALS__DEFAULT__DEFAULT_PROPERTIES", names).start().await;
    let id = add_lead(&app).await;
    for lead in read_all_ways(&app, &id, &[]).await {
        assert_eq!(selected(&lead), ["hs_lead_source"]);
    }
}

#[tokio::test]
async fn a_star_returns_every_property_with_a_value() {
    let (app, id) = start().await;
    app.hubspot.add_text_property("region");
    let mut expected: Vec<&str> = SET.into_iter().chain(["hs_lead_source"]).collect();
    expected.sort_unstable();
    let leads = read_all_ways(&app, &id, &["*", "region"]).await;
    assert_eq!(leads.len(), 4);
    for lead in leads {
        assert_eq!(lead.properties.keys().collect::<Vec<_>>(), expected);
        assert_eq!(lead.unset_properties, ["region"], "named, and therefore reported");
    }
    // One read of the schema for all of them.
    assert_eq!(app.hubspot_calls().len(), 5);
}

#[tokio::test]
async fn a_star_returns_more_properties_than_fit_in_a_url() {
    let (app, id) = start().await;
    for number in 0..300 {
        app.hubspot.add_text_property(&format!("a_property_with_a_rather_long_name_{number}"));
    }
    let name = "a_property_with_a_rather_long_name_299";
    let update = pb::UpdateLeadRequest {
        id: id.clone(),
        properties: crate::harness::properties(&[(name, "x")]),
        ..Default::default()
    };
    app.leads.clone().update_lead(update).await.expect("a lead");
    let leads = read_all_ways(&app, &id, &["*"]).await;
    assert_eq!(leads.len(), 4);
    for lead in leads {
        assert_eq!(lead.properties.len(), SET.len() + 2);
        assert_eq!(lead.properties[name], "x");
        assert_eq!(lead.unset_properties, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_star_without_the_schema_is_an_error_that_names_the_remedy() {
    let (app, id) = start().await;
    let script = ScriptedResponse::Reject(ApiError::Forbidden);
    app.hubspot.script("GET", "/properties/2026-09/leads", script);
    let request = pb::GetLeadRequest {
        id: id.clone(),
        properties: vec!["*".to_owned()],
        ..Default::default()
    };
    let result = app.leads.clone().get_lead(request).await;
    let message = result.as_ref().expect_err("no names").message();
    assert!(message.contains("select properties by name instead"), "{message}");
    assert_eq!(failure(result).0, Code::PermissionDenied);
}

#[tokio::test]
async fn larger_page_sizes_are_lowered_and_the_default_is_a_hundred() {
    let app = TestApp::start().await;
    for number in 0..230 {
        app.lead(&format!("lead {number}"));
    }
    for (page_size, listed, found) in [(0, 100, 100), (150, 100, 150), (i32::MAX, 100, 200)] {
        let list = pb::ListLeadsRequest { page_size, ..Default::default() };
        let page = app.leads.clone().list_leads(list).await.expect("a page").into_inner();
        assert_eq!(page.leads.len(), listed, "{page_size}");
        // In the order of times, a page may be shorter: many of these leads have one time.
        let by_id = pb::Sort { property_name: "hs_object_id".to_owned(), ..Default::default() };
        let search = pb::SearchLeadsRequest { page_size, sorts: vec![by_id], ..Default::default() };
        let page = app.leads.clone().search_leads(search).await.expect("a page").into_inner();
        assert_eq!(page.leads.len(), found, "{page_size}");
    }
}

//! Request validation: errors name the field and use no HubSpot call.

use leadsd::grpc::pb;
use tonic::Code;

use crate::harness::{TestApp, failure, properties};

/// Requests that must fail with this field and without a HubSpot call.
macro_rules! refused {
    ($app:expr, $method:ident, $request:expr, $field:expr) => {{
        let (code, _, fields) = failure($app.leads.clone().$method($request).await);
        assert_eq!(code, Code::InvalidArgument, "{}", $field);
        assert!(fields.iter().any(|field| field == $field), "{} not in {fields:?}", $field);
    }};
}

fn get(id: &str) -> pb::GetLeadRequest {
    pb::GetLeadRequest { id: id.to_owned(), ..Default::default() }
}

fn groups(counts: &[usize]) -> pb::SearchLeadsRequest {
    let filter = pb::Filter {
        property_name: "a".to_owned(),
        operator: pb::FilterOperator::HasProperty.into(),
        ..Default::default()
    };
    let group = |count: &usize| pb::FilterGroup { filters: vec![filter.clone(); *count] };
    pb::SearchLeadsRequest {
        filter_groups: counts.iter().map(group).collect(),
        ..Default::default()
    }
}

fn filter(filter: pb::Filter) -> pb::SearchLeadsRequest {
    let filter_groups = vec![pb::FilterGroup { filters: vec![filter] }];
    pb::SearchLeadsRequest { filter_groups, ..Default::default() }
}

#[tokio::test]
async fn invalid_fields_are_listed_and_no_hubspot_call_is_used() {
    let app = TestApp::builder().set("GRPC__MAX_BATCH_INPUTS", "3").start().await;
    for id in ["", "a/b", "a\\b", "..", ".", "a\nb", "a\u{0}", "a?b", "a#b", &"x".repeat(256)] {
        refused!(app, get_lead, get(id), "id");
        let archive = pb::ArchiveLeadRequest { id: id.to_owned(), ..Default::default() };
        refused!(app, archive_lead, archive, "id");
    }
    let names = pb::GetLeadRequest { properties: vec!["a,b".into()], ..get("1") };
    refused!(app, get_lead, names, "properties[0]");
    for (page_size, history) in [(-1, vec![]), (101, vec![]), (51, vec!["a".to_owned()])] {
        let list = pb::ListLeadsRequest {
            page_size,
            properties_with_history: history,
            ..Default::default()
        };
        refused!(app, list_leads, list, "page_size");
    }
    let search = pb::SearchLeadsRequest { page_size: 201, ..Default::default() };
    refused!(app, search_leads, search, "page_size");
    for token in ["x", "AAAA", "%%%", &"A".repeat(5_000)] {
        let list = pb::ListLeadsRequest { page_token: token.into(), ..Default::default() };
        refused!(app, list_leads, list, "page_token");
    }
    refused!(app, search_leads, groups(&[1; 6]), "filter_groups");
    refused!(app, search_leads, groups(&[7]), "filter_groups[0].filters");
    refused!(app, search_leads, groups(&[5, 5, 5, 4]), "filter_groups");
    refused!(app, search_leads, groups(&[0]), "filter_groups[0].filters");
    let sorts = vec![pb::Sort::default()];
    let search = pb::SearchLeadsRequest { sorts, ..Default::default() };
    refused!(app, search_leads, search, "sorts[0].property_name");
    let sort = pb::Sort { property_name: "a".into(), ..Default::default() };
    let search = pb::SearchLeadsRequest { sorts: vec![sort.clone(), sort], ..Default::default() };
    refused!(app, search_leads, search, "sorts");
    let search = pb::SearchLeadsRequest { query: "x".repeat(3_001), ..Default::default() };
    refused!(app, search_leads, search, "query");
    let long = (0..400).map(|i| format!("property_{i}")).collect();
    let search = pb::SearchLeadsRequest { properties: long, ..Default::default() };
    refused!(app, search_leads, search, "filter_groups");
    writes(&app).await;
    assert_eq!(app.hubspot_calls(), Vec::<String>::new());
}

async fn writes(app: &TestApp) {
    let nameless = pb::CreateLeadRequest { primary_contact_id: "1".into(), ..Default::default() };
    refused!(app, create_lead, nameless, r#"properties["hs_lead_name"]"#);
    let mut lonely = app.create_request("Jane");
    lonely.primary_contact_id.clear();
    refused!(app, create_lead, lonely, "primary_contact_id");
    let mut odd = app.create_request("Jane");
    odd.associations = vec![pb::Association { to_id: "1/2".into(), types: Vec::new() }];
    refused!(app, create_lead, odd.clone(), "associations[0].to_id");
    refused!(app, create_lead, odd, "associations[0].types");
    let mut odd = app.create_request("Jane");
    odd.request_id = "a b".into();
    refused!(app, create_lead, odd, "request_id");
    let update = pb::UpdateLeadRequest { id: "1".into(), ..Default::default() };
    refused!(app, update_lead, update, "properties");

    refused!(app, batch_get_leads, pb::BatchGetLeadsRequest::default(), "ids");
    let ids = vec!["1".to_owned(); 4];
    refused!(app, batch_get_leads, pb::BatchGetLeadsRequest { ids, ..Default::default() }, "ids");
    let ids = vec!["1".to_owned(), "a/b".to_owned()];
    refused!(
        app,
        batch_archive_leads,
        pb::BatchArchiveLeadsRequest { ids, ..Default::default() },
        "ids[1]"
    );
    refused!(app, batch_create_leads, pb::BatchCreateLeadsRequest::default(), "inputs");
    let input = |id: &str, trace: &str| pb::LeadUpdate {
        id: id.into(),
        properties: properties(&[("hs_lead_label", "HOT")]),
        object_write_trace_id: trace.into(),
        ..Default::default()
    };
    let inputs = vec![input("1", ""), input("2", ""), input("1", "")];
    let twice = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
    refused!(app, batch_update_leads, twice, "inputs[2].id");
    let inputs = vec![input("1", "t"), input("2", "t")];
    let twice = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
    refused!(app, batch_update_leads, twice, "inputs[1].object_write_trace_id");
    let inputs = vec![app.create_input("Jane", &[]), pb::LeadCreate::default()];
    let bad = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    refused!(app, batch_create_leads, bad, r#"inputs[1].properties["hs_lead_name"]"#);
}

#[tokio::test]
async fn filter_operands_must_match_the_operator() {
    use pb::FilterOperator as Op;
    let app = TestApp::start().await;
    let make = |operator: Op, value: &str, high_value: &str, values: &[&str]| pb::Filter {
        property_name: "a".to_owned(),
        operator: operator.into(),
        value: value.to_owned(),
        high_value: high_value.to_owned(),
        values: values.iter().map(|&value| value.to_owned()).collect(),
    };
    let path = |name: &str| format!("filter_groups[0].filters[0].{name}");
    for (bad, field) in [
        (make(Op::Unspecified, "x", "", &[]), "operator"),
        (make(Op::Eq, "", "", &[]), "value"),
        (make(Op::Eq, "x", "y", &[]), "high_value"),
        (make(Op::Lt, "x", "", &["y"]), "values"),
        (make(Op::Between, "x", "", &[]), "high_value"),
        (make(Op::In, "", "", &[]), "values"),
        (make(Op::NotIn, "x", "", &["y"]), "value"),
        (make(Op::HasProperty, "x", "", &[]), "value"),
        (make(Op::ContainsToken, "", "", &[]), "value"),
        (pb::Filter { operator: 99, ..make(Op::Eq, "x", "", &[]) }, "operator"),
        (
            pb::Filter { property_name: String::new(), ..make(Op::Eq, "x", "", &[]) },
            "property_name",
        ),
    ] {
        refused!(app, search_leads, filter(bad), &path(field));
    }
    assert!(app.hubspot_calls().is_empty());
}

#[tokio::test]
async fn page_token_is_bound_to_its_request() {
    let app = TestApp::start().await;
    for i in 0..3 {
        app.lead(&format!("lead {i}"));
    }
    let first = pb::ListLeadsRequest { page_size: 1, ..Default::default() };
    let page_token =
        app.leads.clone().list_leads(first).await.unwrap().into_inner().next_page_token;
    let other = pb::ListLeadsRequest {
        page_token: page_token.clone(),
        associations: vec!["contacts".into()],
        ..Default::default()
    };
    refused!(app, list_leads, other, "page_token");
    let resized = pb::ListLeadsRequest { page_token, page_size: 2, ..Default::default() };
    assert_eq!(app.leads.clone().list_leads(resized).await.unwrap().into_inner().leads.len(), 2);
}

#[tokio::test]
async fn oversized_message_is_rejected_and_the_server_continues() {
    let app = TestApp::builder().set("GRPC__MAX_REQUEST_SIZE", "64KiB").start().await;
    let mut huge = app.create_request("Jane");
    huge.properties.insert("hs_lead_source".into(), "x".repeat(200 << 10));
    let status = app.leads.clone().create_lead(huge).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
}

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
    for page_size in [-1, i32::MIN] {
        let list = pb::ListLeadsRequest { page_size, ..Default::default() };
        refused!(app, list_leads, list, "page_size");
        let search = pb::SearchLeadsRequest { page_size, ..Default::default() };
        refused!(app, search_leads, search, "page_size");
    }
    let history = vec!["*".to_owned()];
    let star = pb::GetLeadRequest { properties_with_history: history.clone(), ..get("1") };
    refused!(app, get_lead, star, "properties_with_history");
    let star = pb::ListLeadsRequest { properties_with_history: history, ..Default::default() };
    refused!(app, list_leads, star, "properties_with_history");
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
    let quotes = pb::SearchLeadsRequest { query: "\"".repeat(1_600), ..Default::default() };
    refused!(app, search_leads, quotes, "filter_groups");
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
    odd.associations =
        vec![pb::Association { to_id: "1\n2".into(), types: Vec::new(), ..Default::default() }];
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
    refused!(app, batch_create_leads, pb::BatchCreateLeadsRequest::default(), "inputs");
    let input = |id: &str| pb::LeadUpdate { id: id.into(), ..Default::default() };
    let inputs = vec![input("1")];
    let request_id = "a b".to_owned();
    let odd =
        pb::BatchUpdateLeadsRequest { inputs: inputs.clone(), request_id, ..Default::default() };
    refused!(app, batch_update_leads, odd, "request_id");
    let many = pb::BatchUpdateLeadsRequest { inputs: vec![input("1"); 4], ..Default::default() };
    refused!(app, batch_update_leads, many, "inputs");
    let mut odd = app.create_request("Jane");
    odd.object_write_trace_id = "a b".into();
    refused!(app, create_lead, odd, "object_write_trace_id");
    // A company or a task is no contact.
    for type_id in [580, 610, 646] {
        let mut other = app.create_request("Jane");
        other.primary_contact_id.clear();
        let types = vec![pb::AssociationType { type_id, ..Default::default() }];
        other.associations =
            vec![pb::Association { to_id: "106".into(), types, ..Default::default() }];
        refused!(app, create_lead, other, "primary_contact_id");
    }
    // A call without a valid input needs no HubSpot call.
    let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
    let answer = app.leads.clone().batch_update_leads(request).await.unwrap().into_inner();
    assert_eq!(
        written(answer.results),
        [Err("inputs[0].properties: must not be empty".to_owned())]
    );
}

/// Whether each input was written, or the message of its error.
fn written(results: Vec<pb::LeadWriteResult>) -> Vec<Result<(), String>> {
    let told = |result: pb::LeadWriteResult| match result.outcome.unwrap() {
        pb::lead_write_result::Outcome::Lead(_) => Ok(()),
        pb::lead_write_result::Outcome::Error(error) => {
            assert_eq!(error.code, Code::InvalidArgument as i32);
            Err(error.message)
        }
    };
    results.into_iter().map(told).collect()
}

#[tokio::test]
async fn an_invalid_input_of_a_batch_has_its_own_result_and_the_others_are_sent() {
    let app = TestApp::start().await;
    let (jane, joan) = (app.lead("Jane"), app.lead("Joan"));
    let mut leads = app.leads.clone();
    let input = |id: &str, trace: &str| pb::LeadUpdate {
        id: id.into(),
        properties: properties(&[("hs_lead_label", "HOT")]),
        object_write_trace_id: trace.into(),
        ..Default::default()
    };
    let padded = format!("0{jane}");
    let inputs = vec![
        input("a\nb", ""),
        input(&jane, "t"),
        input(&padded, ""),
        input(&joan, "t"),
        input(&joan, "u"),
        input("7", "a b"),
    ];
    let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
    let results = leads.batch_update_leads(request).await.unwrap().into_inner().results;
    let traces: Vec<_> =
        results.iter().map(|result| result.object_write_trace_id.clone()).collect();
    assert_eq!(traces[1..5], ["t", "", "t", "u"]);
    assert_eq!((&*traces[0], &*traces[5]), ("", ""));
    let told = written(results);
    let fields: Vec<_> = told
        .iter()
        .map(|result| result.as_ref().map_err(|text| text.split_once(": ").unwrap().0))
        .collect();
    assert_eq!(
        fields,
        [
            Err("inputs[0].id"),
            Ok(&()),
            Err("inputs[2].id"),
            Err("inputs[3].object_write_trace_id"),
            Ok(&()),
            Err("inputs[5].object_write_trace_id"),
        ]
    );

    let inputs = vec![pb::LeadCreate::default(), app.create_input("New", &[])];
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    let told = written(leads.batch_create_leads(request).await.unwrap().into_inner().results);
    assert!(told[0].as_ref().unwrap_err().starts_with(r#"inputs[0].properties["hs_lead_name"]: "#));
    assert_eq!(told[1], Ok(()));

    assert_eq!(app.hubspot.lead_names(), ["Jane", "Joan", "New"]);
}

#[tokio::test]
async fn an_upsert_of_the_same_value_and_an_invalid_id_have_their_own_results() {
    let app = TestApp::start().await;
    app.hubspot.add_unique_property("crm_key");
    let mut leads = app.leads.clone();
    let upsert = |id: &str| pb::LeadUpsert {
        id: id.into(),
        id_property: "crm_key".into(),
        properties: properties(&[("hs_lead_name", id)]),
        primary_contact_id: app.contact.clone(),
        ..Default::default()
    };
    let inputs = vec![upsert("key"), upsert("KEY"), upsert("")];
    let request = pb::BatchUpsertLeadsRequest { inputs, ..Default::default() };
    let results = leads.batch_upsert_leads(request).await.unwrap().into_inner().results;
    let told: Vec<_> = results.iter().map(|result| result.created).collect();
    assert_eq!(told, [true, false, false]);
    let Some(pb::lead_upsert_result::Outcome::Error(error)) = &results[1].outcome else {
        panic!("{results:?}");
    };
    assert_eq!(error.message, "inputs[1].id: is a duplicate of inputs[0].id");
    assert_eq!(app.hubspot.lead_names(), ["key"]);

    let jane = app.lead("Jane");
    let ids = vec![jane.clone(), "a\nb".to_owned(), jane.clone()];
    let request = pb::BatchGetLeadsRequest { ids: ids.clone(), ..Default::default() };
    let results = leads.batch_get_leads(request).await.unwrap().into_inner().results;
    let Some(pb::lead_read_result::Outcome::Error(error)) = &results[1].outcome else {
        panic!("{results:?}");
    };
    assert!(error.message.starts_with("ids[1]: "), "{}", error.message);
    assert!(matches!(results[2].outcome, Some(pb::lead_read_result::Outcome::Lead(_))));
    let request = pb::BatchArchiveLeadsRequest { ids, ..Default::default() };
    let results = leads.batch_archive_leads(request).await.unwrap().into_inner().results;
    let codes: Vec<i32> = results.iter().map(|it| it.status.as_ref().unwrap().code).collect();
    assert_eq!(codes, [0, Code::InvalidArgument as i32, 0]);
}

#[tokio::test]
async fn a_record_id_as_unique_property_is_a_record_id() {
    // HubSpot rejects `hs_object_id` as an `idProperty`.
    let app = TestApp::start().await;
    app.hubspot.limit(|limits| limits.burst = 1_000);
    for (leads, calls) in [(100, 1), (1_000, 10)] {
        let mut inputs = Vec::new();
        for number in 0..leads {
            inputs.push(pb::LeadUpdate {
                id: app.lead(&format!("lead {leads} {number}")),
                id_property: "hs_object_id".into(),
                properties: properties(&[("hs_lead_label", "HOT")]),
                ..Default::default()
            });
        }
        app.hubspot.clear_log();
        let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
        let answer = app.leads.clone().batch_update_leads(request).await.unwrap().into_inner();
        assert!(written(answer.results).iter().all(Result::is_ok));
        let log = app.hubspot.log();
        assert_eq!(log.len(), calls);
        assert!(log.iter().all(|call| !call.body.to_string().contains("idProperty")));
    }
    let (mut leads, id) = (app.leads.clone(), app.lead("Jane"));
    app.hubspot.clear_log();
    let id_property = "hs_object_id".to_owned();
    let get = pb::GetLeadRequest { id: id.clone(), id_property, ..Default::default() };
    let id_property = get.id_property.clone();
    assert_eq!(leads.get_lead(get).await.unwrap().into_inner().lead.unwrap().id, id);
    let ids = vec![id.clone()];
    let read = pb::BatchGetLeadsRequest { ids, id_property, ..Default::default() };
    let id_property = read.id_property.clone();
    leads.batch_get_leads(read).await.unwrap();
    let properties = properties(&[("hs_lead_label", "HOT")]);
    let update = pb::UpdateLeadRequest { id, id_property, properties, ..Default::default() };
    leads.update_lead(update).await.unwrap();
    let log = app.hubspot.log();
    assert_eq!(log.len(), 3);
    for call in log {
        assert!(!format!("{} {}", call.query, call.body).contains("idProperty"), "{call:?}");
    }
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
        ..Default::default()
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

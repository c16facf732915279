//! Responses within what clients accept with their default settings, and the memory that they hold.

use std::collections::BTreeSet;

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_hubspot_fake::{Gate, ScriptedResponse};
use pb::{lead_read_result, lead_write_result};
use serde_json::json;
use tonic::{Code, transport::Channel};

use crate::{
    harness::{Builder, TestApp, eventually, failure},
    hostile_clients::{metric, until_metric},
};

/// Metric of the memory that requests, responses and kept results hold.
const MEMORY: &str = r#"leadsd_admission_used{limit="memory"}"#;

/// A service whose HubSpot has room for many calls.
fn with_large_quota() -> Builder {
    TestApp::builder().set("QUOTA__BURST", "10000")
}

/// A client with default settings: it rejects responses of more than 4 MiB.
async fn default_client(app: &TestApp) -> LeadsServiceClient<Channel> {
    LeadsServiceClient::connect(format!("http://{}", app.grpc)).await.expect("a connection")
}

/// A lead with notes of this many bytes.
fn lead_with_notes(app: &TestApp, bytes: usize) -> String {
    app.hubspot.add_text_property("notes");
    let properties = json!({"hs_lead_name": "Jane", "notes": "x".repeat(bytes)});
    app.hubspot.add_lead(&app.contact, &properties).expect("a lead")
}

#[tokio::test]
async fn one_id_named_ten_thousand_times_is_a_response_that_default_clients_accept() {
    let app = TestApp::start().await;
    let id = lead_with_notes(&app, 64 << 10);
    app.hubspot.clear_log();
    let request = pb::BatchGetLeadsRequest {
        ids: vec![id.clone(); 10_000],
        properties: vec!["notes".to_owned()],
        ..Default::default()
    };
    let response = default_client(&app).await.batch_get_leads(request).await.expect("it fits");
    let results = response.into_inner().results;
    assert_eq!(results.len(), 10_000);
    let mut read = 0;
    for result in results {
        match result.outcome.expect("an outcome") {
            lead_read_result::Outcome::Lead(lead) => {
                assert_eq!((lead.id.as_str(), lead.properties["notes"].len()), (&*id, 64 << 10));
                read += 1;
            }
            lead_read_result::Outcome::Error(error) => {
                assert_eq!(error.code, i32::from(Code::ResourceExhausted));
                assert!(error.message.contains("read this lead in another call"), "{error:?}");
            }
        }
    }
    assert!((30..64).contains(&read), "{read} leads fit");
    assert_eq!(app.hubspot_calls().len(), 1);
}

#[tokio::test]
async fn a_batch_create_returns_every_id_to_a_client_with_default_settings() {
    let app = with_large_quota().start().await;
    app.hubspot.limit(|limits| limits.burst = 10_000);
    // The request is below 4 MiB; with times and URLs the response is not.
    let inputs: Vec<_> =
        (0..3_000).map(|number| app.create_input(&format!("{number:01280}"), &[])).collect();
    let request = pb::BatchCreateLeadsRequest {
        inputs,
        request_id: "batch-1".to_owned(),
        ..Default::default()
    };
    let mut client = default_client(&app).await;
    let mut ids = BTreeSet::new();
    let mut id_only = 0;
    for result in client.batch_create_leads(request.clone()).await.unwrap().into_inner().results {
        let Some(lead_write_result::Outcome::Lead(lead)) = result.outcome else {
            panic!("not created: {:?}", result.outcome)
        };
        assert_eq!(lead.id_only, lead.properties.is_empty());
        id_only += usize::from(lead.id_only);
        assert!(ids.insert(lead.id) && !result.object_write_trace_id.is_empty());
    }
    assert_eq!(ids.len(), 3_000);
    assert!((1..2_000).contains(&id_only), "{id_only} leads have only their id");
    assert_eq!(app.hubspot.lead_names().len(), 3_000);
    // A repeat returns the ids that are kept.
    let repeat = client.batch_create_leads(request).await.unwrap().into_inner().results;
    let lead = |result: pb::LeadWriteResult| match result.outcome {
        Some(lead_write_result::Outcome::Lead(lead)) if lead.id_only => Some(lead.id),
        _ => None,
    };
    assert_eq!(repeat.into_iter().filter_map(lead).collect::<BTreeSet<_>>(), ids);
    assert_eq!(app.hubspot.lead_names().len(), 3_000);
}

#[tokio::test]
async fn kept_results_of_large_creates_are_ids_and_the_gauge_counts_them() {
    let app = TestApp::start().await;
    assert_eq!(app.metric(MEMORY).await, Some(0.0));
    for number in 0..8 {
        let mut request = app.create_request(&"x".repeat(3_900_000));
        request.request_id = format!("create-{number}");
        let created = app.leads.clone().create_lead(request).await.unwrap().into_inner();
        assert!(!created.lead.unwrap().id_only, "the first response is whole");
    }
    let kept = app.metric(MEMORY).await.unwrap();
    assert!((8.0 * 200.0..8.0 * 4_096.0).contains(&kept), "{kept} bytes");
    let mut request = app.create_request(&"x".repeat(3_900_000));
    request.request_id = "create-0".to_owned();
    let repeat = app.leads.clone().create_lead(request).await.unwrap().into_inner().lead.unwrap();
    assert!(repeat.id_only && !repeat.id.is_empty());
    assert_eq!(app.hubspot.lead_names().len(), 8);
}

#[tokio::test]
async fn leads_of_a_batch_are_charged_while_it_waits_for_another_request() {
    const VALUE: usize = 60_000;
    let app = TestApp::start().await;
    let found = |id: &str| json!({"id": id, "properties": {"hs_lead_name": "x".repeat(VALUE)}});
    let first = json!({"status": "COMPLETE", "results": [found("101"), found("102")]});
    let path = "/batch/read";
    let reply = ScriptedResponse::Reply(200, "application/json", first.to_string());
    app.hubspot.script("POST", path, reply);
    // HubSpot does not mention the other leads, so they are requested again.
    let second = json!({"status": "COMPLETE", "results": [found("103"), found("104")]});
    let held = Gate::new();
    let second = ScriptedResponse::Reply(200, "application/json", second.to_string());
    app.hubspot.script("POST", path, ScriptedResponse::HeldThen(held.clone(), second.into()));
    let request = pb::BatchGetLeadsRequest {
        ids: ["101", "102", "103", "104"].map(str::to_owned).into(),
        properties: vec!["hs_lead_name".to_owned()],
        ..Default::default()
    };
    let mut leads = default_client(&app).await;
    let call = tokio::spawn(async move { leads.batch_get_leads(request).await });
    eventually("the repeat is sent", || async { app.hubspot.scripts_left() == 0 }).await;
    let charged = metric(&app, MEMORY).await;
    assert!(charged > 2.0 * VALUE as f64, "{charged} bytes");
    held.open();
    let results = call.await.unwrap().unwrap().into_inner().results;
    let is_lead = |result: &pb::LeadReadResult| {
        matches!(result.outcome, Some(lead_read_result::Outcome::Lead(_)))
    };
    assert!(results.iter().all(is_lead), "{results:?}");
    until_metric(&app, MEMORY, |used| used == 0.0).await;
}

#[tokio::test]
async fn a_lead_or_page_larger_than_a_response_is_an_error_with_a_remedy() {
    let app = TestApp::builder().set("GRPC__MAX_RESPONSE_SIZE", "64KiB").start().await;
    let id = lead_with_notes(&app, 64 << 10);
    let mut leads = app.leads.clone();
    let properties = vec!["notes".to_owned()];
    let get = pb::GetLeadRequest { id, properties: properties.clone(), ..Default::default() };
    let error = leads.get_lead(get).await.unwrap_err();
    assert!(error.message().contains("select fewer properties"), "{error:?}");
    let (code, reason, _) = failure::<()>(Err(error));
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "RESPONSE_TOO_LARGE"));
    let list = pb::ListLeadsRequest { properties, ..Default::default() };
    let error = leads.list_leads(list).await.unwrap_err();
    assert!(error.message().contains("request a smaller page or fewer properties"), "{error:?}");
    let ids = vec!["7".to_owned(); 1_000];
    let batch = pb::BatchGetLeadsRequest { ids, ..Default::default() };
    let (code, reason, fields) = failure(leads.batch_get_leads(batch).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
    assert_eq!(fields, ["ids"]);
}

//! The deadline of the caller applies to every RPC and yields DEADLINE_EXCEEDED.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_hubspot_fake::{Gate, ScriptedResponse};
use tonic::{Code, Request, Status, body::Body};

use crate::harness::{TestApp, eventually, properties};

/// Deadline of calls: enough for a request to reach HubSpot on a busy machine.
const ALLOWED: Duration = Duration::from_secs(2);

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let millis = format!("{}m", ALLOWED.as_millis());
    request.metadata_mut().insert("grpc-timeout", millis.parse().unwrap());
    request
}

/// A client without a local deadline timer; the timer of tonic's channel would fire first.
pub(crate) fn patient(app: &TestApp) -> LeadsServiceClient<Client<HttpConnector, Body>> {
    let http = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    LeadsServiceClient::with_origin(http, format!("http://{}", app.grpc).parse().unwrap())
}

fn changed(id: String, properties: BTreeMap<String, String>) -> pb::LeadUpdate {
    pb::LeadUpdate { id, properties, ..Default::default() }
}

/// Makes one call of the RPC that uses this HubSpot call.
async fn call(app: &TestApp, rpc: &str) -> Status {
    let mut leads = patient(app);
    let id = "7".to_owned();
    let values = properties(&[("hs_lead_label", "HOT")]);
    // Earlier writes may still be in progress.
    let other = str::to_owned;
    macro_rules! fails {
        ($method:ident, $message:expr) => {
            leads.$method(timed($message)).await.map(drop).expect_err("the deadline passes")
        };
    }
    match rpc {
        "GetLead" => fails!(get_lead, pb::GetLeadRequest { id, ..Default::default() }),
        "ListLeads" => fails!(list_leads, pb::ListLeadsRequest::default()),
        "CreateLead" => fails!(create_lead, app.create_request("Jane")),
        "UpdateLead" => fails!(
            update_lead,
            pb::UpdateLeadRequest { id, properties: values, ..Default::default() }
        ),
        "ArchiveLead" => {
            fails!(archive_lead, pb::ArchiveLeadRequest { id: other("8"), ..Default::default() })
        }
        "UpsertLead" => fails!(
            upsert_lead,
            pb::UpsertLeadRequest {
                id,
                id_property: "crm_key".to_owned(),
                properties: values,
                ..Default::default()
            }
        ),
        "SearchLeads" => fails!(search_leads, pb::SearchLeadsRequest::default()),
        "BatchGetLeads" => fails!(
            batch_get_leads,
            pb::BatchGetLeadsRequest { ids: vec![id], ..Default::default() }
        ),
        "BatchCreateLeads" => fails!(
            batch_create_leads,
            pb::BatchCreateLeadsRequest {
                inputs: vec![app.create_input("Jane", &[])],
                ..Default::default()
            }
        ),
        "BatchUpdateLeads" => fails!(
            batch_update_leads,
            pb::BatchUpdateLeadsRequest {
                inputs: vec![changed(other("9"), values)],
                ..Default::default()
            }
        ),
        "BatchUpsertLeads" => fails!(
            batch_upsert_leads,
            pb::BatchUpsertLeadsRequest {
                inputs: vec![pb::LeadUpsert {
                    id: other("10"),
                    id_property: "crm_key".to_owned(),
                    properties: values,
                    ..Default::default()
                }],
                ..Default::default()
            }
        ),
        _ => fails!(
            batch_archive_leads,
            pb::BatchArchiveLeadsRequest { ids: vec![other("11")], ..Default::default() }
        ),
    }
}

#[tokio::test]
async fn every_rpc_ends_at_its_deadline_while_hubspot_is_slow() {
    let app = TestApp::start().await;
    app.hubspot.add_unique_property("crm_key");
    // The first response reports external usage, and other calls wait for it.
    app.get("1").await.expect_err("there is no such lead");
    let calls = [
        ("GetLead", "GET", "/7"),
        ("ListLeads", "GET", "/leads"),
        ("CreateLead", "POST", "/leads"),
        ("UpdateLead", "PATCH", "/7"),
        ("ArchiveLead", "DELETE", "/8"),
        ("UpsertLead", "GET", "/7"),
        ("SearchLeads", "POST", "/search"),
        ("BatchGetLeads", "POST", "/batch/read"),
        ("BatchCreateLeads", "POST", "/batch/create"),
        ("BatchUpdateLeads", "POST", "/batch/update"),
        ("BatchUpsertLeads", "GET", "/10"),
        ("BatchArchiveLeads", "POST", "/batch/archive"),
    ];
    let held = Gate::new();
    for (_, method, path) in calls {
        app.hubspot.script(method, path, ScriptedResponse::Held(held.clone()));
    }
    let all = join_all(calls.map(|(rpc, ..)| call(&app, rpc))).await;
    for ((rpc, ..), status) in calls.into_iter().zip(all) {
        assert_eq!(status.code(), Code::DeadlineExceeded, "{rpc}: {status:?}");
    }
    assert_eq!(app.hubspot.scripts_left(), 0, "HubSpot has received all of them");
    held.open();
}

#[tokio::test]
async fn a_request_that_hubspot_does_not_answer_ends_at_the_request_timeout() {
    let app = TestApp::builder().set("HUBSPOT__REQUEST_TIMEOUT", "1s").start().await;
    // The first response reports external usage, and other calls wait for it.
    app.get("1").await.expect_err("there is no such lead");
    let held = Gate::new();
    app.hubspot.script("POST", "/leads", ScriptedResponse::Held(held.clone()));
    let create = app.create_request("Jane");
    let created = app.leads.clone().create_lead(create).await.unwrap_err();
    assert_eq!(created.code(), Code::Unknown, "{created:?}");
    assert!(created.message().contains("HubSpot did not respond in time"), "{created:?}");
    held.open();
}

#[tokio::test]
async fn write_beyond_its_deadline_completes_once_and_its_repeat_gets_the_result() {
    let app = TestApp::start().await;
    let held = Gate::new();
    app.hubspot.script("POST", "/leads", ScriptedResponse::Held(held.clone()));
    let mut request = app.create_request("Jane");
    request.request_id = "order-17".to_owned();
    let first = patient(&app).create_lead(timed(request.clone())).await.unwrap_err();
    assert_eq!(first.code(), Code::DeadlineExceeded);
    held.open();
    let second = app.leads.clone().create_lead(request).await.unwrap().into_inner();
    assert_eq!(second.lead.unwrap().properties["hs_lead_name"], "Jane");
    assert_eq!(app.hubspot.lead_names(), ["Jane"]);
}

#[tokio::test]
async fn a_batch_whose_deadline_passes_returns_the_results_so_far() {
    let app = TestApp::start().await;
    // The first response reports external usage, and other calls wait for it.
    app.get("1").await.expect_err("there is no such lead");
    let held = Gate::new();
    app.hubspot.script("POST", "/batch/create", ScriptedResponse::Held(held.clone()));
    let inputs = (0..300).map(|number| app.create_input(&format!("{number}"), &[])).collect();
    let batch = pb::BatchCreateLeadsRequest {
        inputs,
        request_id: "batch-1".to_owned(),
        ..Default::default()
    };
    // How long before the deadline they come is tested in simulated time.
    let first = patient(&app).batch_create_leads(timed(batch.clone())).await.expect("results");
    let codes = |results: &[pb::LeadWriteResult], wanted: Code| {
        let code = |result: &pb::LeadWriteResult| match result.outcome.as_ref().unwrap() {
            pb::lead_write_result::Outcome::Lead(_) => Code::Ok,
            pb::lead_write_result::Outcome::Error(error) => error.code.into(),
        };
        results.iter().filter(|result| code(result) == wanted).count()
    };
    let results = first.into_inner().results;
    assert_eq!((codes(&results, Code::Ok), codes(&results, Code::DeadlineExceeded)), (200, 100));
    held.open();
    let repeat = app.leads.clone().batch_create_leads(batch).await.expect("results").into_inner();
    assert_eq!(codes(&repeat.results, Code::Ok), 300);
    assert_eq!(app.hubspot.lead_names().len(), 300, "each lead is created once");
}

#[tokio::test]
async fn cancellation_stops_a_read_but_not_a_write() {
    let app = TestApp::start().await;
    let [read_held, write_held] = [Gate::new(), Gate::new()];
    app.hubspot.script("GET", "/7", ScriptedResponse::Held(read_held));
    let mut leads = patient(&app);
    let read = tokio::spawn(async move {
        leads.get_lead(pb::GetLeadRequest { id: "7".to_owned(), ..Default::default() }).await
    });
    app.scripts_used().await;
    read.abort();
    let cancelled = async || app.hubspot.in_flight() == 0;
    eventually("the read at HubSpot is cancelled", cancelled).await;
    app.hubspot.script("POST", "/leads", ScriptedResponse::Held(write_held.clone()));
    let (mut leads, request) = (patient(&app), app.create_request("Jane"));
    let write = tokio::spawn(async move { leads.create_lead(request).await });
    app.scripts_used().await;
    write.abort();
    app.in_flight("CreateLead", 0).await;
    write_held.open();
    eventually("the write is done", async || app.hubspot.lead_names() == ["Jane"]).await;
}

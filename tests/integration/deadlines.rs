//! The caller's deadline holds for every RPC, with the code that says so.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_hubspot_fake::Script;
use tonic::{Code, Request, Status, body::Body};

use crate::harness::{TestApp, properties};

const ALLOWED: Duration = Duration::from_millis(300);

/// How much later an answer may be than a timer that was set at the same time: how late that is
/// depends on what else the machine does.
const LATE: Duration = Duration::from_millis(50);

/// Never passed, however busy the machine is.
const MUCH_TOO_LATE: Duration = Duration::from_secs(2);

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let millis = format!("{}m", ALLOWED.as_millis());
    request.metadata_mut().insert("grpc-timeout", millis.parse().unwrap());
    request
}

/// A client that leaves deadlines to the server; tonic's own channel would answer first.
pub(crate) fn patient(app: &TestApp) -> LeadsServiceClient<Client<HttpConnector, Body>> {
    let http = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    LeadsServiceClient::with_origin(http, format!("http://{}", app.grpc).parse().unwrap())
}

fn changed(id: String, properties: BTreeMap<String, String>) -> pb::LeadUpdate {
    pb::LeadUpdate { id, properties, ..Default::default() }
}

/// Makes one call of the RPC that a HubSpot call belongs to.
async fn call(app: &TestApp, rpc: &str) -> Status {
    let mut leads = patient(app);
    let id = "7".to_owned();
    let values = properties(&[("hs_lead_label", "HOT")]);
    // Those of the writes before are still being written.
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
    let mut delays = Vec::new();
    for (rpc, method, path) in [
        ("GetLead", "GET", "/7"),
        ("ListLeads", "GET", "/leads"),
        ("CreateLead", "POST", "/leads"),
        ("UpdateLead", "PATCH", "/7"),
        ("ArchiveLead", "DELETE", "/8"),
        ("UpsertLead", "POST", "/batch/upsert"),
        ("SearchLeads", "POST", "/search"),
        ("BatchGetLeads", "POST", "/batch/read"),
        ("BatchCreateLeads", "POST", "/batch/create"),
        ("BatchUpdateLeads", "POST", "/batch/update"),
        ("BatchUpsertLeads", "POST", "/batch/upsert"),
        ("BatchArchiveLeads", "POST", "/batch/archive"),
    ] {
        app.hubspot.script(method, path, Script::Late(ALLOWED * 4));
        let since = Instant::now();
        let timer = async {
            tokio::time::sleep(ALLOWED).await;
            since.elapsed()
        };
        let answer = async {
            let status = call(&app, rpc).await;
            (status, since.elapsed())
        };
        let ((status, took), timer) = tokio::join!(answer, timer);
        assert_eq!(status.code(), Code::DeadlineExceeded, "{rpc}: {status:?}");
        assert_eq!(app.hubspot.scripts_left(), 0, "{rpc}: HubSpot was slow");
        let late = took.saturating_sub(timer);
        assert!(late < MUCH_TOO_LATE, "{rpc} ended {late:?} late");
        delays.push(late);
    }
    delays.sort();
    assert!(delays[delays.len() / 2] < LATE, "{delays:?}");
}

#[tokio::test]
async fn a_write_that_outlasts_its_caller_is_done_once_and_its_repeat_gets_the_answer() {
    let app = TestApp::start().await;
    app.hubspot.script("POST", "/leads", Script::Late(ALLOWED * 2));
    let mut request = app.create_request("Jane");
    request.request_id = "order-17".to_owned();
    let first = patient(&app).create_lead(timed(request.clone())).await.unwrap_err();
    assert_eq!(first.code(), Code::DeadlineExceeded);
    let second = app.leads.clone().create_lead(request).await.unwrap().into_inner();
    assert_eq!(second.lead.unwrap().properties["hs_lead_name"], "Jane");
    assert_eq!(app.hubspot.lead_names(), ["Jane"]);
}

#[tokio::test]
async fn a_caller_who_goes_away_stops_a_read_at_hubspot_and_not_a_write() {
    let app = TestApp::start().await;
    let late = || Script::Late(ALLOWED);
    let sent = async || {
        while app.hubspot.scripts_left() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    app.hubspot.script("GET", "/7", late());
    let mut leads = patient(&app);
    let read = tokio::spawn(async move {
        leads.get_lead(pb::GetLeadRequest { id: "7".to_owned(), ..Default::default() }).await
    });
    sent().await;
    read.abort();
    app.hubspot.script("POST", "/leads", late());
    let (mut leads, request) = (patient(&app), app.create_request("Jane"));
    let write = tokio::spawn(async move { leads.create_lead(request).await });
    sent().await;
    write.abort();
    let written = async {
        while app.hubspot.lead_names().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), written).await.expect("the write is done");
    // The read was due before the write.
    let answered = app.hubspot.log();
    assert!(answered.iter().all(|call| call.method != "GET"), "{answered:?}");
}

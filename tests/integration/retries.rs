//! Retries: retried and permanent errors, and outages of HubSpot.

use std::time::Duration;

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::ScriptedResponse;
use serde_json::json;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::harness::{PATIENCE, TestApp, failure, properties};

async fn retrying() -> TestApp {
    TestApp::builder().set("HUBSPOT__MAX_ATTEMPTS", "4").start().await
}

fn status(status: u16) -> ScriptedResponse {
    ScriptedResponse::Reply(status, "text/html", "<html>sorry</html>".to_owned())
}

fn update(id: &str) -> pb::UpdateLeadRequest {
    pb::UpdateLeadRequest {
        id: id.to_owned(),
        properties: properties(&[("hs_lead_label", "HOT")]),
        ..Default::default()
    }
}

#[tokio::test]
async fn updates_and_archives_are_retried_after_a_lost_response() {
    let app = retrying().await;
    let id = app.lead("Jane");
    app.hubspot.script("PATCH", &format!("/{id}"), ScriptedResponse::DropAfter);
    let answer = app.leads.clone().update_lead(update(&id)).await.unwrap().into_inner();
    assert_eq!(answer.lead.unwrap().properties["hs_lead_label"], "HOT");
    app.hubspot.script("DELETE", &format!("/{id}"), ScriptedResponse::DropAfter);
    let archive = pb::ArchiveLeadRequest { id: id.clone(), ..Default::default() };
    app.leads.clone().archive_lead(archive).await.unwrap();
    assert_eq!(app.hubspot.scripts_left(), 0);
}

#[tokio::test]
async fn create_is_retried_only_if_hubspot_did_not_process_it() {
    let app = retrying().await;
    for refused in [423, 521] {
        app.hubspot.script("POST", "/leads", status(refused));
    }
    let creates = ["first", "second"].map(|name| {
        let mut leads = app.leads.clone();
        let request = app.create_request(name);
        async move { leads.create_lead(request).await.unwrap() }
    });
    join_all(creates).await;
    assert_eq!(app.hubspot.scripts_left(), 0);
    for doubtful in [500, 502, 503, 504, 522, 524] {
        app.hubspot.script("POST", "/leads", ScriptedResponse::ExecutedWithStatus(doubtful));
        let name = format!("during {doubtful}");
        let answer = app.leads.clone().create_lead(app.create_request(&name)).await;
        let (code, reason, _) = failure(answer);
        assert_eq!((code, reason.as_str()), (Code::Unknown, "WRITE_OUTCOME_UNKNOWN"));
    }
    let mut names = app.hubspot.lead_names();
    names.sort();
    let before = names.len();
    names.dedup();
    assert_eq!((before, names.len()), (8, 8), "no lead was made twice, and none got lost");
}

#[tokio::test]
async fn number_of_attempts_is_reported() {
    let app = TestApp::builder().set("HUBSPOT__MAX_ATTEMPTS", "2").start().await;
    let id = app.lead("Jane");
    for _ in 0..2 {
        // These errors have no backoff.
        app.hubspot.script("GET", &format!("/{id}"), ScriptedResponse::DropBefore);
    }
    let status = app.get(&id).await.unwrap_err();
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["attempts"], "2");
}

#[tokio::test]
async fn circuit_breaker_opens_and_closes_without_a_restart() {
    let app = TestApp::builder().portals(&["default", "eu"]).start().await;
    let id = app.lead("Jane");
    for _ in 0..10 {
        app.hubspot.script("GET", &format!("/{id}"), status(503));
        failure(app.get(&id).await);
    }
    app.hubspot.clear_log();
    let refused = app.get(&id).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.get_error_details().retry_info().is_some());
    assert_eq!(app.hubspot_calls(), Vec::<String>::new(), "HubSpot was not asked");
    let mut other = Request::new(pb::GetLeadRequest { id: id.clone(), ..Default::default() });
    other.metadata_mut().insert("leadsd-portal", "eu".parse().unwrap());
    app.leads.clone().get_lead(other).await.expect("the other portal is served");
    let back = async {
        while app.get(&id).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("found again");
}

#[tokio::test]
async fn lost_create_is_found_by_its_request_id() {
    let app = TestApp::builder()
        .set("PORTALS__DEFAULT__REQUEST_ID_PROPERTY", "leadsd_request_id")
        .start()
        .await;
    app.hubspot.add_unique_property("leadsd_request_id");
    for (index, script) in
        [ScriptedResponse::ExecutedWithStatus(502), status(502)].into_iter().enumerate()
    {
        app.hubspot.script("POST", "/leads", script);
        let mut request = app.create_request(&format!("lead {index}"));
        request.request_id = format!("Order/{index}");
        let lead = app.leads.clone().create_lead(request).await.unwrap().into_inner().lead.unwrap();
        assert_eq!(lead.properties["hs_lead_name"], format!("lead {index}"));
    }
    assert_eq!(app.hubspot.lead_names(), ["lead 0", "lead 1"]);
}

#[tokio::test]
async fn create_of_another_replica_with_the_same_request_id_is_returned() {
    let app = TestApp::builder()
        .set("PORTALS__DEFAULT__REQUEST_ID_PROPERTY", "leadsd_request_id")
        .start()
        .await;
    app.hubspot.add_unique_property("leadsd_request_id");
    let properties = json!({"hs_lead_name": "Jane", "leadsd_request_id": "order-17"});
    let made = app.hubspot.add_lead(&app.contact, &properties).unwrap();
    let mut request = app.create_request("Jane");
    request.request_id = "order-17".to_owned();
    let lead = app.leads.clone().create_lead(request).await.unwrap().into_inner().lead.unwrap();
    assert_eq!(lead.id, made);

    // A conflict of another unique value remains an error.
    app.hubspot.add_unique_property("crm_key");
    let taken = json!({"hs_lead_name": "Ada", "crm_key": "k"});
    app.hubspot.add_lead(&app.contact, &taken).unwrap();
    let mut request = app.create_request("Ada");
    request.properties.insert("crm_key".to_owned(), "k".to_owned());
    let (code, reason, _) = failure(app.leads.clone().create_lead(request).await);
    assert_eq!((code, reason.as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
}

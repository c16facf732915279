//! Batching of single calls: results equal those of individual calls, for every HubSpot response.

mod associations;
mod calls;
mod credential;
mod hubspot_errors;
mod isolation;
mod random;
mod results;
pub(crate) mod world;
mod write_order;

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::{Gate, ScriptedResponse};
use tokio::join;
use tonic::Code;

use self::world::close;
use crate::harness::TestApp;

/// Starts a service with one portal and leads with these names.
async fn service(names: &[&str]) -> (TestApp, Vec<String>) {
    let app = TestApp::start().await;
    let ids = names.iter().map(|name| app.lead(name)).collect();
    (app, ids)
}

#[tokio::test]
async fn batch_create_with_a_lost_response_is_unknown_for_each_caller() {
    let app = TestApp::start().await;
    // Observes that trace ids are returned.
    let inputs = vec![app.create_input("First", &[])];
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    app.leads.clone().batch_create_leads(request).await.expect("created");
    let _closed = close(&app, "default", 4).await;
    app.hubspot.clear_log();
    app.hubspot.script("POST", "/batch/create", ScriptedResponse::DropAfter);
    let creates = (0..4).map(|number| {
        let (mut leads, request) = (app.leads.clone(), app.create_request(&format!("L{number}")));
        async move { leads.create_lead(request).await }
    });
    for answer in join_all(creates).await {
        let status = answer.expect_err("the outcome is unknown");
        assert_eq!(status.code(), Code::Unknown);
    }
    assert_eq!(app.hubspot_calls().len(), 1);
    assert_eq!(app.hubspot.lead_names().len(), 1 + 4, "all four are there, once");
}

#[tokio::test]
async fn identical_concurrent_reads_share_one_call_and_its_cost() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    let held = Gate::new();
    app.hubspot.script("GET", &format!("/{id}"), ScriptedResponse::Held(held.clone()));
    let control = async {
        app.in_flight("GetLead", 10).await;
        held.open();
    };
    let (answers, ()) = join!(join_all((0..10).map(|_| app.get(&id))), control);
    let mut cost = 0.0;
    for answer in answers {
        let answer = answer.expect("the lead");
        let part = answer.metadata().get("leadsd-quota-cost").unwrap().to_str().unwrap();
        cost += part.parse::<f64>().unwrap();
    }
    assert!((0.99..1.01).contains(&cost), "{cost}");
    assert_eq!(app.hubspot_calls().len(), 1);
    app.hubspot.clear_log();
    let held = Gate::new();
    app.hubspot.script("POST", "/search", ScriptedResponse::Held(held.clone()));
    let searches = (0..10).map(|_| {
        let mut leads = app.leads.clone();
        async move { leads.search_leads(pb::SearchLeadsRequest::default()).await }
    });
    let control = async {
        app.in_flight("SearchLeads", 10).await;
        held.open();
    };
    let (searched, ()) = join!(join_all(searches), control);
    assert!(searched.iter().all(Result::is_ok));
    assert_eq!(app.hubspot_calls().len(), 1);
}

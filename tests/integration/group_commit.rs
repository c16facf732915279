//! Single calls that leave together: no caller can tell, whatever HubSpot answers.

mod answers;
mod ask;
mod associations;
mod credential;
mod faults;
mod order;
mod poison;
mod random;
pub(crate) mod world;

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::{Gate, Script};
use tokio::join;
use tonic::Code;

use self::world::close;
use crate::harness::TestApp;

/// A service with one portal and leads of these names.
async fn service(names: &[&str]) -> (TestApp, Vec<String>) {
    let app = TestApp::start().await;
    let ids = names.iter().map(|name| app.lead(name)).collect();
    (app, ids)
}

#[tokio::test]
async fn a_batch_create_whose_answer_got_lost_is_unknown_to_each_and_sent_once() {
    let app = TestApp::start().await;
    // So that it is known that trace ids come back.
    let inputs = vec![app.create_input("First", &[])];
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    app.leads.clone().batch_create_leads(request).await.expect("created");
    let _closed = close(&app, "default", 4).await;
    app.hubspot.clear_log();
    app.hubspot.script("POST", "/batch/create", Script::DropAfter);
    let creates = (0..4).map(|number| {
        let (mut leads, request) = (app.leads.clone(), app.create_request(&format!("L{number}")));
        async move { leads.create_lead(request).await }
    });
    for answer in join_all(creates).await {
        let status = answer.expect_err("nobody knows");
        assert_eq!(status.code(), Code::Unknown);
    }
    assert_eq!(app.hubspot_calls().len(), 1);
    assert_eq!(app.hubspot.lead_names().len(), 1 + 4, "all four are there, once");
}

#[tokio::test]
async fn identical_reads_and_searches_under_way_share_one_call_and_its_cost() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    let held = Gate::new();
    app.hubspot.script("GET", &format!("/{id}"), Script::Held(held.clone()));
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
    app.hubspot.script("POST", "/search", Script::Held(held.clone()));
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

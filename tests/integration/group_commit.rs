//! Single calls that leave together: no caller can tell, whatever HubSpot answers.

mod answers;
mod ask;
mod associations;
mod credential;
mod faults;
mod leaving;
mod missing;
mod order;
mod poison;
mod random;
mod untraced;
pub(crate) mod world;

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::{Gate, Script};
use tokio::join;
use tonic::Code;

use self::world::close_for_steps;
use crate::harness::{TestApp, properties};

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
    let _closed = close_for_steps(&app, "default", 4).await;
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
async fn two_writes_to_one_lead_keep_their_order_and_never_share_a_call() {
    let (app, ids) = service(&["Jane"]).await;
    let id = &ids[0];
    let _closed = close_for_steps(&app, "default", 4).await;
    app.hubspot.clear_log();
    let writes = (0..4_usize).map(|number| {
        let app = &app;
        let request = pb::UpdateLeadRequest {
            id: id.clone(),
            properties: properties(&[("hs_lead_name", &format!("Name {number}"))]),
            ..Default::default()
        };
        async move {
            // The first waits for a permit, each of the others for the one before it.
            match number {
                0 => {}
                1 => app.queued("burst", 1).await,
                later => app.queued("lead", later - 1).await,
            }
            let updated = app.leads.clone().update_lead(request).await.unwrap().into_inner();
            updated.lead.unwrap().properties["hs_lead_name"].clone()
        }
    });
    let names = join_all(writes).await;
    assert_eq!(names, ["Name 0", "Name 1", "Name 2", "Name 3"]);
    assert!(app.hubspot.lead_names().contains(&"Name 3".to_owned()));
    let calls = app.hubspot_calls();
    assert_eq!(calls.len(), 4, "{calls:?}");
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

#[tokio::test]
async fn a_read_after_a_write_does_not_join_one_from_before() {
    let app = TestApp::start().await;
    let id = app.lead("Before");
    let held = Gate::new();
    app.hubspot.script("GET", &format!("/{id}"), Script::Held(held.clone()));
    let early = app.get(&id);
    let late = async {
        app.scripts_used().await;
        let request = pb::UpdateLeadRequest {
            id: id.clone(),
            properties: properties(&[("hs_lead_name", "After")]),
            ..Default::default()
        };
        app.leads.clone().update_lead(request).await.unwrap();
        let read = app.get(&id).await.unwrap().into_inner();
        held.open();
        read.lead.unwrap().properties["hs_lead_name"].clone()
    };
    let (early, late) = join!(early, late);
    assert!(early.is_ok());
    assert_eq!(late, "After");
    assert_eq!(app.hubspot_calls().len(), 3);
}

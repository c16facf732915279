//! Creates that leave together where HubSpot does not send trace ids back: told apart by what was
//! written, or not made together.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::Behaviour;

use super::world::{Closed, close};
use crate::harness::{TestApp, properties};

/// Single creates.
const CREATES: usize = 500;

/// A service that has learned how HubSpot answers a create, with its portal closed for so many calls.
async fn service(behave: fn(&mut Behaviour), calls: usize) -> (TestApp, Closed) {
    // Permits are not what this is about.
    let app = TestApp::builder().set("QUOTA__BURST", "10000").start().await;
    app.hubspot.behave(behave);
    app.hubspot.limit(|limits| limits.burst = 10_000);
    let inputs = vec![app.create_input("First", &[])];
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    app.leads.clone().batch_create_leads(request).await.expect("created");
    let closed = close(&app, "default", calls).await;
    app.hubspot.clear_log();
    (app, closed)
}

type Behave = fn(&mut Behaviour);

type Name = fn(usize) -> String;

type Values = BTreeMap<String, String>;

/// Creates these leads, and checks that each answer is about the lead that was written.
async fn create(app: &TestApp, all: &[Values]) {
    let creates = all.iter().map(|values| {
        let request = pb::CreateLeadRequest {
            properties: values.clone(),
            primary_contact_id: app.contact.clone(),
            ..Default::default()
        };
        let mut leads = app.leads.clone();
        async move { leads.create_lead(request).await }
    });
    let created = join_all(creates).await;
    let leads = app.hubspot.leads();
    let mut ids = BTreeSet::new();
    for (created, values) in created.into_iter().zip(all) {
        let id = created.expect("created").into_inner().lead.unwrap().id;
        let there = leads.iter().find(|lead| lead["id"].as_str() == Some(&id)).expect("it is");
        for (name, value) in values {
            assert_eq!(there["properties"][name].as_str(), Some(value.as_str()));
        }
        ids.insert(id);
    }
    assert_eq!(ids.len(), all.len(), "each its own");
    assert_eq!(leads.len(), 1 + all.len(), "and each once");
}

/// Creates leads of different names; how many HubSpot calls that takes.
async fn calls(behave: fn(&mut Behaviour)) -> usize {
    let (app, _closed) = service(behave, CREATES).await;
    let values = |number: usize| properties(&[("hs_lead_name", &format!("Lead {number}"))]);
    create(&app, &(0..CREATES).map(values).collect::<Vec<_>>()).await;
    app.hubspot_calls().len()
}

fn untraced(behaviour: &mut Behaviour) {
    behaviour.echo_trace_ids = false;
}

#[tokio::test]
async fn five_hundred_creates_take_about_as_few_calls_as_with_trace_ids() {
    let (with, without) = tokio::join!(calls(|_| {}), calls(untraced));
    assert!(with <= 7, "{with}");
    assert!(without <= 7, "{without}");
}

#[tokio::test]
async fn creates_of_one_name_are_not_made_together_and_each_gets_its_own() {
    let (app, _closed) = service(untraced, 40).await;
    let values = |number: usize| {
        let (name, source) = (format!("Lead {}", number / 2), format!("{number} of 40"));
        properties(&[("hs_lead_name", &name), ("hs_lead_source", &source)])
    };
    create(&app, &(0..40).map(values).collect::<Vec<_>>()).await;
    assert_eq!(app.hubspot_calls().len(), 2, "each name once in each");
}

#[tokio::test]
async fn creates_that_nothing_tells_apart_go_alone() {
    let hidden = |behaviour: &mut Behaviour| {
        untraced(behaviour);
        behaviour.show_created = false;
    };
    let cases: [(Behave, Name); 2] = [
        // The answer does not show what was written.
        (hidden, |number| format!("Lead {number}")),
        // Nobody knows whether it would be shown as it was written.
        (untraced, |number| format!("{number}. L\u{e4}dy")),
    ];
    join_all(cases.map(|(behave, name)| async move {
        let (app, _closed) = service(behave, 20).await;
        let values = |number| properties(&[("hs_lead_name", &name(number))]);
        create(&app, &(0..20).map(values).collect::<Vec<_>>()).await;
        assert_eq!(app.hubspot_calls().len(), 20);
    }))
    .await;
}

//! Upserts against a HubSpot that creates no lead without a contact.

use leadsd::grpc::pb;
use leadsd_hubspot_fake::ScriptedResponse;
use pb::lead_upsert_result::Outcome;
use serde_json::Value;
use tonic::Code;

use crate::harness::{TestApp, failure, properties};

/// Number of upserts of each of two racing callers.
const RACING: usize = 5_000;

/// A service whose account has the unique property `crm_key`.
async fn service() -> TestApp {
    let app = TestApp::builder().set("QUOTA__BURST", "10000").start().await;
    app.hubspot.limit(|limits| limits.burst = 1_000_000);
    app.hubspot.add_unique_property("crm_key");
    app
}

fn upsert(app: &TestApp, key: &str, name: &str) -> pb::LeadUpsert {
    pb::LeadUpsert {
        id: key.to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_name", name)]),
        primary_contact_id: app.contact.clone(),
        ..Default::default()
    }
}

fn single(app: &TestApp, key: &str, name: &str) -> pb::UpsertLeadRequest {
    let pb::LeadUpsert { id, id_property, properties, primary_contact_id, .. } =
        upsert(app, key, name);
    pb::UpsertLeadRequest { id, id_property, properties, primary_contact_id, ..Default::default() }
}

/// Whether each lead was created, or the message of its error.
async fn batch(app: &TestApp, inputs: Vec<pb::LeadUpsert>) -> Vec<Result<bool, String>> {
    let told = |result: Result<Option<bool>, String>| result.map(|created| created.expect("set"));
    created(app, inputs).await.into_iter().map(told).collect()
}

/// The field `created` of each result, `None` if that is unknown, or the message of its error.
async fn created(app: &TestApp, inputs: Vec<pb::LeadUpsert>) -> Vec<Result<Option<bool>, String>> {
    let request = pb::BatchUpsertLeadsRequest { inputs, ..Default::default() };
    let results = app.leads.clone().batch_upsert_leads(request).await.unwrap().into_inner().results;
    let told = |result: pb::LeadUpsertResult| match result.outcome.unwrap() {
        Outcome::Lead(_) => Ok((!result.created_unknown).then_some(result.created)),
        Outcome::Error(error) => Err(error.message),
    };
    results.into_iter().map(told).collect()
}

/// Number of stored leads, and of those without a contact.
fn stored(app: &TestApp) -> (usize, usize) {
    let leads = app.hubspot.leads();
    let is_contact = |link: &Value| link[0] == "contacts";
    let has_contact = |lead: &Value| {
        lead["associations"].as_array().is_some_and(|all| all.iter().any(is_contact))
    };
    (leads.len(), leads.iter().filter(|lead| !has_contact(lead)).count())
}

/// Method, end of the path and status of the HubSpot calls so far.
fn calls(app: &TestApp) -> Vec<(String, String, u16)> {
    let end = |path: &str| path.rsplit_once("/leads").map_or("", |(_, end)| end).to_owned();
    app.hubspot
        .log()
        .iter()
        .map(|call| (call.method.clone(), end(&call.path), call.status))
        .collect()
}

#[tokio::test]
async fn a_new_lead_without_a_contact_is_invalid_and_nothing_is_written() {
    let app = service().await;
    let company = app.hubspot.add_company("Example Ltd");
    let to_company = pb::Association {
        to_id: company,
        types: vec![pb::AssociationType { type_id: 580, ..Default::default() }],
        ..Default::default()
    };
    for associations in [vec![], vec![to_company]] {
        let mut request = single(&app, "ext-900", "x");
        request.primary_contact_id.clear();
        request.associations = associations;
        let (code, reason, fields) = failure(app.leads.clone().upsert_lead(request).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
        assert_eq!(fields, ["primary_contact_id"]);
    }
    assert_eq!(stored(&app), (0, 0));
    assert!(app.hubspot.log().iter().all(|call| call.method == "GET"), "only lookups");

    let answer = app.leads.clone().upsert_lead(single(&app, "ext-900", "x")).await.unwrap();
    assert!(answer.into_inner().created);
    let mut again = single(&app, "EXT-900", "y");
    again.primary_contact_id.clear();
    let answer = app.leads.clone().upsert_lead(again).await.unwrap().into_inner();
    assert!(!answer.created, "a lead that exists needs no contact");
    assert_eq!(answer.lead.unwrap().properties["crm_key"], "ext-900");
    assert_eq!((stored(&app), app.hubspot.lead_names()), ((1, 0), vec!["y".to_owned()]));
}

#[tokio::test]
async fn an_input_of_a_batch_fails_by_its_own_path() {
    let app = service().await;
    app.leads.clone().upsert_lead(single(&app, "a", "old")).await.unwrap();
    let mut inputs: Vec<_> = ["a", "b", "c"].map(|key| upsert(&app, key, "new")).to_vec();
    inputs[1].primary_contact_id.clear();
    let results = batch(&app, inputs).await;
    assert_eq!((&results[0], &results[2]), (&Ok(false), &Ok(true)));
    let message = results[1].as_ref().unwrap_err();
    assert!(message.starts_with("inputs[1].primary_contact_id: "), "{message}");
    assert_eq!(stored(&app), (2, 0));
}

#[tokio::test]
async fn ten_thousand_racing_upserts_at_two_replicas_make_no_duplicate() {
    let app = service().await;
    let other = app.replica().set("QUOTA__BURST", "10000").start().await;
    // Half of the leads exist.
    let key = |number: usize| format!("key-{number}");
    let existing = (0..RACING).step_by(2).map(|n| upsert(&app, &key(n), "old")).collect();
    batch(&app, existing).await;
    let before = app.hubspot.counted();
    let inputs = |spell: fn(&str) -> String, name: &str| {
        (0..RACING).map(|number| upsert(&app, &spell(&key(number)), name)).collect::<Vec<_>>()
    };
    let (first, second) = tokio::join!(
        batch(&app, inputs(str::to_owned, "first")),
        batch(&other, inputs(str::to_uppercase, "second")),
    );
    let created = first.iter().chain(&second).filter(|result| **result == Ok(true)).count();
    assert_eq!(created, RACING / 2);
    assert!(first.iter().chain(&second).all(Result::is_ok));
    assert_eq!(stored(&app), (RACING, 0));
    let calls = app.hubspot.counted() - before;
    assert!(calls * 100 <= 3 * 2 * RACING as u64, "{calls} calls for {} upserts", 2 * RACING);
}

#[tokio::test]
async fn a_response_to_a_create_that_is_lost_costs_another_lookup_and_no_duplicate() {
    let app = service().await;
    app.hubspot.script("POST", "/batch/create", ScriptedResponse::DropAfter);
    let inputs = ["a", "b"].map(|key| upsert(&app, key, "new")).to_vec();
    // Another client may have created them.
    assert_eq!(created(&app, inputs).await, [Ok(None), Ok(None)]);
    app.hubspot.script("POST", "/leads", ScriptedResponse::DropBefore);
    let answer = app.leads.clone().upsert_lead(single(&app, "c", "new")).await.unwrap();
    assert!(answer.into_inner().created);
    assert_eq!(stored(&app), (3, 0));
}

#[tokio::test]
async fn an_upsert_by_record_id_property_is_an_update_by_record_id() {
    let app = service().await;
    let id = app.lead("Jane");
    let mut input = upsert(&app, &id, "Joan");
    input.id_property = "hs_object_id".to_owned();
    assert_eq!(batch(&app, vec![input]).await, [Ok(false)]);
    assert_eq!(calls(&app), [("PATCH".to_owned(), format!("/{id}"), 200)]);
}

#[tokio::test]
async fn the_value_of_the_unique_property_must_be_that_of_the_lead() {
    let app = service().await;
    let mut request = single(&app, "a", "new");
    request.properties.insert("crm_key".to_owned(), "b".to_owned());
    let (code, _, fields) = failure(app.leads.clone().upsert_lead(request).await);
    assert_eq!((code, fields), (Code::InvalidArgument, vec!["properties[\"crm_key\"]".to_owned()]));
    let mut request = single(&app, "a", "new");
    request.properties.insert("crm_key".to_owned(), "A".to_owned());
    assert!(app.leads.clone().upsert_lead(request).await.unwrap().into_inner().created);
}

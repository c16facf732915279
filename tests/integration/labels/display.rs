//! Labels beside ids in the responses of writes and in exports.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::{ApiError, ScriptedResponse};
use tonic::Code;

use super::{ALL, counts, create, started};
use crate::harness::{PATIENCE, TestApp, properties};

fn expected() -> BTreeMap<String, String> {
    properties(&[
        ("hs_pipeline", "Partners"),
        ("hs_pipeline_stage", "Signed"),
        ("hubspot_owner_id", "ada@example.com"),
        ("interests", "A / B;Ü"),
    ])
}

fn lead_create(name: &str) -> pb::LeadCreate {
    let pb::CreateLeadRequest { properties, labels, contact, .. } = create(name, &ALL);
    pb::LeadCreate { properties, labels, contact, ..Default::default() }
}

fn labels_of(results: &[pb::LeadWriteResult]) -> Vec<Option<BTreeMap<String, String>>> {
    let labels = |result: &pb::LeadWriteResult| match &result.outcome {
        Some(pb::lead_write_result::Outcome::Lead(lead)) => Some(lead.labels.clone()),
        Some(pb::lead_write_result::Outcome::Error(_)) | None => None,
    };
    results.iter().map(labels).collect()
}

/// All messages of an export.
async fn exported(app: &TestApp, display: bool) -> Vec<pb::ExportLeadsResponse> {
    let names = ALL.map(|(name, _)| name.to_owned()).to_vec();
    let request = pb::ExportLeadsRequest { properties: names, display, ..Default::default() };
    let messages = app.leads.clone().export_leads(request).await.unwrap().into_inner();
    let all = messages.map(|message| message.expect("a message")).collect();
    tokio::time::timeout(PATIENCE, all).await.expect("the end in time")
}

#[tokio::test]
async fn every_write_of_one_lead_shows_labels_beside_ids() {
    let app = started().await;
    app.hubspot.add_unique_property("crm_key");
    let mut leads = app.leads.clone();
    let request = pb::CreateLeadRequest { display: true, ..create("a", &ALL) };
    let created = leads.create_lead(request).await.unwrap().into_inner();
    let (lead, error) = (created.lead.unwrap(), created.labels_error);
    assert_eq!((lead.labels, error), (expected(), None));
    let update = |display| pb::UpdateLeadRequest {
        id: lead.id.clone(),
        properties: properties(&[("interests", "2"), ("hs_pipeline_stage", "778")]),
        display,
        ..Default::default()
    };
    let before = counts(&app);
    let updated = leads.update_lead(update(true)).await.unwrap().into_inner();
    let own = properties(&[("hs_pipeline_stage", "Talking"), ("interests", "Ü")]);
    let shown = updated.lead.unwrap().labels;
    assert!(own.iter().all(|(name, label)| shown.get(name) == Some(label)), "{shown:?}");
    assert_eq!(updated.labels_error, None);
    assert_eq!(counts(&app), (before.0, before.1 + 1), "the labels come from the copy");
    let plain = leads.update_lead(update(false)).await.unwrap().into_inner();
    assert_eq!(plain.lead.unwrap().labels, BTreeMap::new());
    let upsert = pb::UpsertLeadRequest {
        id: "k-1".to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_name", "b")]),
        labels: properties(&ALL),
        contact: create("b", &[]).contact,
        display: true,
        ..Default::default()
    };
    let upserted = leads.upsert_lead(upsert).await.unwrap().into_inner();
    assert_eq!((upserted.lead.unwrap().labels, upserted.labels_error), (expected(), None));
}

#[tokio::test]
async fn batches_of_writes_show_labels_beside_ids() {
    let app = started().await;
    app.hubspot.add_unique_property("crm_key");
    let mut leads = app.leads.clone();
    let unknown = pb::LeadCreate { labels: properties(&[("interests", "?")]), ..lead_create("x") };
    let request = pb::BatchCreateLeadsRequest {
        inputs: vec![lead_create("a"), unknown, lead_create("b")],
        display: true,
        ..Default::default()
    };
    let created = leads.batch_create_leads(request).await.unwrap().into_inner();
    assert_eq!(labels_of(&created.results), [Some(expected()), None, Some(expected())]);
    assert_eq!(created.labels_error, None);
    let update =
        pb::LeadUpdate { id: app.lead("c"), labels: properties(&ALL), ..Default::default() };
    let request =
        pb::BatchUpdateLeadsRequest { inputs: vec![update], display: true, ..Default::default() };
    let updated = leads.batch_update_leads(request).await.unwrap().into_inner();
    assert_eq!(labels_of(&updated.results), [Some(expected())]);
    let upsert = |id: &str| pb::LeadUpsert {
        id: id.to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_name", id)]),
        labels: properties(&ALL),
        contact: create("b", &[]).contact,
        ..Default::default()
    };
    for display in [true, false] {
        let inputs = vec![upsert("k-1"), upsert("k-2")];
        let request = pb::BatchUpsertLeadsRequest { inputs, display, ..Default::default() };
        let upserted = leads.batch_upsert_leads(request).await.unwrap().into_inner();
        assert_eq!(upserted.results.len(), 2);
        for result in upserted.results {
            let Some(pb::lead_upsert_result::Outcome::Lead(lead)) = result.outcome else {
                panic!("{result:?}");
            };
            assert_eq!(lead.labels, if display { expected() } else { BTreeMap::new() });
        }
    }
}

#[tokio::test]
async fn a_write_without_a_copy_of_the_schema_succeeds_and_says_why_labels_are_missing() {
    let app = TestApp::start().await;
    let denied = || ScriptedResponse::Reject(ApiError::Forbidden);
    app.hubspot.script("GET", "/crm/properties/2026-09/leads", denied());
    let request = pb::CreateLeadRequest { display: true, ..app.create_request("Jane") };
    let created = app.leads.clone().create_lead(request).await.unwrap().into_inner();
    assert_eq!(created.lead.unwrap().properties["hs_lead_name"], "Jane");
    assert_eq!(created.labels_error.unwrap().code, Code::PermissionDenied as i32);
}

#[tokio::test]
async fn an_export_shows_labels_beside_ids_and_goes_on_in_another_form() {
    let app = started().await;
    let mut leads = app.leads.clone();
    let inputs = (0..3).map(|number| lead_create(&number.to_string())).collect();
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    leads.batch_create_leads(request).await.unwrap();
    for display in [true, false] {
        let messages = exported(&app, display).await;
        let all: Vec<_> = messages.iter().flat_map(|own| &own.leads).collect();
        assert_eq!(all.len(), 3);
        let labels = if display { expected() } else { BTreeMap::new() };
        assert!(all.iter().all(|lead| lead.labels == labels), "{all:?}");
        assert!(messages.iter().all(|own| own.labels_error.is_none()));
    }
    // A token is one of the same export with and without labels.
    let token = exported(&app, false).await.remove(0).resume_token;
    let names = ALL.map(|(name, _)| name.to_owned()).to_vec();
    let request = pb::ExportLeadsRequest {
        properties: names,
        display: true,
        resume_token: token,
        ..Default::default()
    };
    let mut rest = leads.export_leads(request).await.unwrap().into_inner();
    assert!(rest.next().await.unwrap().unwrap().complete);
}

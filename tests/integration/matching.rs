//! Results of batches get to their inputs: without trace ids, for merged leads and for unique values in
//! several spellings. And selections and ids that do not fit in a URL.

use leadsd::grpc::pb::{
    self, lead_read_result::Outcome as ReadOutcome, lead_upsert_result::Outcome as UpsertOutcome,
    lead_write_result::Outcome as WriteOutcome,
};
use leadsd_hubspot_fake::ScriptedResponse;
use tonic::Code;

use crate::harness::{TestApp, failure, properties};

fn json(status: u16, body: &str) -> ScriptedResponse {
    ScriptedResponse::Reply(status, "application/json", body.to_owned())
}

/// Ids of the leads that a batch read returns, or codes of errors.
async fn read(app: &TestApp, ids: &[&str], id_property: &str) -> Vec<Result<String, i32>> {
    let request = pb::BatchGetLeadsRequest {
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        id_property: id_property.to_owned(),
        ..Default::default()
    };
    let answer = app.leads.clone().batch_get_leads(request).await.unwrap().into_inner();
    let outcome = |result: pb::LeadReadResult| match result.outcome.unwrap() {
        ReadOutcome::Lead(lead) => {
            assert!(!lead.properties.contains_key("hs_merged_object_ids"));
            Ok(lead.id)
        }
        ReadOutcome::Error(error) => Err(error.code),
    };
    answer.results.into_iter().map(outcome).collect()
}

fn ok(ids: &[&str]) -> Vec<Result<String, i32>> {
    ids.iter().map(|id| Ok((*id).to_owned())).collect()
}

#[tokio::test]
async fn merged_leads_are_read_in_input_order() {
    let app = TestApp::start().await;
    let survivors = r#"{"status":"COMPLETE","results":[
        {"id":"901","properties":{"hs_object_id":"901"}},
        {"id":"902","properties":{"hs_object_id":"902"}}]}"#;
    app.hubspot.script("POST", "/batch/read", json(200, survivors));
    for (id, survivor) in [("101", "901"), ("102", "902")] {
        app.hubspot.script(
            "GET",
            &format!("/{id}"),
            json(200, &format!(r#"{{"id":"{survivor}"}}"#)),
        );
    }
    assert_eq!(read(&app, &["101", "102"], "").await, ok(&["901", "902"]));

    let app = TestApp::start().await;
    let winners = [app.lead("Ada"), app.lead("Grace")];
    let mut merged = Vec::new();
    for number in 0..7 {
        let loser = app.lead("Twice");
        app.hubspot.merge(&loser, &winners[number % 2]);
        merged.push(loser);
    }
    let other = app.lead("Barbara");
    let ids: Vec<&str> =
        merged.iter().chain([&winners[1], &other]).map(String::as_str).chain(["4242"]).collect();
    let mut expected: Vec<_> = (0..7).map(|number| Ok(winners[number % 2].clone())).collect();
    expected.extend([Ok(winners[1].clone()), Ok(other.clone()), Err(Code::NotFound as i32)]);
    app.hubspot.clear_log();
    assert_eq!(read(&app, &ids, "").await, expected);
    let requests = app.hubspot.log().len();
    assert_eq!(requests, 3, "one more request for all merged leads, and one for the unknown one");
}

#[tokio::test]
async fn a_unique_value_in_two_spellings_is_one_lead() {
    let app = TestApp::start().await;
    app.hubspot.add_unique_property("crm_key");
    let results = r#"{"status":"COMPLETE","results":[
        {"id":"100","properties":{"crm_key":"key-1"}},{"id":"101","properties":{"crm_key":"b"}}]}"#;
    app.hubspot.script("POST", "/batch/read", json(200, results));
    let found = read(&app, &["Key-1", "key-1", "b"], "crm_key").await;
    assert_eq!(found, ok(&["100", "100", "101"]));
    // A batch updates a lead once, however its value is spelled.
    let update = |id: &str| pb::LeadUpdate {
        id: id.to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_name", "Ada")]),
        ..Default::default()
    };
    let inputs = vec![update("Key-1"), update("key-1")];
    let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
    let answer = app.leads.clone().batch_update_leads(request).await.unwrap().into_inner();
    let Some(WriteOutcome::Error(error)) = &answer.results[1].outcome else { panic!("{answer:?}") };
    assert_eq!(error.message, "inputs[1].id: is a duplicate of inputs[0].id");
}

#[tokio::test]
async fn creates_without_trace_ids_are_matched_by_their_values() {
    let app = TestApp::start().await;
    let results = r#"{"status":"COMPLETE","results":[
        {"id":"103","properties":{"hs_lead_name":"n3"}},
        {"id":"102","properties":{"hs_lead_name":"n2"}},
        {"id":"101","properties":{"hs_lead_name":"n1","close_date":"2026-01-01"}}]}"#;
    app.hubspot.script("POST", "/batch/create", json(201, results));
    let inputs = vec![
        app.create_input("n1", &[("close_date", "1767225600000")]),
        app.create_input("n2", &[]),
        app.create_input("n3", &[]),
    ];
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    let answer = app.leads.clone().batch_create_leads(request).await.unwrap().into_inner();
    let id = |result: pb::LeadWriteResult| match result.outcome.unwrap() {
        WriteOutcome::Lead(lead) => lead.id,
        WriteOutcome::Error(error) => panic!("{error:?}"),
    };
    let ids: Vec<_> = answer.results.into_iter().map(id).collect();
    assert_eq!(ids, ["101", "102", "103"]);
}

#[tokio::test]
async fn a_search_with_many_property_names_is_sent() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    let names: Vec<String> =
        (0..110).map(|n| format!("property_with_thirty_chars_{n:03}")).collect();
    let request = |query: &str| pb::SearchLeadsRequest {
        query: query.to_owned(),
        properties: names.clone(),
        ..Default::default()
    };
    let answer = app.leads.clone().search_leads(request("")).await.unwrap().into_inner();
    assert_eq!(answer.leads[0].id, id);
    let long = "\"".repeat(1_600);
    let (code, _, fields) = failure(app.leads.clone().search_leads(request(&long)).await);
    assert_eq!((code, fields), (Code::InvalidArgument, vec!["filter_groups".to_owned()]));
}

#[tokio::test]
async fn an_id_with_characters_of_a_path_works_wherever_it_is_no_part_of_a_url() {
    let app = TestApp::start().await;
    app.hubspot.add_unique_property("crm_key");
    let keys = ["a/1", "a?2", "a#3", "a\\4", "..", "."];
    let mut ids = Vec::new();
    for key in keys {
        let request = pb::UpsertLeadRequest {
            id: key.to_owned(),
            id_property: "crm_key".to_owned(),
            properties: properties(&[("hs_lead_name", key)]),
            primary_contact_id: app.contact.clone(),
            ..Default::default()
        };
        let made = app.leads.clone().upsert_lead(request.clone()).await.unwrap().into_inner();
        let again = app.leads.clone().upsert_lead(request).await.unwrap().into_inner();
        assert_eq!((made.created, again.created), (true, false), "{key}");
        ids.push(made.lead.unwrap().id);
    }
    let expected: Vec<_> = ids.iter().cloned().map(Ok).collect();
    assert_eq!(read(&app, &keys, "crm_key").await, expected);
    let update = |id: &str| pb::LeadUpdate {
        id: id.to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_label", "HOT")]),
        ..Default::default()
    };
    let inputs = keys.map(update).to_vec();
    let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
    let answer = app.leads.clone().batch_update_leads(request).await.unwrap().into_inner();
    let id = |result: pb::LeadWriteResult| match result.outcome.unwrap() {
        WriteOutcome::Lead(lead) => lead.id,
        WriteOutcome::Error(error) => panic!("{error:?}"),
    };
    assert_eq!(answer.results.into_iter().map(id).collect::<Vec<_>>(), ids);
    let upsert = |id: &str| pb::LeadUpsert {
        id: id.to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_label", "COLD")]),
        ..Default::default()
    };
    let inputs = keys.map(upsert).to_vec();
    let request = pb::BatchUpsertLeadsRequest { inputs, ..Default::default() };
    let answer = app.leads.clone().batch_upsert_leads(request).await.unwrap().into_inner();
    let id = |result: pb::LeadUpsertResult| match result.outcome.unwrap() {
        UpsertOutcome::Lead(lead) => lead.id,
        UpsertOutcome::Error(error) => panic!("{error:?}"),
    };
    assert_eq!(answer.results.into_iter().map(id).collect::<Vec<_>>(), ids);
    let get = pb::GetLeadRequest {
        id: "a/1".to_owned(),
        id_property: "crm_key".to_owned(),
        ..Default::default()
    };
    let error = app.leads.clone().get_lead(get).await.unwrap_err();
    assert!(error.message().contains("use the batch call"), "{}", error.message());
}

//! Further members of the classes of misread responses and of refused requests.

use leadsd::grpc::pb::{
    self, lead_read_result::Outcome as ReadOutcome, lead_write_result::Outcome as WriteOutcome,
};
use leadsd_hubspot_fake::ScriptedResponse;
use tonic::Code;

use crate::harness::{TestApp, failure, properties};

/// Inputs of a batch.
const INPUTS: usize = 100;

fn json(status: u16, body: &str) -> ScriptedResponse {
    ScriptedResponse::Reply(status, "application/json", body.to_owned())
}

fn associations(types: &[(pb::AssociationCategory, i32)]) -> Vec<pb::Association> {
    let kind = |(category, type_id): &(pb::AssociationCategory, i32)| pb::AssociationType {
        category: (*category).into(),
        type_id: *type_id,
    };
    let types = types.iter().map(kind).collect();
    vec![pb::Association { to_id: "106".to_owned(), types, ..Default::default() }]
}

#[tokio::test]
async fn only_an_association_with_a_contact_lets_a_call_be_spent() {
    use pb::AssociationCategory::{
        HubspotDefined, IntegratorDefined, Unspecified, UserDefined, Work,
    };
    let app = TestApp::start().await;
    app.hubspot.add_unique_property("crm_key");
    let mut leads = app.leads.clone();
    for (types, may_be_contact) in [
        (&[(HubspotDefined, 580)][..], false),
        (&[(Unspecified, 610)], false),
        (&[(HubspotDefined, 646)], false),
        (&[(HubspotDefined, 1037), (HubspotDefined, 582)], false),
        (&[(IntegratorDefined, 578)], false),
        (&[(Work, 608)], false),
        (&[(HubspotDefined, 580), (HubspotDefined, 608)], true),
        (&[(UserDefined, 7)], true),
        (&[(Unspecified, 578)], true),
    ] {
        let associations = associations(types);
        let named = properties(&[("hs_lead_name", "Joan")]);
        let create = pb::CreateLeadRequest {
            properties: named.clone(),
            associations: associations.clone(),
            ..Default::default()
        };
        let input = pb::LeadCreate {
            properties: named.clone(),
            associations: associations.clone(),
            ..Default::default()
        };
        let inputs = vec![input];
        let batch = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
        let before = app.hubspot_calls().len();
        let (code, reason, fields) = failure(leads.create_lead(create).await);
        assert_eq!(code, Code::InvalidArgument, "{types:?}");
        assert_eq!(reason == "INVALID_REQUEST", !may_be_contact, "{types:?} {reason}");
        let results = leads.batch_create_leads(batch).await.unwrap().into_inner().results;
        let Some(WriteOutcome::Error(error)) = &results[0].outcome else { panic!("{results:?}") };
        assert_eq!(error.code, Code::InvalidArgument as i32);
        assert_eq!(app.hubspot_calls().len() > before, may_be_contact, "{types:?}");
        if may_be_contact {
            continue;
        }
        assert_eq!(fields, ["primary_contact_id"], "{types:?}");
        assert!(error.message.starts_with("inputs[0].primary_contact_id: "), "{}", error.message);
        let upsert = pb::UpsertLeadRequest {
            id: "new".to_owned(),
            id_property: "crm_key".to_owned(),
            properties: named,
            associations,
            ..Default::default()
        };
        let (_, reason, fields) = failure(leads.upsert_lead(upsert).await);
        assert_eq!(
            (reason.as_str(), fields),
            ("INVALID_REQUEST", vec!["primary_contact_id".into()])
        );
    }
    assert!(app.hubspot.leads().is_empty());
}

/// Sends a batch of each kind; returns the codes of its results, or that of the call.
async fn batches(app: &TestApp) -> Vec<(&'static str, Vec<i32>)> {
    let mut leads = app.leads.clone();
    let ids: Vec<String> = (0..INPUTS).map(|number| (100_000 + number).to_string()).collect();
    let values = properties(&[("hs_lead_name", "Joan")]);
    let creates = (0..INPUTS).map(|number| app.create_input(&format!("lead {number}"), &[]));
    let updates = ids.iter().map(|id| pb::LeadUpdate {
        id: id.clone(),
        properties: values.clone(),
        ..Default::default()
    });
    let create = pb::BatchCreateLeadsRequest { inputs: creates.collect(), ..Default::default() };
    let update = pb::BatchUpdateLeadsRequest { inputs: updates.collect(), ..Default::default() };
    let get = pb::BatchGetLeadsRequest { ids: ids.clone(), ..Default::default() };
    let archive = pb::BatchArchiveLeadsRequest { ids, ..Default::default() };
    let of_call = |status: tonic::Status| vec![status.code() as i32; INPUTS];
    let written = |results: Vec<pb::LeadWriteResult>| -> Vec<i32> {
        let code = |result: pb::LeadWriteResult| match result.outcome {
            Some(WriteOutcome::Error(error)) => error.code,
            Some(WriteOutcome::Lead(_)) | None => 0,
        };
        results.into_iter().map(code).collect()
    };
    let read = |results: Vec<pb::LeadReadResult>| -> Vec<i32> {
        let code = |result: pb::LeadReadResult| match result.outcome {
            Some(ReadOutcome::Error(error)) => error.code,
            Some(ReadOutcome::Lead(_)) | None => 0,
        };
        results.into_iter().map(code).collect()
    };
    let mut all = Vec::new();
    let result = leads.batch_create_leads(create).await;
    all.push(("create", result.map_or_else(of_call, |it| written(it.into_inner().results))));
    let result = leads.batch_update_leads(update).await;
    all.push(("update", result.map_or_else(of_call, |it| written(it.into_inner().results))));
    let result = leads.batch_get_leads(get).await;
    all.push(("get", result.map_or_else(of_call, |it| read(it.into_inner().results))));
    let result = leads.batch_archive_leads(archive).await;
    let codes = |it: tonic::Response<pb::BatchArchiveLeadsResponse>| {
        let results = it.into_inner().results.into_iter();
        results.map(|result| result.status.unwrap_or_default().code).collect()
    };
    all.push(("archive", result.map_or_else(of_call, codes)));
    all
}

#[tokio::test]
async fn a_refusal_of_every_part_costs_one_call_or_three_and_is_the_error_of_all() {
    let unknown = r#"{"status":"error","category":"PLAN_ENDED","message":"the plan has ended","correlationId":"c"}"#;
    let with_portal =
        r#"{"status":"error","category":"NEW","message":"no","context":{"portalId":["42"]}}"#;
    let invalid = r#"{"status":"error","category":"VALIDATION_ERROR","message":"not now","correlationId":"c"}"#;
    let bare = r#"{"status":"error","message":"not now","correlationId":"c"}"#;
    for (status, body, calls, code) in [
        (400, unknown, 1, Code::Unavailable),
        (404, unknown, 1, Code::Unavailable),
        (422, unknown, 1, Code::Unavailable),
        (409, unknown, 1, Code::Unavailable),
        (400, with_portal, 1, Code::Unavailable),
        (402, bare, 1, Code::Unavailable),
        (405, bare, 1, Code::Unavailable),
        (410, invalid, 1, Code::Unavailable),
        (415, bare, 1, Code::Unavailable),
        (431, bare, 1, Code::Unavailable),
        (451, bare, 1, Code::Unavailable),
        (400, invalid, 3, Code::InvalidArgument),
        (400, bare, 3, Code::InvalidArgument),
        (422, invalid, 3, Code::InvalidArgument),
    ] {
        let app = TestApp::start().await;
        app.hubspot.script_times(40, "POST", "", json(status, body));
        for (kind, codes) in batches(&app).await {
            let all = vec![code as i32; INPUTS];
            assert_eq!(codes, all, "{kind} {status} {body}");
        }
        app.hubspot.clear_scripts();
        let sent = app.hubspot_calls().len();
        assert!(sent <= 4 * calls, "{sent} calls for four batches: {status} {body}");
    }
}

#[tokio::test]
async fn every_id_of_merged_leads_is_changed_and_read_as_the_surviving_lead() {
    for (reads_follow, changes_follow) in
        [(true, false), (false, false), (true, true), (false, true)]
    {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| {
            behaviour.batch_reads_follow_merges = reads_follow;
            behaviour.changes_follow_merges = changes_follow;
        });
        let [a, b, c, d, other] = ["a", "b", "c", "d", "other"].map(|name| app.lead(name));
        app.hubspot.merge(&a, &c);
        app.hubspot.merge(&b, &c);
        app.hubspot.merge(&c, &d);
        let ids = [&a, &other, &b, &c, &d, &"999999".to_owned(), &a].map(String::clone);
        let wanted = [Some(&d), Some(&other), Some(&d), Some(&d), Some(&d), None, Some(&d)];
        let get = pb::BatchGetLeadsRequest { ids: ids.to_vec(), ..Default::default() };
        let results = app.leads.clone().batch_get_leads(get).await.unwrap().into_inner().results;
        let read: Vec<Option<&String>> = results
            .iter()
            .map(|result| match &result.outcome {
                Some(ReadOutcome::Lead(lead)) => Some(&lead.id),
                Some(ReadOutcome::Error(_)) | None => None,
            })
            .collect();
        assert_eq!(read, wanted, "{reads_follow} {changes_follow}");
        let update = |id: &String| pb::LeadUpdate {
            id: id.clone(),
            properties: properties(&[("hs_lead_label", "HOT")]),
            ..Default::default()
        };
        let inputs = ids[..6].iter().map(update).collect();
        let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
        let results =
            app.leads.clone().batch_update_leads(request).await.unwrap().into_inner().results;
        let written: Vec<Option<&String>> = results
            .iter()
            .map(|result| match &result.outcome {
                Some(WriteOutcome::Lead(lead)) => Some(&lead.id),
                Some(WriteOutcome::Error(_)) | None => None,
            })
            .collect();
        assert_eq!(written, wanted[..6], "{reads_follow} {changes_follow}");
        assert_eq!(app.hubspot.value(&d, "hs_lead_label").as_deref(), Some("HOT"));
    }
}

#[tokio::test]
async fn a_long_selection_names_unset_properties_and_no_unknown_ones_on_every_read() {
    let app = TestApp::start().await;
    app.hubspot.add_unique_property("crm_key");
    let jane = app.lead("Jane");
    let update = pb::UpdateLeadRequest {
        id: jane.clone(),
        properties: properties(&[("crm_key", "Key-1")]),
        ..Default::default()
    };
    app.leads.clone().update_lead(update).await.unwrap();
    let mut names: Vec<String> = (0..900).map(|n| format!("unknown_property_{n:012}")).collect();
    names.extend(["hs_lead_name".to_owned(), "hs_lead_label".to_owned(), "crm_key".to_owned()]);
    let mut leads = app.leads.clone();
    let mut found = Vec::new();
    for associations in [Vec::new(), vec!["contacts".to_owned()]] {
        let get = pb::GetLeadRequest {
            id: jane.clone(),
            properties: names.clone(),
            associations: associations.clone(),
            ..Default::default()
        };
        let by_key = pb::GetLeadRequest {
            id: "KEY-1".to_owned(),
            id_property: "crm_key".to_owned(),
            ..get.clone()
        };
        found.push(leads.get_lead(get).await.unwrap().into_inner().lead.unwrap());
        found.push(leads.get_lead(by_key).await.unwrap().into_inner().lead.unwrap());
        let list =
            pb::ListLeadsRequest { properties: names.clone(), associations, ..Default::default() };
        found.extend(leads.list_leads(list).await.unwrap().into_inner().leads);
    }
    let batch = pb::BatchGetLeadsRequest {
        ids: vec![jane.clone()],
        properties: names.clone(),
        ..Default::default()
    };
    let results = leads.batch_get_leads(batch).await.unwrap().into_inner().results;
    let Some(ReadOutcome::Lead(lead)) = results[0].outcome.clone() else { panic!("{results:?}") };
    found.push(lead);
    assert_eq!(found.len(), 7);
    for lead in found {
        assert_eq!(lead.id, jane);
        assert_eq!(lead.unset_properties, ["hs_lead_label"], "{lead:?}");
        assert_eq!(lead.properties, properties(&[("crm_key", "Key-1"), ("hs_lead_name", "Jane")]));
    }
}

#[tokio::test]
async fn duplicate_ids_of_a_batch_have_their_own_results() {
    let app = TestApp::start().await;
    let (jane, joan) = (app.lead("Jane"), app.lead("Joan"));
    let update = |id: &str, id_property: &str| pb::LeadUpdate {
        id: id.to_owned(),
        id_property: id_property.to_owned(),
        properties: properties(&[("hs_lead_label", "HOT")]),
        ..Default::default()
    };
    let inputs = vec![
        update(&jane, ""),
        update(&jane, ""),
        update(&jane, "hs_object_id"),
        update(&joan, ""),
    ];
    let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
    let results = app.leads.clone().batch_update_leads(request).await.unwrap().into_inner().results;
    let texts: Vec<Option<String>> = results
        .into_iter()
        .map(|result| match result.outcome {
            Some(WriteOutcome::Error(error)) => Some(error.message),
            Some(WriteOutcome::Lead(_)) | None => None,
        })
        .collect();
    assert_eq!((&texts[0], &texts[3]), (&None, &None));
    for (index, text) in texts.iter().enumerate().take(3).skip(1) {
        let text = text.as_deref().expect("a duplicate");
        assert!(text.starts_with(&format!("inputs[{index}].id: ")), "{text}");
    }
    assert_eq!(app.hubspot.value(&joan, "hs_lead_label").as_deref(), Some("HOT"));
}

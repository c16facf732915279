//! Labels in place of ids, over real sockets.

mod display;

use std::collections::BTreeMap;

use futures_util::future::join_all;
use leadsd::grpc::pb::{self, contact_reference::Key, lead_write_result};
use leadsd_hubspot_fake::ScriptedResponse;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{TestApp, failure, properties};

const ALL: [(&str, &str); 4] = [
    ("hs_pipeline", "partners"),
    ("hs_pipeline_stage", "signed"),
    ("hubspot_owner_id", "Ada@example.com"),
    ("interests", "A / B;ü"),
];

/// An account with a second pipeline, an owner, a contact and a list with odd labels.
async fn started() -> TestApp {
    let app = TestApp::start().await;
    app.hubspot.add_pipeline("777", "Partners", &[("778", "Talking"), ("779", "Signed")]);
    app.hubspot.add_owner("ada@example.com");
    app.hubspot.add_contact("grace@example.com");
    app.hubspot.add_property(&json!({
        "name": "interests", "type": "enumeration", "fieldType": "checkbox",
        "options": [{"value": "a b", "label": "A / B"}, {"value": "2", "label": "Ü"}],
    }));
    app
}

fn create(name: &str, labels: &[(&str, &str)]) -> pb::CreateLeadRequest {
    let key = Some(Key::Email("grace@example.com".to_owned()));
    let contact = Some(pb::ContactReference { key, ..Default::default() });
    pb::CreateLeadRequest {
        properties: properties(&[("hs_lead_name", name)]),
        labels: properties(labels),
        contact,
        ..Default::default()
    }
}

/// HubSpot calls that read the schema, and all others.
fn counts(app: &TestApp) -> (usize, usize) {
    let calls = app.hubspot_calls();
    let reads = calls.iter().filter(|call| call.starts_with("GET ")).count();
    (reads, calls.len() - reads)
}

/// Values of a lead that the fake has.
fn stored(app: &TestApp, id: &str, names: &[&str]) -> Vec<String> {
    let leads = app.hubspot.leads();
    let lead = leads.iter().find(|own| own["id"] == id).expect("the lead");
    let value = |name: &&str| lead["properties"][*name].as_str().unwrap_or_default().to_owned();
    names.iter().map(value).collect()
}

#[tokio::test]
async fn a_lead_with_stage_owner_and_contact_by_name_costs_no_more_than_one_by_ids() {
    let app = started().await;
    let mut leads = app.leads.clone();
    let names = ["hs_pipeline", "hs_pipeline_stage", "hubspot_owner_id", "interests"];
    for (round, cost) in [(0, "5"), (1, "2"), (2, "2")] {
        let answer = leads.create_lead(create("by name", &ALL)).await.unwrap();
        let header = answer.metadata().get("leadsd-quota-cost").unwrap().to_str().unwrap();
        assert_eq!(header, cost, "round {round}: the first call reads three parts of the schema");
        let lead = answer.into_inner().lead.unwrap();
        assert_eq!(stored(&app, &lead.id, &names), ["777", "779", "9001", "a b;2"]);
    }
    assert_eq!(counts(&app), (3, 6));
    let many = (0..50).map(|number| {
        let (mut leads, name) = (leads.clone(), number.to_string());
        async move { leads.create_lead(create(&name, &ALL)).await.unwrap() }
    });
    join_all(many).await;
    assert_eq!(counts(&app).0, 3, "cached");
    app.stop().await;
}

#[tokio::test]
async fn ids_read_no_schema() {
    let app = started().await;
    let mut request = create("by ids", &[]);
    request.properties.extend(properties(&[
        ("hs_pipeline", "777"),
        ("hs_pipeline_stage", "779"),
        ("hubspot_owner_id", "9001"),
    ]));
    app.leads.clone().create_lead(request).await.unwrap();
    assert_eq!(counts(&app), (0, 2));
}

#[tokio::test]
async fn every_write_and_search_takes_labels() {
    let app = started().await;
    app.hubspot.add_unique_property("crm_key");
    let mut leads = app.leads.clone();
    let id = leads.create_lead(create("a", &[])).await.unwrap().into_inner().lead.unwrap().id;
    let labels =
        |stage: &str| properties(&[("hs_pipeline", "Partners"), ("hs_pipeline_stage", stage)]);
    let update =
        pb::UpdateLeadRequest { id: id.clone(), labels: labels("Signed"), ..Default::default() };
    leads.update_lead(update).await.unwrap();
    assert_eq!(stored(&app, &id, &["hs_pipeline_stage"]), ["779"]);
    let inputs =
        vec![pb::LeadUpdate { id: id.clone(), labels: labels("Talking"), ..Default::default() }];
    let batch = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
    leads.batch_update_leads(batch).await.unwrap();
    assert_eq!(stored(&app, &id, &["hs_pipeline_stage"]), ["778"]);
    let contact = create("", &[]).contact;
    let upsert = pb::UpsertLeadRequest {
        id: "k-1".to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_name", "u")]),
        labels: labels("Signed"),
        contact: contact.clone(),
        ..Default::default()
    };
    let upserted = leads.upsert_lead(upsert).await.unwrap().into_inner().lead.unwrap().id;
    assert_eq!(stored(&app, &upserted, &["hs_pipeline_stage"]), ["779"]);
    let inputs = vec![pb::LeadUpsert {
        id: "k-1".to_owned(),
        id_property: "crm_key".to_owned(),
        labels: labels("Talking"),
        ..Default::default()
    }];
    let batch = pb::BatchUpsertLeadsRequest { inputs, ..Default::default() };
    leads.batch_upsert_leads(batch).await.unwrap();
    assert_eq!(stored(&app, &upserted, &["hs_pipeline_stage"]), ["778"]);
    let input = |labels| pb::LeadCreate {
        properties: properties(&[("hs_lead_name", "b")]),
        labels,
        contact: contact.clone(),
        ..Default::default()
    };
    let inputs = vec![input(labels("Signed")), input(labels("Sold"))];
    let batch = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    let results = leads.batch_create_leads(batch).await.unwrap().into_inner().results;
    assert!(matches!(results[0].outcome, Some(lead_write_result::Outcome::Lead(_))));
    let Some(lead_write_result::Outcome::Error(error)) = &results[1].outcome else {
        panic!("the stage is unknown");
    };
    assert!(
        error.message.starts_with(r#"inputs[1].labels["hs_pipeline_stage"]: is not"#),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn searches_and_exports_take_labels() {
    let app = started().await;
    let mut leads = app.leads.clone();
    for stage in ["Talking", "Signed", "Talking"] {
        let labels = [("hs_pipeline", "Partners"), ("hs_pipeline_stage", stage)];
        leads.create_lead(create(stage, &labels)).await.unwrap();
    }
    let filter = |property: &str, value: &str| pb::Filter {
        property_name: property.to_owned(),
        operator: pb::FilterOperator::Eq.into(),
        value: value.to_owned(),
        by_label: true,
        ..Default::default()
    };
    let search = |filters| pb::SearchLeadsRequest {
        filter_groups: vec![pb::FilterGroup { filters }],
        ..Default::default()
    };
    let found = leads.search_leads(search(vec![filter("hs_pipeline_stage", "talking")])).await;
    assert_eq!(found.unwrap().into_inner().total, 2);
    let owned = search(vec![filter("hubspot_owner_id", "ada@example.com")]);
    assert_eq!(leads.search_leads(owned).await.unwrap().into_inner().total, 0);
    let (_, _, fields) = failure(leads.search_leads(search(vec![filter("budget", "7")])).await);
    assert_eq!(fields, ["filter_groups[0].filters[0].value"]);
    let export = async |stage: &str, resume_token: String| {
        let stage = search(vec![filter("hs_pipeline_stage", stage)]).filter_groups;
        let request =
            pb::ExportLeadsRequest { filter_groups: stage, resume_token, ..Default::default() };
        let mut messages = app.leads.clone().export_leads(request).await?.into_inner();
        messages.message().await.map(|message| message.expect("a message"))
    };
    let message = export("talking", String::new()).await.unwrap();
    assert_eq!(message.leads.len(), 2);
    // The token belongs to the id, whatever the spelling of the label.
    let rest = export("TALKING", message.resume_token.clone()).await.unwrap();
    assert!(rest.leads.is_empty() && rest.complete, "{rest:?}");
    let (_, reason, _) = failure(export("signed", message.resume_token).await);
    assert_eq!(reason, "INVALID_PAGE_TOKEN");
    let (_, _, fields) = failure(export("talkin", String::new()).await);
    assert_eq!(fields, ["filter_groups[0].filters[0].value"]);
}

#[tokio::test]
async fn labels_of_an_invalid_form_are_refused_without_a_call() {
    let app = started().await;
    let mut leads = app.leads.clone();
    let twice = pb::CreateLeadRequest {
        properties: properties(&[("hs_lead_name", "a"), ("hs_pipeline", "777")]),
        ..create("", &[("hs_pipeline", "Partners")])
    };
    let long = "x".repeat(256);
    for (request, field) in [
        (twice, r#"labels["hs_pipeline"]"#),
        (create("a", &[("hs_pipeline", " ")]), r#"labels["hs_pipeline"]"#),
        (create("a", &[("hs_pipeline", &long)]), r#"labels["hs_pipeline"]"#),
        (create("a", &[("hs pipeline", "Partners")]), r#"labels["hs pipeline"]"#),
    ] {
        let (code, reason, fields) = failure(leads.create_lead(request).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
        assert_eq!(fields, [field]);
    }
    let key = "crm_key".to_owned();
    let labels = BTreeMap::from([(key.clone(), "k".to_owned())]);
    let upsert = pb::UpsertLeadRequest {
        id: "k".to_owned(),
        id_property: key,
        labels,
        ..Default::default()
    };
    assert_eq!(failure(leads.upsert_lead(upsert).await).2, [r#"labels["crm_key"]"#]);
    assert_eq!(app.hubspot_calls(), [""; 0]);
}

#[tokio::test]
async fn an_unknown_label_names_candidates_and_a_new_one_is_found_after_one_read() {
    let app = started().await;
    let mut leads = app.leads.clone();
    let status = leads.create_lead(create("a", &[("hs_pipeline", "Partner")])).await.unwrap_err();
    let details = status.get_details_bad_request().unwrap();
    assert_eq!(
        details.field_violations[0].description,
        "is not the label of a lead pipeline; did you mean Partners (777)?; allowed: Lead pipeline, Partners"
    );
    assert_eq!(counts(&app), (1, 0));
    for validate_only in [true, false] {
        let request =
            pb::CreateLeadRequest { validate_only, ..create("a", &[("hubspot_owner_id", "x")]) };
        let (code, _, fields) = failure(leads.create_lead(request).await);
        assert_eq!(code, Code::InvalidArgument);
        assert_eq!(fields, [r#"labels["hubspot_owner_id"]"#]);
    }
    let valid = pb::CreateLeadRequest { validate_only: true, ..create("a", &ALL) };
    assert_eq!(leads.create_lead(valid).await.unwrap().into_inner().lead, None);
    assert_eq!(counts(&app).1, 0);
}

#[tokio::test]
async fn association_types_are_named_by_label() {
    let app = started().await;
    let decision_maker = app.hubspot.add_contact_label("Decision maker");
    let contact = app.hubspot.add_contact("alan@example.com");
    let mut leads = app.leads.clone();
    let labelled = |label: &str| pb::Association {
        to_id: contact.clone(),
        type_labels: vec![label.to_owned(), "primary".to_owned()],
        object_type: "contacts".to_owned(),
        ..Default::default()
    };
    let request = |association| pb::CreateLeadRequest {
        contact: None,
        associations: vec![association],
        ..create("a", &[])
    };
    let id = leads.create_lead(request(labelled("decision MAKER"))).await.unwrap();
    let id = id.into_inner().lead.unwrap().id;
    let list = pb::ListLeadAssociationsRequest {
        lead_id: id.clone(),
        object_type: "contacts".to_owned(),
        ..Default::default()
    };
    let types = async || {
        let page = app.leads.clone().list_lead_associations(list.clone()).await.unwrap();
        let objects = page.into_inner().objects;
        let mut types: Vec<i32> =
            objects.iter().filter_map(|own| Some(own.association_type?.type_id)).collect();
        types.sort_unstable();
        types
    };
    let label = i32::try_from(decision_maker).unwrap();
    assert!(types().await.contains(&label));
    let dissociate = |label: &str| pb::DissociateLeadRequest {
        lead_id: id.clone(),
        object_type: "contact".to_owned(),
        to_id: contact.clone(),
        type_labels: vec![label.to_owned()],
        ..Default::default()
    };
    let (_, _, fields) = failure(leads.dissociate_lead(dissociate("Decider")).await);
    assert_eq!(fields, ["type_labels[0]"]);
    assert!(types().await.contains(&label), "nothing is removed");
    leads.dissociate_lead(dissociate("Decision maker")).await.unwrap();
    assert!(!types().await.contains(&label));
    let association = pb::LeadAssociation {
        lead_id: id.clone(),
        to_id: contact.clone(),
        type_labels: vec!["Decision maker".to_owned()],
        ..Default::default()
    };
    let batch = pb::BatchAssociateLeadsRequest {
        object_type: "0-1".to_owned(),
        inputs: vec![association],
        ..Default::default()
    };
    let results = leads.batch_associate_leads(batch).await.unwrap().into_inner().results;
    assert_eq!(results[0].status.as_ref().unwrap().code, 0);
    assert!(types().await.contains(&label));
    let unknown = failure(leads.create_lead(request(labelled("Decider"))).await).2;
    assert_eq!(unknown, ["associations[0].type_labels[0]"]);
    let no_type = pb::Association { object_type: String::new(), ..labelled("Primary") };
    assert_eq!(
        failure(leads.create_lead(request(no_type)).await).2,
        ["associations[0].object_type"]
    );
}

#[tokio::test]
async fn reads_show_labels_beside_ids_from_the_copy_of_the_schema() {
    let app = started().await;
    let mut leads = app.leads.clone();
    let id = leads.create_lead(create("a", &ALL)).await.unwrap().into_inner().lead.unwrap().id;
    let names: Vec<String> =
        ["hs_lead_name", "hs_pipeline", "hs_pipeline_stage", "hubspot_owner_id", "interests"]
            .map(str::to_owned)
            .to_vec();
    let expected = properties(&[
        ("hs_pipeline", "Partners"),
        ("hs_pipeline_stage", "Signed"),
        ("hubspot_owner_id", "ada@example.com"),
        ("interests", "A / B;Ü"),
    ]);
    let get = |display| pb::GetLeadRequest {
        id: id.clone(),
        properties: names.clone(),
        display,
        ..Default::default()
    };
    let before = counts(&app);
    let answer = leads.get_lead(get(true)).await.unwrap();
    assert_eq!(answer.metadata().get("leadsd-quota-cost").unwrap(), "1");
    let answer = answer.into_inner();
    assert_eq!((answer.lead.unwrap().labels, answer.labels_error), (expected.clone(), None));
    assert_eq!(counts(&app), (before.0 + 1, before.1), "the lead alone");
    let plain = leads.get_lead(get(false)).await.unwrap().into_inner().lead.unwrap();
    assert_eq!(plain.labels, BTreeMap::new());
    let list =
        pb::ListLeadsRequest { properties: names.clone(), display: true, ..Default::default() };
    let page = leads.list_leads(list).await.unwrap().into_inner();
    assert_eq!(page.leads[0].labels, expected);
    let search =
        pb::SearchLeadsRequest { properties: names.clone(), display: true, ..Default::default() };
    let page = leads.search_leads(search).await.unwrap().into_inner();
    assert_eq!(page.leads[0].labels, expected);
    let batch = pb::BatchGetLeadsRequest {
        ids: vec![id.clone(), "404".to_owned(), id.clone()],
        properties: names.clone(),
        display: true,
        ..Default::default()
    };
    let results = leads.batch_get_leads(batch).await.unwrap().into_inner().results;
    let labels = |result: &pb::LeadReadResult| match &result.outcome {
        Some(pb::lead_read_result::Outcome::Lead(lead)) => Some(lead.labels.clone()),
        Some(pb::lead_read_result::Outcome::Error(_)) | None => None,
    };
    let found: Vec<_> = results.iter().map(labels).collect();
    assert_eq!(found, [Some(expected.clone()), None, Some(expected)]);
    let calls = counts(&app).0 - before.0;
    assert_eq!(
        calls, 4,
        "three reads, one for the unknown id of the batch, and none of the schema"
    );
}

#[tokio::test]
async fn a_read_without_a_part_of_the_schema_has_the_other_labels_and_says_so() {
    let app = started().await;
    let mut leads = app.leads.clone();
    let id = app.hubspot.add_lead(
        &app.contact,
        &json!({"hs_lead_name": "a", "hs_pipeline": "777", "hs_pipeline_stage": "778",
                "hubspot_owner_id": "9001"}),
    );
    let body = json!({"status": "error", "category": "MISSING_SCOPES", "message": "denied",
                      "correlationId": "c-1"});
    let denied = ScriptedResponse::Reply(403, "application/json", body.to_string());
    app.hubspot.script("GET", "/crm/owners/2026-09", denied);
    let names = ["hs_pipeline", "hs_pipeline_stage", "hubspot_owner_id"].map(str::to_owned);
    let request = pb::GetLeadRequest {
        id: id.unwrap(),
        properties: names.to_vec(),
        display: true,
        ..Default::default()
    };
    let answer = leads.get_lead(request).await.unwrap().into_inner();
    let lead = answer.lead.unwrap();
    assert_eq!(lead.properties.len(), 3);
    assert_eq!(
        lead.labels,
        properties(&[("hs_pipeline", "Partners"), ("hs_pipeline_stage", "Talking")])
    );
    assert_eq!(answer.labels_error.unwrap().code, Code::PermissionDenied as i32);
}

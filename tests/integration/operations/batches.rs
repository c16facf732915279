//! Batch operations: read, create, update, upsert, archive; each with valid inputs and with an
//! input that fails.

use leadsd::grpc::pb;
use pb::{lead_read_result, lead_upsert_result, lead_write_result};
use serde_json::{Value, json};
use tonic::Code;

use super::{Query, Scene, VERSIONS, history};
use crate::harness::properties;

/// The lead of a result, or the code of its error.
type Told = Result<pb::Lead, i32>;

const NOT_FOUND: i32 = Code::NotFound as i32;
const INVALID: i32 = Code::InvalidArgument as i32;

fn read(result: pb::LeadReadResult) -> Told {
    match result.outcome.unwrap() {
        lead_read_result::Outcome::Lead(lead) => Ok(lead),
        lead_read_result::Outcome::Error(error) => Err(error.code),
    }
}

fn written(result: pb::LeadWriteResult) -> (Told, String) {
    let told = match result.outcome.unwrap() {
        lead_write_result::Outcome::Lead(lead) => Ok(lead),
        lead_write_result::Outcome::Error(error) => Err(error.code),
    };
    (told, result.object_write_trace_id)
}

fn upserted(result: pb::LeadUpsertResult) -> (Told, bool, String) {
    let told = match result.outcome.unwrap() {
        lead_upsert_result::Outcome::Lead(lead) => Ok(lead),
        lead_upsert_result::Outcome::Error(error) => Err(error.code),
    };
    (told, result.created, result.object_write_trace_id)
}

fn id(told: &Told) -> Result<&str, i32> {
    told.as_ref().map(|lead| lead.id.as_str()).map_err(|code| *code)
}

/// A property of a result.
fn value<'a>(told: &'a Told, name: &str) -> &'a str {
    told.as_ref().ok().and_then(|lead| lead.properties.get(name)).map_or("", String::as_str)
}

/// A batch read: request, expected query and body, status, and first result.
type ReadRow = (pb::BatchGetLeadsRequest, Query<'static>, Value, u16, Result<String, i32>);

fn read_rows(jane: &str, gone: &str) -> [ReadRow; 6] {
    let with_id = |ids: &[&str]| pb::BatchGetLeadsRequest {
        ids: ids.iter().map(|&id| id.to_owned()).collect(),
        ..Default::default()
    };
    let live: Query<'static> = &[("archived", "false")];
    let plain = |ids: &[&str]| {
        let inputs: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        json!({"inputs": inputs, "properties": [], "propertiesWithHistory": []})
    };
    let with = |key: &str, value: Value| {
        let mut body = plain(&[jane]);
        body[key] = value;
        body
    };
    let found = || Ok(jane.to_owned());
    let named = vec!["hs_lead_name".to_owned()];
    let labels = vec!["hs_lead_label".to_owned()];
    let by_key = json!({"inputs": [{"id": "k-1"}], "idProperty": "crm_key",
                        "properties": ["hs_lead_name", "crm_key"], "propertiesWithHistory": []});
    [
        (with_id(&[jane]), live, plain(&[jane]), 200, found()),
        (with_id(&["999999", jane]), live, plain(&["999999", jane]), 207, Err(NOT_FOUND)),
        (
            pb::BatchGetLeadsRequest { properties: named.clone(), ..with_id(&[jane]) },
            live,
            with("properties", json!(["hs_lead_name"])),
            200,
            found(),
        ),
        (
            pb::BatchGetLeadsRequest { properties_with_history: labels, ..with_id(&[jane]) },
            live,
            with("propertiesWithHistory", json!(["hs_lead_label"])),
            200,
            found(),
        ),
        (
            pb::BatchGetLeadsRequest {
                id_property: "crm_key".into(),
                properties: named,
                ..with_id(&["k-1"])
            },
            live,
            by_key,
            200,
            found(),
        ),
        (
            pb::BatchGetLeadsRequest { archived: true, ..with_id(&[gone]) },
            &[("archived", "true")],
            plain(&[gone]),
            200,
            Ok(gone.to_owned()),
        ),
    ]
}

#[tokio::test]
async fn batch_read_sends_every_parameter_and_parses_every_field() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        for (request, query, body, status, first) in read_rows(&scene.jane, &scene.gone) {
            let asked = request.clone();
            let answer = scene.app.leads.clone().batch_get_leads(request).await.unwrap();
            let results: Vec<Told> = answer.into_inner().results.into_iter().map(read).collect();
            assert_eq!(results.len(), asked.ids.len());
            assert_eq!(id(&results[0]).map(str::to_owned), first);
            let last = results.last().unwrap().as_ref().expect("the last one is there");
            assert_eq!(last.archived, asked.archived);
            let named = !asked.properties.is_empty();
            assert_eq!(last.properties.contains_key("hs_lead_name"), named);
            let past: &[&str] =
                if asked.properties_with_history.is_empty() { &[] } else { &["HOT", "COLD"] };
            assert_eq!(history(last, "hs_lead_label"), past);
            if status == 207 {
                // The missing lead may have been merged: it is read individually.
                scene.saw_one_of(2, "POST", "/batch/read", &body, status);
            } else {
                scene.saw("POST", "/batch/read", query, &body, status);
            }
        }
    }
}

#[tokio::test]
async fn batch_create_sends_properties_associations_and_trace_ids() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        scene.app.hubspot.behave(|behaviour| behaviour.property_errors_per_item = true);
        let contact = scene.app.contact.clone();
        let company = scene.app.hubspot.add_company("Example Ltd");
        let input = |trace: &str, label: &str| pb::LeadCreate {
            object_write_trace_id: trace.to_owned(),
            ..scene.app.create_input("Joan", &[("hs_lead_label", label)])
        };
        let mut with_company = input("t-1", "HOT");
        let kind = pb::AssociationType { type_id: 580, ..Default::default() };
        with_company.associations = vec![pb::Association {
            to_id: company.clone(),
            types: vec![kind],
            ..Default::default()
        }];
        let to = |id: &str, kind: i32| {
            json!({"to": {"id": id}, "types": [
            {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": kind}]})
        };
        let sent = |trace: &str, label: &str, associations: Value| {
            json!({"properties": {"hs_lead_name": "Joan", "hs_lead_label": label},
                   "associations": associations, "objectWriteTraceId": trace})
        };
        let first = sent("t-1", "HOT", json!([to(&contact, 578), to(&company, 580)]));
        let table = [("COLD", 201, Ok("COLD")), ("BOILING", 207, Err(INVALID))];
        for (label, status, second) in table {
            let inputs = vec![with_company.clone(), input("t-2", label)];
            let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
            let answer = scene.app.leads.clone().batch_create_leads(request).await.unwrap();
            let results: Vec<_> = answer.into_inner().results.into_iter().map(written).collect();
            let traces: Vec<&str> = results.iter().map(|(_, trace)| trace.as_str()).collect();
            assert_eq!(traces, ["t-1", "t-2"]);
            assert_eq!(value(&results[0].0, "hs_lead_label"), "HOT");
            let told = results[1].0.as_ref().map(|lead| lead.properties["hs_lead_label"].as_str());
            assert_eq!(told.map_err(|code| *code), second);
            let inputs = [first.clone(), sent("t-2", label, json!([to(&contact, 578)]))];
            scene.saw("POST", "/batch/create", &[], &json!({ "inputs": inputs }), status);
        }
    }
}

#[tokio::test]
async fn batch_update_sends_ids_unique_properties_and_trace_ids() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        let joan = scene.app.lead("Joan");
        let input = |id: &str, id_property: &str, trace: &str| pb::LeadUpdate {
            id: id.to_owned(),
            id_property: id_property.to_owned(),
            properties: properties(&[("hs_lead_label", "WARM"), ("crm_key", "k-1")]),
            object_write_trace_id: trace.to_owned(),
            ..Default::default()
        };
        let by_id = |id: &str, trace: &str| pb::LeadUpdate {
            properties: properties(&[("hs_lead_label", "WARM")]),
            ..input(id, "", trace)
        };
        let keyed = json!({"id": "k-1", "idProperty": "crm_key", "objectWriteTraceId": "t-1",
                           "properties": {"hs_lead_label": "WARM", "crm_key": "k-1"}});
        let plain = |id: &str| {
            json!({"id": id, "objectWriteTraceId": "t-2",
                                      "properties": {"hs_lead_label": "WARM"}})
        };
        let table = [(joan.as_str(), 200, Ok(joan.as_str())), ("999999", 207, Err(NOT_FOUND))];
        for (second, status, wanted) in table {
            let inputs = vec![input("k-1", "crm_key", "t-1"), by_id(second, "t-2")];
            let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
            let answer = scene.app.leads.clone().batch_update_leads(request).await.unwrap();
            let results: Vec<_> = answer.into_inner().results.into_iter().map(written).collect();
            let traces: Vec<&str> = results.iter().map(|(_, trace)| trace.as_str()).collect();
            assert_eq!(traces, ["t-1", "t-2"]);
            assert_eq!(id(&results[0].0), Ok(scene.jane.as_str()));
            assert_eq!(value(&results[0].0, "hs_lead_label"), "WARM");
            assert_eq!(id(&results[1].0), wanted);
            let body = json!({"inputs": [keyed, plain(second)]});
            // A missing lead may have been merged: it is updated individually.
            let requests = if status == 207 { 2 } else { 1 };
            scene.saw_one_of(requests, "POST", "/batch/update", &body, status);
        }
    }
}

#[tokio::test]
async fn batch_upsert_looks_leads_up_and_sends_updates_and_creates_with_trace_ids() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        scene.app.hubspot.behave(|behaviour| behaviour.property_errors_per_item = true);
        let contact = scene.app.contact.clone();
        let input = |key: &str, trace: &str, label: &str| pb::LeadUpsert {
            id: key.to_owned(),
            id_property: "crm_key".to_owned(),
            properties: properties(&[("hs_lead_name", "Joan"), ("hs_lead_label", label)]),
            object_write_trace_id: trace.to_owned(),
            primary_contact_id: contact.clone(),
            ..Default::default()
        };
        let sent = |key: &str, trace: &str, label: &str| {
            json!({"objectWriteTraceId": trace,
                   "associations": [{"to": {"id": contact}, "types": [
                       {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 578}]}],
                   "properties": {"hs_lead_name": "Joan", "hs_lead_label": label,
                                  "crm_key": key}})
        };
        for (key, label, status, second) in
            [("k-2", "COLD", 201, Ok("COLD")), ("k-3", "BOILING", 207, Err(INVALID))]
        {
            let other = format!("other-{key}");
            let inputs = vec![
                input("k-1", "t-1", "HOT"),
                input(key, "t-2", label),
                input(&other, "t-3", "WARM"),
            ];
            let request = pb::BatchUpsertLeadsRequest { inputs, ..Default::default() };
            let answer = scene.app.leads.clone().batch_upsert_leads(request).await.unwrap();
            let results: Vec<_> = answer.into_inner().results.into_iter().map(upserted).collect();
            let traces: Vec<&str> = results.iter().map(|(.., trace)| trace.as_str()).collect();
            assert_eq!(traces, ["t-1", "t-2", "t-3"]);
            assert_eq!((id(&results[0].0), results[0].1), (Ok(scene.jane.as_str()), false));
            let told = results[1].0.as_ref().map(|lead| lead.properties["hs_lead_label"].as_str());
            assert_eq!(told.map_err(|code| *code), second);
            assert_eq!(results[1].1, second.is_ok());
            let body = json!({"inputs": [sent(key, "t-2", label), sent(&other, "t-3", "WARM")]});
            // A lookup, an update of one lead, and a create of two.
            scene.saw_one_of(3, "POST", "/batch/create", &body, status);
        }
    }
}

#[tokio::test]
async fn a_single_upsert_is_a_lookup_and_an_update() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        let request = pb::UpsertLeadRequest {
            id: "k-1".to_owned(),
            id_property: "crm_key".to_owned(),
            properties: properties(&[("hs_lead_label", "WARM")]),
            object_write_trace_id: "t-1".to_owned(),
            ..Default::default()
        };
        let answer = scene.app.leads.clone().upsert_lead(request).await.unwrap().into_inner();
        assert!(!answer.created && !answer.created_unknown);
        assert_eq!(answer.lead.unwrap().id, scene.jane);
        let body = json!({"properties": {"hs_lead_label": "WARM"}, "objectWriteTraceId": "t-1"});
        scene.saw_one_of(2, "PATCH", &format!("/{}", scene.jane), &body, 200);
    }
}

#[tokio::test]
async fn batch_archive_returns_one_result_per_id() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        for ids in [vec![&scene.jane], vec![&scene.jane, &scene.gone]] {
            let request = pb::BatchArchiveLeadsRequest {
                ids: ids.iter().map(|id| (*id).clone()).collect(),
                ..Default::default()
            };
            let answer = scene.app.leads.clone().batch_archive_leads(request).await.unwrap();
            let codes: Vec<i32> = answer
                .into_inner()
                .results
                .into_iter()
                .map(|result| result.status.unwrap().code)
                .collect();
            assert_eq!(codes, vec![0; ids.len()]);
            let inputs: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
            scene.saw("POST", "/batch/archive", &[], &json!({ "inputs": inputs }), 204);
        }
        assert!(scene.app.hubspot.lead_names().is_empty());
    }
}

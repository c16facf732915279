//! Typed values of properties: written in every form and read back in every form, over the fake.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use leadsd::grpc::pb::{self, typed_value::Kind};
use leadsd_hubspot_fake::{ApiError, ScriptedResponse};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{TestApp, cases, failure, properties};

/// Options of the list property.
const OPTIONS: [&str; 4] = ["skiing", "sailing", "chess", "größe"];

type Typed = BTreeMap<String, pb::TypedValue>;

async fn started(validate: &str) -> TestApp {
    let app = TestApp::builder().set("HUBSPOT__VALIDATE", validate).start().await;
    let options: Vec<_> =
        OPTIONS.iter().map(|value| json!({"value": value, "label": value})).collect();
    for definition in [
        json!({"name": "budget", "type": "number", "fieldType": "number"}),
        json!({"name": "is_vip", "type": "bool", "fieldType": "booleancheckbox"}),
        json!({"name": "close_date", "type": "date", "fieldType": "date"}),
        json!({"name": "interests", "type": "enumeration", "fieldType": "checkbox",
               "options": options}),
    ] {
        app.hubspot.add_property(&definition);
    }
    app.hubspot.add_unique_property("crm_key");
    app
}

fn value(kind: Kind) -> pb::TypedValue {
    pb::TypedValue { kind: Some(kind) }
}

fn typed(values: &[(&str, Kind)]) -> Typed {
    values.iter().map(|(name, kind)| ((*name).to_owned(), value(kind.clone()))).collect()
}

/// A value for each property, of a random kind where there are several.
fn random_values(rng: &mut SmallRng) -> Typed {
    let budget = match rng.random_range(0..3) {
        0 => Kind::Int64Value(*[0, -1, i64::MAX, i64::MIN, 12_345].choose(rng).unwrap()),
        1 => Kind::Int64Value(rng.random()),
        _ => Kind::DecimalValue(format!(
            "{}{}.{:03}0",
            ["", "-", "+"].choose(rng).unwrap(),
            rng.random::<u64>(),
            rng.random_range(0..1_000)
        )),
    };
    let time = prost_types::Timestamp {
        seconds: rng.random_range(-62_135_596_800..253_402_207_200),
        nanos: rng.random_range(0..1_000) * 1_000_000,
    };
    let date = pb::Date {
        year: rng.random_range(1..=9_999),
        month: rng.random_range(1..=12),
        day: rng.random_range(1..=28),
    };
    let mut values: Vec<String> = OPTIONS.map(str::to_owned).to_vec();
    values.truncate(rng.random_range(1..=OPTIONS.len()));
    typed(&[
        ("budget", budget),
        ("is_vip", Kind::BoolValue(rng.random())),
        ("close_date", Kind::DateValue(date)),
        ("interests", Kind::EnumValues(pb::EnumValues { values })),
        ("hs_next_activity_date", Kind::TimestampValue(time)),
        ("hs_lead_name", Kind::StringValue(format!("Jane; {} \"ä\"", rng.random::<u32>()))),
    ])
}

fn names(values: &Typed) -> Vec<String> {
    values.keys().cloned().collect()
}

fn written(outcome: Option<pb::lead_write_result::Outcome>) -> String {
    match outcome {
        Some(pb::lead_write_result::Outcome::Lead(lead)) => lead.id,
        other => panic!("no lead: {other:?}"),
    }
}

/// Writes the values to a lead in one of all forms of writes. Returns the id of the lead.
async fn write(app: &TestApp, form: usize, at: usize, values: Typed) -> String {
    let mut leads = app.leads.clone();
    let (contact, key) = (app.contact.clone(), format!("k-{at}"));
    let (typed_properties, id_property) = (values, "crm_key".to_owned());
    match form {
        0 => {
            let request = pb::CreateLeadRequest {
                typed_properties,
                primary_contact_id: contact,
                ..Default::default()
            };
            leads.create_lead(request).await.unwrap().into_inner().lead.unwrap().id
        }
        1 => {
            let id = app.lead("Jane");
            let request =
                pb::UpdateLeadRequest { id: id.clone(), typed_properties, ..Default::default() };
            leads.update_lead(request).await.unwrap();
            id
        }
        2 => {
            let request = pb::UpsertLeadRequest {
                id: key,
                id_property,
                typed_properties,
                primary_contact_id: contact,
                ..Default::default()
            };
            leads.upsert_lead(request).await.unwrap().into_inner().lead.unwrap().id
        }
        3 => {
            let input = pb::LeadCreate {
                typed_properties,
                primary_contact_id: contact,
                ..Default::default()
            };
            let request = pb::BatchCreateLeadsRequest { inputs: vec![input], ..Default::default() };
            let results = leads.batch_create_leads(request).await.unwrap().into_inner().results;
            written(results.into_iter().next().unwrap().outcome)
        }
        4 => {
            let id = app.lead("Jane");
            let input = pb::LeadUpdate { id: id.clone(), typed_properties, ..Default::default() };
            let request = pb::BatchUpdateLeadsRequest { inputs: vec![input], ..Default::default() };
            let results = leads.batch_update_leads(request).await.unwrap().into_inner().results;
            written(results.into_iter().next().unwrap().outcome)
        }
        _ => {
            let input = pb::LeadUpsert {
                id: key,
                id_property,
                typed_properties,
                primary_contact_id: contact,
                ..Default::default()
            };
            let request = pb::BatchUpsertLeadsRequest { inputs: vec![input], ..Default::default() };
            let results = leads.batch_upsert_leads(request).await.unwrap().into_inner().results;
            match results.into_iter().next().unwrap().outcome {
                Some(pb::lead_upsert_result::Outcome::Lead(lead)) => lead.id,
                other => panic!("no lead: {other:?}"),
            }
        }
    }
}

/// All leads, as each of the five methods reads them, by id.
async fn read_all_ways(app: &TestApp, ids: &[String], names: &[String]) -> Vec<(String, pb::Lead)> {
    let (mut leads, properties) = (app.leads.clone(), names.to_vec());
    let mut found = Vec::new();
    for id in ids {
        let (id, properties) = (id.clone(), properties.clone());
        let get = pb::GetLeadRequest { id, properties, typed: true, ..Default::default() };
        found.extend(leads.get_lead(get).await.unwrap().into_inner().lead);
    }
    let list =
        pb::ListLeadsRequest { properties: properties.clone(), typed: true, ..Default::default() };
    found.extend(leads.list_leads(list).await.unwrap().into_inner().leads);
    let search = pb::SearchLeadsRequest {
        properties: properties.clone(),
        typed: true,
        ..Default::default()
    };
    found.extend(leads.search_leads(search).await.unwrap().into_inner().leads);
    let (ids, own) = (ids.to_vec(), properties.clone());
    let batch =
        pb::BatchGetLeadsRequest { ids, properties: own, typed: true, ..Default::default() };
    let results = leads.batch_get_leads(batch).await.unwrap().into_inner().results;
    found.extend(results.into_iter().map(|result| match result.outcome {
        Some(pb::lead_read_result::Outcome::Lead(lead)) => lead,
        other => panic!("no lead: {other:?}"),
    }));
    let export = pb::ExportLeadsRequest { properties, typed: true, ..Default::default() };
    let mut stream = leads.export_leads(export).await.unwrap().into_inner();
    while let Some(message) = stream.next().await {
        found.extend(message.unwrap().leads);
    }
    found.into_iter().map(|lead| (lead.id.clone(), lead)).collect()
}

/// Properties that HubSpot adds to every read.
fn is_added(name: &str) -> bool {
    ["hs_createdate", "hs_lastmodifieddate", "hs_object_id", "crm_key"].contains(&name)
}

#[tokio::test]
async fn every_typed_value_is_read_as_it_was_written() {
    let app = started("enforce").await;
    let mut rng = SmallRng::seed_from_u64(20);
    let mut expected = BTreeMap::new();
    for at in 0..cases(30, 90) {
        let values = random_values(&mut rng);
        let id = write(&app, at % 6, at, values.clone()).await;
        assert_eq!(expected.insert(id, values), None);
    }
    let names = names(expected.values().next().unwrap());
    let ids: Vec<String> = expected.keys().cloned().collect();
    let found = read_all_ways(&app, &ids, &names).await;
    assert_eq!(found.len(), 5 * expected.len());
    for (id, lead) in found {
        let mut read = lead.typed_properties;
        read.retain(|name, _| !is_added(name));
        assert_eq!(read, expected[&id]);
        assert!(lead.properties.is_empty());
    }
    let calls = app.hubspot_calls().into_iter();
    let schema = calls.filter(|call| call.contains("/properties/") || call.contains("/pipelines/"));
    assert!(schema.count() <= 4);
}

#[tokio::test]
async fn without_typed_all_values_are_text_and_no_schema_is_read() {
    let app = started("off").await;
    let values = typed(&[
        ("hs_lead_name", Kind::StringValue("Jane".to_owned())),
        ("budget", Kind::DecimalValue("12.50".to_owned())),
        ("close_date", Kind::DateValue(pb::Date { year: 2026, month: 11, day: 30 })),
        (
            "interests",
            Kind::EnumValues(pb::EnumValues { values: vec!["chess".into(), "skiing".into()] }),
        ),
        (
            "hs_next_activity_date",
            Kind::TimestampValue(prost_types::Timestamp {
                seconds: 1_764_496_800,
                nanos: 5_000_000,
            }),
        ),
    ]);
    let id = write(&app, 0, 0, values.clone()).await;
    let get = pb::GetLeadRequest { id, properties: names(&values), ..Default::default() };
    let lead = app.leads.clone().get_lead(get).await.unwrap().into_inner().lead.unwrap();
    let mut read = lead.properties;
    read.retain(|name, _| !is_added(name));
    let text = properties(&[
        ("hs_lead_name", "Jane"),
        ("budget", "12.50"),
        ("close_date", "2026-11-30"),
        ("interests", "chess;skiing"),
        ("hs_next_activity_date", "2025-11-30T10:00:00.005Z"),
    ]);
    assert_eq!((read, lead.typed_properties), (text, Typed::new()));
    assert_eq!(app.hubspot_calls().len(), 2, "{:?}", app.hubspot_calls());
}

#[tokio::test]
async fn without_a_schema_every_value_is_text_and_nothing_is_lost() {
    let app = started("off").await;
    let id = write(
        &app,
        0,
        0,
        typed(&[
            ("hs_lead_name", Kind::StringValue("Jane".to_owned())),
            ("budget", Kind::Int64Value(7)),
        ]),
    )
    .await;
    let refused = ScriptedResponse::Reject(ApiError::Forbidden);
    app.hubspot.script("GET", "/properties/2026-09/leads", refused);
    let names = vec!["budget".to_owned()];
    let get = pb::GetLeadRequest { id, properties: names, typed: true, ..Default::default() };
    let lead = app.leads.clone().get_lead(get).await.unwrap().into_inner().lead.unwrap();
    assert_eq!(lead.typed_properties["budget"], value(Kind::StringValue("7".to_owned())));
    assert!(lead.properties.is_empty());
}

/// Fields of the violations of a status.
fn fields(status: &Status) -> Vec<String> {
    let details = status.get_details_bad_request().expect("violations");
    details.field_violations.into_iter().map(|own| own.field).collect()
}

#[tokio::test]
async fn invalid_typed_values_are_refused_by_their_path_without_a_hubspot_call() {
    let app = started("off").await;
    let mut leads = app.leads.clone();
    let list = |values: &[&str]| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Kind::EnumValues(pb::EnumValues { values })
    };
    let precise = prost_types::Timestamp { seconds: 1, nanos: 1_500_000 };
    for kind in [
        Kind::TimestampValue(precise),
        Kind::DateValue(pb::Date { year: 2026, month: 2, day: 29 }),
        Kind::DecimalValue("1,5".to_owned()),
        list(&["a;b"]),
    ] {
        let mut create = app.create_request("Jane");
        create.typed_properties = typed(&[("x", kind.clone())]);
        let (code, reason, found) = failure(leads.create_lead(create).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
        assert_eq!(found, ["typed_properties[\"x\"]"], "{kind:?}");
        let input = pb::LeadUpdate {
            id: "1".to_owned(),
            typed_properties: typed(&[("x", kind)]),
            ..Default::default()
        };
        let batch = pb::BatchUpdateLeadsRequest { inputs: vec![input], ..Default::default() };
        let results = leads.batch_update_leads(batch).await.unwrap().into_inner().results;
        let Some(pb::lead_write_result::Outcome::Error(error)) = &results[0].outcome else {
            panic!("{results:?}")
        };
        assert!(error.message.starts_with("inputs[0].typed_properties[\"x\"]: "), "{error:?}");
    }
    // A name in both maps, and too many in both together.
    let mut create = app.create_request("Jane");
    create.typed_properties = typed(&[("hs_lead_name", Kind::StringValue("Jane".to_owned()))]);
    let status = leads.create_lead(create).await.unwrap_err();
    assert_eq!(fields(&status), ["typed_properties[\"hs_lead_name\"]"]);
    let mut create = app.create_request("Jane");
    create.typed_properties =
        (0..2_000).map(|at| (format!("p{at}"), value(Kind::BoolValue(true)))).collect();
    let status = leads.create_lead(create).await.unwrap_err();
    assert_eq!(fields(&status), ["typed_properties"]);
    // What is wrong with the text is reported by the path of the typed value.
    let mut create = app.create_request("Jane");
    create.properties.clear();
    create.typed_properties = typed(&[("hs_lead_name", Kind::StringValue(" ".to_owned()))]);
    let status = leads.create_lead(create).await.unwrap_err();
    assert_eq!(fields(&status), ["typed_properties[\"hs_lead_name\"]"]);
    let empty = pb::UpdateLeadRequest { id: "1".to_owned(), ..Default::default() };
    assert_eq!(failure(leads.update_lead(empty).await).2, ["properties"]);
    assert_eq!(app.hubspot_calls(), [""; 0]);
}

#[tokio::test]
async fn violations_of_the_schema_and_of_hubspot_name_the_typed_property() {
    let app = started("off").await;
    let mut leads = app.leads.clone();
    let wrong = || typed(&[("budget", Kind::BoolValue(true)), ("is_vip", Kind::BoolValue(true))]);
    let mut create = app.create_request("Jane");
    (create.typed_properties, create.validate_only) = (wrong(), true);
    create.properties.insert("close_date".to_owned(), "soon".to_owned());
    let status = leads.create_lead(create.clone()).await.unwrap_err();
    assert_eq!(fields(&status), ["typed_properties[\"budget\"]", "properties[\"close_date\"]"]);
    let input = |values| pb::LeadUpdate {
        id: "1".to_owned(),
        typed_properties: values,
        ..Default::default()
    };
    let right = typed(&[("budget", Kind::Int64Value(1))]);
    let batch = pb::BatchUpdateLeadsRequest {
        inputs: vec![input(right.clone()), pb::LeadUpdate { id: "2".to_owned(), ..input(wrong()) }],
        validate_only: true,
        ..Default::default()
    };
    let results = leads.batch_update_leads(batch).await.unwrap().into_inner().results;
    assert_eq!(results[0].outcome, None);
    let Some(pb::lead_write_result::Outcome::Error(error)) = &results[1].outcome else {
        panic!("{results:?}")
    };
    assert!(error.message.starts_with("inputs[1].typed_properties[\"budget\"]: is not a number"));
    // HubSpot's own rejection.
    (create.properties, create.validate_only) = (properties(&[("hs_lead_name", "Jane")]), false);
    let (code, reason, found) = failure(leads.create_lead(create).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert_eq!(found, ["typed_properties[\"budget\"]"]);
}

#[tokio::test]
async fn the_same_content_in_either_form_is_one_write() {
    let app = started("off").await;
    let mut leads = app.leads.clone();
    let mut plain = app.create_request("Jane");
    plain.request_id = "5f1c7a52-1d44-4f0e-9a40-2b1f3c0f7a11".to_owned();
    let mut other = plain.clone();
    plain.properties.insert("budget".to_owned(), "7".to_owned());
    other.typed_properties = typed(&[("budget", Kind::Int64Value(7))]);
    let first = leads.create_lead(plain).await.unwrap().into_inner().lead.unwrap().id;
    let second = leads.create_lead(other.clone()).await.unwrap().into_inner().lead.unwrap().id;
    assert_eq!(first, second);
    other.typed_properties = typed(&[("budget", Kind::Int64Value(8))]);
    let (_, reason, _) = failure(leads.create_lead(other).await);
    assert_eq!(reason, "REQUEST_ID_REUSED");
}

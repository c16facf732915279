//! Associations that are made and removed.

use leadsd::grpc::pb;
use leadsd_hubspot_fake::ScriptedResponse;
use serde_json::{Value, json};
use tonic::Code;

use super::{Scene, VERSIONS};
use crate::harness::{TestApp, failure};

fn kind(type_id: i32) -> pb::AssociationType {
    pb::AssociationType { type_id, ..Default::default() }
}

fn sent_kind(id: i32) -> Value {
    json!({"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": id})
}

fn associate(lead: &str, to_id: &str, types: &[i32]) -> pb::AssociateLeadRequest {
    pb::AssociateLeadRequest {
        lead_id: lead.to_owned(),
        object_type: "contacts".to_owned(),
        to_id: to_id.to_owned(),
        types: types.iter().copied().map(kind).collect(),
        ..Default::default()
    }
}

fn dissociate(lead: &str, to_id: &str, types: &[i32]) -> pb::DissociateLeadRequest {
    pb::DissociateLeadRequest {
        lead_id: lead.to_owned(),
        object_type: "contacts".to_owned(),
        to_id: to_id.to_owned(),
        types: types.iter().copied().map(kind).collect(),
        ..Default::default()
    }
}

fn input(lead: &str, to_id: &str, types: &[i32]) -> pb::LeadAssociation {
    pb::LeadAssociation {
        lead_id: lead.to_owned(),
        to_id: to_id.to_owned(),
        types: types.iter().copied().map(kind).collect(),
        ..Default::default()
    }
}

/// Contacts of a lead, with their association types.
async fn contacts(scene: &Scene, lead: &str) -> Vec<(String, i32)> {
    let request = pb::ListLeadAssociationsRequest {
        lead_id: lead.to_owned(),
        object_type: "contacts".to_owned(),
        ..Default::default()
    };
    let page = scene.app.leads.clone().list_lead_associations(request).await.expect("a page");
    scene.app.hubspot.clear_log();
    let entry =
        |object: pb::AssociatedObject| (object.id, object.association_type.unwrap().type_id);
    page.into_inner().objects.into_iter().map(entry).collect()
}

/// Code and message of each result.
fn codes(results: Vec<pb::LeadAssociationResult>) -> Vec<(i32, String)> {
    let status = |result: pb::LeadAssociationResult| result.status.expect("a status");
    results.into_iter().map(status).map(|status| (status.code, status.message)).collect()
}

#[tokio::test]
async fn associations_are_made_and_removed_and_repeats_change_nothing() {
    for (version, leads) in VERSIONS {
        let base = match version {
            "v3" => "/crm/v4/associations/leads/contacts/batch",
            "2026-03" => "/crm/associations/2026-03/leads/contacts/batch",
            _ => "/crm/associations/2026-09/leads/contacts/batch",
        };
        let scene = Scene { base, ..Scene::start(version, leads).await };
        let (jane, first) = (scene.jane.clone(), scene.app.contact.clone());
        let second = scene.app.hubspot.add_contact("second@example.com");
        let mut leads = scene.app.leads.clone();
        let pair = |types: Value| json!({"inputs": [{"from": {"id": jane}, "to": {"id": second}, "types": types}]});
        for _ in 0..2 {
            leads.associate_lead(associate(&jane, &second, &[608, 578])).await.unwrap();
            scene.saw("POST", "/create", &[], &pair(json!([sent_kind(608), sent_kind(578)])), 201);
        }
        let both = [(first.clone(), 578), (second.clone(), 608), (second.clone(), 578)];
        assert_eq!(contacts(&scene, &jane).await, both);
        for _ in 0..2 {
            leads.dissociate_lead(dissociate(&jane, &second, &[578])).await.unwrap();
            scene.saw("POST", "/labels/archive", &[], &pair(json!([sent_kind(578)])), 204);
        }
        assert_eq!(contacts(&scene, &jane).await, both[..2]);
        let removed = json!({"inputs": [{"from": {"id": jane}, "to": [{"id": second}]}]});
        for _ in 0..2 {
            leads.dissociate_lead(dissociate(&jane, &second, &[])).await.unwrap();
            scene.saw("POST", "/archive", &[], &removed, 204);
        }
        assert_eq!(contacts(&scene, &jane).await, both[..1]);
        // What does not exist is not associated.
        leads.dissociate_lead(dissociate("999999", "999998", &[])).await.unwrap();
        leads.dissociate_lead(dissociate("999999", "999998", &[608])).await.unwrap();
    }
}

#[tokio::test]
async fn a_batch_has_one_result_per_input_and_invalid_inputs_cost_nothing() {
    for per_item in [true, false] {
        let scene = Scene::start("2026-09", VERSIONS[0].1).await;
        scene.app.hubspot.behave(|own| own.association_errors_per_item = per_item);
        let joan = scene.app.lead("Joan");
        let second = scene.app.hubspot.add_contact("second@example.com");
        let inputs = vec![
            input(&scene.jane, &second, &[608]),
            input(&scene.jane, "999999", &[608]),
            input("999998", &second, &[608]),
            input("", &second, &[608]),
            input(&joan, &second, &[]),
            input(&joan, &second, &[608]),
            input(&scene.jane, &second, &[608]),
        ];
        let request = pb::BatchAssociateLeadsRequest {
            object_type: "contacts".to_owned(),
            inputs,
            ..Default::default()
        };
        let response = scene.app.leads.clone().batch_associate_leads(request).await.unwrap();
        let results = codes(response.into_inner().results);
        let found: Vec<_> = results.iter().map(|(code, _)| Code::from_i32(*code)).collect();
        assert_eq!(
            found,
            [
                Code::Ok,
                Code::InvalidArgument,
                Code::NotFound,
                Code::InvalidArgument,
                Code::InvalidArgument,
                Code::Ok,
                Code::Ok
            ],
            "{per_item}: {results:?}"
        );
        assert!(results[1].1.contains("999999"), "{results:?}");
        assert!(results[2].1.contains("999998"), "{results:?}");
        assert!(results[3].1.starts_with("inputs[3].lead_id"), "{results:?}");
        assert!(results[4].1.starts_with("inputs[4].types"), "{results:?}");
        let calls = scene.app.hubspot.log().len();
        // The unknown lead may have been merged: its id is read.
        assert!(if per_item { calls == 2 } else { calls <= 4 }, "{calls}");
        for lead in [&scene.jane, &joan] {
            assert_eq!(contacts(&scene, lead).await.len(), 2);
        }
    }
}

#[tokio::test]
async fn a_batch_of_removals_lists_each_lead_once() {
    let scene = Scene::start("2026-09", VERSIONS[0].1).await;
    let jane = scene.jane.as_str();
    let added: Vec<String> = (0..3)
        .map(|number| scene.app.hubspot.add_contact(&format!("c{number}@example.com")))
        .collect();
    added.iter().for_each(|id| scene.app.hubspot.associate(jane, id, 608));
    let inputs = vec![
        input(jane, &added[0], &[]),
        input(jane, &added[1], &[]),
        input(jane, &added[2], &[608]),
        input(jane, "999999", &[]),
    ];
    let request = pb::BatchDissociateLeadsRequest {
        object_type: "contacts".to_owned(),
        inputs,
        ..Default::default()
    };
    let response = scene.app.leads.clone().batch_dissociate_leads(request).await.unwrap();
    assert_eq!(response.metadata().get("leadsd-quota-cost").unwrap(), "2");
    assert_eq!(codes(response.into_inner().results), vec![(0, String::new()); 4]);
    assert_eq!(contacts(&scene, jane).await, [(scene.app.contact.clone(), 578)]);
}

#[tokio::test]
async fn a_lead_that_loses_its_last_primary_association_is_archived_by_hubspot() {
    let scene = Scene::start("2026-09", VERSIONS[0].1).await;
    let last = dissociate(&scene.jane, &scene.app.contact, &[]);
    scene.app.leads.clone().dissociate_lead(last).await.unwrap();
    let get = pb::GetLeadRequest { id: scene.jane.clone(), ..Default::default() };
    let (code, _, _) = failure(scene.app.leads.clone().get_lead(get).await);
    assert_eq!(code, Code::NotFound);
}

#[tokio::test]
async fn a_lost_response_and_a_rate_limit_are_retried_and_an_empty_success_is_invalid() {
    let app = TestApp::builder().set("HUBSPOT__MAX_ATTEMPTS", "4").start().await;
    let jane = app.lead("Jane");
    let second = app.hubspot.add_contact("second@example.com");
    let request = || associate(&jane, &second, &[608]);
    let limited = ScriptedResponse::Exact(
        429,
        vec![("retry-after".to_owned(), "1".to_owned())],
        r#"{"status":"error","category":"RATE_LIMITS","message":"slow down"}"#.into(),
    );
    for script in [ScriptedResponse::DropAfter, limited] {
        app.hubspot.script("POST", "/batch/create", script);
        app.leads.clone().associate_lead(request()).await.expect("a retry");
        assert_eq!(app.hubspot.scripts_left(), 0);
    }
    let empty = ScriptedResponse::Reply(200, "application/json", "{}".into());
    app.hubspot.script("POST", "/batch/create", empty);
    let (_, reason, _) = failure(app.leads.clone().associate_lead(request()).await);
    assert_eq!(reason, "UPSTREAM_INVALID_RESPONSE");
}

#[tokio::test]
async fn an_invalid_change_names_its_field_and_costs_nothing() {
    let scene = Scene::start("2026-09", VERSIONS[0].1).await;
    let valid = associate(&scene.jane, "7", &[608]);
    let mut no_types = valid.clone();
    no_types.types.clear();
    let mut no_type_id = valid.clone();
    no_type_id.types[0].type_id = 0;
    for (field, invalid) in [
        ("lead_id", pb::AssociateLeadRequest { lead_id: String::new(), ..valid.clone() }),
        ("to_id", pb::AssociateLeadRequest { to_id: String::new(), ..valid.clone() }),
        ("object_type", pb::AssociateLeadRequest { object_type: "a b".into(), ..valid.clone() }),
        ("types", no_types),
        ("types[0].type_id", no_type_id),
    ] {
        let (code, reason, fields) = failure(scene.app.leads.clone().associate_lead(invalid).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"), "{field}");
        assert_eq!(fields, [field]);
    }
    let empty =
        pb::BatchDissociateLeadsRequest { object_type: "contacts".into(), ..Default::default() };
    let (code, _, fields) = failure(scene.app.leads.clone().batch_dissociate_leads(empty).await);
    assert_eq!((code, fields), (Code::InvalidArgument, vec!["inputs".to_owned()]));
    assert!(scene.app.hubspot.log().is_empty());
}

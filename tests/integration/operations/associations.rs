//! Pages of the associations of one lead.

use std::time::Duration;

use leadsd::grpc::pb;
use leadsd_hubspot_fake::ScriptedResponse;
use serde_json::Value;
use tonic::Code;

use super::{Scene, VERSIONS};
use crate::harness::failure;

fn request(lead: &str) -> pb::ListLeadAssociationsRequest {
    pb::ListLeadAssociationsRequest {
        lead_id: lead.to_owned(),
        object_type: "contacts".to_owned(),
        ..Default::default()
    }
}

/// Adds this number of contacts to a lead; returns their ids.
fn add_contacts(scene: &Scene, lead: &str, count: usize) -> Vec<String> {
    let contact = |number| scene.app.hubspot.add_contact(&format!("c{number}@example.com"));
    let ids: Vec<String> = (0..count).map(contact).collect();
    ids.iter().for_each(|id| scene.app.hubspot.associate(lead, id, 608));
    ids
}

fn ids(objects: &[pb::AssociatedObject]) -> Vec<String> {
    objects.iter().map(|object| object.id.clone()).collect()
}

fn path(lead: &str) -> String {
    format!("/{lead}/associations/contacts")
}

/// Lists all pages; returns the ids, and the number of pages.
async fn all_pages(
    scene: &Scene,
    mut request: pb::ListLeadAssociationsRequest,
) -> (Vec<String>, usize) {
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = scene.app.leads.clone().list_lead_associations(request.clone()).await;
        let page = page.expect("a page").into_inner();
        found.extend(ids(&page.objects));
        pages += 1;
        if page.next_page_token.is_empty() {
            return (found, pages);
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn every_association_type_of_a_record_is_listed_in_one_call() {
    for (version, base) in VERSIONS {
        let base = if version == "v3" { "/crm/v4/objects/leads" } else { base };
        let scene = Scene { base, ..Scene::start(version, base).await };
        let (jane, contact) = (scene.jane.clone(), scene.app.contact.clone());
        scene.app.hubspot.associate(&jane, &contact, 608);
        let page = scene.app.leads.clone().list_lead_associations(request(&jane)).await.unwrap();
        assert_eq!(page.metadata().get("leadsd-quota-cost").unwrap(), "1");
        let page = page.into_inner();
        let object = |type_id, label: &str| pb::AssociatedObject {
            id: contact.clone(),
            association_type: Some(pb::AssociationType {
                category: pb::AssociationCategory::HubspotDefined.into(),
                type_id,
            }),
            label: label.to_owned(),
            ..Default::default()
        };
        assert_eq!(page.objects, [object(578, "Primary"), object(608, "")]);
        assert_eq!(page.next_page_token, "");
        scene.saw("GET", &path(&jane), &[("limit", "100")], &Value::Null, 200);
        // No association to companies is an empty page.
        let companies =
            pb::ListLeadAssociationsRequest { object_type: "companies".into(), ..request(&jane) };
        let page = scene.app.leads.clone().list_lead_associations(companies).await.unwrap();
        assert_eq!(page.into_inner(), pb::ListLeadAssociationsResponse::default());
    }
}

#[tokio::test]
async fn pages_have_every_record_once_and_page_sizes_are_lowered() {
    let scene = Scene::start("2026-09", VERSIONS[0].1).await;
    let mut contacts = vec![scene.app.contact.clone()];
    contacts.extend(add_contacts(&scene, &scene.jane, 24));
    let small = pb::ListLeadAssociationsRequest { page_size: 7, ..request(&scene.jane) };
    assert_eq!(all_pages(&scene, small).await, (contacts.clone(), 4));
    let log = scene.app.hubspot.log();
    assert_eq!(log.len(), 4);
    assert_eq!(log[1].query, format!("limit=7&after={}", contacts[7]));
    scene.app.hubspot.clear_log();
    let large = pb::ListLeadAssociationsRequest { page_size: i32::MAX, ..request(&scene.jane) };
    assert_eq!(all_pages(&scene, large).await, (contacts, 1));
    scene.saw("GET", &path(&scene.jane), &[("limit", "500")], &Value::Null, 200);
}

#[tokio::test]
async fn the_cursor_of_a_lead_leads_to_the_rest_of_its_associations() {
    let scene = Scene::start("2026-09", VERSIONS[0].1).await;
    let mut contacts = vec![scene.app.contact.clone()];
    contacts.extend(add_contacts(&scene, &scene.jane, 24));
    scene.app.hubspot.behave(|behaviour| behaviour.associations_shown = 10);
    let get = pb::GetLeadRequest {
        id: scene.jane.clone(),
        associations: vec!["contacts".to_owned()],
        ..Default::default()
    };
    let lead = scene.app.leads.clone().get_lead(get).await.unwrap().into_inner().lead.unwrap();
    let list = &lead.associations["contacts"];
    assert_eq!(ids(&list.objects), contacts[..10]);
    assert_ne!(list.next_cursor, "");
    let rest = pb::ListLeadAssociationsRequest {
        cursor: list.next_cursor.clone(),
        page_size: 6,
        ..request(&scene.jane)
    };
    assert_eq!(all_pages(&scene, rest.clone()).await, (contacts[10..].to_vec(), 3));
    // A token belongs to the cursor with which its pages began.
    let first = scene.app.leads.clone().list_lead_associations(rest.clone()).await.unwrap();
    let page_token = first.into_inner().next_page_token;
    for other in [
        pb::ListLeadAssociationsRequest { cursor: String::new(), ..rest.clone() },
        pb::ListLeadAssociationsRequest { object_type: "companies".into(), ..rest.clone() },
        pb::ListLeadAssociationsRequest { lead_id: "1".into(), ..rest },
    ] {
        let other = pb::ListLeadAssociationsRequest { page_token: page_token.clone(), ..other };
        let (code, reason, _) =
            failure(scene.app.leads.clone().list_lead_associations(other).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_PAGE_TOKEN"));
    }
}

#[tokio::test]
async fn a_merged_lead_lists_the_surviving_one_and_an_archived_lead_is_not_found() {
    let scene = Scene::start("2026-09", VERSIONS[0].1).await;
    let joan = scene.app.lead("Joan");
    add_contacts(&scene, &scene.jane, 1);
    scene.app.hubspot.merge(&joan, &scene.jane);
    let (found, _) = all_pages(&scene, request(&joan)).await;
    assert_eq!(found.len(), 2);
    for (lead, calls) in [(scene.gone.as_str(), 2), ("999999", 2)] {
        scene.app.hubspot.clear_log();
        let call = scene.app.leads.clone().list_lead_associations(request(lead)).await;
        let message = call.as_ref().unwrap_err().message().to_owned();
        let (code, reason, _) = failure(call);
        assert_eq!((code, reason.as_str()), (Code::NotFound, "LEAD_NOT_FOUND"));
        assert!(message.contains(lead), "{message}");
        assert_eq!(scene.app.hubspot.log().len(), calls);
    }
}

#[tokio::test]
async fn an_invalid_request_names_its_field_and_costs_nothing() {
    let scene = Scene::start("2026-09", VERSIONS[0].1).await;
    let valid = request(&scene.jane);
    for (field, invalid) in [
        ("lead_id", pb::ListLeadAssociationsRequest { lead_id: String::new(), ..valid.clone() }),
        ("lead_id", pb::ListLeadAssociationsRequest { lead_id: "../1".into(), ..valid.clone() }),
        (
            "object_type",
            pb::ListLeadAssociationsRequest { object_type: "".into(), ..valid.clone() },
        ),
        (
            "object_type",
            pb::ListLeadAssociationsRequest { object_type: "..".into(), ..valid.clone() },
        ),
        (
            "object_type",
            pb::ListLeadAssociationsRequest { object_type: "a/b".into(), ..valid.clone() },
        ),
        ("page_size", pb::ListLeadAssociationsRequest { page_size: -1, ..valid.clone() }),
        ("cursor", pb::ListLeadAssociationsRequest { cursor: "x".repeat(513), ..valid.clone() }),
        ("cursor", pb::ListLeadAssociationsRequest { cursor: "a\nb".into(), ..valid.clone() }),
    ] {
        let (code, reason, fields) =
            failure(scene.app.leads.clone().list_lead_associations(invalid).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"), "{field}");
        assert_eq!(fields, [field]);
    }
    assert!(scene.app.hubspot.log().is_empty());
}

#[tokio::test]
async fn hubspots_refusals_of_a_page_keep_their_reason() {
    let scene = Scene::start("2026-09", VERSIONS[0].1).await;
    // A 429 may be about HubSpot's separate limit of associations, so it closes no bucket of the quota.
    let limited = ScriptedResponse::Reply(
        429,
        "application/json",
        r#"{"status":"error","category":"RATE_LIMITS","message":"slow down"}"#.into(),
    );
    scene.app.hubspot.script("GET", "/associations/contacts", limited);
    // HubSpot's pause does not fit in the time of the call.
    let mut short = tonic::Request::new(request(&scene.jane));
    short.set_timeout(Duration::from_secs(2));
    let (code, reason, _) = failure(scene.app.leads.clone().list_lead_associations(short).await);
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    let get = pb::GetLeadRequest { id: scene.jane.clone(), ..Default::default() };
    scene.app.leads.clone().get_lead(get).await.expect("the other calls go on");
    let unknown = pb::ListLeadAssociationsRequest {
        object_type: "butterflies".to_owned(),
        ..request(&scene.jane)
    };
    let call = scene.app.leads.clone().list_lead_associations(unknown).await;
    let message = call.as_ref().unwrap_err().message().to_owned();
    let (code, reason, _) = failure(call);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert!(message.contains("butterflies"), "{message}");
}

fn contacts_of(lead: &pb::Lead) -> (Vec<String>, String) {
    let list = lead.associations.get("contacts").expect("an entry");
    (ids(&list.objects), list.next_cursor.clone())
}

fn batch_get(ids: &[&str]) -> pb::BatchGetLeadsRequest {
    pb::BatchGetLeadsRequest {
        ids: ids.iter().map(|&id| id.to_owned()).collect(),
        associations: vec!["contacts".to_owned()],
        ..Default::default()
    }
}

async fn read_batch(scene: &Scene, request: pb::BatchGetLeadsRequest) -> Vec<Option<pb::Lead>> {
    let results = scene.app.leads.clone().batch_get_leads(request).await.expect("results");
    let lead = |result: pb::LeadReadResult| match result.outcome {
        Some(pb::lead_read_result::Outcome::Lead(lead)) => Some(lead),
        Some(pb::lead_read_result::Outcome::Error(_)) | None => None,
    };
    results.into_inner().results.into_iter().map(lead).collect()
}

#[tokio::test]
async fn batches_and_searches_read_the_associations_of_all_leads_with_one_more_call() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        for reports_missing in [false, true] {
            scene.app.hubspot.behave(|own| own.report_missing_associations = reports_missing);
            let joan = scene.app.lead("Joan");
            scene.app.hubspot.clear_log();
            let read = pb::BatchGetLeadsRequest {
                associations: vec!["contacts".to_owned(), "companies".to_owned()],
                ..batch_get(&[&scene.jane, &joan, &scene.jane])
            };
            let leads = read_batch(&scene, read).await;
            assert_eq!(scene.app.hubspot.log().len(), 3, "{:?}", scene.app.hubspot.log());
            for lead in &leads {
                let lead = lead.as_ref().expect("a lead");
                assert_eq!(contacts_of(lead), (vec![scene.app.contact.clone()], String::new()));
                let object = &lead.associations["contacts"].objects[0];
                assert_eq!(
                    (object.association_type.unwrap().type_id, &*object.label),
                    (578, "Primary")
                );
                assert_eq!(lead.associations["companies"], pb::AssociatedObjects::default());
            }
            scene.app.hubspot.clear_log();
            let search = pb::SearchLeadsRequest {
                associations: vec!["contacts".to_owned()],
                ..Default::default()
            };
            let page = scene.app.leads.clone().search_leads(search).await.unwrap();
            assert_eq!(page.metadata().get("leadsd-quota-cost").unwrap(), "2");
            for lead in page.into_inner().leads {
                assert_eq!(contacts_of(&lead).0, std::slice::from_ref(&scene.app.contact));
            }
            assert_eq!(scene.app.hubspot.log().len(), 2);
        }
    }
}

#[tokio::test]
async fn more_associations_than_a_page_are_marked_and_the_cursor_leads_to_the_rest() {
    let scene = Scene::start("2026-09", VERSIONS[0].1).await;
    let mut contacts = vec![scene.app.contact.clone()];
    contacts.extend(add_contacts(&scene, &scene.jane, 6));
    scene.app.hubspot.behave(|behaviour| behaviour.associations_page = 3);
    let joan = scene.app.lead("Joan");
    let leads = read_batch(&scene, batch_get(&[&scene.jane, &joan])).await;
    let (found, cursor) = contacts_of(leads[0].as_ref().unwrap());
    assert_eq!(found, contacts[..3]);
    assert_ne!(cursor, "");
    assert_eq!(contacts_of(leads[1].as_ref().unwrap()).1, "");
    let rest = pb::ListLeadAssociationsRequest { cursor, ..request(&scene.jane) };
    assert_eq!(all_pages(&scene, rest).await.0, contacts[3..]);
}

#[tokio::test]
async fn a_batch_returns_the_survivors_of_merged_leads_and_no_archived_leads() {
    let scene = Scene::start("2026-09", VERSIONS[0].1).await;
    let (joan, old) = (scene.app.lead("Joan"), scene.app.lead("Old"));
    let company = scene.app.hubspot.add_company("Example Ltd");
    scene.app.hubspot.associate(&joan, &company, 610);
    scene.app.hubspot.merge(&old, &joan);
    let read = pb::BatchGetLeadsRequest {
        associations: vec!["companies".to_owned()],
        ..batch_get(&[&old, &scene.jane, &joan, &scene.gone])
    };
    let leads = read_batch(&scene, read).await;
    for merged in [&leads[0], &leads[2]] {
        let merged = merged.as_ref().expect("the surviving lead");
        assert_eq!(
            (&merged.id, ids(&merged.associations["companies"].objects)),
            (&joan, vec![company.clone()])
        );
    }
    assert_eq!((leads[1].is_some(), leads[3].is_some()), (true, false));
    scene.app.hubspot.clear_log();
    let archived = pb::BatchGetLeadsRequest { archived: true, ..batch_get(&[&scene.gone]) };
    let (code, _, fields) = failure(scene.app.leads.clone().batch_get_leads(archived).await);
    assert_eq!((code, fields), (Code::InvalidArgument, vec!["associations".to_owned()]));
    assert!(scene.app.hubspot.log().is_empty());
    // A search whose index has not seen the archive still returns the lead.
    scene.app.hubspot.script_times(
        2,
        "POST",
        "/batch/read",
        ScriptedResponse::Reply(
            200,
            "application/json",
            format!(r#"{{"results":[{{"from":{{"id":"{joan}"}},"to":[]}}]}}"#),
        ),
    );
    let search =
        pb::SearchLeadsRequest { associations: vec!["contacts".into()], ..Default::default() };
    let page = scene.app.leads.clone().search_leads(search).await.unwrap().into_inner();
    let entries: Vec<_> =
        page.leads.iter().map(|lead| (lead.id == joan, lead.associations.len())).collect();
    assert_eq!(entries, [(false, 0), (true, 1)]);
}

#[tokio::test]
async fn a_missing_scope_of_the_associated_objects_is_named_and_ends_the_call() {
    let scene = Scene::start("2026-09", VERSIONS[0].1).await;
    let body = r#"{"status":"error","category":"MISSING_SCOPES","message":"no",
        "errors":[{"message":"one of","context":{"requiredGranularScopes":["crm.objects.contacts.read"]}}]}"#;
    let missing = ScriptedResponse::Reply(403, "application/json", body.into());
    scene.app.hubspot.script_times(2, "POST", "/contacts/batch/read", missing);
    let call = scene.app.leads.clone().batch_get_leads(batch_get(&[&scene.jane])).await;
    let details = String::from_utf8_lossy(call.as_ref().unwrap_err().details()).into_owned();
    let (code, reason, _) = failure(call);
    assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "MISSING_SCOPES"));
    assert!(details.contains("crm.objects.contacts.read"), "{details}");
    let search =
        pb::SearchLeadsRequest { associations: vec!["contacts".into()], ..Default::default() };
    let (code, reason, _) = failure(scene.app.leads.clone().search_leads(search).await);
    assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "MISSING_SCOPES"));
}

//! Single calls: get, create, update, archive.

use leadsd::grpc::pb;
use serde_json::{Value, json};
use tonic::Code;

use super::{Query, Scene, VERSIONS, associated, history};
use crate::harness::{failure, properties};

#[tokio::test]
async fn get_sends_every_parameter_and_parses_every_field() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        let defaults = vec!["hs_object_id".to_owned()];
        scene.app.hubspot.behave(|behaviour| behaviour.default_properties = defaults);
        let (jane, gone) = (scene.jane.as_str(), scene.gone.as_str());
        let with_id = |id: &str| pb::GetLeadRequest { id: id.to_owned(), ..Default::default() };
        let live = ("archived", "false");
        let table: [(pb::GetLeadRequest, Query<'_>, &str); 6] = [
            (with_id(jane), &[live], jane),
            (
                pb::GetLeadRequest {
                    properties: vec!["hs_lead_name".into(), "nope".into()],
                    ..with_id(jane)
                },
                &[live, ("properties", "hs_lead_name,nope")],
                jane,
            ),
            (
                pb::GetLeadRequest {
                    properties_with_history: vec!["hs_lead_label".into()],
                    ..with_id(jane)
                },
                &[live, ("propertiesWithHistory", "hs_lead_label")],
                jane,
            ),
            (
                pb::GetLeadRequest {
                    associations: vec!["contacts".into(), "companies".into()],
                    ..with_id(jane)
                },
                &[live, ("associations", "contacts,companies")],
                jane,
            ),
            (
                pb::GetLeadRequest { id_property: "crm_key".into(), ..with_id("K-1") },
                &[live, ("idProperty", "crm_key")],
                jane,
            ),
            (pb::GetLeadRequest { archived: true, ..with_id(gone) }, &[("archived", "true")], gone),
        ];
        for (request, query, wanted) in table {
            let asked = request.clone();
            let lead = scene.app.leads.clone().get_lead(request).await.unwrap().into_inner().lead;
            let lead = lead.unwrap();
            assert_eq!(lead.id, wanted);
            assert_eq!(lead.archived, asked.archived);
            assert_eq!(lead.archive_time.is_some(), asked.archived);
            assert!(lead.create_time.is_some() && lead.update_time.is_some());
            assert!(lead.url.ends_with(&format!("/record/0-136/{wanted}")));
            let named = asked.properties.contains(&"hs_lead_name".to_owned());
            assert_eq!(lead.properties.contains_key("hs_lead_name"), named);
            assert_eq!(lead.properties["hs_object_id"], wanted, "one of the defaults");
            assert!(!lead.properties.contains_key("nope"), "unknown names are ignored");
            let past: &[&str] =
                if asked.properties_with_history.is_empty() { &[] } else { &["HOT", "COLD"] };
            assert_eq!(history(&lead, "hs_lead_label"), past);
            let contacts = if asked.associations.is_empty() {
                Vec::new()
            } else {
                vec![scene.app.contact.clone()]
            };
            assert_eq!(associated(&lead, "contacts"), contacts);
            scene.saw("GET", &format!("/{}", asked.id), query, &Value::Null, 200);
        }
        let (code, reason, _) = failure(scene.app.leads.clone().get_lead(with_id("999999")).await);
        assert_eq!((code, reason.as_str()), (Code::NotFound, "LEAD_NOT_FOUND"));
        scene.saw("GET", "/999999", &[live], &Value::Null, 404);
    }
}

#[tokio::test]
async fn create_sends_properties_associations_and_the_trace_id() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        let (contact, company) =
            (scene.app.contact.clone(), scene.app.hubspot.add_company("Example Ltd"));
        let kind = |type_id| pb::AssociationType { type_id, ..Default::default() };
        let to = |id: &str, types: &[i32]| pb::Association {
            to_id: id.to_owned(),
            types: types.iter().copied().map(kind).collect(),
            ..Default::default()
        };
        let sent_kind = |id: i32| {
            json!({"associationCategory": "HUBSPOT_DEFINED",
                                         "associationTypeId": id})
        };
        let sent = |id: &str, types: &[i32]| {
            json!({"to": {"id": id},
            "types": types.iter().copied().map(sent_kind).collect::<Vec<_>>()})
        };
        let name = || properties(&[("hs_lead_name", "Joan"), ("hs_lead_label", "WARM")]);
        let table = [
            (contact.as_str(), vec![], json!([sent(&contact, &[578])]), false),
            (
                contact.as_str(),
                vec![to(&company, &[580])],
                json!([sent(&contact, &[578]), sent(&company, &[580])]),
                true,
            ),
            (
                "",
                vec![to(&contact, &[578, 608]), to(&company, &[610])],
                json!([sent(&contact, &[578, 608]), sent(&company, &[610])]),
                true,
            ),
        ];
        for (primary, associations, sent, with_company) in table {
            let request = pb::CreateLeadRequest {
                properties: name(),
                primary_contact_id: primary.to_owned(),
                associations,
                object_write_trace_id: "t-1".to_owned(),
                ..Default::default()
            };
            let mut leads = scene.app.leads.clone();
            let lead = leads.create_lead(request).await.unwrap().into_inner().lead.unwrap();
            assert_eq!(lead.properties["hs_lead_name"], "Joan");
            assert_eq!(lead.properties["hs_lead_label"], "WARM");
            assert!(!lead.archived);
            let body = json!({"properties": {"hs_lead_name": "Joan", "hs_lead_label": "WARM"},
                              "associations": sent, "objectWriteTraceId": "t-1"});
            scene.saw("POST", "", &[], &body, 201);
            let request = pb::GetLeadRequest {
                id: lead.id.clone(),
                associations: vec!["contacts".into(), "companies".into()],
                ..Default::default()
            };
            let lead = leads.get_lead(request).await.unwrap().into_inner().lead.unwrap();
            assert!(associated(&lead, "contacts").contains(&contact));
            assert_eq!(associated(&lead, "companies").contains(&company), with_company);
            scene.app.hubspot.clear_log();
        }
    }
}

#[tokio::test]
async fn update_sends_properties_the_unique_property_and_the_trace_id() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        let with_id = |id: &str, id_property: &str, value: &str| pb::UpdateLeadRequest {
            id: id.to_owned(),
            id_property: id_property.to_owned(),
            properties: properties(&[("hs_lead_label", value)]),
            ..Default::default()
        };
        let traced = pb::UpdateLeadRequest {
            object_write_trace_id: "t-1".into(),
            ..with_id(&scene.jane, "", "COLD")
        };
        let table: [(pb::UpdateLeadRequest, Query<'_>, Option<&str>); 4] = [
            (with_id(&scene.jane, "", "WARM"), &[], Some("WARM")),
            (with_id("k-1", "crm_key", "HOT"), &[("idProperty", "crm_key")], Some("HOT")),
            (with_id(&scene.jane, "", ""), &[], None),
            (traced, &[], Some("COLD")),
        ];
        for (request, query, label) in table {
            let asked = request.clone();
            let answer = scene.app.leads.clone().update_lead(request).await.unwrap().into_inner();
            let lead = answer.lead.unwrap();
            assert_eq!(lead.id, scene.jane);
            assert_eq!(lead.properties.get("hs_lead_label").map(String::as_str), label);
            let mut body = json!({"properties": {"hs_lead_label": label.unwrap_or_default()}});
            if !asked.object_write_trace_id.is_empty() {
                body["objectWriteTraceId"] = json!(asked.object_write_trace_id);
            }
            scene.saw("PATCH", &format!("/{}", asked.id), query, &body, 200);
        }
        let (code, reason, _) =
            failure(scene.app.leads.clone().update_lead(with_id("999999", "", "HOT")).await);
        assert_eq!((code, reason.as_str()), (Code::NotFound, "LEAD_NOT_FOUND"));
        // The lead may have been merged: its id is read.
        let body = json!({"properties": {"hs_lead_label": "HOT"}});
        scene.saw_one_of(2, "PATCH", "/999999", &body, 404);
    }
}

#[tokio::test]
async fn archive_succeeds_for_live_archived_and_unknown_leads() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        for id in [&scene.jane, &scene.jane, &scene.gone, &"999999".to_owned()] {
            let request = pb::ArchiveLeadRequest { id: id.clone(), ..Default::default() };
            scene.app.leads.clone().archive_lead(request).await.unwrap();
            scene.saw("DELETE", &format!("/{id}"), &[], &Value::Null, 204);
        }
        assert!(scene.app.hubspot.lead_names().is_empty());
    }
}

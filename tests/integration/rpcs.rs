//! Each RPC with each API version.

use leadsd::grpc::pb;

use crate::harness::{TestApp, failure, properties};
use tonic::Code;

/// Operator, property, value, high value, values, and whether the lead matches.
type Case<'a> = (pb::FilterOperator, &'a str, &'a str, &'a str, &'a [&'a str], bool);

const VERSIONS: [(&str, &str); 3] = [
    ("2026-09", "/crm/objects/2026-09/leads"),
    ("2026-03", "/crm/objects/2026-03/leads"),
    ("v3", "/crm/v3/objects/leads"),
];

#[tokio::test]
async fn lead_lifecycle_works_in_every_version() {
    for (version, base) in VERSIONS {
        let app = TestApp::builder().api_version(version).start().await;
        let mut leads = app.leads.clone();
        let created = leads.create_lead(app.create_request("Jane")).await.unwrap().into_inner();
        let id = created.lead.unwrap().id;

        let request = pb::GetLeadRequest {
            id: id.clone(),
            properties: vec!["hs_lead_name".into(), "hs_lead_label".into(), "unknown".into()],
            associations: vec!["contacts".into()],
            ..Default::default()
        };
        let lead = leads.get_lead(request).await.unwrap().into_inner().lead.unwrap();
        assert_eq!(lead.properties["hs_lead_name"], "Jane");
        assert!(!lead.properties.contains_key("hs_lead_label"), "null is absent");
        assert_eq!(lead.unset_properties, ["hs_lead_label"], "an unknown name is in neither");
        assert_eq!(lead.associations["contacts"].objects[0].id, app.contact);
        assert_eq!(lead.associations["contacts"].objects[0].r#type, "lead_to_contact");
        assert!(lead.create_time.is_some() && lead.update_time.is_some() && !lead.archived);

        let update = pb::UpdateLeadRequest {
            id: id.clone(),
            properties: properties(&[("hs_lead_label", "HOT")]),
            ..Default::default()
        };
        let updated = leads.update_lead(update).await.unwrap().into_inner().lead.unwrap();
        assert_eq!(updated.properties["hs_lead_label"], "HOT");

        let found = leads.search_leads(search("hs_lead_label", "HOT")).await.unwrap().into_inner();
        assert_eq!((found.total, found.leads[0].id.clone()), (1, id.clone()));

        for _ in 0..2 {
            let archive = pb::ArchiveLeadRequest { id: id.clone(), ..Default::default() };
            leads.archive_lead(archive).await.unwrap();
        }
        let (code, reason, _) = failure(app.get(&id).await);
        assert_eq!((code, reason.as_str()), (Code::NotFound, "LEAD_NOT_FOUND"));
        let request = pb::GetLeadRequest { id, archived: true, ..Default::default() };
        let lead = leads.get_lead(request).await.unwrap().into_inner().lead.unwrap();
        assert!(lead.archived && lead.archive_time.is_some());
        let calls = app.hubspot_calls();
        assert_eq!(calls.len(), 8, "one HubSpot call for each: {calls:?}");
        assert!(calls.iter().all(|call| call.split(' ').nth(1).unwrap().starts_with(base)));
        app.stop().await;
    }
}

fn search(property: &str, value: &str) -> pb::SearchLeadsRequest {
    let filter = pb::Filter {
        property_name: property.to_owned(),
        operator: pb::FilterOperator::Eq.into(),
        value: value.to_owned(),
        ..Default::default()
    };
    pb::SearchLeadsRequest {
        filter_groups: vec![pb::FilterGroup { filters: vec![filter] }],
        properties: vec!["hs_lead_name".into()],
        ..Default::default()
    }
}

#[tokio::test]
async fn lists_return_every_lead_once() {
    let app = TestApp::start().await;
    let mut ids: Vec<String> = (0..25).map(|i| app.lead(&format!("lead {i}"))).collect();
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListLeadsRequest { page_size: 10, page_token, ..Default::default() };
        let page = app.leads.clone().list_leads(request).await.unwrap().into_inner();
        seen.extend(page.leads.into_iter().map(|lead| lead.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    ids.sort();
    seen.sort();
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn a_search_pages_sorts_and_counts() {
    let app = TestApp::start().await;
    for i in 0..7 {
        app.lead(&format!("lead {i}"));
    }
    let mut request = pb::SearchLeadsRequest {
        query: "lead".to_owned(),
        sorts: vec![pb::Sort {
            property_name: "hs_lead_name".to_owned(),
            direction: pb::SortDirection::Descending.into(),
        }],
        properties: vec!["hs_lead_name".into()],
        page_size: 5,
        ..Default::default()
    };
    let mut leads = app.leads.clone();
    let first = leads.search_leads(request.clone()).await.unwrap().into_inner();
    assert_eq!((first.total, first.leads.len()), (7, 5));
    assert_eq!(first.leads[0].properties["hs_lead_name"], "lead 6");
    request.page_token = first.next_page_token;
    let last = leads.search_leads(request).await.unwrap().into_inner();
    assert_eq!((last.leads.len(), last.next_page_token.as_str()), (2, ""));
    let body = &app.hubspot.log()[0].body;
    assert_eq!(body["sorts"][0]["direction"], "DESCENDING");
}

#[tokio::test]
async fn every_filter_operator_is_sent() {
    use pb::FilterOperator as Op;
    let app = TestApp::start().await;
    let id = app.hubspot.add_lead(
        &app.contact,
        &serde_json::json!({"hs_lead_name": "Jane Doe", "hs_lead_label": "HOT",
                            "hs_lead_pipeline_value": "50"}),
    );
    let table: [Case<'_>; 14] = [
        (Op::Eq, "hs_lead_label", "HOT", "", &[], true),
        (Op::Neq, "hs_lead_label", "HOT", "", &[], false),
        (Op::Lt, "hs_lead_pipeline_value", "9", "", &[], false),
        (Op::Lte, "hs_lead_pipeline_value", "50", "", &[], true),
        (Op::Gt, "hs_lead_pipeline_value", "50", "", &[], false),
        (Op::Gte, "hs_lead_pipeline_value", "50", "", &[], true),
        (Op::Between, "hs_lead_pipeline_value", "9", "100", &[], true),
        (Op::In, "hs_lead_label", "", "", &["COLD", "HOT"], true),
        (Op::NotIn, "hs_lead_label", "", "", &["HOT"], false),
        (Op::HasProperty, "hs_lead_label", "", "", &[], true),
        (Op::NotHasProperty, "hs_lead_source", "", "", &[], true),
        (Op::ContainsToken, "hs_lead_name", "ja*", "", &[], true),
        (Op::NotContainsToken, "hs_lead_name", "jane", "", &[], false),
        (Op::Eq, "associations.contact", &app.contact, "", &[], true),
    ];
    // HubSpot allows five searches per second.
    app.hubspot.limit(|limits| limits.search_per_second = 100);
    for (operator, property, value, high_value, values, matches) in table {
        let filter = pb::Filter {
            property_name: property.to_owned(),
            operator: operator.into(),
            value: value.to_owned(),
            high_value: high_value.to_owned(),
            values: values.iter().map(|&value| value.to_owned()).collect(),
            ..Default::default()
        };
        let request = pb::SearchLeadsRequest {
            filter_groups: vec![pb::FilterGroup { filters: vec![filter] }],
            ..Default::default()
        };
        let found = app.leads.clone().search_leads(request).await.unwrap().into_inner();
        let ids: Vec<String> = found.leads.into_iter().map(|lead| lead.id).collect();
        assert_eq!(ids.first().cloned(), id.clone().filter(|_| matches), "{operator:?}");
    }
}

#[tokio::test]
async fn history_and_unique_properties_are_returned() {
    let app = TestApp::start().await;
    app.hubspot.add_unique_property("crm_key");
    let mut leads = app.leads.clone();
    let upsert = pb::UpsertLeadRequest {
        id: "k-1".to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_name", "Jane"), ("hs_lead_label", "COLD")]),
        primary_contact_id: app.contact.clone(),
        ..Default::default()
    };
    let first = leads.upsert_lead(upsert.clone()).await.unwrap().into_inner();
    assert!(first.created);
    let mut again = upsert;
    again.properties.insert("hs_lead_label".to_owned(), "HOT".to_owned());
    let second = leads.upsert_lead(again).await.unwrap().into_inner();
    assert!(!second.created && !second.created_unknown);
    assert_eq!(second.lead.unwrap().id, first.lead.unwrap().id);

    let request = pb::GetLeadRequest {
        id: "K-1".to_owned(),
        id_property: "crm_key".to_owned(),
        properties_with_history: vec!["hs_lead_label".into()],
        ..Default::default()
    };
    let lead = leads.get_lead(request).await.unwrap().into_inner().lead.unwrap();
    let history = &lead.property_history["hs_lead_label"].versions;
    let values: Vec<_> = history.iter().map(|version| version.value.as_deref()).collect();
    assert_eq!(values, [Some("HOT"), Some("COLD")]);
    assert_eq!(history[0].source_type, "INTEGRATION");
    assert!(history[0].time.is_some());

    let clear = pb::UpdateLeadRequest {
        id: "k-1".to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_label", "")]),
        ..Default::default()
    };
    let cleared = leads.update_lead(clear).await.unwrap().into_inner().lead.unwrap();
    assert!(!cleared.properties.contains_key("hs_lead_label"));
}

#[tokio::test]
async fn validation_errors_list_the_fields() {
    let app = TestApp::start().await;
    let mut leads = app.leads.clone();
    let mut request = app.create_request("Jane");
    request.properties.insert("hs_lead_label".into(), "BOILING".into());
    let (code, reason, fields) = failure(leads.create_lead(request).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert_eq!(fields, [r#"properties["hs_lead_label"]"#]);

    let mut request = app.create_request("Jane");
    request.primary_contact_id = "424242".into();
    let (code, reason, _) = failure(leads.create_lead(request).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"));

    let id = app.lead("Jane");
    let update = pb::UpdateLeadRequest {
        id,
        properties: properties(&[("hs_object_id", "1")]),
        ..Default::default()
    };
    let (_, _, fields) = failure(leads.update_lead(update).await);
    assert_eq!(fields, [r#"properties["hs_object_id"]"#]);
}

#[tokio::test]
async fn unique_value_conflict_is_already_exists_in_both_shapes() {
    for status in [400, 409] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.unique_clash_status = status);
        app.hubspot.add_unique_property("crm_key");
        let mut request = app.create_request("Jane");
        request.properties.insert("crm_key".into(), "k".into());
        app.leads.clone().create_lead(request.clone()).await.unwrap();
        let (code, reason, _) = failure(app.leads.clone().create_lead(request).await);
        assert_eq!((code, reason.as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
    }
}

#[tokio::test]
async fn a_contact_may_be_named_by_a_label_of_the_portal() {
    // Only HubSpot knows the object type of a label: it decides.
    let app = TestApp::start().await;
    let user_defined = pb::AssociationCategory::UserDefined.into();
    let label = app.hubspot.add_contact_label("Decision maker");
    let type_id = i32::try_from(label).unwrap();
    let types = vec![pb::AssociationType { type_id, category: user_defined }];
    let request = pb::CreateLeadRequest {
        properties: properties(&[("hs_lead_name", "Jane")]),
        associations: vec![pb::Association {
            to_id: app.contact.clone(),
            types,
            ..Default::default()
        }],
        object_write_trace_id: "t-1".into(),
        ..Default::default()
    };
    app.leads.clone().create_lead(request).await.unwrap();
    let body = &app.hubspot.log()[0].body;
    assert_eq!(body["objectWriteTraceId"], "t-1");
    let company = app.hubspot.add_company("Example Ltd");
    let types = vec![pb::AssociationType { type_id: 580, ..Default::default() }];
    let request = pb::CreateLeadRequest {
        properties: properties(&[("hs_lead_name", "Jane")]),
        associations: vec![pb::Association { to_id: company, types, ..Default::default() }],
        ..Default::default()
    };
    let (code, _, fields) = failure(app.leads.clone().create_lead(request).await);
    assert_eq!((code, fields), (Code::InvalidArgument, vec!["primary_contact_id".to_owned()]));
    assert_eq!(app.hubspot.log().len(), 1);
}

#[tokio::test]
async fn upsert_without_id_property_is_rejected_without_a_call() {
    let app = TestApp::start().await;
    let request = pb::UpsertLeadRequest {
        id: app.lead("Jane"),
        properties: properties(&[("hs_lead_label", "HOT")]),
        ..Default::default()
    };
    let (code, reason, fields) = failure(app.leads.clone().upsert_lead(request).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
    assert_eq!(fields, ["id_property"]);
    assert!(app.hubspot.log().is_empty());
}

#[tokio::test]
async fn repeated_request_id_creates_once_and_other_content_is_rejected() {
    let app = TestApp::start().await;
    let mut request = app.create_request("Jane");
    request.request_id = "4f1c7a52-1d44-4f0e-9a40-2b1f3c0f7a11".into();
    let mut leads = app.leads.clone();
    let first = leads.create_lead(request.clone()).await.unwrap().into_inner();
    let second = leads.create_lead(request.clone()).await.unwrap().into_inner();
    assert_eq!(first, second);
    assert_eq!(app.hubspot.lead_names(), ["Jane"]);
    request.properties.insert("hs_lead_name".into(), "Joan".into());
    let (code, reason, fields) = failure(leads.create_lead(request).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    assert_eq!(fields, ["request_id"]);
}

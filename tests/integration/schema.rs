//! SchemaService: names and ids of a portal, from the copies of the service.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use leadsd::grpc::pb::{self, schema_service_client::SchemaServiceClient};
use leadsd_hubspot_fake::ScriptedResponse;
use serde_json::json;
use tonic::{Code, Request, transport::Channel};
use tonic_types::StatusExt as _;

use crate::harness::{TestApp, failure, properties};

/// Paths of one cold round, by version.
const VERSIONS: [(&str, [&str; 4]); 3] = [
    (
        "2026-09",
        [
            "/crm/properties/2026-09/leads",
            "/crm/pipelines/2026-09/leads",
            "/crm/owners/2026-09",
            "/crm/associations/2026-09/leads/contacts/labels",
        ],
    ),
    (
        "2026-03",
        [
            "/crm/properties/2026-03/leads",
            "/crm/pipelines/2026-03/leads",
            "/crm/owners/2026-03",
            "/crm/associations/2026-03/leads/contacts/labels",
        ],
    ),
    (
        "v3",
        [
            "/crm/v3/properties/leads",
            "/crm/v3/pipelines/leads",
            "/crm/v3/owners",
            "/crm/v4/associations/leads/contacts/labels",
        ],
    ),
];

async fn schema(app: &TestApp) -> SchemaServiceClient<Channel> {
    SchemaServiceClient::connect(format!("http://{}", app.grpc)).await.expect("a connection")
}

/// Paths of HubSpot calls so far.
fn paths(app: &TestApp) -> Vec<String> {
    app.hubspot_calls().iter().map(|call| call.split(' ').nth(1).unwrap().to_owned()).collect()
}

async fn property(app: &TestApp, name: &str) -> Option<pb::LeadProperty> {
    let request =
        pb::ListLeadPropertiesRequest { names: vec![name.to_owned()], ..Default::default() };
    let response = schema(app).await.list_lead_properties(request).await.unwrap().into_inner();
    response.properties.into_iter().next()
}

#[tokio::test]
async fn every_part_is_read_once_in_every_version() {
    for (version, expected) in VERSIONS {
        let app = TestApp::builder().api_version(version).start().await;
        let owner = app.hubspot.add_owner("Ada@example.com");
        app.hubspot.name_owner(&owner, "Ada", "Lovelace");
        app.hubspot.add_pipeline("777", "Partners", &[("778", "Talking"), ("779", "Signed")]);
        let decision_maker = app.hubspot.add_contact_label("Decision maker");
        let mut client = schema(&app).await;
        let mut cost = 0.0;
        for round in 0..3 {
            let answer =
                client.list_lead_properties(pb::ListLeadPropertiesRequest::default()).await;
            let answer = answer.unwrap();
            let header = answer.metadata().get("leadsd-quota-cost").unwrap().to_str().unwrap();
            cost += header.parse::<f64>().unwrap();
            let answer = answer.into_inner();
            assert!(answer.fetch_time.is_some() && !answer.incomplete);
            let label = answer.properties.iter().find(|own| own.name == "hs_lead_label").unwrap();
            let values: Vec<&str> = label.options.iter().map(|own| own.value.as_str()).collect();
            assert_eq!(
                (label.r#type.as_str(), values),
                ("enumeration", vec!["HOT", "WARM", "COLD"])
            );
            let named = |name: &str| answer.properties.iter().find(|own| own.name == name).unwrap();
            assert!(named("hs_object_id").read_only && named("hs_lead_name").required);
            assert!(named("hubspot_owner_id").has_external_options);

            let pipelines = client.list_lead_pipelines(pb::ListLeadPipelinesRequest::default());
            let pipelines = pipelines.await.unwrap().into_inner().pipelines;
            assert_eq!(pipelines[0].id, "lead-pipeline-id");
            assert_eq!(pipelines[1].stages[1].label, "Signed");

            let request =
                pb::ListOwnersRequest { email: "ada@EXAMPLE.com".to_owned(), ..Default::default() };
            let owners = client.list_owners(request).await.unwrap().into_inner();
            let own = &owners.owners[0];
            assert_eq!((own.id.clone(), own.last_name.as_str()), (owner.clone(), "Lovelace"));
            assert!(own.active && owners.fetch_time.is_some());

            let types = client.list_association_types(pb::ListAssociationTypesRequest::default());
            let types = types.await.unwrap().into_inner();
            assert_eq!(types.lists.len(), 10);
            let contacts = &types.lists[0];
            assert_eq!((contacts.to_object_type.as_str(), &contacts.error), ("contacts", &None));
            let ids: Vec<(i32, &str, Option<i32>)> = contacts
                .types
                .iter()
                .map(|own| (own.type_id, own.label.as_str(), own.inverse_type_id))
                .collect();
            let expected = [
                (i32::try_from(decision_maker).unwrap(), "Decision maker", None),
                (578, "Primary", None),
                (608, "", Some(609)),
            ];
            assert_eq!(ids, expected);
            assert_eq!(contacts.types[0].category(), pb::AssociationCategory::UserDefined);
            assert_eq!(types.lists[1].types[0].type_id, 580, "known without a call");
            assert_eq!(types.lists[1].fetch_time, None);
            assert_eq!(types.fetch_time, contacts.fetch_time, "round {round}");
        }
        assert_eq!(paths(&app), expected);
        assert!((cost - 1.0).abs() < 1e-9, "the call that read pays: {cost}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callers_cost_four_calls_whatever_they_ask() {
    let app = TestApp::start().await;
    for number in 0..1_200 {
        app.hubspot.add_owner(&format!("owner-{number}@example.com"));
    }
    let zero = Some(prost_types::Duration::default());
    let client = schema(&app).await;
    let calls = (0..1_000).map(|number| {
        let mut client = client.clone();
        async move {
            match number % 4 {
                0 => {
                    let request =
                        pb::ListLeadPropertiesRequest { max_age: zero, ..Default::default() };
                    client.list_lead_properties(request).await.map(drop)
                }
                1 => {
                    let request = pb::ListLeadPipelinesRequest { max_age: zero };
                    client.list_lead_pipelines(request).await.map(drop)
                }
                2 => {
                    let request = pb::ListOwnersRequest { max_age: zero, ..Default::default() };
                    client.list_owners(request).await.map(drop)
                }
                _ => {
                    let to_object_types = vec![format!("2-{number}"), "contacts".to_owned()];
                    let request =
                        pb::ListAssociationTypesRequest { max_age: zero, to_object_types };
                    client.list_association_types(request).await.map(drop)
                }
            }
        }
    });
    for result in join_all(calls).await {
        result.expect("an old or a new copy");
    }
    assert_eq!(paths(&app).len(), 4, "{:?}", paths(&app));
}

#[tokio::test]
async fn odd_custom_properties_are_shown_as_they_are() {
    let app = TestApp::start().await;
    app.hubspot.add_property(&json!({
        "name": "interests", "label": "Interests & \"more\"", "type": "enumeration",
        "fieldType": "checkbox", "groupName": "custom group",
        "options": [{"value": "a b", "label": "A / B", "displayOrder": 1},
                    {"value": "ü", "label": "Ü", "displayOrder": 0, "hidden": true}],
    }));
    app.hubspot.add_property(&json!({
        "name": "score", "type": "number", "fieldType": "calculation_equation", "calculated": true,
    }));
    app.hubspot.add_property(&json!({"name": "tenant", "type": "string", "hasUniqueValue": true}));
    // The peer changes types, and repeats a name.
    app.hubspot.add_property(&json!({"name": "odd", "type": ["list"], "label": 7, "options": {}}));
    let interests = property(&app, "interests").await.unwrap();
    assert_eq!(interests.label, "Interests & \"more\"");
    assert_eq!(
        (interests.field_type.as_str(), interests.group.as_str()),
        ("checkbox", "custom group")
    );
    let options: Vec<(&str, &str, bool)> = interests
        .options
        .iter()
        .map(|own| (own.value.as_str(), own.label.as_str(), own.hidden))
        .collect();
    assert_eq!(options, [("ü", "Ü", true), ("a b", "A / B", false)]);
    let score = property(&app, "score").await.unwrap();
    assert!(score.calculated && score.read_only);
    assert!(property(&app, "tenant").await.unwrap().unique);
    let odd = property(&app, "odd").await.unwrap();
    assert_eq!((odd.label.as_str(), odd.r#type.as_str(), odd.options.len()), ("7", "", 0));
    let metric = "leadsd_hubspot_unreadable_fields_total{portal=\"default\",field=\"results\"}";
    assert_eq!(app.metric(metric).await, Some(2.0), "its type and options, and no other field");
    assert_eq!(paths(&app).len(), 1);
}

#[tokio::test]
async fn missing_scopes_are_named_and_the_other_parts_work() {
    for on_top in [false, true] {
        // The app has the scopes of leads only.
        let app = TestApp::builder().oauth().start().await;
        app.hubspot.behave(|behaviour| behaviour.scopes_on_top = on_top);
        let mut client = schema(&app).await;
        let status = client.list_owners(pb::ListOwnersRequest::default()).await.unwrap_err();
        let details = status.get_error_details();
        let metadata = &details.error_info().unwrap().metadata;
        assert_eq!(metadata["requiredScopes"], "crm.objects.owners.read");
        let (code, reason, _) = failure(Err::<(), _>(status));
        assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "MISSING_SCOPES"));
        assert!(client.list_owners(pb::ListOwnersRequest::default()).await.is_err());
        let properties = pb::ListLeadPropertiesRequest::default();
        assert!(client.list_lead_properties(properties).await.is_ok());
        let pipelines = pb::ListLeadPipelinesRequest::default();
        assert!(client.list_lead_pipelines(pipelines).await.is_ok());
        assert_eq!(paths(&app).len(), 3);
    }
}

#[tokio::test]
async fn lists_are_paged_and_larger_page_sizes_are_lowered() {
    let app = TestApp::builder().set("GRPC__MAX_RESPONSE_SIZE", "64KiB").start().await;
    for number in 0..1_100 {
        app.hubspot.add_text_property(&format!("p{number:04}_{}", "x".repeat(50)));
    }
    let mut client = schema(&app).await;
    let mut names = Vec::new();
    let mut request = pb::ListLeadPropertiesRequest { page_size: i32::MAX, ..Default::default() };
    let mut pages = 0;
    loop {
        let page = client.list_lead_properties(request.clone()).await.unwrap().into_inner();
        pages += 1;
        names.extend(page.properties.into_iter().map(|own| own.name));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        // The size may change between pages.
        request.page_size = 0;
    }
    let unique: BTreeMap<&String, ()> = names.iter().map(|name| (name, ())).collect();
    assert_eq!((unique.len(), names.len()), (1_117, 1_117));
    assert!(names.is_sorted() && pages >= 5, "{pages}");
    assert_eq!(paths(&app).len(), 1);

    let first = pb::ListLeadPropertiesRequest { page_size: 2, ..Default::default() };
    let first = client.list_lead_properties(first).await.unwrap().into_inner();
    assert_eq!(first.properties.len(), 2);
    let other = pb::ListOwnersRequest { page_token: first.next_page_token, ..Default::default() };
    let (code, reason, fields) = failure(client.list_owners(other).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_PAGE_TOKEN"));
    assert_eq!(fields, ["page_token"]);
}

#[tokio::test]
async fn invalid_requests_cost_nothing() {
    let app = TestApp::start().await;
    let mut client = schema(&app).await;
    let past = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let request = pb::ListLeadPipelinesRequest { max_age: past };
    assert_eq!(failure(client.list_lead_pipelines(request).await).2, ["max_age"]);
    let request = pb::ListOwnersRequest { page_size: -1, ..Default::default() };
    assert_eq!(failure(client.list_owners(request).await).2, ["page_size"]);
    let to_object_types = vec!["a b".to_owned(), String::new()];
    let request = pb::ListAssociationTypesRequest { to_object_types, ..Default::default() };
    let fields = failure(client.list_association_types(request).await).2;
    assert_eq!(fields, ["to_object_types[0]", "to_object_types[1]"]);
    let to_object_types = (0..17).map(|number| format!("2-{number}")).collect();
    let request = pb::ListAssociationTypesRequest { to_object_types, ..Default::default() };
    assert_eq!(failure(client.list_association_types(request).await).0, Code::InvalidArgument);
    assert_eq!(paths(&app), Vec::<String>::new());
}

#[tokio::test]
async fn an_unknown_object_type_fails_alone() {
    let app = TestApp::start().await;
    let to_object_types = ["2-77", "company"].map(str::to_owned).to_vec();
    let request = pb::ListAssociationTypesRequest { to_object_types, ..Default::default() };
    let lists =
        schema(&app).await.list_association_types(request).await.unwrap().into_inner().lists;
    let error = lists[0].error.as_ref().expect("HubSpot knows no such object");
    assert_eq!(Code::from(error.code), Code::InvalidArgument);
    assert_eq!(lists[1].to_object_type, "companies");
    assert_eq!(lists[1].types.len(), 2, "those of every portal: the call is spent");
}

#[tokio::test]
async fn an_outage_leaves_the_old_copy_with_its_time() {
    let app = TestApp::start().await;
    let mut client = schema(&app).await;
    let request = pb::ListLeadPipelinesRequest::default();
    let first = client.list_lead_pipelines(request).await.unwrap().into_inner();
    let zero = pb::ListLeadPipelinesRequest { max_age: Some(prost_types::Duration::default()) };
    let failures = [
        ScriptedResponse::Reply(503, "text/html", "<html>".into()),
        ScriptedResponse::DropBefore,
        ScriptedResponse::Reply(200, "application/json", "{}".into()),
    ];
    for script in failures {
        app.hubspot.script("GET", "/leads", script);
        let old = client.list_lead_pipelines(zero).await.unwrap().into_inner();
        assert_eq!(old, first);
        app.hubspot.clear_scripts();
    }
    assert_eq!(paths(&app).len(), 2, "a failed call is not repeated at once");
}

#[tokio::test]
async fn a_property_that_hubspot_no_longer_knows_is_gone_after_one_refresh() {
    let app = TestApp::start().await;
    app.hubspot.add_text_property("budget");
    assert!(property(&app, "budget").await.is_some());
    app.hubspot.remove_property("budget");
    let mut create = app.create_request("Jane");
    create.properties.insert("budget".to_owned(), "7".to_owned());
    let (code, reason, _) = failure(app.leads.clone().create_lead(create).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"));
    assert_eq!(property(&app, "budget").await, None);
    // A name that neither side knows is no reason to ask again.
    let mut create = app.create_request("Jane");
    create.properties = properties(&[("hs_lead_name", "Jane"), ("junk", "7")]);
    failure(app.leads.clone().create_lead(create).await);
    assert!(property(&app, "hs_lead_name").await.is_some());
    let reads = paths(&app).iter().filter(|path| path.contains("/properties/")).count();
    assert_eq!(reads, 2);
}

#[tokio::test]
async fn pages_of_owners_are_followed_as_calls_permit() {
    let app = TestApp::start().await;
    app.hubspot.behave(|behaviour| behaviour.owners_shown = 100);
    for number in 0..250 {
        app.hubspot.add_owner(&format!("owner-{number}@example.com"));
    }
    let request = pb::ListOwnersRequest { page_size: 1_000, ..Default::default() };
    let answer = schema(&app).await.list_owners(request).await.unwrap().into_inner();
    assert_eq!((answer.owners.len(), answer.incomplete), (200, true));
    assert_eq!(paths(&app).len(), 2);
}

#[tokio::test]
async fn portals_are_listed_with_rights_and_state() {
    let app = TestApp::builder().portals(&["berlin", "zurich"]).start().await;
    let mut client = schema(&app).await;
    let mut request = pb::ListPortalsRequest { page_size: 1, page_token: String::new() };
    let mut names = Vec::new();
    loop {
        // The portal of the metadata need not exist.
        let mut call = Request::new(request.clone());
        call.metadata_mut().insert("leadsd-portal", "nowhere".parse().unwrap());
        let answer = client.list_portals(call).await.unwrap().into_inner();
        assert!(answer.fetch_time.is_some() && answer.portals.len() <= 1);
        for portal in answer.portals {
            assert!(portal.can_read && portal.can_write && portal.can_read_quota);
            assert!(portal.can_export && portal.can_import && portal.usable, "{portal:?}");
            assert!(portal.can_create_contacts, "{portal:?}");
            assert_eq!(portal.credential_state, "fresh");
            names.push(portal.name);
        }
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["berlin", "zurich"]);
    assert_eq!(paths(&app), Vec::<String>::new());
}

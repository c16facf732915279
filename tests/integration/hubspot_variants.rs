//! Undocumented behaviour of HubSpot, in every variant of the fake's switches: results are equal
//! for callers.

use std::time::Duration;

use leadsd::grpc::pb;
use leadsd_hubspot_fake::NumErrors;
use pb::{lead_read_result, lead_upsert_result, lead_write_result};
use tonic::Code;

use crate::{
    harness::{PATIENCE, TestApp, failure, properties},
    operations::VERSIONS,
};

fn label(id: &str, label: &str) -> pb::LeadUpdate {
    pb::LeadUpdate {
        id: id.to_owned(),
        properties: properties(&[("hs_lead_label", label)]),
        ..Default::default()
    }
}

/// Code of a write result; 0 for a lead.
fn code(result: &pb::LeadWriteResult) -> i32 {
    match result.outcome.as_ref().unwrap() {
        lead_write_result::Outcome::Lead(_) => 0,
        lead_write_result::Outcome::Error(error) => error.code,
    }
}

#[tokio::test]
async fn batch_errors_are_found_for_every_meaning_of_num_errors() {
    for counts in [NumErrors::Entries, NumErrors::Inputs, NumErrors::Absent] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.num_errors = counts);
        let id = app.lead("Jane");
        let inputs = vec![label("999998", "HOT"), label(&id, "HOT"), label("999999", "HOT")];
        let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
        let answer = app.leads.clone().batch_update_leads(request).await.unwrap().into_inner();
        let codes: Vec<i32> = answer.results.iter().map(code).collect();
        let missing = i32::from(Code::NotFound);
        assert_eq!(codes, [missing, 0, missing], "{counts:?}");
    }
}

#[tokio::test]
async fn batch_create_accepts_200_and_201() {
    for status in [200, 201] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.batch_create_status = status);
        let inputs = vec![app.create_input("Jane", &[]), app.create_input("Joan", &[])];
        let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
        let answer = app.leads.clone().batch_create_leads(request).await.unwrap().into_inner();
        assert_eq!(answer.results.iter().map(code).collect::<Vec<_>>(), [0, 0]);
        assert_eq!(app.hubspot.log().last().unwrap().status, status);
    }
}

#[tokio::test]
async fn unknown_contact_is_invalid_argument_in_both_shapes() {
    for status in [400, 404] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.missing_contact_status = status);
        let request = pb::CreateLeadRequest {
            primary_contact_id: "424242".into(),
            ..app.create_request("Jane")
        };
        let (code, reason, _) = failure(app.leads.clone().create_lead(request).await);
        assert_eq!(
            (code, reason.as_str()),
            (Code::InvalidArgument, "VALIDATION_FAILED"),
            "{status}: a create looks for no lead"
        );
        let bad =
            pb::LeadCreate { primary_contact_id: "424242".into(), ..app.create_input("Jane", &[]) };
        let inputs = vec![bad, app.create_input("Joan", &[])];
        let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
        let answer = app.leads.clone().batch_create_leads(request).await.unwrap().into_inner();
        let codes: Vec<i32> = answer.results.iter().map(self::code).collect();
        assert_eq!(codes, [i32::from(Code::InvalidArgument), 0], "{status}");
    }
}

#[tokio::test]
async fn lead_without_a_contact_is_rejected_in_every_version() {
    for (version, _) in VERSIONS {
        let app = TestApp::builder().api_version(version).start().await;
        let company = app.hubspot.add_company("Example Ltd");
        // Only HubSpot knows that the label is one of companies.
        let category = pb::AssociationCategory::UserDefined.into();
        let types = vec![pb::AssociationType { type_id: 580, category }];
        let request = pb::CreateLeadRequest {
            properties: properties(&[("hs_lead_name", "Jane")]),
            associations: vec![pb::Association { to_id: company, types, ..Default::default() }],
            ..Default::default()
        };
        let (code, reason, _) = failure(app.leads.clone().create_lead(request).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"));
    }
}

#[tokio::test]
async fn upsert_by_record_id_updates_a_lead_that_exists() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    let upsert = |id: &str| pb::UpsertLeadRequest {
        id: id.to_owned(),
        id_property: "hs_object_id".into(),
        properties: properties(&[("hs_lead_name", "Joan")]),
        primary_contact_id: app.contact.clone(),
        ..Default::default()
    };
    let answer = app.leads.clone().upsert_lead(upsert(&id)).await.unwrap().into_inner();
    assert_eq!((answer.lead.unwrap().id, answer.created), (id, false));
    let (code, reason, _) = failure(app.leads.clone().upsert_lead(upsert("999999")).await);
    assert_eq!((code, reason.as_str()), (Code::NotFound, "LEAD_NOT_FOUND"));
    assert_eq!(app.hubspot.lead_names(), ["Joan"]);
}

#[tokio::test]
async fn archiving_an_unknown_lead_succeeds_with_204_and_404() {
    for status in [204, 404] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.archive_unknown_status = status);
        let request = pb::ArchiveLeadRequest { id: "999999".into(), ..Default::default() };
        app.leads.clone().archive_lead(request).await.unwrap();
        assert_eq!(app.hubspot.log().last().unwrap().status, status);
    }
}

#[tokio::test]
async fn reads_with_history_have_at_most_fifty_inputs() {
    for refuse in [true, false] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.refuse_history_over_50 = refuse);
        let ids: Vec<String> = (0..120).map(|i| app.lead(&format!("lead {i}"))).collect();
        let request = pb::BatchGetLeadsRequest {
            ids: ids.clone(),
            properties_with_history: vec!["hs_lead_name".into()],
            ..Default::default()
        };
        let answer = app.leads.clone().batch_get_leads(request).await.unwrap().into_inner();
        for (id, result) in ids.iter().zip(answer.results) {
            let Some(lead_read_result::Outcome::Lead(lead)) = result.outcome else {
                panic!("{id} is missing")
            };
            assert_eq!(lead.id, *id);
            assert_eq!(lead.property_history["hs_lead_name"].versions.len(), 1);
        }
        assert_eq!(app.hubspot_calls().len(), 3, "50, 50 and 20");
        let list = |page_size| pb::ListLeadsRequest {
            page_size,
            properties_with_history: vec!["hs_lead_name".into()],
            ..Default::default()
        };
        for page_size in [0, 50, 51, i32::MAX] {
            let page = app.leads.clone().list_leads(list(page_size)).await.unwrap().into_inner();
            assert_eq!(page.leads.len(), 50, "{page_size}");
        }
    }
}

#[tokio::test]
async fn missing_lead_has_one_reason_with_and_without_a_category() {
    for category in [true, false] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.not_found_category = category);
        for id in ["999999", "no-number"] {
            let (code, reason, _) = failure(app.get(id).await);
            assert_eq!((code, reason.as_str()), (Code::NotFound, "LEAD_NOT_FOUND"), "{id}");
        }
        let request = pb::UpdateLeadRequest {
            id: "999999".into(),
            properties: properties(&[("hs_lead_label", "HOT")]),
            ..Default::default()
        };
        let (code, _, _) = failure(app.leads.clone().update_lead(request).await);
        assert_eq!(code, Code::NotFound);
    }
}

#[tokio::test]
async fn missing_scope_is_reported_from_both_places() {
    use tonic_types::StatusExt as _;
    for on_top in [true, false] {
        let app = TestApp::builder().unready().start().await;
        let token = app.hubspot.static_token(&["crm.objects.contacts.read"]);
        let secret = serde_json::json!({"access_token": token.expose()});
        app.vault.put("hubspot/default", secret);
        app.hubspot.revoke_tokens();
        let token = app.hubspot.static_token(&["crm.objects.contacts.read"]);
        let secret = serde_json::json!({"access_token": token.expose()});
        app.vault.put("hubspot/default", secret);
        app.hubspot.behave(|behaviour| behaviour.scopes_on_top = on_top);
        let refused = async {
            loop {
                let status = app.get("1").await.unwrap_err();
                if status.code() == Code::PermissionDenied {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let status = tokio::time::timeout(PATIENCE, refused).await.expect("in time");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.reason, "MISSING_SCOPES");
        let told = format!("{} {:?}", status.message(), info.metadata);
        assert!(told.contains("crm.objects.leads.read"), "{told}");
    }
}

#[tokio::test]
async fn batch_results_match_with_any_default_properties() {
    for defaults in [&[][..], &["hs_createdate", "hs_lastmodifieddate", "hs_object_id"]] {
        let defaults: Vec<String> = defaults.iter().map(|name: &&str| (*name).to_owned()).collect();
        let app = TestApp::start().await;
        app.hubspot.add_unique_property("crm_key");
        app.hubspot.behave(|behaviour| behaviour.default_properties = defaults.clone());
        let upsert = |key: &str| pb::LeadUpsert {
            id: key.to_owned(),
            id_property: "crm_key".into(),
            properties: properties(&[("hs_lead_name", key)]),
            primary_contact_id: app.contact.clone(),
            ..Default::default()
        };
        let inputs = vec![upsert("a"), upsert("b"), upsert("c")];
        let request = pb::BatchUpsertLeadsRequest { inputs, ..Default::default() };
        let results = app.leads.clone().batch_upsert_leads(request).await.unwrap().into_inner();
        let made: Vec<String> = results
            .results
            .into_iter()
            .map(|result| match result.outcome.unwrap() {
                lead_upsert_result::Outcome::Lead(lead) => lead.id,
                lead_upsert_result::Outcome::Error(error) => panic!("{error:?}"),
            })
            .collect();
        let request = pb::BatchGetLeadsRequest {
            ids: vec!["c".into(), "a".into(), "b".into()],
            id_property: "crm_key".into(),
            ..Default::default()
        };
        let answer = app.leads.clone().batch_get_leads(request).await.unwrap().into_inner();
        let read: Vec<String> = answer
            .results
            .into_iter()
            .map(|result| match result.outcome.unwrap() {
                lead_read_result::Outcome::Lead(lead) => lead.id,
                lead_read_result::Outcome::Error(error) => panic!("{error:?}"),
            })
            .collect();
        assert_eq!(read, [made[2].clone(), made[0].clone(), made[1].clone()]);
    }
}

#[tokio::test]
async fn search_query_is_sent_unchanged() {
    for (searched, found) in [(vec![], 1), (vec!["hs_lead_source".to_owned()], 0)] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.searched_properties = searched);
        app.lead("Jane");
        let request = pb::SearchLeadsRequest { query: "jane".into(), ..Default::default() };
        let answer = app.leads.clone().search_leads(request).await.unwrap().into_inner();
        assert_eq!((answer.total, answer.leads.len()), (found, usize::try_from(found).unwrap()));
    }
}

#[tokio::test]
async fn association_name_is_returned_unchanged() {
    for name in ["lead_to_contact", "lead_to_contact_unlabeled"] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.contact_association = name.into());
        let request = pb::GetLeadRequest {
            id: app.lead("Jane"),
            associations: vec!["contacts".into()],
            ..Default::default()
        };
        let lead = app.leads.clone().get_lead(request).await.unwrap().into_inner().lead.unwrap();
        assert_eq!(lead.associations["contacts"].objects[0].r#type, name);
    }
}

#[tokio::test]
async fn association_cursor_is_returned() {
    for (shown, cursor) in [(1, true), (500, false)] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.associations_shown = shown);
        let second = app.hubspot.add_contact("grace@example.com");
        let types = vec![pb::AssociationType { type_id: 608, ..Default::default() }];
        let mut create = app.create_request("Jane");
        create.associations = vec![pb::Association { to_id: second, types, ..Default::default() }];
        let lead = app.leads.clone().create_lead(create).await.unwrap().into_inner().lead.unwrap();
        let request = pb::GetLeadRequest {
            id: lead.id,
            associations: vec!["contacts".into()],
            ..Default::default()
        };
        let lead = app.leads.clone().get_lead(request).await.unwrap().into_inner().lead.unwrap();
        let contacts = &lead.associations["contacts"];
        assert_eq!(contacts.objects.len(), shown.min(2));
        assert_eq!(!contacts.next_cursor.is_empty(), cursor);
    }
}

#[tokio::test]
async fn merged_lead_is_read_as_its_survivor() {
    for follows in [true, false] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.batch_reads_follow_merges = follows);
        let (loser, winner) = (app.lead("Jane"), app.lead("Joan"));
        app.hubspot.merge(&loser, &winner);
        let lead = app.get(&loser).await.unwrap().into_inner().lead.unwrap();
        assert_eq!((&lead.id, lead.properties["hs_lead_name"].as_str()), (&winner, "Joan"));
        let request = pb::BatchGetLeadsRequest {
            ids: vec![winner.clone(), loser, winner.clone()],
            ..Default::default()
        };
        let answer = app.leads.clone().batch_get_leads(request).await.unwrap().into_inner();
        let read = answer.results.into_iter().map(|result| match result.outcome.unwrap() {
            lead_read_result::Outcome::Lead(lead) => Ok(lead.id),
            lead_read_result::Outcome::Error(error) => Err(error.code),
        });
        let own = || Ok(winner.clone());
        assert_eq!(read.collect::<Vec<_>>(), [own(), own(), own()], "{follows}");
    }
}

#[tokio::test]
async fn read_is_current_while_the_search_index_lags() {
    // Longer than the test takes on any machine: the index catches up when the lag ends.
    for lag in [Duration::ZERO, Duration::from_secs(3600)] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.index_lag = lag);
        app.hubspot.limit(|limits| limits.search_per_second = 1_000);
        let id = app.lead("Jane");
        app.get(&id).await.expect("reads go past the index");
        let search = || app.leads.clone();
        let first = search().search_leads(pb::SearchLeadsRequest::default()).await.unwrap();
        assert_eq!(first.into_inner().total, i64::from(lag.is_zero()));
        app.hubspot.behave(|behaviour| behaviour.index_lag = Duration::ZERO);
        let later = search().search_leads(pb::SearchLeadsRequest::default()).await.unwrap();
        assert_eq!(later.into_inner().total, 1);
    }
}

#[tokio::test]
async fn long_reads_stay_below_the_url_limit() {
    for longest in [8_000, 16_000] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.longest_url = longest);
        let id = app.lead("Jane");
        // Short names: their commas use more room in a URL than the names do.
        for count in [1_000, 1_300, 1_500, 1_900] {
            app.hubspot.clear_log();
            let names = |i: u32| format!("p{i:03x}").split_off(1);
            let mut names: Vec<String> = (0..count).map(names).collect();
            names.push("hs_lead_name".to_owned());
            let request = pb::GetLeadRequest {
                id: id.clone(),
                properties: names.clone(),
                ..Default::default()
            };
            let answer = app.leads.clone().get_lead(request).await.unwrap().into_inner();
            assert_eq!(answer.lead.unwrap().properties["hs_lead_name"], "Jane", "{count}");
            assert_eq!(app.hubspot.log().len(), 1, "{count}");
            let request = pb::ListLeadsRequest { properties: names, ..Default::default() };
            let answer = app.leads.clone().list_leads(request).await.unwrap().into_inner();
            assert_eq!(answer.leads[0].properties["hs_lead_name"], "Jane", "{count}");
            assert!(app.hubspot.log().len() <= 3, "{count}");
        }
    }
}

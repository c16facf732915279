//! Responses of HubSpot that are easily misread: which error a caller gets, and at what cost.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leadsd::grpc::pb::{
    self, lead_read_result::Outcome as ReadOutcome, lead_write_result::Outcome as WriteOutcome,
};
use leadsd_base::{
    secret::Secret,
    time::{SystemClock, WallClock as _, to_http_date},
};
use leadsd_credentials::{GrantError, RefreshRequest, TokenSource as _};
use leadsd_hubspot_fake::{FakeHubspot, ScriptedResponse};
use tonic::Code;
use tonic_types::{RpcStatusExt as _, StatusExt as _};

use crate::harness::{TestApp, failure};

fn json(status: u16, body: &str) -> ScriptedResponse {
    ScriptedResponse::Reply(status, "application/json", body.to_owned())
}

fn batch_get(ids: &[&str]) -> pb::BatchGetLeadsRequest {
    pb::BatchGetLeadsRequest {
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..pb::BatchGetLeadsRequest::default()
    }
}

#[tokio::test]
async fn a_success_without_results_is_no_empty_page() {
    let app = TestApp::start().await;
    app.lead("Jane");
    for script in [
        json(200, ""),
        ScriptedResponse::empty(204),
        json(200, "{}"),
        json(200, r#"{"results":null}"#),
        json(200, r#"{"results":{"id":"1"}}"#),
        json(200, r#"{"total":0}"#),
        json(200, r#"{"status":"error","message":"odd"}"#),
    ] {
        app.hubspot.script("GET", "/leads", script.clone());
        let list = app.leads.clone().list_leads(pb::ListLeadsRequest::default()).await;
        app.hubspot.script("POST", "/search", script.clone());
        let search = app.leads.clone().search_leads(pb::SearchLeadsRequest::default()).await;
        for (code, reason, _) in [failure(list), failure(search)] {
            let invalid = (Code::Unavailable, "UPSTREAM_INVALID_RESPONSE");
            assert_eq!((code, reason.as_str()), invalid, "{script:?}");
        }
        assert_eq!(app.hubspot.scripts_left(), 0);
    }
    let denied =
        r#"{"status":"error","category":"MISSING_SCOPES","message":"no","correlationId":"c"}"#;
    app.hubspot.script("GET", "/leads", json(200, denied));
    let list = app.leads.clone().list_leads(pb::ListLeadsRequest::default()).await;
    let (code, reason, _) = failure(list);
    assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "MISSING_SCOPES"));
    app.hubspot.script("GET", "/leads", json(200, r#"{"results":[]}"#));
    let list = app.leads.clone().list_leads(pb::ListLeadsRequest::default()).await;
    assert!(list.expect("an empty page").into_inner().leads.is_empty());
}

#[tokio::test]
async fn a_lead_that_a_batch_does_not_mention_is_not_told_as_missing() {
    let app = TestApp::start().await;
    let (jane, joan) = (app.lead("Jane"), app.lead("Joan"));
    let complete = r#"{"status":"COMPLETE","results":[]}"#;
    let request = batch_get(&[&jane, &joan]);
    app.hubspot.script("POST", "/batch/read", json(200, complete));
    let answer = app.leads.clone().batch_get_leads(request.clone()).await.unwrap().into_inner();
    let read = |result: &pb::LeadReadResult| match &result.outcome {
        Some(ReadOutcome::Lead(lead)) => Some(lead.id.clone()),
        Some(ReadOutcome::Error(_)) | None => None,
    };
    let ids: Vec<_> = answer.results.iter().map(read).collect();
    assert_eq!(ids, [Some(jane.clone()), Some(joan.clone())], "HubSpot is asked once more");
    let before = app.hubspot_calls().len();
    app.hubspot.script_times(2, "POST", "/batch/read", json(200, complete));
    let answer = app.leads.clone().batch_get_leads(request).await.unwrap().into_inner();
    assert_eq!(app.hubspot_calls().len() - before, 2, "one more request for the batch");
    for result in answer.results {
        let Some(ReadOutcome::Error(status)) = result.outcome else { panic!("{result:?}") };
        assert_eq!(status.code, Code::Unavailable as i32);
        assert!(status.message.contains("does not mention this lead"), "{}", status.message);
    }
}

#[tokio::test]
async fn no_cursor_of_hubspot_keeps_a_caller_in_a_loop() {
    let app = TestApp::start().await;
    let page = |after: &str| {
        json(
            200,
            &format!(r#"{{"results":[{{"id":"1"}}],"paging":{{"next":{{"after":"{after}"}}}}}}"#),
        )
    };
    // A list whose pages lead in a circle.
    let mut cursors = ["1", "2", "3"].into_iter().cycle().take(9);
    let mut token = String::new();
    let error = loop {
        app.hubspot.script("GET", "/leads", page(cursors.next().expect("the circle is detected")));
        let request = pb::ListLeadsRequest { page_token: token, ..pb::ListLeadsRequest::default() };
        match app.leads.clone().list_leads(request).await {
            Ok(response) => token = response.into_inner().next_page_token,
            Err(error) => break error,
        }
        assert!(!token.is_empty());
    };
    assert_eq!(failure(Err::<(), _>(error)).1, "UPSTREAM_INVALID_RESPONSE");
    // A search that does not advance.
    app.hubspot.script("POST", "/search", page("0"));
    let search = app.leads.clone().search_leads(pb::SearchLeadsRequest::default()).await;
    assert_eq!(failure(search).1, "UPSTREAM_INVALID_RESPONSE");
}

#[tokio::test]
async fn an_account_in_another_data_centre_costs_one_call_and_is_named() {
    let body = r#"{"status":"error","message":"the hub is served elsewhere","correlationId":"c","correctHublet":"eu1"}"#;
    let header = vec![("x-hubspot-correct-hublet".to_owned(), "eu1".to_owned())];
    let scripts =
        [json(488, body), ScriptedResponse::Exact(488, header, "<html></html>".to_owned())];
    for script in scripts {
        let app = TestApp::start().await;
        let inputs = (0..100).map(|number| app.create_input(&format!("lead {number}"), &[]));
        let request =
            pb::BatchCreateLeadsRequest { inputs: inputs.collect(), ..Default::default() };
        app.hubspot.script("POST", "/batch/create", script);
        let status = app.leads.clone().batch_create_leads(request).await.unwrap_err();
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["correctHublet"], "eu1");
        let (code, reason, _) = failure(Err::<(), _>(status));
        assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "WRONG_DATA_CENTER"));
        assert_eq!(app.hubspot_calls().len(), 1, "one call for the batch");
    }
}

#[tokio::test]
async fn every_batch_call_costs_one_hubspot_call_if_hubspot_rejects_the_portal() {
    let elsewhere = r#"{"status":"error","message":"elsewhere","correlationId":"c"}"#;
    let scopes = r#"{"status":"error","category":"MISSING_SCOPES","message":"no"}"#;
    for (script, reason) in
        [(json(488, elsewhere), "WRONG_DATA_CENTER"), (json(403, scopes), "MISSING_SCOPES")]
    {
        let app = TestApp::start().await;
        app.hubspot.add_unique_property("crm_key");
        app.hubspot.script_times(4, "POST", "", script);
        let mut leads = app.leads.clone();
        let ids: Vec<String> = (1_000..1_100).map(|id: u32| id.to_string()).collect();
        let properties = crate::harness::properties(&[("hs_lead_name", "Joan")]);
        let updates = ids.iter().map(|id| pb::LeadUpdate {
            id: id.clone(),
            properties: properties.clone(),
            ..Default::default()
        });
        let upserts = ids.iter().map(|id| pb::LeadUpsert {
            id: id.clone(),
            id_property: "crm_key".to_owned(),
            properties: properties.clone(),
            ..Default::default()
        });
        let (updates, upserts) = (updates.collect(), upserts.collect());
        let get = pb::BatchGetLeadsRequest { ids: ids.clone(), ..Default::default() };
        let update = pb::BatchUpdateLeadsRequest { inputs: updates, ..Default::default() };
        let upsert = pb::BatchUpsertLeadsRequest { inputs: upserts, ..Default::default() };
        let archive = pb::BatchArchiveLeadsRequest { ids, ..Default::default() };
        let failures = [
            failure(leads.batch_get_leads(get).await),
            failure(leads.batch_update_leads(update).await),
            failure(leads.batch_upsert_leads(upsert).await),
            failure(leads.batch_archive_leads(archive).await),
        ];
        for (_, got, _) in failures {
            assert_eq!(got, reason);
        }
        assert_eq!(app.hubspot_calls().len(), 4);
    }
}

#[tokio::test]
async fn portals_are_served_by_the_api_of_their_data_centre() {
    let eu = FakeHubspot::start("127.0.0.1:0".parse().unwrap(), Arc::new(SystemClock)).await;
    let eu = eu.unwrap();
    let (client_id, client_secret, refresh_token) = eu.oauth_app();
    let grant = serde_json::json!({"client_id": client_id, "client_secret": client_secret.expose(),
                       "refresh_token": refresh_token.expose()});
    let url = format!("http://{}", eu.address());
    let app = TestApp::builder()
        .secret("hubspot/eu-own", grant)
        .set("PORTALS__eu__SECRET", "hubspot/eu-own")
        .set("PORTALS__eu__BASE_URL", &url)
        .start()
        .await;
    let contact = eu.add_contact("bo@example.com");
    let lead = eu.add_lead(&contact, &serde_json::json!({"hs_lead_name": "Bo"})).unwrap();
    let mut request = tonic::Request::new(pb::GetLeadRequest { id: lead, ..Default::default() });
    request.metadata_mut().insert("leadsd-portal", "eu".parse().unwrap());
    app.leads.clone().get_lead(request).await.expect("its own API has the lead");
    assert_eq!(eu.grants(), 1, "the token is from the same data centre");
    assert!(app.hubspot_calls().is_empty());
    let own = app.lead("Jane");
    app.get(&own).await.expect("the other portal has the default API");
}

#[tokio::test]
async fn a_rejection_of_a_proxy_is_not_an_error_of_the_inputs() {
    for script in
        [ScriptedResponse::html(403), ScriptedResponse::html(400), json(407, ""), json(451, "")]
    {
        let app = TestApp::start().await;
        let id = app.lead("Jane");
        let calls = app.hubspot_calls().len();
        app.hubspot.script("POST", "/batch/update", script.clone());
        let input = |name: &str| pb::LeadUpdate {
            id: id.clone(),
            properties: crate::harness::properties(&[("hs_lead_name", name)]),
            ..Default::default()
        };
        let mut request =
            pb::BatchUpdateLeadsRequest { inputs: vec![input("Joan")], ..Default::default() };
        request.inputs.extend(
            (0..99)
                .map(|number| pb::LeadUpdate { id: (1_000 + number).to_string(), ..input("Joan") }),
        );
        let answer = app.leads.clone().batch_update_leads(request).await;
        let (code, reason, _) = failure(answer);
        let invalid = (Code::Unavailable, "UPSTREAM_INVALID_RESPONSE");
        assert_eq!((code, reason.as_str()), invalid, "{script:?}");
        assert_eq!(app.hubspot_calls().len() - calls, 1, "{script:?}");
    }
}

#[tokio::test]
async fn a_rejection_that_names_no_input_and_repeats_costs_three_calls() {
    let app = TestApp::start().await;
    let body = r#"{"status":"error","category":"VALIDATION_ERROR","message":"property hs_object_id is not unique","correlationId":"c"}"#;
    app.hubspot.script_times(3, "POST", "/batch/update", json(400, body));
    let inputs = (0..100).map(|number| pb::LeadUpdate {
        id: (1_000 + number).to_string(),
        properties: crate::harness::properties(&[("hs_lead_name", "Joan")]),
        ..Default::default()
    });
    let request = pb::BatchUpdateLeadsRequest { inputs: inputs.collect(), ..Default::default() };
    let calls = app.hubspot_calls().len();
    let answer = app.leads.clone().batch_update_leads(request).await.unwrap().into_inner();
    assert_eq!(app.hubspot_calls().len() - calls, 3);
    for result in answer.results {
        let Some(WriteOutcome::Error(status)) = result.outcome else { panic!("{result:?}") };
        assert_eq!(status.code, Code::InvalidArgument as i32);
        assert!(status.message.contains("is not unique"), "{}", status.message);
    }
}

#[tokio::test]
async fn retry_after_is_a_number_of_seconds_or_a_date() {
    let date = |seconds: u64| {
        to_http_date(SystemClock.now().checked_add(Duration::from_secs(seconds)).unwrap())
    };
    let limited = r#"{"status":"error","errorType":"RATE_LIMIT","policyName":"SECONDLY"}"#;
    for (status, body, reason) in [
        (429, limited, "RATE_LIMITED"),
        (477, "", "ACCOUNT_MIGRATING"),
        (503, "", "UPSTREAM_UNAVAILABLE"),
    ] {
        for is_date in [false, true] {
            let app = TestApp::start().await;
            // A busy machine takes some of the seconds until the date.
            let (value, at_least) =
                if is_date { (date(300), 200) } else { ("300".to_owned(), 300) };
            let headers = vec![("retry-after".to_owned(), value.clone())];
            let script = ScriptedResponse::Exact(status, headers, body.to_owned());
            app.hubspot.script("GET", "/7", script);
            let error = app.get("7").await.unwrap_err();
            let wait = error.get_error_details().retry_info().unwrap().retry_delay.unwrap();
            assert_eq!(failure(Err::<(), _>(error)).1, reason);
            let (at_least, at_most) = (Duration::from_secs(at_least), Duration::from_secs(312));
            assert!((at_least..=at_most).contains(&wait), "{status} {value}: {wait:?}");
        }
    }
}

#[tokio::test]
async fn the_token_endpoint_states_pauses_lifetimes_and_rejections_in_several_ways() {
    let hubspot = FakeHubspot::start("127.0.0.1:0".parse().unwrap(), Arc::new(SystemClock)).await;
    let hubspot = hubspot.unwrap();
    let config = crate::hostile_peers::config(&format!("http://{}", hubspot.address()));
    let oauth = leadsd::hubspot::OAuth::new(
        &config.hubspot,
        &BTreeMap::new(),
        crate::hostile_peers::quota(),
    )
    .unwrap();
    let request = RefreshRequest {
        client_id: "app".to_owned(),
        client_secret: Secret::new("hush-client"),
        refresh_token: Secret::new("hush-refresh"),
    };
    let refresh = async |script: ScriptedResponse| {
        hubspot.script("POST", "/token", script);
        oauth.refresh("default", &request).await
    };
    let date = to_http_date(SystemClock.now().checked_add(Duration::from_secs(60)).unwrap());
    for status in [429, 477, 503] {
        for (value, at_least, at_most) in [("3", 3, 3), (date.as_str(), 30, 62)] {
            let headers = vec![("retry-after".to_owned(), value.to_owned())];
            let result = refresh(ScriptedResponse::Exact(status, headers, String::new())).await;
            let Err(GrantError::Throttled { retry_after: Some(wait) }) = result else {
                panic!("{status} {value}: {result:?}")
            };
            let range = Duration::from_secs(at_least)..=Duration::from_secs(at_most);
            assert!(range.contains(&wait), "{status} {value}: {wait:?}");
        }
    }
    for (lifetime, seconds) in
        [("1200", 1_200), ("1200.0", 1_200), ("\"1200\"", 1_200), ("[]", 1_800)]
    {
        let body = format!(r#"{{"access_token":"hush","expires_in":{lifetime}}}"#);
        let response = refresh(json(200, &body)).await.unwrap();
        assert_eq!(response.expires_in, Duration::from_secs(seconds), "{lifetime}");
    }
    for status in ["BAD_CLIENT_SECRET", "EXPIRED_AUTH_CODE", "A_NEW_STATUS"] {
        let body = format!(r#"{{"status":"{status}","message":"no"}}"#);
        let rejected = GrantError::Rejected { code: status.to_owned() };
        assert_eq!(refresh(json(400, &body)).await, Err(rejected));
        let later = refresh(json(503, &body)).await;
        assert_eq!(matches!(later, Err(GrantError::Unavailable(_))), status == "A_NEW_STATUS");
    }
    let elsewhere = refresh(json(488, r#"{"status":"error","correctHublet":"eu1"}"#)).await;
    assert!(elsewhere.unwrap_err().to_string().contains("portals.<name>.base_url"));
}

#[tokio::test]
async fn a_read_that_hubspot_did_not_receive_in_time_is_repeated() {
    let app = TestApp::builder().set("HUBSPOT__MAX_ATTEMPTS", "4").start().await;
    let id = app.lead("Jane");
    app.hubspot.script("GET", &format!("/{id}"), ScriptedResponse::html(408));
    app.get(&id).await.expect("the second attempt succeeds");
}

#[tokio::test]
async fn an_error_of_a_batch_goes_to_the_input_that_it_names() {
    let app = TestApp::start().await;
    let named = |key: &str, missing: &str, invalid: &str| {
        format!(
            r#"{{"status":"COMPLETE","results":[{{"id":"1"}}],"numErrors":2,"errors":[
            {{"status":"error","category":"OBJECT_NOT_FOUND","message":"gone","context":{{"{key}":{missing}}}}},
            {{"status":"error","category":"VALIDATION_ERROR","message":"no such option",
            "context":{{"{key}":{invalid},"propertyName":["hs_lead_label"]}}}}]}}"#
        )
    };
    for body in [
        named("objectId", r#"["3"]"#, r#"["2"]"#),
        named("OBJECT_ID", r#""3""#, r#""2""#),
        named("ids", "[3]", "[2]"),
        named("index", "2", "1"),
        named("a_new_key", r#"["3"]"#, r#"["2"]"#),
    ] {
        app.hubspot.script("POST", "/batch/update", json(207, &body));
        let inputs = ["1", "2", "3"].map(|id| pb::LeadUpdate {
            id: id.to_owned(),
            properties: crate::harness::properties(&[("hs_lead_label", "HOT")]),
            ..Default::default()
        });
        let request = pb::BatchUpdateLeadsRequest { inputs: inputs.into(), ..Default::default() };
        let answer = app.leads.clone().batch_update_leads(request).await.unwrap().into_inner();
        let codes: Vec<_> = answer
            .results
            .iter()
            .map(|result| match &result.outcome {
                Some(WriteOutcome::Error(status)) => status.code,
                Some(WriteOutcome::Lead(_)) | None => 0,
            })
            .collect();
        assert_eq!(codes, [0, Code::InvalidArgument as i32, Code::NotFound as i32], "{body}");
        let Some(WriteOutcome::Error(status)) = &answer.results[1].outcome else { panic!() };
        let details = status.get_error_details();
        let field = &details.bad_request().unwrap().field_violations[0].field;
        assert_eq!(field, r#"properties["hs_lead_label"]"#);
    }
}

#[tokio::test]
async fn inputs_of_several_unnamed_errors_are_repeated_individually_or_share_the_errors() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    let body = r#"{"status":"COMPLETE","results":[],"numErrors":2,"errors":[
        {"category":"VALIDATION_ERROR","message":"no such option"},
        {"category":"CONFLICT","message":"changed meanwhile"}]}"#;
    app.hubspot.script("POST", "/batch/update", json(207, body));
    let input = |id: &str| pb::LeadUpdate {
        id: id.to_owned(),
        properties: crate::harness::properties(&[("hs_lead_label", "HOT")]),
        ..Default::default()
    };
    let inputs = vec![input(&id), input("999999999")];
    let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
    let answer = app.leads.clone().batch_update_leads(request).await.unwrap().into_inner();
    assert!(matches!(&answer.results[0].outcome, Some(WriteOutcome::Lead(_))), "{answer:?}");
    let Some(WriteOutcome::Error(status)) = &answer.results[1].outcome else { panic!() };
    assert_eq!(status.code, Code::NotFound as i32, "HubSpot's individual response about the input");
    // A create must not be repeated.
    app.hubspot.script("POST", "/batch/create", json(207, body));
    let inputs = ["a", "b"].map(|name| app.create_input(name, &[]));
    let request = pb::BatchCreateLeadsRequest { inputs: inputs.into(), ..Default::default() };
    let answer = app.leads.clone().batch_create_leads(request).await.unwrap().into_inner();
    for result in answer.results {
        let Some(WriteOutcome::Error(status)) = result.outcome else { panic!("{result:?}") };
        assert_eq!(status.code, Code::Aborted as i32);
        let texts = ["one of these", "no such option", "changed meanwhile"];
        assert!(texts.iter().all(|text| status.message.contains(text)), "{}", status.message);
    }
}

#[tokio::test]
async fn ids_of_hubspot_are_in_the_text_and_in_the_details() {
    let app = TestApp::start().await;
    let invalid = r#"{"status":"error","category":"VALIDATION_ERROR","message":"not valid","context":{"INVALID_OBJECT_IDS":["4242"]}}"#;
    app.hubspot.script("POST", "/leads", json(400, invalid));
    let status = app.leads.clone().create_lead(app.create_request("Joan")).await.unwrap_err();
    assert!(status.message().contains("4242"), "{}", status.message());
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["recordIds"], "4242");
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "associations");

    let clash = r#"{"status":"error","category":"VALIDATION_ERROR","message":"another lead already has that value, existing ID: 77"}"#;
    app.hubspot.script("POST", "/leads", json(400, clash));
    let status = app.leads.clone().create_lead(app.create_request("Joan")).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["existingId"], "77");

    let status = app.get("999999999").await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.get_error_details().resource_info().unwrap().resource_name, "999999999");
}

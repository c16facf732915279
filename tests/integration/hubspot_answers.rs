//! Responses of HubSpot that are easily misread: which error a caller gets, and at what cost.

use leadsd::grpc::pb::{self, lead_read_result::Outcome as ReadOutcome};
use leadsd_hubspot_fake::ScriptedResponse;
use tonic::Code;

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

//! Service behaviour around the calls: HubSpot errors, deadlines, limits, health, reflection,
//! drain.

use std::time::Duration;

use leadsd::grpc::pb;
use leadsd_hubspot_fake::{Gate, ScriptedResponse};
use tonic::{Code, Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::harness::{TestApp, eventually, failure};

#[tokio::test]
async fn hubspot_errors_have_a_code_and_a_reason() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    let html = "<html><body>sorry</body></html>";
    for (status, body, code, reason) in [
        (423, r#"{"message":"locked"}"#, Code::Unavailable, "ACCOUNT_LOCKED"),
        (477, "", Code::Unavailable, "ACCOUNT_MIGRATING"),
        (500, html, Code::Unavailable, "UPSTREAM_UNAVAILABLE"),
        (502, html, Code::Unavailable, "UPSTREAM_UNAVAILABLE"),
        (524, "", Code::Unavailable, "UPSTREAM_UNAVAILABLE"),
        (414, html, Code::Unavailable, "UPSTREAM_INVALID_RESPONSE"),
        (403, html, Code::Unavailable, "UPSTREAM_INVALID_RESPONSE"),
        (302, "", Code::Unavailable, "UPSTREAM_INVALID_RESPONSE"),
        (200, html, Code::Unavailable, "UPSTREAM_INVALID_RESPONSE"),
        (200, "[1]", Code::Unavailable, "UPSTREAM_INVALID_RESPONSE"),
    ] {
        let end = format!("/{id}");
        app.hubspot.script(
            "GET",
            &end,
            ScriptedResponse::Reply(status, "text/html", body.to_owned()),
        );
        let (got, got_reason, _) = failure(app.get(&id).await);
        assert_eq!((got, got_reason.as_str()), (code, reason), "{status} {body}");
    }
}

#[tokio::test]
async fn create_with_a_lost_response_is_unknown_and_not_retried() {
    let app = TestApp::start().await;
    for script in
        [ScriptedResponse::ExecutedWithStatus(502), ScriptedResponse::ExecutedWithStatus(504)]
    {
        app.hubspot.script("POST", "/leads", script);
        let answer = app.leads.clone().create_lead(app.create_request("Jane")).await;
        let (code, reason, _) = failure(answer);
        assert_eq!((code, reason.as_str()), (Code::Unknown, "WRITE_OUTCOME_UNKNOWN"));
    }
    assert_eq!(app.hubspot.lead_names().len(), 2);
}

#[tokio::test]
async fn rate_limit_errors_have_policy_and_retry_delay() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    app.hubspot.limit(|limits| {
        limits.burst = 0;
        limits.retry_after = true;
    });
    let status = app.get(&id).await.unwrap_err();
    let details = status.get_error_details();
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(wait >= Duration::from_secs(1) && wait <= Duration::from_secs(10), "{wait:?}");
    let quota = &details.quota_failure().unwrap().violations[0];
    assert_eq!(quota.subject, "TEN_SECONDLY_ROLLING");
    let (code, reason, _) = failure(Err::<(), _>(status));
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));

    let app = TestApp::start().await;
    app.hubspot.limit(|limits| limits.daily = 0);
    let (code, reason, _) = failure(app.get(&id).await);
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "DAILY_LIMIT_REACHED"));

    let app = TestApp::start().await;
    app.hubspot.limit(|limits| limits.search_per_second = 0);
    let search = pb::SearchLeadsRequest::default();
    let status = app.leads.clone().search_leads(search).await.unwrap_err();
    let quota = status.get_error_details().quota_failure().unwrap().violations[0].subject.clone();
    assert_eq!(quota, "SECONDLY");
}

#[tokio::test]
async fn caller_deadline_ends_the_call_with_deadline_exceeded() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    let held = Gate::new();
    app.hubspot.script("GET", &format!("/{id}"), ScriptedResponse::Held(held.clone()));
    app.hubspot.script("POST", "/leads", ScriptedResponse::Held(held.clone()));
    let limit = Duration::from_secs(1);
    let mut get = Request::new(pb::GetLeadRequest { id, ..Default::default() });
    get.set_timeout(limit);
    let mut create = Request::new(app.create_request("Joan"));
    create.set_timeout(limit);
    // The timer of the client must not fire first.
    let channel = Channel::from_shared(format!("http://{}", app.grpc)).unwrap().connect_lazy();
    let mut leads = pb::leads_service_client::LeadsServiceClient::new(channel);
    let code = leads.get_lead(get).await.unwrap_err().code();
    assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");
    assert!(leads.create_lead(create).await.is_err());
    assert_eq!(app.hubspot.scripts_left(), 0, "HubSpot has received both");
    held.open();
    let written = async || app.hubspot.lead_names().contains(&"Joan".to_owned());
    eventually("the write that was sent is done", written).await;
}

#[tokio::test]
async fn maximum_deadline_ends_calls_without_a_deadline() {
    let app = TestApp::builder().set("GRPC__MAX_DEADLINE", "1s").start().await;
    let id = app.lead("Jane");
    app.hubspot.script("GET", &format!("/{id}"), ScriptedResponse::Held(Gate::new()));
    let (code, reason, _) = failure(app.get(&id).await);
    assert_eq!((code, reason.as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
}

#[tokio::test]
async fn responses_have_request_id_and_cost() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    let mut request = Request::new(pb::GetLeadRequest { id, ..Default::default() });
    request.metadata_mut().insert("x-request-id", "my-id-1".parse().unwrap());
    let answer = app.leads.clone().get_lead(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "my-id-1");
    assert_eq!(answer.metadata().get("leadsd-quota-cost").unwrap(), "1");
}

#[tokio::test]
async fn health_follows_the_credentials_for_each_service() {
    let app = TestApp::builder().unready().start().await;
    let channel = Channel::from_shared(format!("http://{}", app.grpc)).unwrap().connect_lazy();
    crate::harness::wait_ready(&app.admin).await;
    let mut health = HealthClient::new(channel);
    for service in
        ["", "leadsd.v1.LeadsService", "leadsd.v1.QuotaService", "leadsd.v1.SchemaService"]
    {
        let request = HealthCheckRequest { service: service.to_owned() };
        // SERVING is 1.
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service:?}");
    }
    let request = HealthCheckRequest { service: "nope".to_owned() };
    assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn missing_secret_keeps_the_service_unready_with_a_reason() {
    let app =
        TestApp::builder().unready().set("PORTALS__LOST__SECRET", "hubspot/nowhere").start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let unmet = async {
        loop {
            let answer = http.get(format!("{}/ready", app.admin)).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 503);
            let body: serde_json::Value = answer.json().await.unwrap();
            if body["unmet"] == serde_json::json!(["credential:lost"]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, unmet).await.expect("only one is missing");
    let live = http.get(format!("{}/live", app.admin)).send().await.unwrap();
    assert!(live.status().is_success());
    let channel = Channel::from_shared(format!("http://{}", app.grpc)).unwrap().connect_lazy();
    let request = HealthCheckRequest { service: String::new() };
    // NOT_SERVING is 2.
    assert_eq!(HealthClient::new(channel).check(request).await.unwrap().into_inner().status, 2);
}

#[tokio::test]
async fn stop_completes_the_calls_in_flight() {
    let app = TestApp::builder().set("GRPC__SHUTDOWN_GRACE", "20s").start().await;
    let id = app.lead("Jane");
    let held = Gate::new();
    app.hubspot.script("GET", &format!("/{id}"), ScriptedResponse::Held(held.clone()));
    let mut leads = app.leads.clone();
    let admin = app.admin.clone();
    let call = tokio::spawn(async move {
        leads.get_lead(pb::GetLeadRequest { id, ..Default::default() }).await
    });
    app.scripts_used().await;
    let draining = async {
        eventually("the stop has begun", async || !is_ready(&admin).await).await;
        held.open();
    };
    tokio::join!(app.stop(), draining);
    call.await.unwrap().expect("finished within the grace");
}

/// True if `/ready` reports that the service is ready.
async fn is_ready(admin: &str) -> bool {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(format!("{admin}/ready")).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

//! Quota from the perspective of callers: waits, rejections, and the QuotaService.

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all};
use leadsd::grpc::pb::{self, quota_service_client::QuotaServiceClient};
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::{
    batching::world::{close, close_for_long},
    harness::{TestApp, failure, to_f64},
};

async fn quota(app: &TestApp) -> QuotaServiceClient<tonic::transport::Channel> {
    QuotaServiceClient::connect(format!("http://{}", app.grpc)).await.expect("a connection")
}

/// A service with a limit of one call per second, which is exhausted.
async fn used_up() -> (TestApp, String) {
    let app = TestApp::builder().set("QUOTA__BURST", "10").start().await;
    app.hubspot.limit(|limits| limits.burst = 10);
    let id = app.lead("Jane");
    app.get(&id).await.expect("the first call");
    (app, id)
}

fn with<T>(message: T, metadata: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (key, value) in metadata {
        request.metadata_mut().insert(*key, value.parse().expect("a value"));
    }
    request
}

#[tokio::test]
async fn call_without_a_permit_before_its_deadline_is_rejected_with_retry_info() {
    let app = TestApp::start().await;
    let closed = close_for_long(&app, "default").await;
    app.hubspot.clear_log();
    let mut request = Request::new(pb::ListLeadsRequest::default());
    request.set_timeout(Duration::from_secs(1));
    let status = app.leads.clone().list_leads(request).await.unwrap_err();
    let details = status.get_error_details();
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > Duration::ZERO && wait <= closed.time, "{wait:?}");
    assert_eq!(details.quota_failure().unwrap().violations[0].subject, "burst");
    assert_eq!(details.error_info().unwrap().metadata["bucket"], "burst");
    let (code, reason, _) = failure(Err::<(), _>(status));
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    assert_eq!(app.hubspot_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn queued_single_calls_are_batched_and_share_the_cost() {
    let app = TestApp::start().await;
    let ids: Vec<String> = (0..400).map(|number| app.lead(&format!("Lead {number}"))).collect();
    let _closed = close(&app, "default", ids.len()).await;
    app.hubspot.clear_log();
    let answers = join_all(ids.iter().map(|id| app.get(id))).await;
    let mut cost = 0.0;
    for (number, answer) in answers.into_iter().enumerate() {
        let answer = answer.expect("a lead");
        let part = answer.metadata().get("leadsd-quota-cost").unwrap().to_str().unwrap();
        cost += part.parse::<f64>().unwrap();
        let lead = answer.into_inner().lead.unwrap();
        assert_eq!(lead.properties["hs_lead_name"], format!("Lead {number}"));
    }
    let calls = app.hubspot_calls().len();
    assert_eq!(calls, 4, "a hundred leads for each call");
    assert!((cost - to_f64(calls)).abs() < 0.01, "{cost} of {calls}");
    assert_eq!(app.hubspot.rate_limited(), 0);
}

#[tokio::test]
async fn disabled_batching_sends_each_call_individually() {
    let app = TestApp::builder().set("QUOTA__BATCHING", "false").start().await;
    let ids: Vec<String> = (0..25).map(|number| app.lead(&format!("Lead {number}"))).collect();
    let twice = ids.iter().chain(&ids[..2]);
    assert!(join_all(twice.map(|id| app.get(id))).await.iter().all(Result::is_ok));
    assert_eq!(app.hubspot_calls().len(), 27);
}

#[tokio::test]
async fn get_quota_returns_limits_and_callers() {
    let (app, id) = used_up().await;
    let mut leads = app.leads.clone();
    let named = [("leadsd-caller", "billing"), ("leadsd-priority", "bulk")];
    let request = with(pb::GetLeadRequest { id, ..Default::default() }, &named);
    leads.get_lead(request).await.expect("a lead");
    let answer = quota(&app).await.get_quota(pb::GetQuotaRequest {}).await.unwrap().into_inner();
    let quota = answer.quota.unwrap();
    assert_eq!(quota.portal, "default");
    let names: Vec<&str> = quota.buckets.iter().map(|bucket| bucket.name.as_str()).collect();
    assert_eq!(names, ["burst", "search", "daily"]);
    let burst = &quota.buckets[0];
    assert_eq!((burst.limit, burst.used, burst.remaining), (Some(10), 3, Some(7)));
    assert_eq!(burst.window.unwrap().seconds, 10);
    let callers: Vec<(&str, f64)> =
        burst.callers.iter().map(|caller| (caller.caller.as_str(), caller.used)).collect();
    // leadsd has checked its token.
    assert_eq!(callers, [("127.0.0.1", 1.0), ("billing", 1.0), ("leadsd", 1.0)]);
    let daily = &quota.buckets[2];
    assert_eq!((daily.limit, daily.remaining), (Some(625_000), Some(624_997)));
    assert!(daily.reset.unwrap().seconds <= 86_400);
}

#[tokio::test]
async fn watch_quota_repeats_until_its_deadline() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    let interval = prost_types::Duration { seconds: 0, nanos: 100_000_000 };
    let watch = async |timeout: &str| {
        let mut request = Request::new(pb::WatchQuotaRequest { interval: Some(interval) });
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        quota(&app).await.watch_quota(request).await.unwrap().into_inner()
    };
    let used = |answer: pb::WatchQuotaResponse| answer.quota.unwrap().buckets[0].used;
    let mut stream = watch("20S").await;
    // The check of the token.
    assert_eq!(used(stream.next().await.unwrap().unwrap()), 1);
    app.get(&id).await.unwrap();
    while used(stream.next().await.expect("it goes on").expect("no error")) != 2 {}
    drop(stream);
    let mut stream = watch("300m").await;
    let end = loop {
        if let Err(status) = stream.next().await.expect("an end") {
            break status;
        }
    };
    assert_eq!(end.code(), Code::DeadlineExceeded);
    let hasty = prost_types::Duration { seconds: 0, nanos: 1 };
    let request = pb::WatchQuotaRequest { interval: Some(hasty) };
    let status = quota(&app).await.watch_quota(request).await.unwrap_err();
    assert_eq!(failure(Err::<(), _>(status)).2, ["interval"]);
}

#[tokio::test]
async fn stop_ends_watch_streams() {
    let app = TestApp::builder().set("GRPC__SHUTDOWN_GRACE", "20s").start().await;
    let mut client = quota(&app).await;
    let mut stream =
        client.watch_quota(pb::WatchQuotaRequest::default()).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    drop(client);
    let (rest, ()) = tokio::join!(stream.collect::<Vec<_>>(), app.stop());
    assert!(rest.iter().all(Result::is_ok), "{rest:?}");
}

#[tokio::test]
async fn unknown_priority_is_rejected() {
    let app = TestApp::start().await;
    let request = with(pb::ListLeadsRequest::default(), &[("leadsd-priority", "urgent")]);
    let (code, reason, fields) = failure(app.leads.clone().list_leads(request).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
    assert_eq!(fields, ["leadsd-priority"]);
}

#[tokio::test]
async fn call_is_charged_by_its_number_of_leads() {
    let app = TestApp::start().await;
    let ids: Vec<String> = (0..150).map(|number| app.lead(&format!("Lead {number}"))).collect();
    let request = pb::BatchGetLeadsRequest { ids, ..Default::default() };
    app.leads.clone().batch_get_leads(request).await.expect("all of them");
    app.leads.clone().list_leads(pb::ListLeadsRequest::default()).await.expect("a page");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let text =
        http.get(format!("{}/metrics", app.admin)).send().await.unwrap().text().await.unwrap();
    let value = |name: &str| -> f64 {
        let start = format!("{name}{{portal=\"default\",bucket=\"burst\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{start} in {text}")).parse().unwrap()
    };
    assert_eq!(value("leadsd_quota_leads_total"), 151.0);
    // Two for the batch, one for the page, and one for the check of the token.
    assert_eq!(value("leadsd_quota_permits_total"), 4.0);
    assert_eq!(value("leadsd_quota_calls_total"), 4.0);
    assert!((value("leadsd_quota_leads_per_call") - 151.0 / 4.0).abs() < 0.01);
}

#[tokio::test]
async fn metrics_count_waits_rejections_and_leads_per_call() {
    let app = TestApp::start().await;
    let ids: Vec<String> = (0..100).map(|number| app.lead(&format!("Lead {number}"))).collect();
    let _closed = close(&app, "default", ids.len()).await;
    assert!(join_all(ids.iter().map(|id| app.get(id))).await.iter().all(Result::is_ok));
    let _ = join_all(ids.iter().take(25).map(|id| app.get(id))).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let text =
        http.get(format!("{}/metrics", app.admin)).send().await.unwrap().text().await.unwrap();
    let value = |name: &str, labels: &str| -> f64 {
        let start = format!("{name}{{portal=\"default\",bucket=\"burst\"{labels}}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{start} in {text}")).parse().unwrap()
    };
    assert_eq!(value("leadsd_quota_limit", ""), 190.0);
    assert!(value("leadsd_quota_calls_total", "") >= 125.0);
    assert!(value("leadsd_quota_wait_seconds_count", "") >= 80.0);
    assert!(value("leadsd_quota_leads_per_call", "") > 2.0);
    assert!(value("leadsd_quota_wait_seconds_sum", "") > 0.0);
    assert!(value("leadsd_quota_utilisation_ratio", "") > 0.0);
    // The call that closed the portal.
    assert_eq!(value("leadsd_hubspot_429_total", ""), 1.0);
    assert_eq!(value("leadsd_quota_rejected_total", ",reason=\"queue_full\""), 0.0);
}

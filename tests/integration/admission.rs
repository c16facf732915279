//! Quota admission: each limit closes separately and for its stated time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use leadsd::grpc::pb::{self, quota_service_client::QuotaServiceClient};
use leadsd_hubspot_fake::{ApiError, ScriptedResponse};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::{
    batching::world::close,
    harness::{TestApp, failure},
};

fn request_for<T>(portal: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("leadsd-portal", portal.parse().unwrap());
    request
}

/// Limits of a portal, as reported by the service.
pub(crate) async fn buckets(app: &TestApp, portal: &str) -> Vec<pb::QuotaBucket> {
    let client = QuotaServiceClient::connect(format!("http://{}", app.grpc)).await;
    let request = request_for(portal, pb::GetQuotaRequest {});
    let answer = client.unwrap().get_quota(request).await.unwrap().into_inner();
    answer.quota.unwrap().buckets
}

/// Time for which a 429 keeps the limits closed, in seconds: burst and search.
pub(crate) async fn closed(app: &TestApp, portal: &str) -> [f64; 2] {
    let buckets = buckets(app, portal).await;
    let seconds = |index: usize| {
        let closed = buckets[index].backoff.unwrap();
        f64::from(i32::try_from(closed.seconds).unwrap()) + f64::from(closed.nanos) / 1e9
    };
    [seconds(0), seconds(1)]
}

/// Lists a page that no other call reads.
async fn list(app: &TestApp, portal: &str, size: i32) -> Result<(), Status> {
    let message = pb::ListLeadsRequest { page_size: size, ..Default::default() };
    app.leads.clone().list_leads(request_for(portal, message)).await.map(drop)
}

async fn search(app: &TestApp, portal: &str, size: i32) -> Result<(), Status> {
    let message = pb::SearchLeadsRequest { page_size: size, ..Default::default() };
    app.leads.clone().search_leads(request_for(portal, message)).await.map(drop)
}

/// Limit that a rejection names.
fn limit(status: Status) -> (String, String, Duration) {
    let details = status.get_error_details();
    let bucket = details.quota_failure().unwrap().violations[0].subject.clone();
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    let (code, reason, _) = failure(Err::<(), _>(status));
    assert_eq!(code, Code::ResourceExhausted);
    (bucket, reason, wait)
}

#[tokio::test]
async fn rate_limit_rejection_closes_only_its_limit_and_portal() {
    let limited = |policy, seconds: Option<u64>| {
        let retry_after = seconds.map(Duration::from_secs);
        ScriptedResponse::Reject(ApiError::RateLimited { policy, retry_after })
    };
    let cases = [
        (limited("TEN_SECONDLY_ROLLING", None), false, 10.0),
        (limited("TEN_SECONDLY_ROLLING", Some(9)), false, 9.0),
        (limited("SECONDLY", None), false, 1.0),
        (limited("SECONDLY", None), true, 1.0),
        (limited("SECONDLY", Some(8)), true, 8.0),
        (ScriptedResponse::Reject(ApiError::GatewayLimited), false, 10.0),
    ];
    join_all(cases.map(|(script, searched, seconds)| refuse(script, searched, seconds))).await;
}

/// Makes HubSpot reject a search or another call, and asserts which limits are closed.
async fn refuse(script: ScriptedResponse, searched: bool, seconds: f64) {
    let app = TestApp::builder().portals(&["eu", "us"]).start().await;
    app.hubspot.script("", if searched { "/search" } else { "/leads" }, script.clone());
    let call = async |portal: &str, size: i32, searched: bool| match searched {
        true => search(&app, portal, size).await,
        false => list(&app, portal, size).await,
    };
    let refused = call("eu", 1, searched).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let mut expected = [0.0, 0.0];
    expected[usize::from(searched)] = seconds;
    let got = closed(&app, "eu").await;
    for (got, expected) in got.into_iter().zip(expected) {
        // The rest of the second depends on the machine.
        assert!(got <= expected && (got > 0.0 || expected <= 1.0), "{script:?}: {got:?}");
    }
    // The other limit and the other portal stay open.
    call("eu", 2, !searched).await.expect("another limit");
    call("us", 2, false).await.expect("another portal");
    call("us", 2, true).await.expect("another portal");
    if seconds <= 1.0 {
        call("eu", 3, searched).await.expect("it is open again");
    } else {
        let (bucket, reason, wait) = limit(hurried(&app, searched).await.unwrap_err());
        let name = if searched { "search" } else { "burst" };
        assert_eq!((bucket.as_str(), reason.as_str()), (name, "RATE_LIMITED"));
        assert!(wait > Duration::ZERO && wait.as_secs_f64() <= seconds, "{wait:?}");
    }
    assert_eq!(app.hubspot.rate_limited(), 0, "none but the scripted one");
}

/// A call with a deadline of one second.
async fn hurried(app: &TestApp, searched: bool) -> Result<(), Status> {
    let mut leads = app.leads.clone();
    if searched {
        let mut request =
            request_for("eu", pb::SearchLeadsRequest { page_size: 4, ..Default::default() });
        request.set_timeout(Duration::from_secs(1));
        return leads.search_leads(request).await.map(drop);
    }
    let mut request =
        request_for("eu", pb::ListLeadsRequest { page_size: 4, ..Default::default() });
    request.set_timeout(Duration::from_secs(1));
    leads.list_leads(request).await.map(drop)
}

/// Seconds until midnight five hours west of Greenwich.
fn until_midnight() -> u64 {
    const DAY: u64 = 86_400;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    DAY - (now + DAY - 5 * 3_600) % DAY
}

#[tokio::test]
async fn exhausted_daily_limit_resets_at_midnight_of_the_account() {
    let app = TestApp::builder()
        .portals(&["eu", "us"])
        .set("PORTALS__US__TIME_ZONE", "Etc/GMT+5")
        .start()
        .await;
    let daily = ApiError::RateLimited { policy: "DAILY", retry_after: None };
    app.hubspot.script("GET", "/leads", ScriptedResponse::Reject(daily));
    let refused = list(&app, "us", 1).await.unwrap_err();
    assert_eq!(failure(Err::<(), _>(refused)).1, "DAILY_LIMIT_REACHED");
    app.hubspot.clear_log();
    for refused in [list(&app, "us", 2).await, search(&app, "us", 2).await] {
        let (bucket, reason, wait) = limit(refused.unwrap_err());
        assert_eq!((bucket.as_str(), reason.as_str()), ("daily", "DAILY_LIMIT_REACHED"));
        let expected = until_midnight();
        assert!(wait.as_secs().abs_diff(expected) <= 60, "{wait:?} of {expected}");
    }
    assert_eq!(app.hubspot_calls(), Vec::<String>::new(), "HubSpot is not asked");
    list(&app, "eu", 3).await.expect("the day of another portal");
}

#[tokio::test]
async fn searches_have_a_separate_limit_in_each_portal() {
    let builder = TestApp::builder().portals(&["eu", "us"]);
    let app = builder.set("QUOTA__SEARCH_PER_SECOND", "1").start().await;
    app.hubspot.limit(|limits| limits.search_per_second = 1_000);
    search(&app, "eu", 1).await.expect("the only one of this second");
    let rest = join_all((2..12).map(|size| {
        let mut request =
            request_for("eu", pb::SearchLeadsRequest { page_size: size, ..Default::default() });
        // Long enough that the rejection, which is immediate, arrives before it on a busy machine.
        request.set_timeout(Duration::from_secs(4));
        let mut leads = app.leads.clone();
        async move { leads.search_leads(request).await }
    }));
    // A call that the limit admits late may miss its deadline on a busy machine.
    let over_limit = |status: &Status| status.get_error_details().quota_failure().is_some();
    let rejected = rest.await.into_iter().filter_map(Result::err).find(over_limit);
    let rejected = rejected.expect("one is over the limit");
    let (bucket, reason, _) = limit(rejected);
    assert_eq!((bucket.as_str(), reason.as_str()), ("search", "RATE_LIMITED"));
    list(&app, "eu", 1).await.expect("another limit");
    search(&app, "us", 1).await.expect("another portal");
}

#[tokio::test]
async fn limits_follow_the_newest_response() {
    let app = TestApp::builder().set("QUOTA__BURST", "10").start().await;
    let mut seen = Vec::new();
    for (size, burst) in [(1, 300), (2, 40), (3, 110)] {
        app.hubspot.limit(|limits| limits.burst = burst);
        list(&app, "default", size).await.expect("a page");
        let burst = buckets(&app, "default").await.remove(0);
        seen.push((burst.limit.unwrap(), burst.used, burst.remaining.unwrap()));
    }
    // One call is the check of the token.
    assert_eq!(seen, [(300, 2, 298), (40, 3, 37), (110, 4, 106)]);
}

#[tokio::test]
async fn response_without_remaining_calls_closes_the_limit() {
    let app = TestApp::start().await;
    list(&app, "default", 1).await.expect("a page");
    let told = [
        ("content-type", "application/json"),
        ("x-hubspot-ratelimit-max", "190"),
        ("x-hubspot-ratelimit-remaining", "0"),
        ("x-hubspot-ratelimit-interval-milliseconds", "10000"),
    ];
    let told = told.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let answer = ScriptedResponse::Exact(200, told.to_vec(), r#"{"results":[]}"#.to_owned());
    app.hubspot.script("GET", "/leads", answer);
    list(&app, "default", 2).await.expect("a page");
    let burst = buckets(&app, "default").await.remove(0);
    assert_eq!((burst.limit, burst.used, burst.remaining), (Some(190), 190, Some(0)));
    app.hubspot.clear_log();
    let mut request =
        request_for("default", pb::ListLeadsRequest { page_size: 3, ..Default::default() });
    request.set_timeout(Duration::from_millis(400));
    let refused = app.leads.clone().list_leads(request).await.expect_err("nothing is left");
    let (bucket, reason, _) = limit(refused);
    assert_eq!((bucket.as_str(), reason.as_str()), ("burst", "RATE_LIMITED"));
    assert_eq!(app.hubspot_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn calls_over_the_queue_limit_are_rejected_and_not_sent() {
    let app = TestApp::builder()
        .set("QUOTA__MAX_QUEUE", "3")
        .set("GRPC__MAX_CALLER_SHARE", "1.0")
        .start()
        .await;
    let _closed = close(&app, "default", 8).await;
    app.hubspot.clear_log();
    let all = join_all((2..=9).map(|size| list(&app, "default", size))).await;
    let (done, rejected): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), rejected.len()), (3, 5));
    for rejected in rejected {
        let (bucket, reason, wait) = limit(rejected.unwrap_err());
        assert_eq!((bucket.as_str(), reason.as_str()), ("burst", "OVERLOADED"));
        assert!(wait > Duration::ZERO, "{wait:?}");
    }
    assert_eq!(app.hubspot_calls().len(), 3);
}

#[tokio::test]
async fn retries_acquire_permits() {
    let app = TestApp::builder().set("HUBSPOT__MAX_ATTEMPTS", "3").start().await;
    let id = app.lead("Jane");
    // These errors have no backoff.
    app.hubspot.script_times(2, "GET", &format!("/{id}"), ScriptedResponse::DropBefore);
    let answer = app.get(&id).await.expect("the third attempt");
    assert_eq!(answer.metadata().get("leadsd-quota-cost").unwrap(), "3");
    let burst = buckets(&app, "default").await.remove(0);
    assert_eq!(burst.used, 4, "with the check of the token");
    assert_eq!(app.hubspot.rate_limited(), 0);
}

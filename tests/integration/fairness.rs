//! Callers who want more than there is: who gets how much of it, and how long each waits.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use leadsd::grpc::pb::{self, quota_service_client::QuotaServiceClient};
use tonic::Request;

use crate::harness::TestApp;

/// How long callers call.
const RUN: Duration = Duration::from_secs(4);

/// Calls allowed in a second.
const A_SECOND: usize = 30;

/// A service whose quota is small for all that is asked of it.
async fn service(settings: &[(&str, &str)]) -> TestApp {
    let burst = A_SECOND * 10;
    let mut builder = TestApp::builder().set("QUOTA__BURST", &burst.to_string());
    for (key, value) in settings {
        builder = builder.set(key, value);
    }
    let app = builder.start().await;
    app.hubspot.limit(|limits| limits.burst = burst);
    app
}

/// What one caller has had.
#[derive(Debug, Default)]
struct Had {
    calls: Cell<u32>,
    longest: Cell<Duration>,
}

/// Makes `at_once` calls at a time for as long as the run is; no two share one.
async fn call(app: &TestApp, caller: &str, priority: &str, at_once: u32) -> Had {
    let had = Had::default();
    let end = Instant::now() + RUN;
    let one = |number: u32| {
        let had = &had;
        let (mut leads, caller, priority) =
            (app.leads.clone(), caller.to_owned(), priority.to_owned());
        async move {
            let mut turn = 0_u32;
            while Instant::now() < end {
                turn += 1;
                // A page that nobody else reads.
                let properties = vec![format!("{caller}_{number}_{turn}")];
                let mut request =
                    Request::new(pb::ListLeadsRequest { properties, ..Default::default() });
                let metadata = request.metadata_mut();
                metadata.insert("x-leadsd-caller", caller.parse().unwrap());
                metadata.insert("leadsd-priority", priority.parse().unwrap());
                let since = Instant::now();
                let answer = leads.list_leads(request);
                // Whoever still waits at the end has had nothing.
                let left = end.saturating_duration_since(since) + Duration::from_millis(100);
                let Ok(answer) = tokio::time::timeout(left, answer).await else { break };
                answer.expect("a page");
                had.calls.set(had.calls.get() + 1);
                had.longest.set(had.longest.get().max(since.elapsed()));
            }
        }
    };
    join_all((0..at_once).map(one)).await;
    had
}

#[tokio::test]
async fn a_bulk_caller_at_fifty_times_the_load_does_not_keep_another_waiting() {
    let runs = ["bulk", "interactive"].map(|priority| async move {
        let app = service(&[]).await;
        let (bulk, one) =
            tokio::join!(call(&app, "job", priority, 50), call(&app, "web", "interactive", 1),);
        // A window of a second, and what a busy machine takes.
        let longest = one.longest.get();
        assert!(longest < Duration::from_millis(1_500), "{priority}: {longest:?}");
        assert!(one.calls.get() >= 4, "{priority}: {one:?}");
        // What is left goes to the other.
        let all = one.calls.get() + bulk.calls.get();
        assert!(all as usize >= A_SECOND * 3, "{priority}: {one:?} and {bulk:?}");
        assert_eq!(app.hubspot.rate_limited(), 0);
    });
    join_all(runs).await;
}

#[tokio::test]
async fn callers_get_what_their_shares_are_and_bulk_is_not_starved() {
    let app = service(&[("QUOTA__SHARES__TRIPLE", "3")]).await;
    let (single, triple, bulk) = tokio::join!(
        call(&app, "single", "interactive", 20),
        call(&app, "triple", "interactive", 20),
        call(&app, "job", "bulk", 20),
    );
    let [single, triple, bulk] = [single, triple, bulk].map(|had| f64::from(had.calls.get()));
    // A call more or less at the end of the run is a part of what a share is.
    let ratio = triple / single;
    assert!((2.7..=3.3).contains(&ratio), "{triple} by {single}");
    let part = bulk / (single + triple + bulk);
    assert!((0.07..=0.14).contains(&part), "{bulk} of {single}, {triple}");
    assert_eq!(app.hubspot.rate_limited(), 0);
}

#[tokio::test]
async fn callers_are_told_apart_by_the_name_they_give_or_else_by_their_address() {
    let app = TestApp::start().await;
    let list = |name: Option<&'static str>| {
        let mut request = Request::new(pb::ListLeadsRequest::default());
        if let Some(name) = name {
            request.metadata_mut().insert("x-leadsd-caller", name.parse().unwrap());
        }
        let mut leads = app.leads.clone();
        async move { leads.list_leads(request).await.expect("a page") }
    };
    for name in [Some("billing"), Some("billing"), None, Some(" billing "), Some(" ")] {
        list(name).await;
    }
    let mut quota = QuotaServiceClient::connect(format!("http://{}", app.grpc)).await.unwrap();
    let answer = quota.get_quota(pb::GetQuotaRequest {}).await.unwrap().into_inner();
    let burst = answer.quota.unwrap().buckets.remove(0);
    let callers = burst.callers.into_iter().map(|caller| (caller.caller, caller.used));
    let expected =
        [("127.0.0.1", 2.0), ("billing", 3.0)].map(|(name, used)| (name.to_owned(), used));
    assert_eq!(callers.collect::<Vec<_>>(), expected);
}

//! Name, priority and weight of the caller reach the quota. `crates/quota` tests the division of
//! quota among callers in simulated time.

use std::net::Ipv4Addr;

use futures_util::future::join_all;
use leadsd::grpc::pb::{
    self, leads_service_client::LeadsServiceClient, quota_service_client::QuotaServiceClient,
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::{batching::world::close, harness::TestApp};

/// Address of a client beside the one of the harness.
const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

async fn list(app: &TestApp, caller: &str, priority: &str, size: i32) -> Result<(), Status> {
    list_by(&app.leads, caller, priority, size).await
}

/// Reads a page that no other call reads.
async fn list_by(
    leads: &LeadsServiceClient<Channel>,
    caller: &str,
    priority: &str,
    size: i32,
) -> Result<(), Status> {
    let mut request = Request::new(pb::ListLeadsRequest { page_size: size, ..Default::default() });
    let metadata = request.metadata_mut();
    metadata.insert("leadsd-caller", caller.parse().unwrap());
    metadata.insert("leadsd-priority", priority.parse().unwrap());
    leads.clone().list_leads(request).await.map(drop)
}

#[tokio::test]
async fn full_queue_rejects_a_call_of_the_caller_with_the_most() {
    let app = TestApp::builder()
        .set("QUOTA__MAX_QUEUE", "4")
        .set("GRPC__MAX_CALLER_SHARE", "1.0")
        .start()
        .await;
    let _closed = close(&app, "default", 5).await;
    let bulk = join_all((1..=4).map(|size| list(&app, "job", "bulk", size)));
    let interactive = async {
        app.queued("burst", 4).await;
        list(&app, "web", "interactive", 5).await
    };
    let (bulk, interactive) = tokio::join!(bulk, interactive);
    interactive.expect("it takes the place of a call of the other");
    let dropped: Vec<Status> = bulk.into_iter().filter_map(Result::err).collect();
    assert_eq!(dropped.len(), 1);
    let reason = dropped[0].get_error_details().error_info().unwrap().reason.clone();
    assert_eq!(reason, "OVERLOADED");
}

#[tokio::test]
async fn a_client_with_a_new_name_for_each_call_fills_half_of_the_queue() {
    let app = TestApp::builder().set("QUOTA__MAX_QUEUE", "8").start().await;
    let _closed = close(&app, "default", 5).await;
    let greedy = Endpoint::from_shared(format!("http://{}", app.grpc)).unwrap();
    let greedy = greedy.local_address(Some(GREEDY.into())).connect().await.expect("a connection");
    let greedy = LeadsServiceClient::new(greedy);
    let names: Vec<String> = (0..20).map(|number| format!("name-{number}")).collect();
    let greedy = names.iter().zip(1..).map(|(name, size)| list_by(&greedy, name, "bulk", size));
    let greedy = join_all(greedy);
    let modest = async {
        app.queued("burst", 4).await;
        join_all((21..25).map(|size| list(&app, "web", "interactive", size))).await
    };
    let (greedy, modest) = tokio::join!(greedy, modest);
    assert!(modest.iter().all(Result::is_ok), "{modest:?}");
    let rejected: Vec<Status> = greedy.into_iter().filter_map(Result::err).collect();
    assert_eq!(rejected.len(), 16, "{rejected:?}");
    let reason = rejected[0].get_error_details().error_info().unwrap().reason.clone();
    assert_eq!(reason, "OVERLOADED");
}

#[tokio::test]
async fn caller_has_its_configured_weight() {
    let app = TestApp::builder().set("QUOTA__WEIGHTS__TRIPLE", "3").start().await;
    for (caller, size) in [("single", 1), ("triple", 2)] {
        list(&app, caller, "interactive", size).await.expect("a page");
    }
    let burst = crate::admission::buckets(&app, "default").await.remove(0);
    let weights = burst.callers.into_iter().map(|caller| (caller.caller, caller.weight));
    let expected = [("leadsd", 1), ("single", 1), ("triple", 3)];
    let expected = expected.map(|(name, weight)| (name.to_owned(), weight));
    assert_eq!(weights.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn unauthenticated_callers_are_identified_by_name_or_address() {
    let app = TestApp::start().await;
    let list = |name: Option<&'static str>| {
        let mut request = Request::new(pb::ListLeadsRequest::default());
        if let Some(name) = name {
            request.metadata_mut().insert("leadsd-caller", name.parse().unwrap());
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
    let expected = [("127.0.0.1", 2.0), ("billing", 3.0), ("leadsd", 1.0)];
    let expected = expected.map(|(name, used)| (name.to_owned(), used));
    assert_eq!(callers.collect::<Vec<_>>(), expected);
}

//! Buckets of requests, waiting for permits, and cancellation.

use std::time::Duration;

use leadsd_quota::BucketName;
use tokio::time::timeout;

use super::*;
use crate::{
    leads::{LocalLimit, Reason, SearchLeads},
    pipeline::{
        scripted::{Scripted, ScriptedUpstream},
        tests::{account, context, get, ordinary},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// The layer over a double that responds at once. A `burst` of 10 allows one request in a second.
fn limited(
    burst: u64,
    max_queue: usize,
) -> (RateLimit<Arc<ScriptedUpstream>>, Arc<ScriptedUpstream>, Arc<Account>) {
    let upstream = ScriptedUpstream::new(|sent| Scripted::now(ordinary(&sent.request)));
    let account = account(burst, max_queue);
    (RateLimit::new(Arc::clone(&upstream), Arc::clone(&account)), upstream, account)
}

fn search() -> Arc<Request> {
    Arc::new(Request::Search(SearchLeads {
        query: "lead".to_owned(),
        filter_groups: Vec::new(),
        sort: None,
        properties: Vec::new(),
        limit: 10,
        after: None,
    }))
}

/// Permits in use and requests in the queue of a bucket.
fn usage(account: &Account, name: BucketName) -> (u64, usize) {
    let snapshot = account.snapshot(Instant::now());
    let bucket = snapshot.buckets.iter().find(|bucket| bucket.name == name).unwrap();
    (bucket.used, bucket.waiting)
}

#[tokio::test(start_paused = true)]
async fn every_request_takes_a_permit() {
    let (layer, upstream, account) = limited(100, 10);
    let ctx = context(MINUTE);
    layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap();
    layer.call(&ctx, get("2"), Dispatch::new(&ctx)).await.unwrap();
    assert!(upstream.requests().iter().all(|sent| sent.has_permit));
    assert_eq!(usage(&account, BucketName::Burst), (2, 0));
    assert_eq!(usage(&account, BucketName::Search), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_search_takes_a_permit_of_the_search_bucket() {
    let (layer, upstream, account) = limited(100, 10);
    let ctx = context(MINUTE);
    layer.call(&ctx, search(), Dispatch::new(&ctx)).await.unwrap();
    assert!(upstream.requests()[0].has_permit);
    assert_eq!(usage(&account, BucketName::Search), (1, 0));
    assert_eq!(usage(&account, BucketName::Burst), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_the_request_has_already_is_used() {
    let (layer, upstream, account) = limited(100, 10);
    let ctx = context(MINUTE);
    let permit =
        account.try_acquire(BucketName::Burst, &ctx.requester, ctx.permit_deadline()).unwrap();
    let dispatch = Dispatch { permit, ..Dispatch::new(&ctx) };
    layer.call(&ctx, get("1"), dispatch).await.unwrap();
    assert!(upstream.requests()[0].has_permit);
    assert_eq!(usage(&account, BucketName::Burst), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_past_its_deadline_is_rejected_before_it_takes_a_permit() {
    let (layer, upstream, account) = limited(100, 10);
    let ctx = context(Duration::ZERO);
    let error = layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    let until = Instant::now() + MINUTE;
    let permit = account.try_acquire(BucketName::Burst, &ctx.requester, until).unwrap();
    let dispatch = Dispatch { permit, ..Dispatch::new(&ctx) };
    let error = layer.call(&ctx, get("1"), dispatch).await.unwrap_err();
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    assert_eq!(upstream.count(), 0);
    assert_eq!(usage(&account, BucketName::Burst), (0, 0), "the permit is released");
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_permit() {
    let (layer, upstream, account) = limited(10, 10);
    let ctx = context(MINUTE);
    let start = Instant::now();
    for _ in 0..3 {
        layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap();
    }
    assert!(start.elapsed() >= Duration::from_secs(2), "one request is allowed in a second");
    assert!(upstream.requests().iter().all(|sent| sent.has_permit));
    assert_eq!(usage(&account, BucketName::Burst).1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_permit_would_come_too_late_is_rejected_at_once() {
    let (layer, upstream, _) = limited(10, 10);
    let ctx = context(MINUTE);
    layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap();
    let start = Instant::now();
    let ctx = context(Duration::from_millis(500));
    let error = layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::RateLimited);
    assert_eq!(error.local_limit(), Some(LocalLimit::Quota("burst")));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_rejects_a_request() {
    let (layer, upstream, _) = limited(10, 0);
    let ctx = context(MINUTE);
    layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap();
    let error = layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Overloaded);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_leaves_the_queue() {
    let (layer, upstream, account) = limited(10, 10);
    let ctx = context(MINUTE);
    layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap();
    let call = layer.call(&ctx, get("1"), Dispatch::new(&ctx));
    assert!(timeout(Duration::from_millis(1), call).await.is_err());
    assert_eq!(usage(&account, BucketName::Burst), (1, 0));
    assert_eq!(upstream.count(), 1);
}

//! Retried errors, number of attempts, pauses and deadlines.

use leadsd_base::secret::Secret;
use leadsd_credentials::Token;
use leadsd_quota::BucketName;

use super::*;
use crate::{
    leads::{PortalName, UpstreamFacts},
    pipeline::{
        RetryDeadline,
        scripted::{Recorded, Scripted, ScriptedUpstream},
        tests::{account, context, found, get, lead, lead_id, lead_in, unavailable},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// The layer over a double that always fails with `error`.
fn failing(
    error: Error,
    max_attempts: u32,
) -> (Retry<Arc<ScriptedUpstream>>, Arc<ScriptedUpstream>) {
    let upstream = ScriptedUpstream::new(move |_| Scripted::now(Err(error.clone())));
    (Retry::new(Arc::clone(&upstream), max_attempts, Arc::default()), upstream)
}

/// Number of attempts that a read makes if each fails with `error`.
async fn attempts_at(error: &Error, request: Arc<Request>, max_attempts: u32) -> usize {
    let (retry, upstream) = failing(error.clone(), max_attempts);
    let ctx = context(MINUTE);
    let result = retry.call(&ctx, request, Dispatch::new(&ctx)).await.unwrap_err();
    assert_eq!(result.reason(), error.reason());
    assert_eq!(result.upstream().attempts as usize, upstream.count());
    assert!(!result.is_deadline_limited(), "the deadline is far away");
    upstream.count()
}

fn retries(stats: &PortalStats) -> u64 {
    stats.snapshot(PortalName::parse("default").unwrap(), Vec::new()).retries
}

fn with_status(status: u16) -> Error {
    let upstream = UpstreamFacts { http_status: Some(status), ..UpstreamFacts::default() };
    unavailable().with_upstream(upstream)
}

/// The pauses between the attempts.
fn pauses(requests: &[Recorded]) -> Vec<Duration> {
    requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_retried_until_it_succeeds() {
    let upstream =
        ScriptedUpstream::sequence(vec![Err(unavailable()), Err(unavailable()), found("1")]);
    let stats: Arc<PortalStats> = Arc::default();
    let retry = Retry::new(Arc::clone(&upstream), 4, Arc::clone(&stats));
    let ctx = context(MINUTE);
    let result = retry.call(&ctx, get("1"), Dispatch::new(&ctx)).await;
    assert_eq!(lead_in(result), Ok(lead("1")));
    let requests = upstream.requests();
    let prior: Vec<_> = requests.iter().map(|request| request.prior_attempts).collect();
    assert_eq!(prior, [0, 1, 2]);
    assert!(requests.iter().all(|sent| matches!(&*sent.request, Request::Get(_))));
    assert_eq!(retries(&stats), 2);
}

#[tokio::test(start_paused = true)]
async fn a_success_is_not_a_retry() {
    let upstream = ScriptedUpstream::sequence(vec![found("1")]);
    let stats: Arc<PortalStats> = Arc::default();
    let retry = Retry::new(Arc::clone(&upstream), 4, Arc::clone(&stats));
    let ctx = context(MINUTE);
    let result = retry.call(&ctx, get("1"), Dispatch::new(&ctx)).await;
    assert_eq!(lead_in(result), Ok(lead("1")));
    assert_eq!((upstream.count(), retries(&stats)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_error_after_the_maximum_number_of_attempts_is_the_last_one() {
    let upstream = ScriptedUpstream::sequence(vec![
        Err(unavailable()),
        Err(with_status(502)),
        Err(with_status(503)),
    ]);
    let retry = Retry::new(Arc::clone(&upstream), 3, Arc::default());
    let ctx = context(MINUTE);
    let error = retry.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
    assert_eq!((error.upstream().http_status, error.upstream().attempts), (Some(503), 3));
    assert!(!error.is_deadline_limited());
}

#[tokio::test(start_paused = true)]
async fn a_maximum_of_one_attempt_never_retries() {
    assert_eq!(attempts_at(&unavailable(), get("1"), 1).await, 1);
}

#[tokio::test(start_paused = true)]
async fn prior_attempts_count_towards_the_maximum() {
    let upstream = ScriptedUpstream::new(|_| Scripted::now(Err(unavailable())));
    let stats: Arc<PortalStats> = Arc::default();
    let retry = Retry::new(Arc::clone(&upstream), 4, Arc::clone(&stats));
    let ctx = context(MINUTE);
    let dispatch = Dispatch { prior_attempts: 2, ..Dispatch::new(&ctx) };
    let error = retry.call(&ctx, get("1"), dispatch).await.unwrap_err();
    let prior: Vec<_> = upstream.requests().iter().map(|request| request.prior_attempts).collect();
    assert_eq!(prior, [2, 3]);
    assert_eq!(error.upstream().attempts, 4);
    assert_eq!(retries(&stats), 2, "an attempt after prior ones is a retry");
}

#[tokio::test(start_paused = true)]
async fn only_the_first_attempt_carries_the_permit() {
    let upstream = ScriptedUpstream::sequence(vec![Err(unavailable()), found("1")]);
    let retry = Retry::new(Arc::clone(&upstream), 4, Arc::default());
    let ctx = context(MINUTE);
    let permit = account(100, 10)
        .try_acquire(BucketName::Burst, &ctx.requester, ctx.permit_deadline())
        .unwrap();
    assert!(permit.is_some());
    let secret = Secret::new("token");
    let token = Some(Token { secret, generation: 1, is_unproven: false });
    let dispatch = Dispatch { permit, token, ..Dispatch::new(&ctx) };
    let result = retry.call(&ctx, get("1"), dispatch).await;
    assert_eq!(lead_in(result), Ok(lead("1")));
    let requests = upstream.requests();
    let permits: Vec<_> = requests.iter().map(|request| request.has_permit).collect();
    assert_eq!(permits, [true, false]);
    assert!(requests.iter().all(|request| request.token.is_none()), "tokens are added below");
}

#[tokio::test(start_paused = true)]
async fn errors_are_retried_only_if_another_attempt_may_succeed() {
    for &reason in &Reason::ALL {
        let is_transient = matches!(
            reason,
            Reason::RateLimited | Reason::AccountLocked | Reason::UpstreamUnavailable
        );
        let expected = if is_transient { 3 } else { 1 };
        let attempts = attempts_at(&Error::new(reason, "failed"), get("1"), 3).await;
        assert_eq!(attempts, expected, "{reason:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_migrating_account_is_retried_only_after_a_stated_pause() {
    let error = Error::new(Reason::AccountMigrating, "the account is migrating");
    assert_eq!(attempts_at(&error, get("1"), 3).await, 1);
    let error = error.with_retry_after(Duration::from_secs(1));
    assert_eq!(attempts_at(&error, get("1"), 3).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_failure_between_the_gateway_and_hubspot_is_retried_once() {
    for status in [522, 525, 526] {
        assert_eq!(attempts_at(&with_status(status), get("1"), 4).await, 2, "{status}");
    }
    for status in [500, 502, 503, 504, 521, 523, 524, 527] {
        assert_eq!(attempts_at(&with_status(status), get("1"), 4).await, 4, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_by_the_circuit_breaker_is_not_retried() {
    let error = unavailable()
        .with_retry_after(Duration::from_secs(1))
        .with_local_limit(LocalLimit::CircuitBreaker);
    assert_eq!(attempts_at(&error, get("1"), 3).await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_operation_with_a_separate_limit_is_not_retried_after_429() {
    let associations = Arc::new(Request::ReadAssociations {
        leads: vec![lead_id("1")],
        to: "contacts".to_owned(),
    });
    let limited = Error::new(Reason::RateLimited, "too many requests");
    assert_eq!(attempts_at(&limited, Arc::clone(&associations), 3).await, 1);
    assert_eq!(attempts_at(&unavailable(), associations, 3).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_stated_pause_is_the_minimum_of_the_backoff() {
    let stated = Duration::from_secs(3);
    let (retry, upstream) = failing(unavailable().with_retry_after(stated), 3);
    let ctx = context(MINUTE);
    retry.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
    let pauses = pauses(&upstream.requests());
    assert!(pauses[0] >= stated && pauses[0] < stated + FIRST_BACKOFF * 2, "{pauses:?}");
    assert!(pauses[1] >= stated && pauses[1] < stated + FIRST_BACKOFF * 3, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_leaves_no_time_for_an_attempt_is_not_started() {
    let pause = Duration::from_secs(3);
    let (retry, upstream) = failing(unavailable().with_retry_after(pause), 4);
    let ctx = context(pause + ATTEMPT_TIME - Duration::from_millis(1));
    let start = Instant::now();
    let error = retry.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
    assert!(error.is_deadline_limited());
    assert_eq!(error.upstream().attempts, 1);
    assert_eq!(start.elapsed(), Duration::ZERO, "the error is returned at once");
    // With time for one more attempt it is made, and the next is not.
    let ctx = context(pause + FIRST_BACKOFF + ATTEMPT_TIME);
    let error = retry.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
    assert!(error.is_deadline_limited());
    assert_eq!((error.upstream().attempts, upstream.count()), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_shared_request_is_retried_within_the_earliest_deadline_only() {
    let (retry, upstream) = failing(unavailable().with_retry_after(Duration::from_secs(1)), 4);
    let ctx = context(MINUTE);
    let retry_deadline = RetryDeadline::shared(ctx.deadline);
    retry_deadline.join(Instant::now() + Duration::from_millis(2_500));
    let dispatch = Dispatch { retry_deadline: retry_deadline.clone(), ..Dispatch::new(&ctx) };
    let call = retry.call(&ctx, get("1"), dispatch);
    let join = async {
        sleep(Duration::from_millis(500)).await;
        // Joins while the first pause lasts: the second attempt is the last.
        retry_deadline.join(Instant::now() + Duration::from_secs(1));
    };
    let (result, ()) = tokio::join!(call, join);
    assert!(result.unwrap_err().is_deadline_limited());
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn retries_of_an_outage_stop_when_the_budget_is_exhausted() {
    let up = Arc::new(parking_lot::Mutex::new(false));
    let is_up = Arc::clone(&up);
    let upstream = ScriptedUpstream::new(move |_| {
        Scripted::now(if *is_up.lock() { found("1") } else { Err(unavailable()) })
    });
    let retry = Retry::new(Arc::clone(&upstream), 2, Arc::default());
    let calls = async |number: usize| {
        let before = upstream.count();
        for _ in 0..number {
            let ctx = context(MINUTE);
            if let Err(error) = retry.call(&ctx, get("1"), Dispatch::new(&ctx)).await {
                assert!(!error.is_deadline_limited());
            }
        }
        upstream.count() - before
    };
    assert_eq!(calls(30).await, 50, "twenty of the calls are retried");
    *up.lock() = true;
    assert_eq!(calls(10).await, 10);
    *up.lock() = false;
    assert_eq!(calls(5).await, 6, "ten successes allow one retry");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_makes_no_further_attempt() {
    let (retry, upstream) = failing(unavailable().with_retry_after(Duration::from_secs(1)), 4);
    let ctx = context(MINUTE);
    let call = retry.call(&ctx, get("1"), Dispatch::new(&ctx));
    assert!(tokio::time::timeout(Duration::from_millis(500), call).await.is_err());
    sleep(MINUTE).await;
    assert_eq!((upstream.count(), upstream.in_progress()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_alone_only_if_its_own_deadline_allows_an_attempt() {
    let pause = Duration::from_secs(1);
    let limited = unavailable().deadline_limited();
    let cases = [
        (unavailable(), MINUTE, false),
        (limited.clone(), ATTEMPT_TIME, true),
        (limited.clone(), ATTEMPT_TIME - Duration::from_millis(1), false),
        (limited.clone().with_retry_after(pause), pause + ATTEMPT_TIME, true),
        (limited.with_retry_after(pause), pause + ATTEMPT_TIME - Duration::from_millis(1), false),
    ];
    for (error, time, expected) in cases {
        assert_eq!(may_retry(&context(time), &error), expected, "{error} with {time:?}");
    }
}

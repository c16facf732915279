//! Results of statuses, and the permit of a check: in simulated time, against a HubSpot that counts calls.

use std::{collections::VecDeque, sync::Mutex};

use futures_util::future::join_all;
use http::HeaderMap;
use leadsd_base::net::connect_error::ConnectError;
use leadsd_quota::{
    Quota,
    testing::{SimulatedClock, settings},
};
use tokio::time::{sleep, timeout};

use super::*;

/// Calls that HubSpot allows in ten seconds.
const LIMIT: usize = 190;

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(10);

/// Latency of HubSpot.
const LATENCY: Duration = Duration::from_millis(40);

/// A HubSpot that counts calls in a rolling window and announces what is left.
#[derive(Debug, Default)]
struct Hubspot {
    counted: Mutex<VecDeque<Instant>>,
    rejected: Mutex<usize>,
}

// === impl Hubspot ===

impl Hubspot {
    /// Counts a call. `None` for a 429.
    fn count(&self) -> Option<RateLimits> {
        let mut counted = self.counted.lock().unwrap();
        let now = Instant::now();
        while counted.front().is_some_and(|first| *first + WINDOW <= now) {
            counted.pop_front();
        }
        if counted.len() >= LIMIT {
            *self.rejected.lock().unwrap() += 1;
            return None;
        }
        counted.push_back(now);
        Some(RateLimits {
            max: Some(LIMIT as u64),
            remaining: Some((LIMIT - counted.len()) as u64),
            interval_ms: Some(10_000),
            ..RateLimits::default()
        })
    }

    /// Response to a token check.
    async fn respond(&self) -> Result<RawResponse, SendError> {
        sleep(LATENCY).await;
        let limits = self.count().expect("a call is left");
        Ok(response(200, &headers(limits), ""))
    }

    /// Makes a call with a permit. True if HubSpot accepted it before `until`.
    async fn call(&self, account: &Arc<Account>, until: Instant) -> bool {
        let requester = requester("web");
        let permit = account.acquire(BucketName::Burst, &requester, until);
        let Ok(mut permit) = permit.await else { return false };
        permit.mark_sent(1);
        sleep(LATENCY).await;
        let limits = self.count();
        permit.observe(limits.unwrap_or_default().observation(None));
        limits.is_some() && Instant::now() < until
    }

    fn rejected(&self) -> usize {
        *self.rejected.lock().unwrap()
    }
}

fn requester(name: &str) -> Requester {
    Requester { caller: leadsd_quota::Caller::new(name), ..Requester::internal() }
}

fn account(burst: u64) -> Arc<Account> {
    let clock = SimulatedClock::starting_at("2026-03-01T12:00:00Z".parse().unwrap());
    Quota::new(settings(burst), Arc::new(clock)).account("default")
}

fn checker(request_timeout: Duration) -> TokenChecker {
    TokenChecker { url: "http://127.0.0.1/".parse().unwrap(), request_timeout }
}

fn headers(limits: RateLimits) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut insert = |name: &'static str, value: Option<u64>| {
        if let Some(value) = value {
            headers.insert(name, value.into());
        }
    };
    insert("x-hubspot-ratelimit-max", limits.max);
    insert("x-hubspot-ratelimit-remaining", limits.remaining);
    insert("x-hubspot-ratelimit-interval-milliseconds", limits.interval_ms);
    headers
}

fn response(status: u16, headers: &HeaderMap, body: &str) -> RawResponse {
    let status = StatusCode::from_u16(status).unwrap();
    RawResponse { status, headers: headers.clone(), body: body.as_bytes().to_vec() }
}

/// Number of permits in use.
fn used(account: &Account) -> u64 {
    account.snapshot(Instant::now()).buckets[0].used
}

/// Number of calls that sixty callers can make in `time`, each until no permit comes before its end.
async fn calls_within(hubspot: &Hubspot, account: &Arc<Account>, time: Duration) -> usize {
    let until = Instant::now() + time;
    let callers = (0..60).map(|_| async {
        let mut calls = 0;
        while hubspot.call(account, until).await {
            calls += 1;
        }
        calls
    });
    join_all(callers).await.into_iter().sum()
}

#[test]
fn only_a_401_is_a_rejection() {
    let error = r#"{"status":"error","category":"X","message":"no","correlationId":"c"}"#;
    for (status, id, body, expected) in [
        (200, false, r#"{"portalId":1}"#, TokenCheck::Accepted),
        (200, false, "", TokenCheck::Accepted),
        (403, false, error, TokenCheck::Accepted),
        (403, true, "", TokenCheck::Accepted),
        (401, false, error, TokenCheck::Rejected),
        (401, true, "", TokenCheck::Rejected),
        (401, false, "", TokenCheck::Rejected),
    ] {
        assert_eq!(result(status, id, Some(body)), expected, "{status} {body}");
    }
    for status in [302, 404, 407, 429, 477, 488, 500, 502, 503, 521, 530] {
        let result = result(status, true, Some(error));
        assert_eq!(result, TokenCheck::Inconclusive(format!("HTTP status {status}")));
    }
}

#[test]
fn a_response_of_another_server_has_no_result() {
    let html = "<html><title>Attention Required! | Cloudflare</title></html>";
    let text = "error code: 1016";
    let bodies = [Some(html), Some(text), Some("[]"), Some("\"no\""), None];
    for status in [200, 204, 401, 403, 530] {
        for body in bodies {
            let found = result(status, false, body);
            assert!(matches!(found, TokenCheck::Inconclusive(_)), "{status} {body:?}: {found:?}");
        }
    }
    for (status, id, body) in [
        // A gateway's own error, and nothing at all.
        (403, false, Some(r#"{"message":"Forbidden"}"#)),
        (403, false, Some("")),
        // The header alone does not make a page a response of HubSpot.
        (403, true, Some(html)),
        (401, true, Some(html)),
    ] {
        let found = result(status, id, body);
        assert!(matches!(found, TokenCheck::Inconclusive(_)), "{status} {body:?}: {found:?}");
    }
    // HubSpot has begun to respond.
    assert_eq!(result(200, true, None), TokenCheck::Accepted);
    assert_eq!(result(401, true, None), TokenCheck::Rejected);
}

/// Result of a response, with or without HubSpot's id.
fn result(status: u16, has_id: bool, body: Option<&str>) -> TokenCheck {
    let mut headers = HeaderMap::new();
    if has_id {
        headers.insert("x-hubspot-correlation-id", "c-1".parse().unwrap());
    }
    result_of(StatusCode::from_u16(status).unwrap(), &headers, body.map(str::as_bytes))
}

#[tokio::test(start_paused = true)]
async fn callers_use_the_whole_limit_minus_one_call_after_a_check() {
    for time in [WINDOW, WINDOW * 6] {
        let (hubspot, account) = (Hubspot::default(), account(LIMIT as u64));
        let without = calls_within(&hubspot, &account, time).await;
        let (hubspot, account) = (Hubspot::default(), self::account(LIMIT as u64));
        let result = checker(WINDOW).send_with_permit(&account, hubspot.respond()).await;
        assert_eq!(result, TokenCheck::Accepted);
        assert_eq!(used(&account), 1);
        let with = calls_within(&hubspot, &account, time).await;
        assert!(with + 1 >= without, "{with} calls after a check, {without} without, in {time:?}");
        assert_eq!(hubspot.rejected(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_use_the_whole_limit_after_the_check_of_a_new_token() {
    let (hubspot, account) = (Hubspot::default(), account(LIMIT as u64));
    let without = calls_within(&hubspot, &account, WINDOW * 6).await;
    let (hubspot, account) = (Hubspot::default(), self::account(LIMIT as u64));
    let checker = checker(WINDOW);
    let checks = async {
        sleep(WINDOW * 2).await;
        checker.send_with_permit(&account, hubspot.respond()).await
    };
    let (calls, result) = tokio::join!(calls_within(&hubspot, &account, WINDOW * 6), checks);
    assert_eq!(result, TokenCheck::Accepted);
    // While two callers wait, permits are spaced evenly.
    assert!(calls * 100 >= without * 99, "{calls} calls beside a check, {without} without");
    assert_eq!(hubspot.rejected(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_quota_delays_a_check_at_most_by_the_timeout_of_its_permit() {
    let seconds =
        |time: f32| TokenCheck::Inconclusive(format!("the quota had no permit within {time} s"));
    for (request_timeout, wait) in [(WINDOW, PERMIT_TIMEOUT), (SECOND, SECOND / 2)] {
        let account = account(LIMIT as u64);
        let permit =
            account.try_acquire(BucketName::Burst, &requester("web"), Instant::now() + WINDOW);
        let mut permit = permit.unwrap().unwrap();
        permit.mark_sent(1);
        let error = error_mapping::rate_limited(&HeaderMap::new(), b"");
        permit.observe(RateLimits::default().observation(Some(&error)));
        let before = Instant::now();
        let send = async { panic!("the request is not sent without a permit") };
        let result = checker(request_timeout).send_with_permit(&account, send).await;
        assert_eq!(result, seconds(wait.as_secs_f32()));
        assert!(before.elapsed() <= wait, "{:?}", before.elapsed());
        assert_eq!(account.snapshot(Instant::now()).buckets[0].waiting, 0, "it leaves the queue");
        // The limit opens again.
        sleep(WINDOW).await;
        let hubspot = Hubspot::default();
        let result = checker(request_timeout).send_with_permit(&account, hubspot.respond()).await;
        assert_eq!(result, TokenCheck::Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_gets_its_permit_beside_a_thousand_queued_requests() {
    let (hubspot, account) = (Hubspot::default(), account(LIMIT as u64));
    let until = Instant::now() + WINDOW * 100;
    let queued = (0..1_000).map(|_| hubspot.call(&account, until));
    let check = async {
        sleep(SECOND).await;
        let before = Instant::now();
        let result = checker(WINDOW).send_with_permit(&account, hubspot.respond()).await;
        assert_eq!(result, TokenCheck::Accepted);
        assert!(before.elapsed() < SECOND, "{:?}", before.elapsed());
    };
    let queued = timeout(WINDOW, join_all(queued));
    let (_, ()) = tokio::join!(queued, check);
}

#[tokio::test(start_paused = true)]
async fn a_usual_latency_above_the_timeout_of_the_permit_prevents_no_check() {
    let account = account(LIMIT as u64);
    let slow = || async {
        sleep(SECOND * 4).await;
        Ok(response(200, &HeaderMap::new(), ""))
    };
    for _ in 0..3 {
        let result = checker(WINDOW).send_with_permit(&account, slow()).await;
        assert_eq!(result, TokenCheck::Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_to_a_check_closes_the_limit_that_it_names() {
    let body = |policy: &str| format!(r#"{{"errorType":"RATE_LIMIT","policyName":"{policy}"}}"#);
    for (policy, closed) in [("SECONDLY", SECOND), ("TEN_SECONDLY_ROLLING", WINDOW)] {
        let account = account(LIMIT as u64);
        let send = async { Ok(response(429, &HeaderMap::new(), &body(policy))) };
        let result = checker(WINDOW).send_with_permit(&account, send).await;
        assert_eq!(result, TokenCheck::Inconclusive("HTTP status 429".to_owned()));
        let burst = account.snapshot(Instant::now()).buckets.remove(0);
        assert!(burst.closed > Duration::ZERO && burst.closed <= closed, "{:?}", burst.closed);
        assert_eq!(burst.counts.upstream_429, 1);
    }
    let account = account(LIMIT as u64);
    let send = async { Ok(response(429, &HeaderMap::new(), &body("DAILY"))) };
    checker(WINDOW).send_with_permit(&account, send).await;
    let requester = requester("web");
    let rejected = account.try_acquire(BucketName::Burst, &requester, Instant::now() + WINDOW);
    assert_eq!(rejected.unwrap_err().bucket, BucketName::Daily);
}

#[tokio::test(start_paused = true)]
async fn every_outcome_of_a_check_releases_its_permit_after_a_window() {
    type Sent = Result<RawResponse, SendError>;
    let account = account(LIMIT as u64);
    let checker = checker(WINDOW);
    let hang = async { std::future::pending::<Sent>().await };
    assert!(timeout(SECOND, checker.send_with_permit(&account, hang)).await.is_err());
    let refused = async { Err(SendError::Connect(ConnectError::Refused)) };
    let result = checker.send_with_permit(&account, refused).await;
    assert!(matches!(result, TokenCheck::Inconclusive(_)), "{result:?}");
    let rejected = async { Ok(response(401, &HeaderMap::new(), "")) };
    assert_eq!(checker.send_with_permit(&account, rejected).await, TokenCheck::Rejected);
    assert_eq!(used(&account), 3, "HubSpot may have counted each of them");
    sleep(WINDOW * 2).await;
    assert_eq!(used(&account), 0);
}

//! Rate limits: headers, rolling windows, the three policies and the day; scripted faults.

use std::{sync::Arc, time::Duration};

use leadsd_base::time::{Timestamp, WallClock};
use leadsd_hubspot_fake::{ApiError, FakeHubspot, READ, ScriptedResponse};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};

use super::{FakeReply, Hub};

/// Asserts a 429 of this policy.
#[track_caller]
fn is_limited(response: &FakeReply, policy: &str) {
    assert_eq!(response.status, 429, "{response:?}");
    assert_eq!(response.body["policyName"], policy);
    assert_eq!(response.body["errorType"], "RATE_LIMIT");
    let text = format!("You have reached your {} limit.", policy.to_lowercase());
    assert_eq!(response.body["message"], text);
    assert!(response.body["correlationId"].is_string() && response.body["requestId"].is_string());
}

#[tokio::test]
async fn headers_report_remaining_calls_except_for_searches() {
    let hub = Hub::start().await;
    hub.fake.limit(|limits| limits.burst = 20);
    for left in [19, 18] {
        let response = hub.get("").await;
        let number = |name: &str| response.header(&format!("x-hubspot-ratelimit-{name}")).unwrap();
        assert_eq!(number("max"), "20");
        assert_eq!(number("remaining"), left.to_string());
        assert_eq!(number("interval-milliseconds"), "10000");
        assert_eq!(number("secondly"), "2");
        assert_eq!(number("daily"), "625000");
        assert_eq!(number("daily-remaining"), (625_000 - 20 + left).to_string());
    }
    let response = hub.post("/search", &json!({})).await;
    assert!(response.headers.keys().all(|name| !name.as_str().contains("ratelimit")));
    let (id, secret, token) = hub.fake.oauth_app();
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", id.as_str()),
        ("client_secret", secret.expose()),
        ("refresh_token", token.expose()),
    ];
    let response = hub.form("/oauth/2026-09/token", &form).await;
    let access = response.body["access_token"].as_str().unwrap();
    let response = hub.ask_as(access, Method::GET, hub.base, &Value::Null).await;
    assert!(response.header("x-hubspot-ratelimit-max").is_some());
    assert!(response.header("x-hubspot-ratelimit-daily").is_none(), "absent for OAuth");
}

#[tokio::test]
async fn burst_window_is_rolling() {
    let hub = Hub::start().await;
    let window = Duration::from_secs(300);
    hub.fake.limit(|limits| {
        limits.burst = 3;
        limits.window = window;
        limits.retry_after = true;
    });
    assert_eq!(hub.get("").await.status, 200);
    hub.fake.advance(window / 2);
    for _ in 0..2 {
        assert_eq!(hub.get("").await.status, 200);
    }
    let response = hub.get("").await;
    is_limited(&response, "TEN_SECONDLY_ROLLING");
    assert!(response.header("retry-after").is_some());
    assert_eq!(response.header("x-hubspot-ratelimit-remaining"), Some("0"));
    hub.fake.advance(window / 2);
    // Only the first call has left the window.
    assert_eq!(hub.get("").await.status, 200);
    is_limited(&hub.get("").await, "TEN_SECONDLY_ROLLING");
    assert_eq!(hub.post("/search", &json!({})).await.status, 200, "search has its own window");
    assert_eq!(hub.fake.rate_limited(), 2);
}

#[tokio::test]
async fn lower_limit_is_announced_before_it_applies() {
    let hub = Hub::start().await;
    hub.fake.limit(|limits| (limits.burst, limits.retry_after) = (4, true));
    assert_eq!(hub.get("").await.status, 200);
    hub.fake.advance(Duration::from_secs(2));
    hub.fake.limit(|limits| limits.announced = Some(2));
    for left in ["0", "0"] {
        let response = hub.get("").await;
        assert_eq!(response.status, 200, "it does not hold yet");
        assert_eq!(response.header("x-hubspot-ratelimit-max"), Some("2"));
        assert_eq!(response.header("x-hubspot-ratelimit-remaining"), Some(left));
    }
    hub.fake.limit(|limits| (limits.burst, limits.announced) = (2, None));
    let response = hub.get("").await;
    is_limited(&response, "TEN_SECONDLY_ROLLING");
    // Three calls are in the window, so two must leave: the second came two seconds later.
    assert_eq!(response.header("retry-after"), Some("9"));
    assert_eq!(hub.fake.counted(), 3);
}

#[tokio::test]
async fn search_and_secondly_limits_have_one_second_windows() {
    let hub = Hub::start().await;
    hub.fake.limit(|limits| {
        limits.search_per_second = 2;
        limits.burst = 30;
        limits.secondly = true;
    });
    for _ in 0..2 {
        assert_eq!(hub.post("/search", &json!({})).await.status, 200);
    }
    let response = hub.post("/search", &json!({})).await;
    is_limited(&response, "SECONDLY");
    assert!(response.header("retry-after").is_none(), "only where it is switched on");
    for _ in 0..3 {
        assert_eq!(hub.get("").await.status, 200);
    }
    is_limited(&hub.get("").await, "SECONDLY");
    hub.fake.advance(Duration::from_secs(1));
    assert_eq!(hub.post("/search", &json!({})).await.status, 200);
    assert_eq!(hub.get("").await.status, 200);
}

/// A clock that stands at a set time.
#[derive(Debug)]
struct Clock(Mutex<Timestamp>);

impl WallClock for Clock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}

#[tokio::test]
async fn daily_limit_resets_at_midnight_of_the_account() {
    let free = "127.0.0.1:0".parse().unwrap();
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let clock = Arc::new(Clock(Mutex::new(at("2026-11-02T04:59:00Z"))));
    let wall: Arc<dyn WallClock> = Arc::<Clock>::clone(&clock);
    let fake = FakeHubspot::start(free, wall).await.unwrap();
    let mut hub = Hub::start().await;
    hub.token = fake.static_token(&[READ]).expose().to_owned();
    hub.fake = fake;
    hub.fake.limit(|limits| {
        limits.daily = 2;
        limits.utc_offset_minutes = -300;
        limits.retry_after = true;
    });
    for _ in 0..2 {
        assert_eq!(hub.get("").await.status, 200);
    }
    let response = hub.get("").await;
    is_limited(&response, "DAILY");
    assert_eq!(response.header("retry-after"), Some("60"), "a minute to midnight");
    *clock.0.lock() = at("2026-11-02T05:00:00Z");
    let response = hub.get("").await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("x-hubspot-ratelimit-daily-remaining"), Some("1"));
}

#[tokio::test]
async fn scripts_apply_to_the_given_number_of_requests() {
    let hub = Hub::start().await;
    hub.fake.script_times(2, "GET", "/leads", ScriptedResponse::html(502));
    hub.fake.script(
        "",
        "/search",
        ScriptedResponse::Reject(ApiError::Migrating(Duration::from_secs(90))),
    );
    let response = hub.post("/search", &json!({})).await;
    assert_eq!((response.status, response.header("retry-after")), (477, Some("90")));
    for status in [502, 502, 200] {
        let response = hub.get("").await;
        assert_eq!(response.status, status);
        assert!(response.header("x-hubspot-correlation-id").is_some());
    }
    assert_eq!(hub.fake.scripts_left(), 0);
    let lead = hub.lead(json!({"hs_lead_name": "Jane"}));
    for (script, made) in [(ScriptedResponse::DropBefore, 0), (ScriptedResponse::DropAfter, 1)] {
        hub.fake.script("POST", "/leads", script);
        let url = format!("http://{}{}", hub.fake.address(), hub.base);
        let answer = hub.http.post(url).bearer_auth(&hub.token).json(&lead).send().await;
        assert!(answer.is_err(), "the connection breaks");
        assert_eq!(hub.fake.lead_names().len(), made);
    }
}

//! The fake HubSpot by itself, over its HTTP: rules, limits and switches that callers of the service
//! rely on it for; and both sides of what nobody has established about HubSpot, through the service.

use std::{sync::Arc, time::Duration};

use leadsd::{
    fake::hubspot::{FakeHubspot, READ, WRITE},
    grpc::pb,
    secret::Secret,
    time::{SystemClock, Timestamp, WallClock},
};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{TestApp, failure, properties};

const LEADS: &str = "/crm/objects/2026-09/leads";

struct Http {
    hubspot: FakeHubspot,
    token: Secret,
    http: reqwest::Client,
}

// === impl Http ===

impl Http {
    async fn with(clock: Arc<dyn WallClock>) -> Self {
        let hubspot = FakeHubspot::start("127.0.0.1:0".parse().unwrap(), clock).await.unwrap();
        let token = hubspot.static_token(&[READ, WRITE]);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { hubspot, token, http }
    }

    async fn new() -> Self {
        Self::with(Arc::new(SystemClock)).await
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> reqwest::Response {
        let url = format!("http://{}{path}", self.hubspot.address());
        let request = self.http.request(method, url).bearer_auth(self.token.expose());
        let request = if body.is_null() { request } else { request.json(body) };
        request.send().await.unwrap()
    }

    /// Status and body; null if there is none.
    async fn call(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.send(method, path, body).await;
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Method::POST, path, body).await
    }
}

/// A create as HubSpot takes it.
fn create(contact: &str, properties: &Value) -> Value {
    json!({"properties": properties, "associations": [{"to": {"id": contact}, "types": [
        {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 578}]}]})
}

#[tokio::test]
async fn the_rules_for_leads_answer_with_hubspots_codes() {
    let http = Http::new().await;
    let contact = http.hubspot.add_contact("ada@example.com");
    http.hubspot.add_unique_property("crm_key");
    let named = |more: Value| {
        let mut properties = json!({"hs_lead_name": "Jane"});
        properties.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        create(&contact, &properties)
    };
    let (status, lead) = http.post(LEADS, &named(json!({"crm_key": "k"}))).await;
    assert_eq!((status, &lead["properties"]["hs_lead_name"]), (201, &json!("Jane")));
    for (body, status, category, code) in [
        (create(&contact, &json!({})), 400, "VALIDATION_ERROR", "MISSING_REQUIRED_PROPERTY"),
        (create("424242", &json!({"hs_lead_name": "x"})), 400, "VALIDATION_ERROR", ""),
        (json!({"properties": {"hs_lead_name": "x"}}), 400, "VALIDATION_ERROR", ""),
        (named(json!({"nope": "1"})), 400, "VALIDATION_ERROR", "PROPERTY_DOESNT_EXIST"),
        (named(json!({"hs_object_id": "1"})), 400, "VALIDATION_ERROR", "READ_ONLY_VALUE"),
        (named(json!({"hs_lead_label": "BOILING"})), 400, "VALIDATION_ERROR", "INVALID_OPTION"),
        (named(json!({"hs_lead_pipeline_value": "x"})), 400, "VALIDATION_ERROR", "INVALID_INTEGER"),
        (named(json!({"crm_key": "K"})), 409, "CONFLICT", ""),
    ] {
        let (got, answer) = http.post(LEADS, &body).await;
        assert_eq!((got, answer["category"].as_str()), (status, Some(category)), "{answer}");
        assert!(answer["correlationId"].is_string() && answer["message"].is_string());
        if !code.is_empty() {
            assert_eq!(answer["errors"][0]["code"], code, "{answer}");
        }
    }
    assert_eq!(http.hubspot.lead_names(), ["Jane"]);
}

#[tokio::test]
async fn archived_leads_are_in_the_archived_view_only_and_never_found_by_search() {
    let http = Http::new().await;
    let contact = http.hubspot.add_contact("ada@example.com");
    let id = http.hubspot.add_lead(&contact, &json!({"hs_lead_name": "Jane"})).unwrap();
    let (status, _) = http.call(Method::DELETE, &format!("{LEADS}/{id}"), &Value::Null).await;
    assert_eq!(status, 204);
    let get = |query: &str| {
        let path = format!("{LEADS}/{id}{query}");
        let http = &http;
        async move { http.call(Method::GET, &path, &Value::Null).await }
    };
    assert_eq!(get("").await.0, 404);
    let (status, lead) = get("?archived=true").await;
    assert_eq!((status, &lead["archived"]), (200, &json!(true)));
    assert!(lead["archivedAt"].is_string());
    let (_, found) = http.post(&format!("{LEADS}/search"), &json!({})).await;
    assert_eq!(found["total"], 0);
}

#[tokio::test]
async fn a_search_shows_writes_when_the_index_has_caught_up() {
    let http = Http::new().await;
    let contact = http.hubspot.add_contact("ada@example.com");
    let lag = Duration::from_millis(300);
    http.hubspot.behave(|behaviour| behaviour.index_lag = lag);
    http.hubspot.add_lead(&contact, &json!({"hs_lead_name": "Jane"})).unwrap();
    let search = || http.post("/crm/v3/objects/leads/search", &Value::Null);
    assert_eq!(search().await.1["total"], 0);
    tokio::time::sleep(lag).await;
    assert_eq!(search().await.1["total"], 1);
}

#[tokio::test]
async fn a_search_has_hubspots_limits() {
    let http = Http::new().await;
    http.hubspot.limit(|limits| limits.search_per_second = 1_000);
    let filter = json!({"propertyName": "hs_lead_name", "operator": "HAS_PROPERTY"});
    let groups = |counts: &[usize]| -> Value {
        let groups: Vec<Value> =
            counts.iter().map(|&count| json!({"filters": vec![filter.clone(); count]})).collect();
        json!({ "filterGroups": groups })
    };
    for (body, accepted) in [
        (groups(&[6, 6, 6]), true),
        (groups(&[7]), false),
        (groups(&[1; 6]), false),
        (groups(&[6, 6, 6, 1]), false),
        (json!({"limit": 200}), true),
        (json!({"limit": 201}), false),
        (json!({"after": "9999", "limit": 1}), true),
        (json!({"after": "10000"}), false),
        (json!({"query": "x".repeat(3_100)}), false),
    ] {
        let (status, _) = http.post(&format!("{LEADS}/search"), &body).await;
        assert_eq!(status == 200, accepted, "{body}");
    }
}

#[tokio::test]
async fn a_batch_is_all_or_nothing_without_trace_ids_and_one_by_one_with_them() {
    let http = Http::new().await;
    let contact = http.hubspot.add_contact("ada@example.com");
    let batch = |traced: bool| -> Value {
        let input = |index: usize, label: &str| {
            let properties = json!({"hs_lead_name": format!("{index}"), "hs_lead_label": label});
            let mut input = create(&contact, &properties);
            if traced {
                input["objectWriteTraceId"] = json!(format!("t-{index}"));
            }
            input
        };
        json!({"inputs": [input(0, "HOT"), input(1, "BOILING"), input(2, "COLD")]})
    };
    let path = format!("{LEADS}/batch/create");
    assert_eq!(http.post(&path, &batch(false)).await.0, 400);
    assert!(http.hubspot.lead_names().is_empty());
    let (status, answer) = http.post(&path, &batch(true)).await;
    assert_eq!((status, answer["results"].as_array().unwrap().len()), (207, 2));
    assert_eq!(answer["errors"][0]["context"]["objectWriteTraceId"], json!(["t-1"]));
    let mut names = http.hubspot.lead_names();
    names.sort();
    assert_eq!(names, ["0", "2"]);
    let many = json!({"inputs": vec![json!({"id": "1"}); 101]});
    assert_eq!(http.post(&format!("{LEADS}/batch/archive"), &many).await.0, 400);
}

#[tokio::test]
async fn each_limit_has_its_policy_and_its_window() {
    let http = Http::new().await;
    let window = Duration::from_millis(400);
    http.hubspot.limit(|limits| {
        limits.burst = 2;
        limits.window = window;
        limits.search_per_second = 1;
    });
    let list = || http.send(Method::GET, LEADS, &Value::Null);
    let search = || async { http.post(&format!("{LEADS}/search"), &json!({})).await };
    let first = list().await;
    let header = |name: &str| first.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("x-hubspot-ratelimit-max"), "2");
    assert_eq!(header("x-hubspot-ratelimit-remaining"), "1");
    assert_eq!(header("x-hubspot-ratelimit-interval-milliseconds"), "400");
    assert!(first.headers().contains_key("x-hubspot-correlation-id"));
    tokio::time::sleep(window / 2).await;
    assert_eq!(list().await.status(), 200);
    let refused: Value = serde_json::from_str(&list().await.text().await.unwrap()).unwrap();
    assert_eq!(refused["policyName"], "TEN_SECONDLY_ROLLING");
    let answer = http.send(Method::POST, &format!("{LEADS}/search"), &json!({})).await;
    assert_eq!(answer.status(), 200, "search does not count to the burst");
    assert!(!answer.headers().contains_key("x-hubspot-ratelimit-max"));
    let (status, refused) = search().await;
    assert_eq!((status, &refused["policyName"]), (429, &json!("SECONDLY")));
    // Rolling: the first call has left the window, the second has not.
    tokio::time::sleep(window / 2 + Duration::from_millis(50)).await;
    assert_eq!(list().await.status(), 200);
    assert_eq!(list().await.status(), 429);
}

/// A clock that stands where a test puts it.
#[derive(Debug)]
struct Hands(Mutex<Timestamp>);

impl WallClock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}

#[tokio::test]
async fn the_daily_limit_starts_anew_at_the_accounts_midnight() {
    let hands = Arc::new(Hands(Mutex::new("2026-11-23T20:00:00Z".parse().unwrap())));
    let clock: Arc<dyn WallClock> = Arc::<Hands>::clone(&hands);
    let http = Http::with(clock).await;
    http.hubspot.limit(|limits| {
        limits.daily = 2;
        limits.utc_offset_s = 3 * 3_600;
        limits.search_counts_daily = false;
        limits.retry_after = true;
    });
    let list = || http.send(Method::GET, LEADS, &Value::Null);
    assert_eq!(list().await.status(), 200);
    assert_eq!(list().await.status(), 200);
    let refused = list().await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "3600");
    let body: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!(body["policyName"], "DAILY");
    assert_eq!(http.post(&format!("{LEADS}/search"), &json!({})).await.0, 200);
    *hands.0.lock() = "2026-11-23T21:00:00Z".parse().unwrap();
    assert_eq!(list().await.status(), 200, "midnight has passed in the account's time zone");
}

#[tokio::test]
async fn tokens_expire_lack_scopes_and_may_be_wrong() {
    let mut http = Http::new().await;
    http.token = Secret::new("nonsense");
    let list = Method::GET;
    let (status, body) = http.call(list.clone(), LEADS, &Value::Null).await;
    assert_eq!((status, &body["category"]), (401, &json!("INVALID_AUTHENTICATION")));
    http.token = http.hubspot.static_token(&[WRITE]);
    let (status, body) = http.call(list.clone(), LEADS, &Value::Null).await;
    assert_eq!((status, &body["category"]), (403, &json!("MISSING_SCOPES")));

    let (id, secret, refresh_token) = http.hubspot.oauth_app();
    let form = |refresh_token: &str| {
        [
            ("grant_type", "refresh_token".to_owned()),
            ("client_id", id.clone()),
            ("client_secret", secret.expose().to_owned()),
            ("refresh_token", refresh_token.to_owned()),
        ]
    };
    let url = format!("http://{}/oauth/2026-09/token", http.hubspot.address());
    let wrong = http.http.post(&url).form(&form("wrong")).send().await.unwrap();
    assert_eq!(wrong.status(), 400);
    let granted = http.http.post(&url).form(&form(refresh_token.expose())).send().await.unwrap();
    let granted: Value = serde_json::from_str(&granted.text().await.unwrap()).unwrap();
    http.token = Secret::new(granted["access_token"].as_str().unwrap());
    assert_eq!(http.call(list.clone(), LEADS, &Value::Null).await.0, 200);
    http.hubspot.expire_tokens();
    let (status, body) = http.call(list, LEADS, &Value::Null).await;
    assert_eq!((status, &body["category"]), (401, &json!("EXPIRED_AUTHENTICATION")));
}

#[tokio::test]
async fn since_2026_09_conditions_are_enforced_and_dates_are_normalised() {
    for (version, modern) in [("2026-09", true), ("2026-03", false), ("v3", false)] {
        let app = TestApp::builder().api_version(version).start().await;
        let note = "hs_lead_disqualification_note";
        app.hubspot.require_when("hs_pipeline_stage", "unqualified-stage-id", note);
        let id = app.lead("Jane");
        let update = |pairs: &[(&str, &str)]| {
            let properties = properties(pairs);
            let request =
                pb::UpdateLeadRequest { id: id.clone(), properties, ..Default::default() };
            let mut leads = app.leads.clone();
            async move { leads.update_lead(request).await }
        };
        let answer = update(&[("hs_pipeline_stage", "unqualified-stage-id")]).await;
        if modern {
            let (code, reason, fields) = failure(answer);
            assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"));
            assert_eq!(fields, [format!("properties[{note:?}]")]);
        } else {
            answer.unwrap();
        }
        update(&[("hs_pipeline_stage", "unqualified-stage-id"), (note, "no budget")])
            .await
            .unwrap();

        let answer = update(&[("hs_next_activity_date", "2026-12-01")]).await;
        if modern {
            let lead = answer.unwrap().into_inner().lead.unwrap();
            assert_eq!(lead.properties["hs_next_activity_date"], "2026-12-01T00:00:00Z");
            assert_eq!(lead.warnings[0].category, "PROPERTY_VALUE_NORMALIZED");
            assert_eq!(lead.warnings[0].context["rawValue"].values, ["2026-12-01"]);
        } else {
            let (_, _, fields) = failure(answer);
            assert_eq!(fields, [r#"properties["hs_next_activity_date"]"#]);
        }
    }
}

#[tokio::test]
async fn archiving_an_unknown_lead_succeeds_whether_hubspot_reports_it_or_not() {
    for reports in [true, false] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.delete_reports_unknown = reports);
        let request = pb::ArchiveLeadRequest { id: "999999".to_owned(), ..Default::default() };
        app.leads.clone().archive_lead(request).await.unwrap();
        assert_eq!(app.hubspot.log()[0].status, if reports { 404 } else { 204 });
    }
}

#[tokio::test]
async fn a_missing_scope_is_named_wherever_hubspot_puts_it() {
    use tonic_types::StatusExt as _;
    for in_context in [true, false] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.scopes_in_context = in_context);
        let token = app.hubspot.static_token(&[READ]);
        app.vault.put("hubspot/default", json!({"access_token": token.expose()}));
        app.hubspot.revoke_tokens();
        let token = app.hubspot.static_token(&[READ]);
        app.vault.put("hubspot/default", json!({"access_token": token.expose()}));
        let status = loop {
            let answer = app.leads.clone().create_lead(app.create_request("Jane")).await;
            let status = answer.expect_err("the scope is missing");
            if status.code() == Code::PermissionDenied {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.reason, "MISSING_SCOPES");
        assert_eq!(info.metadata["requiredScopes"], WRITE);
    }
}

#[tokio::test]
async fn the_number_of_errors_is_not_relied_upon() {
    for counts_inputs in [true, false] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.num_errors_counts_inputs = counts_inputs);
        let mut ids = vec![app.lead("Jane")];
        ids.extend(["999998", "999999"].map(str::to_owned));
        let request = pb::BatchGetLeadsRequest { ids, ..Default::default() };
        let results =
            app.leads.clone().batch_get_leads(request).await.unwrap().into_inner().results;
        let found: Vec<bool> = results
            .into_iter()
            .map(|result| matches!(result.outcome, Some(pb::lead_read_result::Outcome::Lead(_))))
            .collect();
        assert_eq!(found, [true, false, false]);
    }
}

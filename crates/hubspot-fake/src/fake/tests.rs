//! Responses of the fake to requests as HubSpot documents them, without sockets between the two.

use axum::{
    body::{Bytes, to_bytes},
    http::{HeaderMap, StatusCode, header},
};
use leadsd_base::time::SystemClock;

use super::*;

const LEADS: &str = "/crm/v3/objects/leads";

struct Client {
    fake: FakeHubspot,
    headers: HeaderMap,
}

/// Status, headers and JSON body of a response.
type Received = (StatusCode, HeaderMap, Value);

impl Client {
    async fn new() -> Self {
        let clock = Arc::new(SystemClock);
        let fake = FakeHubspot::start(([127, 0, 0, 1], 0).into(), clock).await.unwrap();
        let headers = bearer(fake.static_token(&[READ, WRITE]).expose());
        Self { fake, headers }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Received {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        receive(&self.fake, method, path, query, &self.headers, bytes).await
    }

    async fn get(&self, path: &str) -> Received {
        self.send("GET", path, &Value::Null).await
    }

    async fn post(&self, path: &str, body: &Value) -> Received {
        self.send("POST", path, body).await
    }

    /// Creates a lead through the API; returns its id.
    async fn create(&self, name: &str) -> String {
        let contact = self.fake.add_contact(&format!("{name}@example.com"));
        let (status, _, body) = self.post(LEADS, &lead(name, &contact)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }
}

fn bearer(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())])
}

async fn receive(
    fake: &FakeHubspot,
    method: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    bytes: Vec<u8>,
) -> Received {
    let body = Bytes::from(bytes);
    let response = serve::respond(&fake.account, method, path, query, headers, &body);
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn lead(name: &str, contact: &str) -> Value {
    let kind = json!({"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 578});
    json!({
        "properties": {"hs_lead_name": name},
        "associations": [{"to": {"id": contact}, "types": [kind]}],
    })
}

#[tokio::test]
async fn a_lead_is_created_read_updated_and_archived() {
    let client = Client::new().await;
    let id = client.create("Ada").await;
    let path = format!("{LEADS}/{id}");
    let (_, _, read) = client.get(&format!("{path}?properties=hs_lead_name")).await;
    assert_eq!(read["properties"]["hs_lead_name"], "Ada");

    let change = json!({"properties": {"hs_lead_name": "Grace"}});
    let (status, _, _) = client.send("PATCH", &path, &change).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(client.fake.lead_names(), ["Grace"]);

    let (status, ..) = client.send("DELETE", &path, &Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(client.get(&path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(client.get(&format!("{path}?archived=true")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_invalid_create_has_no_effect() {
    let client = Client::new().await;
    let contact = client.fake.add_contact("ada@example.com");
    let mut unknown_property = lead("Ada", &contact);
    unknown_property["properties"]["no_such_property"] = json!("x");
    let without_contact = json!({"properties": {"hs_lead_name": "Ada"}});
    let unknown_contact = lead("Ada", "999");
    for invalid in [unknown_property, without_contact, unknown_contact, json!({"properties": {}})] {
        let (status, _, body) = client.post(LEADS, &invalid).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{invalid}");
        assert_eq!(body["category"], "VALIDATION_ERROR", "{invalid}");
    }
    assert!(client.fake.leads().is_empty());
}

#[tokio::test]
async fn a_batch_create_without_trace_ids_is_all_or_nothing() {
    let client = Client::new().await;
    let contact = client.fake.add_contact("ada@example.com");
    let invalid = json!({"properties": {"hs_lead_name": "Grace"}});
    let mut inputs = [lead("Ada", &contact), invalid];
    let path = format!("{LEADS}/batch/create");
    let (status, ..) = client.post(&path, &json!({ "inputs": inputs })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(client.fake.leads().is_empty());

    for (number, input) in inputs.iter_mut().enumerate() {
        input["objectWriteTraceId"] = json!(format!("trace-{number}"));
    }
    let (status, _, body) = client.post(&path, &json!({ "inputs": inputs })).await;
    assert_eq!(status, StatusCode::MULTI_STATUS, "{body}");
    assert_eq!(body["results"][0]["objectWriteTraceId"], "trace-0");
    assert_eq!(body["errors"][0]["context"]["objectWriteTraceId"], json!(["trace-1"]));
    assert_eq!(client.fake.lead_names(), ["Ada"]);
}

#[tokio::test]
async fn a_merged_lead_is_read_individually_but_not_in_a_batch() {
    let client = Client::new().await;
    let (old, new) = (client.create("Ada").await, client.create("Grace").await);
    client.fake.merge(&old, &new);
    let (status, _, read) = client.get(&format!("{LEADS}/{old}")).await;
    assert_eq!((status, &read["id"]), (StatusCode::OK, &json!(new)));
    let inputs = json!({"inputs": [{"id": old}, {"id": new}]});
    let (_, _, batch) = client.post(&format!("{LEADS}/batch/read"), &inputs).await;
    let ids: Vec<_> = batch["results"].as_array().unwrap().iter().map(|lead| &lead["id"]).collect();
    assert_eq!(ids, [&json!(new)]);
}

#[tokio::test]
async fn a_list_is_paged_in_order_of_ids() {
    let client = Client::new().await;
    let mut created = Vec::new();
    for name in ["Ada", "Grace", "Barbara"] {
        created.push(client.create(name).await);
    }
    let (_, _, first) = client.get(&format!("{LEADS}?limit=2")).await;
    let after = first["paging"]["next"]["after"].as_str().unwrap();
    let (_, _, second) = client.get(&format!("{LEADS}?limit=2&after={after}")).await;
    let pages = [&first, &second].map(|page| page["results"].as_array().unwrap().clone());
    let ids: Vec<_> = pages.concat().iter().map(|lead| lead["id"].clone()).collect();
    assert_eq!(ids, created);
    assert!(second.get("paging").is_none());
}

#[tokio::test]
async fn a_call_beyond_the_burst_limit_is_rejected_until_the_window_has_moved() {
    let client = Client::new().await;
    client.fake.limit(|limits| limits.burst = 2);
    let (status, headers, _) = client.get(LEADS).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["x-hubspot-ratelimit-max"], "2");
    assert_eq!(headers["x-hubspot-ratelimit-remaining"], "1");
    assert_eq!(client.get(LEADS).await.0, StatusCode::OK);
    let (status, _, body) = client.get(LEADS).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body["policyName"], "TEN_SECONDLY_ROLLING");
    assert_eq!((client.fake.counted(), client.fake.rate_limited()), (2, 1));
    client.fake.advance(Duration::from_secs(10));
    assert_eq!(client.get(LEADS).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_token_needs_the_scope_of_the_call() {
    let client = Client::new().await;
    let reader = Client { headers: bearer(client.fake.static_token(&[READ]).expose()), ..client };
    assert_eq!(reader.get(LEADS).await.0, StatusCode::OK);
    let contact = reader.fake.add_contact("ada@example.com");
    let (status, _, body) = reader.post(LEADS, &lead("Ada", &contact)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body["category"], "MISSING_SCOPES");
    let unknown = Client { headers: bearer("unknown"), ..reader };
    assert_eq!(unknown.get(LEADS).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_refresh_token_yields_access_tokens_that_expire() {
    let mut client = Client::new().await;
    client.fake.behave(|behaviour| behaviour.rotate_refresh_tokens = true);
    let (id, secret, refresh) = client.fake.oauth_app();
    let form = format!(
        "grant_type=refresh_token&client_id={id}&client_secret={}&refresh_token={}",
        secret.expose(),
        refresh.expose()
    );
    let grant = async |client: &Client| {
        let none = HeaderMap::new();
        receive(&client.fake, "POST", "/oauth/v1/token", "", &none, form.clone().into_bytes()).await
    };
    let (status, _, token) = grant(&client).await;
    assert_eq!(status, StatusCode::OK, "{token}");
    assert_ne!(token["refresh_token"], json!(refresh.expose()), "it is rotated");
    let (status, _, rejected) = grant(&client).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(rejected["status"], "BAD_REFRESH_TOKEN");

    client.headers = bearer(token["access_token"].as_str().unwrap());
    assert_eq!(client.get(LEADS).await.0, StatusCode::OK);
    client.fake.expire_tokens();
    let (status, _, body) = client.get(LEADS).await;
    assert_eq!(
        (status, &body["category"]),
        (StatusCode::UNAUTHORIZED, &json!("EXPIRED_AUTHENTICATION"))
    );
}

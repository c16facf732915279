//! The fake HubSpot over its HTTP API: rules, shapes and limits of the reference. These tests do
//! not use `leadsd`.

mod limits;
mod records;
mod search;
mod tokens;

use std::{sync::Arc, time::Duration};

use leadsd_base::time::SystemClock;
use leadsd_hubspot_fake::{FakeHubspot, READ, WRITE};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

use crate::operations::VERSIONS;

/// An account with a contact and a token with all scopes.
struct Hub {
    fake: FakeHubspot,
    http: reqwest::Client,
    token: String,
    contact: String,
    /// Path of the leads.
    base: &'static str,
}

/// A complete response.
#[derive(Debug)]
struct FakeReply {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

// === impl Hub ===

impl Hub {
    async fn start() -> Self {
        Self::connect(VERSIONS[0].1).await
    }

    /// Connects with this base path.
    async fn connect(base: &'static str) -> Self {
        let free = "127.0.0.1:0".parse().expect("an address");
        let fake = FakeHubspot::start(free, Arc::new(SystemClock)).await.expect("a fake");
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .expect("a client");
        let token = fake.static_token(&[READ, WRITE]).expose().to_owned();
        let contact = fake.add_contact("ada@example.com");
        fake.limit(|limits| limits.search_per_second = 1_000);
        fake.behave(|behaviour| behaviour.index_lag = Duration::ZERO);
        Self { fake, http, token, contact, base }
    }

    /// Sends a request to a full path.
    async fn send(&self, method: Method, path: &str, body: &Value) -> FakeReply {
        self.ask_as(&self.token, method, path, body).await
    }

    async fn ask_as(&self, token: &str, method: Method, path: &str, body: &Value) -> FakeReply {
        let url = format!("http://{}{path}", self.fake.address());
        let mut request = self.http.request(method, url).bearer_auth(token);
        if !body.is_null() {
            request = request.json(body);
        }
        read_response(request).await
    }

    async fn get(&self, end: &str) -> FakeReply {
        self.send(Method::GET, &format!("{}{end}", self.base), &Value::Null).await
    }

    async fn post(&self, end: &str, body: &Value) -> FakeReply {
        self.send(Method::POST, &format!("{}{end}", self.base), body).await
    }

    async fn patch(&self, id: &str, properties: Value) -> FakeReply {
        let body = json!({ "properties": properties });
        self.send(Method::PATCH, &format!("{}/{id}", self.base), &body).await
    }

    async fn delete(&self, id: &str) -> FakeReply {
        self.send(Method::DELETE, &format!("{}/{id}", self.base), &Value::Null).await
    }

    /// Sends a request to an OAuth endpoint.
    async fn form(&self, path: &str, form: &[(&str, &str)]) -> FakeReply {
        let url = format!("http://{}{path}", self.fake.address());
        read_response(self.http.post(url).form(form)).await
    }

    /// Body of a valid create.
    fn lead(&self, properties: Value) -> Value {
        json!({"properties": properties, "associations": [to(&self.contact, 578)]})
    }

    /// Creates a lead without a request.
    fn add(&self, properties: &Value) -> String {
        self.fake.add_lead(&self.contact, properties).expect("a good lead")
    }
}

// === impl FakeReply ===

impl FakeReply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Codes of the item errors.
    fn codes(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().into_iter().flatten();
        errors.filter_map(|error| error["code"].as_str()).collect()
    }

    /// Ids of the results, in order.
    fn ids(&self) -> Vec<String> {
        let results = self.body["results"].as_array().into_iter().flatten();
        results.filter_map(|result| Some(result["id"].as_str()?.to_owned())).collect()
    }

    /// Asserts the common parts of a JSON error: status, category, message and correlation id.
    #[track_caller]
    fn is_error(&self, status: u16, category: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.body["category"], category, "{self:?}");
        assert_eq!(self.body["status"], "error");
        assert!(self.body["message"].as_str().is_some_and(|text| !text.is_empty()));
        let id = self.body["correlationId"].as_str();
        assert_eq!(id, self.header("x-hubspot-correlation-id"), "one id in body and header");
        assert!(id.is_some());
    }
}

async fn read_response(request: reqwest::RequestBuilder) -> FakeReply {
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let bytes = answer.bytes().await.expect("a body");
    FakeReply { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

/// An association with a record.
fn to(id: &str, kind: u64) -> Value {
    json!({"to": {"id": id}, "types": [
        {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": kind}]})
}

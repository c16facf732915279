//! Outcome of calls in metrics and access log: each call counts once, with the code that its caller
//! received or would have received.

use std::time::Duration;

use leadsd::grpc::pb::{
    self, leads_service_client::LeadsServiceClient, quota_service_client::QuotaServiceClient,
};
use leadsd_hubspot_fake::ScriptedResponse;
use leadsd_testkit::http2::{
    DATA, END_HEADERS, HEADERS, RST_STREAM, RawConnection, request_headers,
};
use tonic::{Code, Request, transport::Channel};

use crate::{
    deadlines::patient,
    harness::{PATIENCE, TestApp},
};

/// HTTP/2 error code CANCEL.
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// Delay that exceeds every wait in the tests.
const LATE: ScriptedResponse = ScriptedResponse::Delayed(Duration::from_secs(3));

fn named<T>(id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    request
}

/// Number of finished calls of a method by code.
async fn ends(app: &TestApp, method: &str) -> Vec<(String, f64)> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = http.get(format!("{}/metrics", app.admin)).send().await.unwrap();
    let page = page.text().await.unwrap();
    let mut found: Vec<(String, f64)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("grpc_server_handled_total{"))
        .filter(|line| {
            line.contains(&format!("/{method}\"")) || line.contains(&format!("\"{method}\""))
        })
        .filter_map(|line| {
            let (_, code) = line.split_once("grpc_code=\"")?;
            let (code, rest) = code.split_once('"')?;
            let (_, value) = rest.rsplit_once(' ')?;
            Some((code.to_owned(), value.parse().unwrap()))
        })
        .filter(|(_, calls)| *calls > 0.0)
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

/// A code as the metrics spell it, like Go.
fn metric_code(code: &str) -> String {
    let capital = |word: &str| word[..1].to_owned() + &word[1..].to_lowercase();
    match code {
        "OK" => code.to_owned(),
        "CANCELLED" => "Canceled".to_owned(),
        code => code.split('_').map(capital).collect(),
    }
}

/// Asserts that the call ended once, with this code in both places.
async fn ended(app: &TestApp, method: &str, id: &str, code: &str) {
    let seen = async {
        loop {
            if let Some(event) = app.access_event(id) {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let event = tokio::time::timeout(PATIENCE, seen).await.expect("an access event in time");
    assert!(event.contains(&format!("rpc.code=\"{code}\"")), "{event}");
    assert!(event.contains(method), "{event}");
    assert_eq!(ends(app, method).await, [(metric_code(code), 1.0)], "{method}");
}

async fn until_asked(app: &TestApp) {
    let asked = async {
        while app.hubspot.scripts_left() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("HubSpot is asked");
}

async fn connection(app: &TestApp) -> Channel {
    Channel::from_shared(format!("http://{}", app.grpc)).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn cancelled_read_is_counted_as_cancelled() {
    let app = TestApp::start().await;
    app.hubspot.script("GET", "/7", LATE);
    let mut leads = LeadsServiceClient::new(connection(&app).await);
    let get = pb::GetLeadRequest { id: "7".to_owned(), ..Default::default() };
    let call = tokio::spawn(async move { leads.get_lead(named("left-a-read", get)).await });
    until_asked(&app).await;
    assert_eq!(app.access_event("left-a-read"), None, "it is not over yet");
    call.abort();
    ended(&app, "GetLead", "left-a-read", "CANCELLED").await;
}

#[tokio::test]
async fn cancelled_write_is_counted_as_cancelled_and_completes() {
    let app = TestApp::start().await;
    app.hubspot.script("POST", "/leads", ScriptedResponse::Delayed(Duration::from_millis(500)));
    let mut leads = LeadsServiceClient::new(connection(&app).await);
    let request = named("left-a-write", app.create_request("Jane"));
    let call = tokio::spawn(async move { leads.create_lead(request).await });
    until_asked(&app).await;
    call.abort();
    ended(&app, "CreateLead", "left-a-write", "CANCELLED").await;
    let done = async {
        while app.hubspot.lead_names() != ["Jane"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("the write is done");
    assert_eq!(ends(&app, "CreateLead").await, [("Canceled".to_owned(), 1.0)], "counted once");
}

#[tokio::test]
async fn cancelled_watch_is_counted_as_cancelled() {
    let app = TestApp::start().await;
    let mut quotas = QuotaServiceClient::new(connection(&app).await);
    let watch = named("left-a-watch", pb::WatchQuotaRequest::default());
    let mut quotas = quotas.watch_quota(watch).await.unwrap().into_inner();
    quotas.message().await.unwrap().expect("a first word");
    drop(quotas);
    ended(&app, "WatchQuota", "left-a-watch", "CANCELLED").await;
}

#[tokio::test]
async fn call_cancelled_within_its_request_is_counted_as_cancelled() {
    let app = TestApp::start().await;
    for (id, method, with_reset) in [("reset", "GetLead", true), ("gone", "ListLeads", false)] {
        let mut raw = RawConnection::connect(&app.grpc, &[]).await;
        raw.acknowledge_settings().await;
        let path = format!("/leadsd.v1.LeadsService/{method}");
        raw.frame(HEADERS, END_HEADERS, 1, &request_headers(&path, &[("x-request-id", id)])).await;
        // The message begins with an unknown field, which is valid.
        raw.frame(DATA, 0, 1, &[0, 0, 0, 0, 9, 0xa2]).await;
        let in_flight = async {
            while !begun(&app, method).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, in_flight).await.expect("the call has begun");
        if with_reset {
            raw.frame(RST_STREAM, 0, 1, &CANCEL).await;
            ended(&app, method, id, "CANCELLED").await;
        }
        drop(raw);
        ended(&app, method, id, "CANCELLED").await;
    }
}

async fn begun(app: &TestApp, method: &str) -> bool {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = http.get(format!("{}/metrics", app.admin)).send().await.unwrap();
    let page = page.text().await.unwrap();
    page.lines().any(|line| {
        line.starts_with("grpc_server_started_total{")
            && line.contains(method)
            && !line.ends_with(" 0")
    })
}

#[tokio::test]
async fn call_past_its_deadline_is_counted_as_deadline_exceeded() {
    let app = TestApp::start().await;
    app.hubspot.script("GET", "/7", LATE);
    let get = pb::GetLeadRequest { id: "7".to_owned(), ..Default::default() };
    let mut request = named("too-late", get);
    request.metadata_mut().insert("grpc-timeout", "1000m".parse().unwrap());
    let status = patient(&app).get_lead(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    ended(&app, "GetLead", "too-late", "DEADLINE_EXCEEDED").await;
}

#[tokio::test]
async fn client_side_deadline_is_counted_as_deadline_exceeded() {
    let app = TestApp::start().await;
    app.hubspot.script("GET", "/7", LATE);
    let mut leads = LeadsServiceClient::new(connection(&app).await);
    let get = pb::GetLeadRequest { id: "7".to_owned(), ..Default::default() };
    let mut request = named("own-deadline", get);
    request.set_timeout(Duration::from_secs(2));
    leads.get_lead(request).await.unwrap_err();
    ended(&app, "GetLead", "own-deadline", "DEADLINE_EXCEEDED").await;
}

#[tokio::test]
async fn completed_call_is_counted_by_its_code() {
    let app = TestApp::start().await;
    let get = |id: &str| pb::GetLeadRequest { id: id.to_owned(), ..Default::default() };
    let id = app.lead("Jane");
    app.leads.clone().get_lead(named("answered", get(&id))).await.unwrap();
    ended(&app, "GetLead", "answered", "OK").await;
    let list = pb::ListLeadsRequest { page_size: -1, ..Default::default() };
    app.leads.clone().list_leads(named("refused", list)).await.unwrap_err();
    ended(&app, "ListLeads", "refused", "INVALID_ARGUMENT").await;
}

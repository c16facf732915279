//! The service in front of the fakes, and a client that sends raw bytes.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, Once},
};

use axum::body::Body;
use hyper::body::{Body as _, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use leadsd::{app::BoundService, config::Loaded, telemetry};
use leadsd_base::{secret::SECRET_MARKER, time::SystemClock};
use leadsd_hubspot_fake::{FakeHubspot, READ, WRITE};
use leadsd_vault_fake::FakeVault;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic_types::StatusExt;
use tracing_subscriber::{
    fmt::MakeWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Log lines that contain a secret of the fakes.
static LEAKED_LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[derive(Clone, Copy)]
struct Sink;

/// Formats every log event that the service may emit, so that formatting itself is tested.
pub(crate) fn capture_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter =
            telemetry::filter("off,leadsd=trace,leadsd::fake=off").expect("the filter is valid");
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Sink);
        tracing_subscriber::registry().with(filter).with(lines).init();
    });
}

pub(crate) fn leaked_lines() -> Vec<String> {
    LEAKED_LINES.lock().unwrap().clone()
}

// === impl Sink ===

impl io::Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if line.windows(SECRET_MARKER.len()).any(|part| part == SECRET_MARKER.as_bytes()) {
            LEAKED_LINES.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Sink {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// Fakes of HubSpot and Vault, with records.
pub(crate) struct Peers {
    pub(crate) hubspot: FakeHubspot,
    pub(crate) vault: FakeVault,
    pub(crate) token_file: NamedTempFile,
    /// Id of a contact, and ids of leads.
    pub(crate) contact: String,
    pub(crate) leads: Vec<String>,
}

/// A running service.
pub(crate) struct Service {
    pub(crate) grpc: String,
    admin: String,
    http: Client<HttpConnector, Body>,
    running: JoinHandle<()>,
}

/// Result of a call.
#[derive(Debug)]
pub(crate) struct CallResponse {
    /// gRPC code; `None` if the response is not gRPC.
    pub(crate) code: Option<i32>,
    pub(crate) message: String,
    /// Error reason of a failure.
    pub(crate) reason: Option<String>,
    pub(crate) body: Vec<u8>,
}

// === impl Peers ===

impl Peers {
    pub(crate) async fn start() -> Self {
        let free = "127.0.0.1:0".parse().unwrap();
        let hubspot = FakeHubspot::start(free, Arc::new(SystemClock)).await.unwrap();
        // The cases search for leads that were just written.
        hubspot.behave(|behaviour| behaviour.index_lag = std::time::Duration::ZERO);
        hubspot.add_unique_property("crm_key");
        let vault = FakeVault::start(free).await.unwrap();
        let token = hubspot.static_token(&[READ, WRITE]);
        vault.put("hubspot/default", json!({ "access_token": token.expose() }));
        let contact = hubspot.add_contact("ada@example.com");
        let lead = |n: usize| {
            let values = json!({"hs_lead_name": format!("Jane {n}"), "crm_key": format!("k{n}")});
            hubspot.add_lead(&contact, &values).unwrap()
        };
        let leads = (0..30).map(lead).collect();
        let mut token_file = NamedTempFile::new().unwrap();
        io::Write::write_all(&mut token_file, vault.root_token().expose().as_bytes()).unwrap();
        Self { hubspot, vault, token_file, contact, leads }
    }

    /// Settings of a service in front of the fakes.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let pairs = [
            ("GRPC__LISTEN", "127.0.0.1:0".to_owned()),
            ("GRPC__DRAIN_DELAY", "0s".to_owned()),
            ("ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
            ("VAULT__ADDRESS", format!("http://{}", self.vault.address())),
            ("VAULT__AUTH__METHOD", "token".to_owned()),
            ("VAULT__AUTH__FILE", self.token_file.path().display().to_string()),
            ("HUBSPOT__BASE_URL", format!("http://{}", self.hubspot.address())),
            ("HUBSPOT__MAX_ATTEMPTS", "1".to_owned()),
            ("PORTALS__DEFAULT__SECRET", "hubspot/default".to_owned()),
        ];
        pairs.into_iter().map(|(key, value)| (format!("LEADSD_{key}"), value)).collect()
    }
}

/// Changes or adds settings.
pub(crate) fn set(settings: &mut Vec<(String, String)>, changes: &[(&str, &str)]) {
    for (key, value) in changes {
        let key = format!("LEADSD_{key}");
        settings.retain(|(known, _)| *known != key);
        settings.push((key, (*value).to_owned()));
    }
}

// === impl Service ===

impl Service {
    pub(crate) async fn start(settings: Vec<(String, String)>) -> Self {
        let config = Loaded::new(None, settings).expect("the configuration is valid").config;
        let bound = BoundService::bind(config).await.expect("the ports are free");
        let grpc = bound.grpc_address().to_string();
        let admin = format!("http://{}", bound.admin_address());
        let running = tokio::spawn(bound.run(std::future::pending()));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        let service = Self { grpc, admin, http, running };
        let ready = async {
            while service.admin_page("/ready").await.is_none() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), ready).await.expect("ready");
        service
    }

    async fn admin_page(&self, path: &str) -> Option<String> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http.get(format!("{}{path}", self.admin)).send().await.ok()?;
        answer.error_for_status().ok()?.text().await.ok()
    }

    /// Sends these bytes to a method. `None` if the connection ends without a response.
    pub(crate) async fn call(
        &self,
        path: &str,
        headers: &[(&str, Vec<u8>)],
        bytes: Vec<u8>,
    ) -> Option<CallResponse> {
        let mut request = http::Request::post(format!("http://{}{path}", self.grpc))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            if let Ok(value) = http::HeaderValue::from_bytes(value) {
                request = request.header(*name, value);
            }
        }
        let answer = self.http.request(request.body(Body::from(bytes)).ok()?).await.ok()?;
        let (head, body) = answer.into_parts();
        let (body, trailers) = read(body).await?;
        let status = Status::from_header_map(&trailers);
        let status = status.or_else(|| Status::from_header_map(&head.headers));
        let info = status.as_ref().and_then(StatusExt::get_details_error_info);
        Some(CallResponse {
            code: status.as_ref().map(|status| i32::from(status.code())),
            message: status.map(|status| status.message().to_owned()).unwrap_or_default(),
            reason: info.filter(|info| info.domain == "leadsd").map(|info| info.reason),
            body,
        })
    }

    /// Waits until finished calls hold no resources.
    pub(crate) async fn wait_until_idle(&self) {
        let idle = async {
            loop {
                let page = self.admin_page("/metrics").await.unwrap_or_default();
                let value = |name: &str| -> f64 {
                    let line = page.lines().find(|line| line.starts_with(name));
                    let (_, value) = line.and_then(|line| line.rsplit_once(' ')).expect(name);
                    value.parse().expect(name)
                };
                let in_flight = value("leadsd_admission_used{limit=\"in_flight\"}");
                // Results kept for request ids stay charged after their calls.
                let memory = value("leadsd_admission_used{limit=\"memory\"}")
                    - value("leadsd_kept_result_bytes");
                if in_flight == 0.0 && memory == 0.0 {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(40), idle).await;
        waited.expect("finished calls release their slots and memory");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn read(mut body: Incoming) -> Option<(Vec<u8>, http::HeaderMap)> {
    let (mut all, mut trailers) = (Vec::new(), http::HeaderMap::new());
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        match frame.ok()?.into_data() {
            Ok(data) => all.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Some((all, trailers))
}

/// A message in a gRPC frame.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

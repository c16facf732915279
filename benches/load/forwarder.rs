//! Bare forwarders: GetLead served by tonic, one HTTP request, one typed parse, and nothing else.
//!
//! They have the allocator of the service and its transport settings. They have no quota, no
//! credentials, no deadline, no metrics, no log and no error mapping.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::header::{ACCEPT, AUTHORIZATION, USER_AGENT};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use leadsd::grpc::pb;
use leadsd_base::time::Timestamp;
use serde::Deserialize;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService},
    transport::server::{Server, TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use crate::{fakes::ANY_PORT, process::print_address};

/// HTTP/2 windows of the service's first connections, from `src/grpc/transport/receive_window.rs`.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Defaults of `grpc.max_streams_per_connection` and the keepalive.
const MAX_STREAMS: u32 = 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Timeouts of the service's HTTP client, from `src/hubspot`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Value of the `User-Agent` header.
const AGENT: &str = "leadsd-bench/1";

/// Reads one lead from HubSpot.
pub(crate) trait ReadLead: Clone + Send + Sync + 'static {
    /// Sends one request and parses its response.
    fn read_lead(
        &self,
        id: &str,
        properties: &[String],
    ) -> impl Future<Output = Result<HubspotLead, String>> + Send;
}

/// HubSpot client of reqwest.
#[derive(Debug, Clone)]
pub(crate) struct ReqwestReader {
    http: reqwest::Client,
    collection: String,
    token: String,
}

/// HubSpot client of hyper-util.
#[derive(Debug, Clone)]
pub(crate) struct HyperReader {
    http: legacy::Client<HttpConnector, String>,
    collection: String,
    authorization: String,
}

/// Response of HubSpot to a read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HubspotLead {
    id: String,
    properties: BTreeMap<String, Option<String>>,
    created_at: String,
    updated_at: String,
    archived: bool,
    url: String,
}

/// GetLead as a tonic service.
#[derive(Debug, Clone)]
struct Forwarder<R>(R);

/// Serves GetLead until the process is killed; prints the address first.
pub(crate) async fn serve(reader: impl ReadLead) {
    let incoming = TcpIncoming::bind(ANY_PORT.parse().expect("the address is valid"));
    let incoming = incoming.expect("a port is free").with_nodelay(Some(true));
    print_address(&incoming.local_addr().expect("the listener is bound").to_string());
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(Forwarder(reader));
    server.serve_with_incoming(incoming).await.expect("the server runs until it is killed");
}

/// URL of the leads of an upstream.
fn collection(upstream: &str) -> String {
    format!("{upstream}/crm/objects/2026-09/leads")
}

// === impl ReqwestReader ===

impl ReqwestReader {
    /// A client with the transport settings of the service.
    pub(crate) fn new(upstream: &str, token: &str) -> Self {
        let http = reqwest::Client::builder()
            .user_agent(AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("the settings are valid");
        Self { http, collection: collection(upstream), token: token.to_owned() }
    }
}

impl ReadLead for ReqwestReader {
    async fn read_lead(&self, id: &str, properties: &[String]) -> Result<HubspotLead, String> {
        let url = format!("{}/{id}?properties={}", self.collection, properties.join(","));
        let response = self.http.get(url).bearer_auth(&self.token).send().await;
        let response = response.and_then(reqwest::Response::error_for_status);
        let body = response.map_err(|error| error.to_string())?.bytes().await;
        let body = body.map_err(|error| error.to_string())?;
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }
}

// === impl HyperReader ===

impl HyperReader {
    /// A client with the transport settings of the service.
    pub(crate) fn new(upstream: &str, token: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { http, collection: collection(upstream), authorization: format!("Bearer {token}") }
    }

    async fn exchange(&self, request: http::Request<String>) -> Result<HubspotLead, String> {
        let response = self.http.request(request).await.map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(response.status().to_string());
        }
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
    }
}

impl ReadLead for HyperReader {
    async fn read_lead(&self, id: &str, properties: &[String]) -> Result<HubspotLead, String> {
        let url = format!("{}/{id}?properties={}", self.collection, properties.join(","));
        let request = http::Request::get(url)
            .header(AUTHORIZATION, &self.authorization)
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "*/*")
            .body(String::new())
            .map_err(|error| error.to_string())?;
        let exchange = tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(request));
        exchange.await.map_err(|elapsed| elapsed.to_string())?
    }
}

// === impl HubspotLead ===

impl From<HubspotLead> for pb::Lead {
    fn from(lead: HubspotLead) -> Self {
        let HubspotLead { id, properties, created_at, updated_at, archived, url } = lead;
        let (mut texts, mut unset_properties) = (BTreeMap::new(), Vec::new());
        for (name, value) in properties {
            match value {
                Some(value) => drop(texts.insert(name, value)),
                None => unset_properties.push(name),
            }
        }
        Self {
            id,
            properties: texts,
            unset_properties,
            create_time: parse_time(&created_at),
            update_time: parse_time(&updated_at),
            archived,
            url,
            ..Default::default()
        }
    }
}

/// `None` if the text is not a time.
fn parse_time(text: &str) -> Option<prost_types::Timestamp> {
    let time: Timestamp = text.parse().ok()?;
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    Some(prost_types::Timestamp { seconds, nanos })
}

// === impl Forwarder ===

impl<R: ReadLead> Forwarder<R> {
    #[expect(clippy::disallowed_methods, reason = "the bare forwarder has no status builder")]
    async fn get_lead(
        self,
        request: Request<pb::GetLeadRequest>,
    ) -> Result<Response<pb::GetLeadResponse>, Status> {
        let pb::GetLeadRequest { id, properties, .. } = request.into_inner();
        let lead = self.0.read_lead(&id, &properties).await.map_err(Status::aborted)?;
        Ok(Response::new(pb::GetLeadResponse { lead: Some(lead.into()), labels_error: None }))
    }
}

impl<R> NamedService for Forwarder<R> {
    const NAME: &'static str = "leadsd.v1.LeadsService";
}

impl<R: ReadLead> Service<http::Request<Body>> for Forwarder<R> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<pb::GetLeadResponse, pb::GetLeadRequest>::default();
            let get_lead = service_fn(move |request| service.clone().get_lead(request));
            Ok(Grpc::new(codec).unary(get_lead, request).await)
        })
    }
}

//! Trace propagation: from the caller to HubSpot, into the log, and to a collector. The collector
//! here decodes exports with handwritten messages of the protocol.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, Uri},
    response::IntoResponse as _,
};
use futures_util::future::BoxFuture;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use leadsd::grpc::pb;
use leadsd_hubspot_fake::ScriptedResponse;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::NamedService,
    transport::{Identity, ServerTlsConfig},
};
use tonic_prost::ProstCodec;

use crate::harness::{Builder, PATIENCE, TestApp};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SpanStatus {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
    #[prost(double, optional, tag = "4")]
    real: Option<f64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Exported {}

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

// === impl Span ===

impl Span {
    fn attribute(&self, key: &str) -> Option<String> {
        attribute(&self.attributes, key)
    }

    fn is_error(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.code == ERROR)
    }
}

fn attribute(all: &[KeyValue], key: &str) -> Option<String> {
    let AnyValue { text, number, real } = all.iter().find(|pair| pair.key == key)?.value.clone()?;
    text.or_else(|| number.map(|number| number.to_string()))
        .or_else(|| real.map(|real| real.to_string()))
}

/// A collector that records exports and their headers.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<Export>>>, Arc<Mutex<Vec<HeaderMap>>>);

// === impl Collector ===

impl Collector {
    /// Starts a collector; returns it with its URL.
    pub(crate) async fn start() -> (Self, String) {
        let (collector, address) = Self::start_with(tonic::transport::Server::builder()).await;
        (collector, format!("http://{address}"))
    }

    /// Starts a collector with TLS; returns it with its URL and the PEM of its CA.
    async fn start_tls() -> (Self, String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let identity = Identity::from_pem(&certificate, key.serialize_pem());
        let tls = ServerTlsConfig::new().identity(identity);
        let server = tonic::transport::Server::builder().tls_config(tls).unwrap();
        let (collector, address) = Self::start_with(server).await;
        (collector, format!("https://localhost:{}", address.port()), certificate)
    }

    async fn start_with(mut server: tonic::transport::Server) -> (Self, SocketAddr) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Self::default();
        let service = collector.clone();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(
            async move { server.add_service(service).serve_with_incoming(incoming).await },
        );
        (collector, address)
    }

    /// Number of received spans.
    pub(crate) fn count(&self) -> usize {
        self.spans().len()
    }

    fn spans(&self) -> Vec<Span> {
        let exports = self.0.lock().unwrap().clone();
        let resources = exports.into_iter().flat_map(|export| export.resource_spans);
        resources.flat_map(|all| all.scope_spans).flat_map(|all| all.spans).collect()
    }

    async fn until(&self, wanted: usize) -> Vec<Span> {
        let arrived = async {
            while self.spans().len() < wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, arrived).await.expect("spans arrive in time");
        self.spans()
    }
}

impl NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl tonic::server::UnaryService<Export> for Collector {
    type Response = Exported;
    type Future = BoxFuture<'static, Result<Response<Exported>, Status>>;

    fn call(&mut self, request: Request<Export>) -> Self::Future {
        self.0.lock().unwrap().push(request.into_inner());
        Box::pin(async { Ok(Response::new(Exported {})) })
    }
}

impl tower::Service<axum::http::Request<Body>> for Collector {
    type Response = axum::http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::http::Request<Body>) -> Self::Future {
        assert_eq!(request.uri().path(), format!("/{}/Export", Self::NAME));
        self.1.lock().unwrap().push(request.headers().clone());
        let service = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<Exported, Export>::default();
            Ok(tonic::server::Grpc::new(codec).unary(service, request).await)
        })
    }
}

/// A HubSpot that records the headers of each call for leads.
async fn listening_hubspot() -> (Arc<Mutex<Vec<HeaderMap>>>, String) {
    let heard = Arc::<Mutex<Vec<HeaderMap>>>::default();
    let kept = Arc::clone(&heard);
    let answer = move |uri: Uri, headers: HeaderMap| {
        // The check of a static token is a call of leadsd.
        if uri.path().contains("/leads") {
            kept.lock().unwrap().push(headers);
        }
        let body = r#"{"id":"7","properties":{"hs_lead_name":"Jane"}}"#;
        async move { ([("content-type", "application/json")], body).into_response() }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (heard, format!("http://{address}"))
}

fn traced(id: &str, traceparent: &str) -> Request<pb::GetLeadRequest> {
    let message = pb::GetLeadRequest { id: id.to_owned(), ..Default::default() };
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request
}

fn parts(traceparent: &str) -> Vec<String> {
    let parts: Vec<_> = traceparent.split('-').map(str::to_owned).collect();
    assert_eq!(parts.iter().map(String::len).collect::<Vec<_>>(), [2, 32, 16, 2], "{traceparent}");
    parts
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn collected(builder: Builder) -> (TestApp, Collector) {
    let (collector, url) = Collector::start().await;
    let app = builder
        .set("TRACE__OTLP_ENDPOINT", &url)
        .set("TRACE__SERVICE_NAME", "leads-of-shop")
        .start()
        .await;
    (app, collector)
}

#[tokio::test]
async fn trace_context_of_the_caller_is_propagated_to_hubspot() {
    let (heard, url) = listening_hubspot().await;
    let app = TestApp::builder().set("HUBSPOT__BASE_URL", &url).start().await;
    let mut leads = app.leads.clone();
    leads.get_lead(traced("7", CALLER)).await.unwrap();
    leads.get_lead(traced("7", &CALLER.replace("-01", "-00"))).await.unwrap();
    leads.get_lead(traced("7", "nonsense")).await.unwrap();
    let heard = heard.lock().unwrap().clone();
    let sent = |call: usize| parts(heard[call]["traceparent"].to_str().unwrap());
    assert_eq!(sent(0)[1], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_ne!(sent(0)[2], "00f067aa0ba902b7", "the span is ours");
    assert_eq!((sent(0)[3].as_str(), sent(1)[3].as_str()), ("01", "00"), "as the caller decides");
    assert_ne!(sent(2)[1], sent(0)[1], "what cannot be read begins a new trace");
    assert_eq!(sent(2)[3], "00", "the trace is not sampled");
    assert!(heard.iter().all(|headers| headers.get("tracestate").is_none()));
}

#[tokio::test]
async fn tracestate_of_the_caller_is_propagated_to_hubspot() {
    let (heard, url) = listening_hubspot().await;
    let app = TestApp::builder().set("HUBSPOT__BASE_URL", &url).start().await;
    let mut leads = app.leads.clone();
    let mut request = traced("7", CALLER);
    request.metadata_mut().append("tracestate", "vendor=00f067aa0ba902b7".parse().unwrap());
    request.metadata_mut().append("tracestate", "other=1".parse().unwrap());
    leads.get_lead(request).await.unwrap();
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard[0]["tracestate"], "vendor=00f067aa0ba902b7,other=1");
}

#[tokio::test]
async fn no_trace_context_is_sent_without_caller_or_collector() {
    let (heard, url) = listening_hubspot().await;
    let app = TestApp::builder().set("HUBSPOT__BASE_URL", &url).start().await;
    app.get("7").await.unwrap();
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard[0].get("traceparent"), None);
}

#[tokio::test]
async fn collector_receives_one_trace_per_call() {
    let (app, collector) = collected(TestApp::builder()).await;
    let id = app.lead("Jane");
    app.leads.clone().get_lead(traced(&id, CALLER)).await.unwrap();
    let spans = collector.until(2).await;
    let of_kind = |kind| spans.iter().find(|span| span.kind == kind).expect("a span of the kind");
    let (server, client) = (of_kind(SERVER), of_kind(CLIENT));
    assert!(spans.iter().all(|span| hex(&span.trace_id) == "4bf92f3577b34da6a3ce929d0e0e4736"));
    assert_eq!(hex(&server.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(client.parent_span_id, server.span_id);
    assert!(server.start < client.end && client.start < server.end, "they overlap");
    assert!(server.end > server.start && server.start > 1_600_000_000_000_000_000);
    assert_eq!(server.name, "leadsd.v1.LeadsService/GetLead");
    assert_eq!(client.name, "hubspot get");
    let expected = HashMap::from([
        ("rpc.system", "grpc"),
        ("rpc.service", "leadsd.v1.LeadsService"),
        ("rpc.method", "GetLead"),
        ("rpc.grpc.status_code", "0"),
        ("portal", "default"),
        ("hubspot.calls", "1"),
    ]);
    for (key, value) in expected {
        assert_eq!(server.attribute(key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(client.attribute("http.response.status_code").as_deref(), Some("200"));
    assert!(client.attribute("hubspot.correlation_id").is_some());
    assert!(!server.is_error() && !client.is_error());
    let exports = collector.0.lock().unwrap().clone();
    let resource = exports[0].resource_spans[0].resource.clone().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name").as_deref(), Some("leads-of-shop"));
    // Spans contain no property value and no lead id.
    assert!(!format!("{exports:?}").contains("Jane"));
}

#[tokio::test]
async fn failed_spans_have_error_status() {
    let (app, collector) = collected(TestApp::builder()).await;
    let id = app.lead("Jane");
    app.hubspot.script(
        "GET",
        &format!("/{id}"),
        ScriptedResponse::Reply(502, "text/html", String::new()),
    );
    app.leads.clone().get_lead(traced(&id, CALLER)).await.unwrap_err();
    app.leads.clone().get_lead(traced("", CALLER)).await.unwrap_err();
    let spans = collector.until(3).await;
    let server: Vec<_> = spans.iter().filter(|span| span.kind == SERVER).collect();
    let client = spans.iter().find(|span| span.kind == CLIENT).unwrap();
    assert!(client.is_error());
    assert_eq!(client.attribute("http.response.status_code").as_deref(), Some("502"));
    let by_reason = |reason: &str| {
        let has = |span: &&&Span| span.attribute("error.type").as_deref() == Some(reason);
        (*server.iter().find(has).expect("a span with the reason")).clone()
    };
    assert!(by_reason("UPSTREAM_UNAVAILABLE").is_error());
    assert!(!by_reason("INVALID_REQUEST").is_error(), "the caller's own fault");
}

#[tokio::test]
async fn only_sampled_spans_are_exported_and_shutdown_flushes() {
    let (app, collector) = collected(TestApp::builder().set("TRACE__SAMPLE_RATIO", "0.0")).await;
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    app.leads.clone().get_lead(traced(&id, &CALLER.replace("-01", "-00"))).await.unwrap();
    app.leads.clone().get_lead(traced(&id, CALLER)).await.unwrap();
    // The last spans are exported at shutdown.
    app.stop().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert!(spans.iter().all(|span| hex(&span.trace_id) == "4bf92f3577b34da6a3ce929d0e0e4736"));
}

#[tokio::test]
async fn unavailable_collector_does_not_affect_calls() {
    let app = TestApp::builder().set("TRACE__OTLP_ENDPOINT", "http://127.0.0.1:1").start().await;
    let id = app.lead("Jane");
    for _ in 0..20 {
        app.get(&id).await.unwrap();
    }
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let failed = async {
        loop {
            let text = http.get(format!("{}/metrics", app.admin)).send().await.unwrap();
            let text = text.text().await.unwrap();
            let line = r#"leadsd_trace_spans_total{outcome="failed"} "#;
            if text.lines().any(|got| got.starts_with(line) && !got.ends_with(" 0.0")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.expect("the loss is counted");
    app.stop().await;
}

/// Bytes that a collector may send: the windows of HTTP/2 and the buffers of sockets, for each export.
const MAX_SENT: usize = 64 << 20;

/// Collector whose responses do not end: they begin with these bytes, and continue with zeros.
#[derive(Clone)]
struct EndlessCollector {
    head: Bytes,
    encoding: Option<&'static str>,
    exports: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
}

/// Body of such a response.
struct EndlessBody {
    next: Bytes,
    sent: Arc<AtomicUsize>,
}

// === impl EndlessBody ===

impl HttpBody for EndlessBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = std::mem::replace(&mut self.next, Bytes::from_static(&[0; 16_384]));
        self.sent.fetch_add(data.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

// === impl EndlessCollector ===

impl NamedService for EndlessCollector {
    const NAME: &'static str = Collector::NAME;
}

impl tower::Service<axum::http::Request<Body>> for EndlessCollector {
    type Response = axum::http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: axum::http::Request<Body>) -> Self::Future {
        self.exports.fetch_add(1, Ordering::Relaxed);
        let body = EndlessBody { next: self.head.clone(), sent: Arc::clone(&self.sent) };
        let mut response =
            axum::http::Response::builder().header("content-type", "application/grpc");
        if let Some(encoding) = self.encoding {
            response = response.header("grpc-encoding", encoding);
        }
        ready(Ok(response.body(Body::new(body)).unwrap()))
    }
}

#[tokio::test]
async fn a_collector_cannot_send_more_than_its_bound() {
    let gibibyte = [&[0][..], &(1_u32 << 30).to_be_bytes()].concat();
    let compressed = [&[1][..], &(1_u32 << 30).to_be_bytes()].concat();
    for (what, head, encoding) in [
        ("a message of 1 GiB", gibibyte, None),
        ("a compressed message of 1 GiB", compressed, Some("gzip")),
        ("a page", b"<!doctype html>".to_vec(), None),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (exports, sent) = Default::default();
        let collector = EndlessCollector {
            head: head.into(),
            encoding,
            exports: Arc::clone(&exports),
            sent: Arc::clone(&sent),
        };
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tonic::transport::Server::builder().add_service(collector);
        tokio::spawn(async move { server.serve_with_incoming(incoming).await });
        let app = TestApp::builder().set("TRACE__OTLP_ENDPOINT", &url).start().await;
        let id = app.lead("Jane");
        app.get(&id).await.unwrap();
        // The last spans are exported at shutdown.
        app.stop().await;
        assert!(exports.load(Ordering::Relaxed) > 0, "{what}");
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent <= MAX_SENT, "{what}: {sent} bytes");
    }
}

#[tokio::test]
async fn collector_with_a_private_ca_receives_headers_and_tracestate() {
    let (collector, url, ca) = Collector::start_tls().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let headers = file("headers", "authorization: Bearer first\nx-tenant: 7\n");
    let app = TestApp::builder()
        .set("TRACE__OTLP_ENDPOINT", &url)
        .set("TRACE__CA_FILE", &file("ca.pem", &ca))
        .set("TRACE__HEADERS_FILE", &headers)
        .start()
        .await;
    let id = app.lead("Jane");
    let mut request = traced(&id, CALLER);
    request.metadata_mut().insert("tracestate", "vendor=1".parse().unwrap());
    app.leads.clone().get_lead(request).await.unwrap();
    let spans = collector.until(2).await;
    assert!(spans.iter().all(|span| span.trace_state == "vendor=1"), "{spans:?}");
    let sent = collector.1.lock().unwrap()[0].clone();
    assert_eq!(sent["authorization"], "Bearer first");
    assert_eq!(sent["x-tenant"], "7");

    // A new token is used without a restart.
    file("headers", "authorization: Bearer second\n");
    app.get(&id).await.unwrap();
    collector.until(4).await;
    let sent = collector.1.lock().unwrap().last().unwrap().clone();
    assert_eq!(sent["authorization"], "Bearer second");
    assert_eq!(sent.get("x-tenant"), None);
}

#[tokio::test]
async fn collector_with_an_unknown_ca_receives_nothing() {
    let (collector, url, _) = Collector::start_tls().await;
    let app = TestApp::builder().set("TRACE__OTLP_ENDPOINT", &url).start().await;
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    app.stop().await;
    assert_eq!(collector.spans(), []);
}

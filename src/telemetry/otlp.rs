//! The collector's protocol: OTLP over gRPC.
//!
//! The few messages that it takes are written out in `wire`: the SDK would bring a runtime, a queue and
//! a clock of its own, for spans that are made in two places.

mod wire;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::uri::PathAndQuery;
use tonic::{
    Request,
    client::Grpc,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_prost::ProstCodec;
use uuid::Uuid;

use self::wire::{
    AnyValue, Export, Exported, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans,
};
use super::TraceSettings;
use super::spans::{Ended, Exporter, Kind, Span, Value};
use leadsd_base::time::Timestamp;

const EXPORT: PathAndQuery =
    PathAndQuery::from_static("/opentelemetry.proto.collector.trace.v1.TraceService/Export");

/// SpanKind
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// StatusCode
const ERROR: i32 = 2;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Length of a line of a PEM file.
const PEM_LINE: usize = 64;

/// A collector, as we reach it.
#[derive(Debug)]
pub(super) struct Collector {
    client: Grpc<Channel>,
    resource: Resource,
}

// === impl Collector ===

impl Collector {
    /// A collector at the configured endpoint; it need not be there yet.
    pub(super) fn new(
        config: &TraceSettings,
        endpoint: &url::Url,
    ) -> Result<Self, tonic::transport::Error> {
        let mut channel = Endpoint::from_shared(endpoint.to_string())?.connect_timeout(CONNECT);
        if endpoint.scheme() == "https" {
            // The public roots are compiled in: an image without a CA store starts all the same.
            let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|root| pem(root));
            channel = channel.tls_config(ClientTlsConfig::new().ca_certificates(roots))?;
        }
        let attributes = [
            ("service.name", config.service_name.clone()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", Uuid::new_v4().to_string()),
        ];
        let attributes =
            attributes.into_iter().map(|(key, value)| pair(key, Value::Text(value))).collect();
        Ok(Self { client: Grpc::new(channel.connect_lazy()), resource: Resource { attributes } })
    }
}

impl Exporter for Collector {
    async fn export(&mut self, spans: Vec<Ended>) -> Result<(), String> {
        let scope = Scope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let spans = spans.into_iter().map(sent).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        let resource = Some(self.resource.clone());
        let export = Export { resource_spans: vec![ResourceSpans { resource, scope_spans }] };
        self.client.ready().await.map_err(|error| error.to_string())?;
        let codec = ProstCodec::<Export, Exported>::default();
        let sent = self.client.unary(Request::new(export), EXPORT, codec).await;
        let answer = sent.map_err(|status| status.to_string())?;
        match answer.into_inner().partial_success {
            Some(part) if part.rejected_spans > 0 => {
                Err(format!("{} spans were rejected", part.rejected_spans))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn sent(Ended { span, at }: Ended) -> wire::Span {
    let Span { name, kind, place, parent, took, attributes, error } = span;
    let end = nanos(at);
    let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let kind = match kind {
        Kind::Server => SERVER,
        Kind::Client => CLIENT,
    };
    let status = error.map(|message| wire::Status { message, code: ERROR });
    wire::Span {
        trace_id: place.trace_bytes().to_vec(),
        span_id: place.span_bytes().to_vec(),
        parent_span_id: parent.map(|parent| parent.span_bytes().to_vec()).unwrap_or_default(),
        name,
        kind,
        start_time_unix_nano: end.saturating_sub(took),
        end_time_unix_nano: end,
        attributes: attributes.into_iter().map(|(key, value)| pair(key, value)).collect(),
        status: Some(status.unwrap_or_default()),
    }
}

fn pair(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => wire::Value::Text(text),
        Value::Number(number) => wire::Value::Number(number),
        Value::Real(number) => wire::Value::Real(number),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

fn pem(der: &[u8]) -> Certificate {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let encoded = STANDARD.encode(der);
    for line in encoded.as_bytes().chunks(PEM_LINE) {
        // Base64 is ASCII.
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    Certificate::from_pem(text)
}

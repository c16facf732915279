//! The collector's protocol: OTLP over gRPC.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span as Sent, Status, span::SpanKind, status::StatusCode,
    },
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use uuid::Uuid;

use super::spans::{Ended, Exporter, Kind, Span, Value};
use crate::{config::Trace, time::Timestamp};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Length of a line of a PEM file.
const PEM_LINE: usize = 64;

/// A collector, as we reach it.
#[derive(Debug)]
pub(super) struct Collector {
    client: TraceServiceClient<Channel>,
    resource: Resource,
}

// === impl Collector ===

impl Collector {
    /// A collector at the configured endpoint; it need not be there yet.
    pub(super) fn new(
        config: &Trace,
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
        Ok(Self {
            client: TraceServiceClient::new(channel.connect_lazy()),
            resource: Resource { attributes, ..Resource::default() },
        })
    }
}

impl Exporter for Collector {
    async fn export(&mut self, spans: Vec<Ended>) -> Result<(), String> {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = ScopeSpans {
            scope: Some(scope),
            spans: spans.into_iter().map(sent).collect(),
            schema_url: String::new(),
        };
        let resource_spans = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![scope_spans],
            schema_url: String::new(),
        };
        let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
        let answer = self.client.export(request).await.map_err(|status| status.to_string())?;
        match answer.into_inner().partial_success {
            Some(part) if part.rejected_spans > 0 => {
                Err(format!("{} spans were rejected", part.rejected_spans))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn sent(Ended { span, at }: Ended) -> Sent {
    let Span { name, kind, place, parent, took, attributes, error } = span;
    let end = nanos(at);
    let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let kind = match kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
    };
    let status =
        error.map(|message| Status { message, code: StatusCode::Error.into() }).unwrap_or_default();
    Sent {
        trace_id: place.trace_bytes().to_vec(),
        span_id: place.span_bytes().to_vec(),
        parent_span_id: parent.map(|parent| parent.span_bytes().to_vec()).unwrap_or_default(),
        name,
        kind: kind.into(),
        start_time_unix_nano: end.saturating_sub(took),
        end_time_unix_nano: end,
        attributes: attributes.into_iter().map(|(key, value)| pair(key, value)).collect(),
        status: Some(status),
        ..Sent::default()
    }
}

fn pair(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text),
        Value::Number(number) => any_value::Value::IntValue(number),
        Value::Real(number) => any_value::Value::DoubleValue(number),
    };
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
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

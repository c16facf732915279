//! Configures OpenTelemetry's exporter for a trace collector (OTLP over gRPC).
//!
//! Endpoint, CA and headers come from the configuration. Three environment variables of OpenTelemetry
//! are honored: `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS` and
//! `OTEL_EXPORTER_OTLP_COMPRESSION`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{Resource, resource::EnvResourceDetector, trace::SpanExporter as _};
use tokio::time::Instant;
use tonic::{
    Request, Status,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use tower::service_fn;
use uuid::Uuid;

use leadsd_base::{
    net::{
        egress::Egress,
        trust::{CaError, CaSource, Trust},
        tunnel,
    },
    secret::Secret,
};

/// Timeout for connecting to the collector.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout for an export, including retries.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of the span export.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// URL of a collector for OTLP over gRPC; `None` disables the export.
    pub otlp_endpoint: Option<url::Url>,
    /// PEM file with CAs that are trusted in addition to the public ones.
    pub ca_file: Option<PathBuf>,
    /// File with headers for the collector, one `name: value` per line; read for each export.
    pub headers_file: Option<PathBuf>,
    /// Fraction of new traces that is sampled, 0 to 1. Default 1.
    pub sample_ratio: f64,
    /// Service name in the collector. Default `leadsd`.
    pub service_name: String,
    /// Way to the collector.
    pub egress: Egress,
}

/// Error of starting the span export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The endpoint or its TLS settings are invalid.
    #[error("trace.otlp_endpoint: {0}")]
    Endpoint(#[from] tonic::transport::Error),
    /// The endpoint cannot be the URL of a request.
    #[error("trace.otlp_endpoint: {0}")]
    Uri(http::uri::InvalidUri),
    /// The exporter rejects its settings.
    #[error("trace.otlp_endpoint: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The CAs cannot be read.
    #[error(transparent)]
    CaFile(#[from] CaError),
    /// The headers cannot be read.
    #[error("trace.headers_file: {path}: {source}")]
    HeadersFile {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// Builds the exporter for the configured collector, which need not be reachable yet. Its connection runs
/// on the current runtime.
pub(super) fn exporter(
    settings: &TraceSettings,
    endpoint: &url::Url,
) -> Result<SpanExporter, ExportError> {
    let headers_file = &settings.headers_file;
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_timeout(EXPORT_TIMEOUT)
        .with_channel(channel(settings, endpoint)?);
    let Some(path) = headers_file.clone() else { return Ok(exporter.build()?) };
    // An invalid file is reported at startup.
    read_headers(&path)
        .map_err(|source| ExportError::HeadersFile { path: path.clone(), source })?;
    // The file is read for each export, so that tokens can be rotated.
    let add_headers = move |mut request: Request<()>| {
        #[expect(clippy::disallowed_methods, reason = "the exporter turns it into an error")]
        let headers = read_headers(&path).map_err(|error| Status::from_error(Box::new(error)))?;
        let mut metadata = request.metadata().clone().into_headers();
        metadata.extend(headers);
        *request.metadata_mut() = MetadataMap::from_headers(metadata);
        Ok(request)
    };
    Ok(exporter.with_interceptor(add_headers).build()?)
}

/// Sends an export without spans to the collector, as the service sends its spans. The error is the text of
/// the failure.
pub async fn probe_collector(settings: &TraceSettings) -> Result<(), String> {
    let Some(endpoint) = &settings.otlp_endpoint else { return Ok(()) };
    let exporter = exporter(settings, endpoint).map_err(|error| error.to_string())?;
    exporter.export(Vec::new()).await.map_err(|error| error.to_string())
}

/// Resource attributes of the process. The configured service name overrides the environment.
pub(super) fn resource(settings: &TraceSettings) -> Resource {
    Resource::builder_empty()
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_service_name(settings.service_name.clone())
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
        ])
        .build()
}

/// Channel that connects by the egress policy, with TLS if the endpoint is `https`.
fn channel(settings: &TraceSettings, endpoint: &url::Url) -> Result<Channel, ExportError> {
    let TraceSettings { ca_file, egress, .. } = settings;
    let ca_file = ca_file.as_ref().map(|file| CaSource::file("trace.ca_file", file));
    let sources = egress.settings().ca_sources.iter().cloned().chain(ca_file);
    let trust = Trust::load(sources.collect())?;
    // The connector adds TLS: tonic would trust what it read at the start.
    let mut plain = endpoint.clone();
    let port = endpoint.port_or_known_default();
    // Errors only for URLs without a host.
    let _ = plain.set_scheme("http").and_then(|()| plain.set_port(port));
    let origin = endpoint.as_str().parse().map_err(ExportError::Uri)?;
    let channel = Endpoint::from_shared(plain.to_string())?.origin(origin).timeout(EXPORT_TIMEOUT);
    let (egress, endpoint) = (egress.clone(), endpoint.clone());
    Ok(channel.connect_with_connector_lazy(service_fn(move |_| {
        let (egress, endpoint, trust) =
            (egress.clone(), endpoint.clone(), Arc::<Trust>::clone(&trust));
        async move {
            let until = Instant::now() + CONNECT_TIMEOUT;
            let connection = tunnel::open_http2(&egress, &trust, &endpoint, until).await;
            connection.map(tunnel::Connection::into_hyper)
        }
    })))
}

/// Reads headers, one `name: value` per line. Errors contain no values.
fn read_headers(path: &Path) -> io::Result<HeaderMap> {
    let invalid = |line: usize| {
        let cause = format!("line {line} is not a header such as `authorization: Bearer token`");
        io::Error::new(io::ErrorKind::InvalidData, cause)
    };
    let text = Secret::new(fs::read_to_string(path)?);
    let lines = text.expose().lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let mut headers = HeaderMap::new();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or_else(|| invalid(number))?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| invalid(number))?;
        let mut value = HeaderValue::try_from(value.trim()).map_err(|_| invalid(number))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_parsed_and_errors_contain_no_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        fs::write(&path, "authorization: Bearer abc:def\n\nX-Tenant: 7\n").unwrap();
        let headers = read_headers(&path).unwrap();
        assert_eq!(headers["authorization"], "Bearer abc:def");
        assert_eq!(headers["x-tenant"], "7");
        assert!(headers["authorization"].is_sensitive());
        fs::write(&path, "x-tenant: 7\nsecret-without-a-name\n").unwrap();
        let error = read_headers(&path).unwrap_err().to_string();
        assert_eq!(error, "line 2 is not a header such as `authorization: Bearer token`");
    }
}

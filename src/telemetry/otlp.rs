//! Connects OpenTelemetry's exporter to a trace collector that takes OTLP over gRPC.
//!
//! The configuration decides endpoint, CA and headers. Of OpenTelemetry's environment variables those
//! that complete it are honoured: `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS` and
//! `OTEL_EXPORTER_OTLP_COMPRESSION`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{Resource, resource::EnvResourceDetector};
use rustls::pki_types::{CertificateDer, TrustAnchor, pem::PemObject as _};
use tonic::{
    Request, Status,
    metadata::MetadataMap,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use uuid::Uuid;

use leadsd_base::secret::Secret;

/// Timeout for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout for one export, retries included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings for the export of spans to a trace collector.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// A collector that takes OTLP over gRPC. Default none.
    pub otlp_endpoint: Option<url::Url>,
    /// PEM file with the CAs that may sign its certificate, beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// File with headers for the collector, one `name: value` a line; read for each export.
    pub headers_file: Option<PathBuf>,
    /// The share of the traces that start here which is sampled, 0 to 1. Default 1.
    pub sample_ratio: f64,
    /// Name of this service in the collector. Default `leadsd`.
    pub service_name: String,
}

/// Why the export of spans cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The endpoint or its TLS settings cannot be used.
    #[error("trace.otlp_endpoint: {0}")]
    Endpoint(#[from] tonic::transport::Error),
    /// The exporter refuses its settings.
    #[error("trace.otlp_endpoint: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The CAs cannot be read.
    #[error("trace.ca_file: {path}: {cause}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
    /// The headers cannot be read.
    #[error("trace.headers_file: {path}: {source}")]
    HeadersFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The exporter for the configured collector, which need not be reachable yet. Runs its connection on
/// the current runtime.
pub(super) fn exporter(
    settings: &TraceSettings,
    endpoint: &url::Url,
) -> Result<SpanExporter, ExportError> {
    let TraceSettings { otlp_endpoint: _, ca_file, headers_file, .. } = settings;
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_timeout(EXPORT_TIMEOUT)
        .with_channel(channel(endpoint, ca_file.as_deref())?);
    let Some(path) = headers_file.clone() else { return Ok(exporter.build()?) };
    // Reports at start what would fail every export.
    read_headers(&path)
        .map_err(|source| ExportError::HeadersFile { path: path.clone(), source })?;
    // Read for each export, so that a token can be replaced.
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

/// The attributes of this process; the configured name goes over the environment.
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

fn channel(endpoint: &url::Url, ca_file: Option<&Path>) -> Result<Channel, ExportError> {
    let mut channel = Endpoint::from_shared(endpoint.to_string())?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(EXPORT_TIMEOUT);
    if endpoint.scheme() == "https" {
        // The public roots are compiled in, because an image may have no CA store.
        let public = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(trust_anchor);
        let mut tls = ClientTlsConfig::new().trust_anchors(public);
        if let Some(path) = ca_file {
            tls = tls.trust_anchors(private_anchors(path)?);
        }
        channel = channel.tls_config(tls)?;
    }
    Ok(channel.connect_lazy())
}

fn private_anchors(path: &Path) -> Result<Vec<TrustAnchor<'static>>, ExportError> {
    let failed = |cause: String| ExportError::CaFile { path: path.to_owned(), cause };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(error.to_string()))?;
    let anchors: Vec<_> = certificates.iter().filter_map(trust_anchor).collect();
    if anchors.is_empty() || anchors.len() < certificates.len() {
        return Err(failed("holds no certificates, or one that cannot be used".to_owned()));
    }
    Ok(anchors)
}

fn trust_anchor(certificate: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    Some(webpki::anchor_from_trusted_cert(certificate).ok()?.to_owned())
}

/// Reads headers, one `name: value` a line. The error never holds a value.
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
    fn headers_are_read_line_by_line_and_errors_hold_no_value() {
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

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(&path, "nothing").unwrap();
        let error = private_anchors(&path).unwrap_err().to_string();
        assert!(
            error.starts_with("trace.ca_file: ") && error.contains("no certificates"),
            "{error}"
        );
    }
}

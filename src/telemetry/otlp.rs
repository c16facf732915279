//! Configures OpenTelemetry's exporter for a trace collector (OTLP over gRPC).
//!
//! Endpoint, CA and headers come from the configuration. Three environment variables of OpenTelemetry
//! are honored: `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS` and
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
}

/// Error of starting the span export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The endpoint or its TLS settings are invalid.
    #[error("trace.otlp_endpoint: {0}")]
    Endpoint(#[from] tonic::transport::Error),
    /// The exporter rejects its settings.
    #[error("trace.otlp_endpoint: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The CAs cannot be read.
    #[error("trace.ca_file: {path}: {cause}")]
    CaFile {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        cause: String,
    },
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
    let TraceSettings { otlp_endpoint: _, ca_file, headers_file, .. } = settings;
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_timeout(EXPORT_TIMEOUT)
        .with_channel(channel(endpoint, ca_file.as_deref())?);
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

fn channel(endpoint: &url::Url, ca_file: Option<&Path>) -> Result<Channel, ExportError> {
    let mut channel = Endpoint::from_shared(endpoint.to_string())?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(EXPORT_TIMEOUT);
    if endpoint.scheme() == "https" {
        // The public roots are compiled in, since a container image may have no CA store.
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
        return Err(failed("contains no certificates, or an invalid one".to_owned()));
    }
    Ok(anchors)
}

fn trust_anchor(certificate: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    Some(webpki::anchor_from_trusted_cert(certificate).ok()?.to_owned())
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

    #[test]
    fn a_ca_file_without_certificates_is_rejected() {
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

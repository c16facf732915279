//! What operators observe of the service: logs, one line per event on standard error, as JSON or for
//! people; spans for a trace collector; and the names of its metrics. It depends on no other module.
//!
//! Libraries that print whole requests at their lower levels are silenced whatever the filter says: a
//! Vault login or a token must not end up in a log.

pub mod histogram;
mod log_writer;
mod logs;
pub mod names;
mod otlp;
pub mod spans;
pub mod trace_context;

use std::path::PathBuf;

use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

use self::spans::SpanSink;
pub use self::{
    log_writer::{LogGuard, LogTarget},
    logs::{Error, LogFormat, LogSettings, filter, log_filter, set_log_filter},
    otlp::Error as ExportError,
};

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

/// Sets up logging for the process, until the guard is dropped.
pub fn init(settings: &LogSettings) -> Result<LogGuard, Error> {
    let writer = logs::start_writer()?;
    let guard = writer.guard();
    let lines = logs::layer(settings, writer)?;
    tracing_subscriber::registry().with(lines).try_init().map_err(|_| Error::Twice)?;
    Ok(guard)
}

/// Starts the export of spans, if there is a collector.
pub fn start_export(settings: &TraceSettings) -> Result<SpanSink, ExportError> {
    let Some(endpoint) = &settings.otlp_endpoint else { return Ok(SpanSink::default()) };
    let exporter = otlp::exporter(settings, endpoint)?;
    Ok(SpanSink::start(exporter, &otlp::resource(settings), settings.sample_ratio))
}

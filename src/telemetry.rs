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

use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

use self::spans::SpanSink;
pub use self::{
    log_writer::{LogGuard, LogTarget},
    logs::{Error, LogFormat, LogSettings, filter, log_filter, set_log_filter},
    otlp::{ExportError, TraceSettings},
};

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

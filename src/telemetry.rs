//! Logs, trace spans and histograms. It depends on no other module of the service.
//!
//! Logs go to standard error, one line per event, as JSON or as text. Libraries that log whole requests at
//! low levels are silenced regardless of the filter, so that no token is logged.

pub mod histogram;
mod json_lines;
mod log_levels;
mod log_target;
mod log_writer;
mod logs;
pub mod names;
mod otlp;
mod panic_hook;
pub mod spans;
pub mod trace_context;

use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

pub(crate) use self::log_levels::closest;
use self::spans::SpanSink;
pub use self::{
    log_target::LogTarget,
    log_writer::{LogGuard, is_log_behind},
    logs::{Error, LogFormat, LogSettings, filter, log_filter, set_log_filter},
    otlp::{ExportError, TraceSettings, probe_collector},
};

/// Sets up logging for the process, also for panics. Dropping the guard flushes the log.
pub fn init(settings: &LogSettings) -> Result<LogGuard, Error> {
    let writer = logs::start_writer()?;
    let guard = writer.guard();
    let lines = logs::layer(settings, writer)?;
    tracing_subscriber::registry().with(lines).try_init().map_err(|_| Error::AlreadySetUp)?;
    panic_hook::install();
    Ok(guard)
}

/// Starts the span export; returns a sink that discards spans if no collector is configured.
pub fn start_export(settings: &TraceSettings) -> Result<SpanSink, ExportError> {
    let Some(endpoint) = &settings.otlp_endpoint else { return Ok(SpanSink::default()) };
    let exporter = otlp::exporter(settings, endpoint)?;
    Ok(SpanSink::start(exporter, &otlp::resource(settings), settings.sample_ratio))
}

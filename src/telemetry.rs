//! What the service tells about itself: logs, one line per event on standard error, as JSON or for
//! people; spans for a trace collector; and the names of its metrics.
//!
//! Libraries that print whole requests at their lower levels are kept silent whatever the filter
//! says: a Vault login or a token must not end up in a log.

pub mod histogram;
mod logs;
pub mod names;
mod otlp;
pub mod spans;
pub mod trace_context;

pub use logs::{Error, LogFormat, LogSettings, filter, log_filter, set_log_filter};

use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

use self::spans::Spans;
use leadsd_base::task::Task;

/// Settings for the export of spans to a trace collector.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// A collector that takes OTLP over gRPC. Default none.
    pub otlp_endpoint: Option<url::Url>,
    /// The share of the traces that start here which is sampled, 0 to 1. Default 1.
    pub sample_ratio: f64,
    /// Name of this service in the collector. Default `leadsd`.
    pub service_name: String,
}

/// The trace collector cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("trace.otlp_endpoint: {0}")]
pub struct BadCollector(String);

/// Sets up logging for the process.
pub fn init(config: &LogSettings) -> Result<(), Error> {
    let lines = logs::layer(config)?;
    tracing_subscriber::registry().with(lines).try_init().map_err(|_| Error::Twice)
}

/// Where spans are handed over, and the task that takes them on to the collector, if there is one.
pub fn spans(config: &TraceSettings) -> Result<(Spans, Option<Task>), BadCollector> {
    let Some(endpoint) = &config.otlp_endpoint else { return Ok((Spans::default(), None)) };
    let collector =
        otlp::Collector::new(config, endpoint).map_err(|error| BadCollector(error.to_string()))?;
    let (spans, task) = Spans::start(collector, config.sample_ratio);
    Ok((spans, Some(task)))
}

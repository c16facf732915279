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

pub use logs::{Error, filter, log_filter, set_log_filter};

use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

use self::spans::Spans;
use crate::config::{Log, Trace};
use leadsd_base::task::Task;

/// The trace collector cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("trace.otlp_endpoint: {0}")]
pub struct BadCollector(String);

/// Sets up logging for the process.
pub fn init(config: &Log) -> Result<(), Error> {
    let lines = logs::layer(config)?;
    tracing_subscriber::registry().with(lines).try_init().map_err(|_| Error::Twice)
}

/// Where spans are handed over, and the task that takes them on to the collector, if there is one.
pub fn spans(config: &Trace) -> Result<(Spans, Option<Task>), BadCollector> {
    let Some(endpoint) = &config.otlp_endpoint else { return Ok((Spans::default(), None)) };
    let collector =
        otlp::Collector::new(config, endpoint).map_err(|error| BadCollector(error.to_string()))?;
    let (spans, task) = Spans::start(collector, config.sample_ratio);
    Ok((spans, Some(task)))
}

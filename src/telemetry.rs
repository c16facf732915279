//! What the service tells about itself: logs, one line per event on standard error, as JSON or for
//! people; and the names of its metrics.
//!
//! Libraries that print whole requests at their lower levels are kept silent whatever the filter
//! says: a Vault login or a token must not end up in a log.

pub mod histogram;
mod logs;
pub mod names;

pub use logs::{Error, filter, log_filter, set_log_filter};

use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::Log;

/// Sets up logging for the process.
pub fn init(config: &Log) -> Result<(), Error> {
    let lines = logs::layer(config)?;
    tracing_subscriber::registry().with(lines).try_init().map_err(|_| Error::Twice)
}

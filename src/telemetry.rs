//! What the service tells about itself: logs, one line per event on standard error, as JSON or for
//! people; and the names of its metrics.
//!
//! Libraries that print whole requests at their lower levels are kept silent whatever the filter
//! says: a Vault login or a token must not end up in a log.

pub mod histogram;
pub mod names;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{Log, LogFormat};

/// Targets that may hold secrets in their events.
const SILENT: [&str; 2] = ["rustify=off", "vaultrs=off"];

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter does not parse.
    #[error("log.level: {0}")]
    Filter(String),
    /// Somebody has set up logging in this process before.
    #[error("logging is set up already")]
    Twice,
}

/// What of all events is logged. Whatever `level` says, the silent stay silent.
pub fn filter(level: &str) -> Result<EnvFilter, Error> {
    let mut filter = EnvFilter::try_new(level).map_err(|error| Error::Filter(error.to_string()))?;
    for silent in SILENT {
        let directive = silent.parse().map_err(|_| Error::Filter(silent.to_owned()))?;
        filter = filter.add_directive(directive);
    }
    Ok(filter)
}

/// Sets up logging for the process.
pub fn init(config: &Log) -> Result<(), Error> {
    let builder = fmt().with_env_filter(filter(&config.level)?).with_writer(std::io::stderr);
    let set = match config.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Pretty => builder.try_init(),
    };
    set.map_err(|_| Error::Twice)
}

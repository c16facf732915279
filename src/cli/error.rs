//! How a command fails.

use super::{health, login};

/// Failure of a command.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the configuration is wrong:\n{0}")]
    Config(#[from] crate::config::ConfigErrors),
    #[error(transparent)]
    App(#[from] crate::app::Error),
    #[error(transparent)]
    Health(#[from] health::Error),
    #[error("stopped at once: a second signal came before everything was finished")]
    Aborted,
    #[error(transparent)]
    Login(#[from] login::Error),
    #[error(transparent)]
    Telemetry(#[from] crate::telemetry::Error),
    #[error(
        "dev lets everybody do everything and has no business on a network: {flag} {address} must be a loopback address"
    )]
    DevBeyondLoopback { flag: &'static str, address: std::net::SocketAddr },
    #[error("{what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
}

// === impl Error ===

impl Error {
    /// The error of a result that cannot be printed.
    pub(super) fn print(source: std::io::Error) -> Self {
        Self::Io { what: "cannot print", source }
    }
}

//! Error of a command.

use super::{health, login, proto};

/// Error of a command.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("invalid configuration:\n{0}")]
    Config(#[from] crate::config::ConfigErrors),
    /// The errors were printed as JSON.
    #[error("invalid configuration")]
    InvalidConfig,
    #[error("leadsd has no command {0:?}")]
    UnknownCommand(String),
    #[error(transparent)]
    App(#[from] crate::app::Error),
    #[error(transparent)]
    Health(#[from] health::Error),
    #[error("stopped before draining was complete: received a second signal")]
    Aborted,
    #[error(transparent)]
    Login(#[from] login::Error),
    #[error(transparent)]
    Telemetry(#[from] crate::telemetry::Error),
    #[error(
        "{flag} {address} is not a loopback address: leadsd dev serves without authentication; use a loopback address"
    )]
    DevBeyondLoopback { flag: &'static str, address: std::net::SocketAddr },
    #[error("{flag}: {what}")]
    DevUsage { flag: &'static str, what: String },
    /// Error of a state file.
    #[error("{0}")]
    DevState(String),
    #[error("{flag}: cannot listen on {address}: {source}; choose another port with {flag}, such as {}:0 for a free one", address.ip())]
    DevListen { flag: &'static str, address: std::net::SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Proto(#[from] proto::Error),
    #[error("{what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
}

// === impl Error ===

impl Error {
    /// Wraps an error of writing to standard output.
    pub(super) fn print(source: std::io::Error) -> Self {
        Self::Io { what: "cannot write to standard output", source }
    }
}

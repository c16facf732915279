//! Error of a login.

use crate::{
    cli::{prompt, remediation::Remediation},
    config,
};

/// Reason why no credential was stored.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Error {
    #[error("invalid configuration:\n{0}")]
    Config(#[from] config::ConfigErrors),
    /// Invalid command line, or one that contradicts the configuration.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(Remediation),
    #[error(transparent)]
    Terminal(#[from] prompt::Error),
    #[error("interrupted; nothing was stored")]
    Interrupted,
}

// === impl Error ===

impl From<Remediation> for Error {
    fn from(remediation: Remediation) -> Self {
        Self::Failed(remediation)
    }
}

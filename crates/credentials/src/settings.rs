//! Settings of the engine.

use std::time::Duration;

use crate::{secret_path::SecretPath, status::ReadinessRule};

/// Time of a portal's first token request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At once, so that the first call finds a token.
    #[default]
    Eager,
    /// On the first call.
    Lazy,
}

/// Discovery of portals: every secret in a folder of the store is a portal of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// The folder.
    pub path: SecretPath,
    /// Interval of the listings.
    pub interval: Duration,
}

/// Timing of the engine, and how portals are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Maximum time until a new version of a secret is seen. Default 30 s.
    pub poll_interval: Duration,
    /// Timeout for one call to the secret store. Default 10 s.
    pub store_timeout: Duration,
    /// Timeout for one token request. Default 10 s.
    pub grant_timeout: Duration,
    /// Mean interval at which a suspended portal is tried again. Default 10 min.
    pub suspended_retry_interval: Duration,
    /// Time of a portal's first token request. Default: at start.
    pub start: Start,
    /// Maximum number of portals that fetch their first token at the same time. Default 16.
    pub start_concurrency: usize,
    /// Portals that must be usable for the service to be ready. Default at least one.
    pub readiness: ReadinessRule,
    /// Discovery of portals beside the configured ones. Default none.
    pub discovery: Option<Discovery>,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(30),
            store_timeout: Duration::from_secs(10),
            grant_timeout: Duration::from_secs(10),
            suspended_retry_interval: Duration::from_secs(600),
            start: Start::Eager,
            start_concurrency: 16,
            readiness: ReadinessRule::Any,
            discovery: None,
        }
    }
}

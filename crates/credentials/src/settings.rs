//! What the engine is told at start.

use std::time::Duration;

use super::SecretPath;

/// When a portal's first token is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At once, so that the first call finds a token.
    #[default]
    Eager,
    /// When the first call asks for one.
    Lazy,
}

/// A folder of the secret store in which every secret is a portal of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Where the secrets are.
    pub path: SecretPath,
    /// How often to look for additions and removals.
    pub interval: Duration,
}

/// Timing of the engine and how portals come into being.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A new version of a secret is seen within this time. Default 30 s.
    pub poll_interval: Duration,
    /// Longest one call to the secret store may take. Default 10 s.
    pub store_timeout: Duration,
    /// Longest one call to the token endpoint may take. Default 10 s.
    pub grant_timeout: Duration,
    /// How often a portal whose credential is refused for good is tried again without a reason to.
    /// Default 10 min.
    pub suspended_retry_interval: Duration,
    /// When a portal's first token is fetched. Default at once.
    pub start: Start,
    /// How many portals may fetch their first token at the same time. Default 16.
    pub start_concurrency: usize,
    /// Where to discover portals, beside the configured ones. Default nowhere.
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
            discovery: None,
        }
    }
}

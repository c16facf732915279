//! Errors of a configuration, and the origin of values.

use std::fmt;

use figment::Figment;

use super::syntax::NOT_TOML;

/// Key of errors of the configuration file as a whole: the option that names it.
pub const FILE_OPTION: &str = "--config";

/// Origin of values of the default file.
pub(super) const DEFAULT: &str = "default";

/// Start of the origin of a value from the environment; the name of the variable follows.
pub(super) const ENVIRONMENT: &str = "environment variable ";

/// Error of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Dotted key, such as `grpc.listen`.
    pub key: String,
    /// Origin of the value: a file or an environment variable; empty if there is none.
    pub origin: String,
    /// Error, as a predicate of the key.
    pub what: String,
}

/// All errors of a configuration; at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

// === impl ConfigError ===

impl ConfigError {
    /// True for a syntax error of the file, which has no key.
    pub fn is_syntax(&self) -> bool {
        self.key == FILE_OPTION && self.what.starts_with(NOT_TOML)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)?;
        if self.origin.is_empty() { Ok(()) } else { write!(f, " (from {})", self.origin) }
    }
}

// === impl ConfigErrors ===

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{error}")?;
        }
        Ok(())
    }
}

/// Origin of the value of a key, or of its table if the key is not set; empty if neither is set by the
/// user.
pub(super) fn origin(figment: &Figment, whole: &str) -> String {
    let mut key = whole;
    loop {
        if let Some(metadata) = figment.find_metadata(key) {
            let source = source(metadata);
            // The default file is not the origin of a missing key.
            return if key != whole && source == DEFAULT { String::new() } else { source };
        }
        match key.rsplit_once('.') {
            Some((parent, _)) => key = parent,
            None => return String::new(),
        }
    }
}

pub(super) fn source(metadata: &figment::Metadata) -> String {
    match &metadata.source {
        Some(figment::Source::File(file)) => file.display().to_string(),
        _ if metadata.name.starts_with(ENVIRONMENT) => metadata.name.to_string(),
        _ => DEFAULT.to_owned(),
    }
}

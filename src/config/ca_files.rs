//! Checks the files with CAs of all peers, where the configuration is used.

use leadsd_base::net::trust::{CaError, CaSource};

use super::{callers::Jwks, error::ConfigError, sections::Config};

/// Reads all files with CAs of peers. Errors if one is missing or contains no certificate.
pub(super) fn check_ca_files(config: &Config, origin: impl Fn(&str) -> String) -> Vec<ConfigError> {
    let error = |CaError { key, path, what }: CaError| {
        let origin = origin(&key);
        ConfigError { origin, key, what: format!("{path} {what}") }
    };
    let jwks = config.auth.jwt.as_ref().and_then(|jwt| match &jwt.jwks {
        Jwks::File(_) => None,
        Jwks::Url { ca_file, .. } => ca_file.as_deref(),
    });
    let files = [
        ("vault.ca_file", config.vault.ca_file.as_deref()),
        ("auth.jwt.ca_file", jwks),
        ("trace.ca_file", config.trace.ca_file.as_deref()),
    ];
    let files = files.into_iter().filter_map(|(key, path)| Some(CaSource::file(key, path?)));
    let all = config.egress.policy.settings().ca_sources.iter().cloned().chain(files);
    all.filter_map(|source| source.read().err()).map(error).collect()
}

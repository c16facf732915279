//! Lists the files with CAs of all peers, and checks them where the configuration is used.

use leadsd_base::net::trust::{CaError, CaSource, CaSourceKind};

use super::{callers::Jwks, error::ConfigError, sections::Config};

impl Config {
    /// The files with private CAs that the configuration names, each with its key. The store of the
    /// operating system (`SSL_CERT_FILE`, `SSL_CERT_DIR`) is not among them.
    pub fn ca_files(&self) -> Vec<CaSource> {
        let client_ca = self.grpc.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
        let client_ca = client_ca.map(|ca| CaSource::file("grpc.tls.client_ca_file", &ca.file));
        let egress = self.egress.policy.settings().ca_sources.iter();
        let egress = egress.filter(|source| source.kind == CaSourceKind::File).cloned();
        client_ca.into_iter().chain(egress).chain(peer_files(self)).collect()
    }
}

/// Reads all files with CAs of peers. Errors if one is missing or contains no certificate.
pub(super) fn check_ca_files(config: &Config, origin: impl Fn(&str) -> String) -> Vec<ConfigError> {
    let error = |CaError { key, path, what }: CaError| {
        let origin = origin(&key);
        ConfigError { origin, key, what: format!("{path} {what}") }
    };
    let egress = config.egress.policy.settings().ca_sources.iter().cloned();
    let all = egress.chain(peer_files(config));
    all.filter_map(|source| source.read().err()).map(error).collect()
}

/// The files with CAs of single peers.
fn peer_files(config: &Config) -> impl Iterator<Item = CaSource> {
    let jwks = config.auth.jwt.as_ref().and_then(|jwt| match &jwt.jwks {
        Jwks::File(_) => None,
        Jwks::Url { ca_file, .. } => ca_file.as_deref(),
    });
    let redis = config.quota.shared.as_ref().and_then(|shared| shared.redis.ca_file.as_deref());
    let files = [
        ("vault.ca_file", config.vault.ca_file.as_deref()),
        ("auth.jwt.ca_file", jwks),
        ("quota.shared.ca_file", redis),
        ("trace.ca_file", config.trace.ca_file.as_deref()),
    ];
    files.into_iter().filter_map(|(key, path)| Some(CaSource::file(key, path?)))
}

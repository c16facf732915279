//! `[vault]`: connection to Vault or OpenBao.

use std::{path::PathBuf, time::Duration};

use super::{check::Checker, raw, vault_auth::VaultAuth};
use leadsd_base::net::egress::Egress;
use leadsd_credentials::SecretPath;

/// `[vault]`: connection to Vault or OpenBao.
#[derive(Debug, Clone)]
pub struct Vault {
    /// Base URL of Vault or OpenBao. Required.
    pub address: url::Url,
    /// Namespace of Vault Enterprise or OpenBao. Default none.
    pub namespace: Option<String>,
    /// PEM file with CAs that are trusted in addition to the public ones.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client certificate chain. Needs `client_key_file`.
    pub client_cert_file: Option<PathBuf>,
    /// PEM file with the private key of `client_cert_file`.
    pub client_key_file: Option<PathBuf>,
    /// Mount of the KV v2 engine. Default `secret`.
    pub mount: String,
    /// Timeout for a request to Vault. Default 5 s.
    pub timeout: Duration,
    /// Interval between checks for new versions of secrets. Default 30 s.
    pub poll_interval: Duration,
    /// `[vault.auth]`
    pub auth: VaultAuth,
    /// Way to Vault: without credentials for the proxy, which are in Vault.
    pub egress: Egress,
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn vault(&mut self, raw: raw::Vault, egress: &Egress) -> Option<Vault> {
        let raw::Vault {
            address,
            namespace,
            ca_file,
            client_cert_file,
            client_key_file,
            mount,
            timeout,
            poll_interval,
            auth,
        } = raw;
        if client_cert_file.is_some() != client_key_file.is_some() {
            self.add_error("vault.client_cert_file", "and client_key_file must be set together");
        }
        if let Some(namespace) = &namespace
            && (namespace.trim().is_empty() || namespace.chars().any(char::is_control))
        {
            self.add_error("vault.namespace", "must not be empty or contain control characters");
        }
        if let Err(what) = SecretPath::parse(&mount) {
            self.add_error("vault.mount", what);
        }
        let address = match address {
            Some(address) => self.url("vault.address", &address).filter(|url| {
                let error = base_url_error(url);
                if let Some(what) = error {
                    self.add_error("vault.address", what);
                }
                error.is_none()
            }),
            None => {
                self.add_error("vault.address", "is required");
                None
            }
        };
        let timeout = self.duration("vault.timeout", &timeout, 100, 300_000);
        let poll_interval = self.duration("vault.poll_interval", &poll_interval, 1_000, 3_600_000);
        let auth = self.auth(auth, client_cert_file.is_some());
        Some(Vault {
            address: address?,
            namespace,
            ca_file,
            client_cert_file,
            client_key_file,
            mount,
            timeout: timeout?,
            poll_interval: poll_interval?,
            auth: auth?,
            egress: egress.anonymous(),
        })
    }
}

/// Error of a URL that is not the base URL of Vault, but one of its API or of its web interface, as it is
/// copied from a command or a browser; `None` for others.
fn base_url_error(url: &url::Url) -> Option<&'static str> {
    let mut segments: Vec<&str> = url.path_segments().map(Iterator::collect).unwrap_or_default();
    while segments.last() == Some(&"") {
        segments.pop();
    }
    let is_version = |segment: &&str| segment.eq_ignore_ascii_case("v1");
    if segments.last().is_some_and(is_version) {
        return Some("must not end in /v1, which leadsd adds");
    }
    if segments.iter().any(is_version) {
        return Some("must be the base URL, without /v1 and what follows it, which leadsd adds");
    }
    let is_interface = segments.iter().any(|segment| segment.eq_ignore_ascii_case("ui"));
    is_interface.then_some("must be the base URL, without /ui, which is the web interface")
}

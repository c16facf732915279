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
        if SecretPath::parse(&mount).is_err() {
            self.add_error("vault.mount", "must be a path of letters, digits, `.`, `_`, `-`");
        }
        let address = match address {
            Some(address) => self.url("vault.address", &address).filter(|url| {
                let has_version = url.path().trim_end_matches('/').ends_with("/v1");
                if has_version {
                    self.add_error("vault.address", "must not end in /v1, which leadsd adds");
                }
                !has_version
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

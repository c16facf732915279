//! `[admin]`: settings of the admin server.

use std::net::IpAddr;

use super::{check::Checker, raw};
use leadsd_base::net::listen_address::ListenAddress;
use leadsd_credentials::SecretPath;

/// `[admin]`: settings of the admin server.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Listen address; port 0 picks a free one. Default `127.0.0.1:9090`.
    pub listen: ListenAddress,
    /// Names and addresses in the Host header that are accepted beside loopback and the address of the
    /// connection. Default none.
    pub hosts: Vec<String>,
    /// Path of the secret with hashes of the keys that changes need; `None` if changes need no key.
    pub api_keys: Option<SecretPath>,
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn admin(&mut self, raw: raw::Admin) -> Option<Admin> {
        let raw::Admin { listen, hosts, api_keys_secret } = raw;
        let listen = self.listen("admin.listen", &listen, 9_090);
        if !hosts.iter().all(|host| is_host(host)) {
            self.add_error("admin.hosts", "must be host names or IP addresses, without ports");
        }
        let api_keys = api_keys_secret.map(|path| {
            let path = SecretPath::parse(&path);
            path.map_err(|what| self.add_error("admin.api_keys_secret", what)).ok()
        });
        Some(Admin {
            listen: listen?,
            hosts,
            api_keys: match api_keys {
                Some(path) => Some(path?),
                None => None,
            },
        })
    }
}

/// True for a host name or an IP address, without brackets and port.
fn is_host(text: &str) -> bool {
    let is_name = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        (1..=253).contains(&text.len()) && text.chars().all(allowed)
    };
    is_name(text) || text.parse::<IpAddr>().is_ok()
}

//! Checks of the network path to a peer: DNS, TCP and TLS.

use std::net::SocketAddr;

use url::{Host, Url};

use super::check::{CheckResult, deadline};
use crate::cli::remediation::{self, Peer};
use leadsd_base::net::connect_error;

/// Resolves the host of a URL.
pub(super) async fn resolve(peer: Peer, url: &Url) -> CheckResult<Vec<SocketAddr>> {
    let port = url.port_or_known_default().unwrap_or(443);
    match connect_error::resolve(url.host_str().unwrap_or_default(), port, deadline()).await {
        Ok(addresses) => {
            let text: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            CheckResult::ok(addresses, text.join(", "))
        }
        Err(error) => CheckResult::fail(remediation::connect(peer, url, &error)),
    }
}

/// Connects to one of the addresses.
pub(super) async fn connect(peer: Peer, url: &Url, addresses: &[SocketAddr]) -> CheckResult<()> {
    match connect_error::connect(addresses, deadline()).await {
        Ok(address) => CheckResult::ok((), address.to_string()),
        Err(error) => CheckResult::fail(remediation::connect(peer, url, &error)),
    }
}

/// Outcome of the TLS check of a peer after a successful connection.
pub(super) fn tls_outcome<T>(peer: Peer, url: &Url, value: T) -> CheckResult<T> {
    if url.scheme() == "https" {
        return CheckResult::ok(value, "the certificate is trusted");
    }
    if is_loopback(url) {
        return CheckResult::ok(value, "not used (loopback)");
    }
    let (key, name) = (peer.key(), peer.name());
    CheckResult::warn(
        value,
        format!("{key} uses http: secrets are sent to {name} unencrypted"),
        "use https",
    )
}

/// Reports whether the host of a URL is loopback.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

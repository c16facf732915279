//! The way to a peer, step by step: its name, its port, and what TLS says.

use std::net::SocketAddr;

use url::{Host, Url};

use super::{check::Seen, soon};
use crate::cli::remediation::{self, Peer};
use leadsd_base::net::connect_error;

/// The addresses of a URL's host.
pub(super) async fn named(peer: Peer, url: &Url) -> Seen<Vec<SocketAddr>> {
    let port = url.port_or_known_default().unwrap_or(443);
    match connect_error::resolve(url.host_str().unwrap_or_default(), port, soon()).await {
        Ok(addresses) => {
            let text: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            Seen::ok(addresses, text.join(", "))
        }
        Err(why) => Seen::fail(remediation::unreached(peer, url, &why)),
    }
}

/// Whether one of them takes a connection.
pub(super) async fn connected(peer: Peer, url: &Url, addresses: &[SocketAddr]) -> Seen<()> {
    match connect_error::connect(addresses, soon()).await {
        Ok(address) => Seen::ok((), address.to_string()),
        Err(why) => Seen::fail(remediation::unreached(peer, url, &why)),
    }
}

/// What there is to say of a peer whose certificate, if it has one, is good.
pub(super) fn encrypted<T>(peer: Peer, url: &Url, value: T) -> Seen<T> {
    if url.scheme() == "https" {
        return Seen::ok(value, "its certificate is trusted");
    }
    if is_loopback(url) {
        return Seen::ok(value, "not used, on loopback");
    }
    let (key, name) = (peer.key(), peer.name());
    Seen::warn(
        value,
        format!("{key} is http: secrets cross the network to {name} unencrypted"),
        "use https",
    )
}

/// Whether a URL stays on this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

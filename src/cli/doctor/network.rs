//! Checks of the network path to a peer: DNS, TCP and TLS.

use std::net::SocketAddr;

use url::{Host, Url};

use super::check::{CheckResult, deadline};
use crate::cli::remediation::{self, Peer};
use leadsd_base::net::{
    connect_error::{self, ConnectError, ProxyError},
    egress::{Egress, Route},
    tunnel,
};

/// Resolves the host of a URL, or that of the proxy on the way to it: then the proxy resolves the host.
pub(super) async fn resolve(
    peer: Peer,
    url: &Url,
    egress: &Egress,
) -> CheckResult<Vec<SocketAddr>> {
    let route = egress.route(url);
    let next = match &route {
        Route::Direct(_) => url,
        Route::Proxy(proxy) => proxy.url(),
    };
    let (host, port) = (next.host_str().unwrap_or_default(), next.port_or_known_default());
    match connect_error::resolve(host, port.unwrap_or(443), deadline()).await {
        Ok(addresses) => {
            let text: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            CheckResult::ok(addresses, format!("{}; {route}", text.join(", ")))
        }
        Err(error) => {
            let error = match &route {
                Route::Direct(_) => error,
                Route::Proxy(proxy) => {
                    let cause = ProxyError::from(error);
                    ConnectError::Proxy { proxy: proxy.authority(), cause }
                }
            };
            CheckResult::fail(remediation::connect(peer, url, &error))
        }
    }
}

/// Connects to one of the addresses. Through a proxy, opens a tunnel as the service does.
pub(super) async fn connect(
    peer: Peer,
    url: &Url,
    egress: &Egress,
    addresses: &[SocketAddr],
) -> CheckResult<()> {
    let route = egress.route(url);
    let connected = match route {
        Route::Direct(_) => connect_error::connect(addresses, deadline()).await.map(|stream| {
            let address = stream.peer_addr();
            address.map_or_else(|_| "connected".to_owned(), |address| address.to_string())
        }),
        Route::Proxy(_) => {
            let opened = tunnel::open(egress, url, deadline()).await;
            opened.map(|_| "connected".to_owned())
        }
    };
    match connected {
        Ok(found) => CheckResult::ok((), format!("{found}; {route}")),
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

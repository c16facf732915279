//! Exceptions from the proxy, as in `NO_PROXY`.

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

/// List of hosts that are reached directly.
///
/// | Entry | Hosts |
/// |---|---|
/// | `*` | all |
/// | `example.com`, `.example.com`, `*.example.com` | the domain and its subdomains |
/// | `192.0.2.7`, `2001:db8::7`, `[2001:db8::7]` | the address, if the URL contains it |
/// | `10.0.0.0/8`, `fd00::/8` | all addresses of the block, if the URL contains them |
/// | any of the above but a block, with `:port` | the same, for URLs with that port |
///
/// Names are not resolved: a URL with a name never matches an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoProxy {
    origin: String,
    entries: Vec<Entry>,
}

/// Error for an entry that is not a host, an address or a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a host, an address, a CIDR block or *")]
pub struct InvalidEntry;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    hosts: Hosts,
    /// `None` stands for every port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    Block(IpNet),
    /// Domain in ASCII, with its subdomains.
    Domain(String),
}

// === impl NoProxy ===

impl NoProxy {
    /// Reads a list whose entries are separated by commas or spaces. Invalid entries are skipped.
    /// `origin` is the key or variable with the list.
    pub fn parse(list: &str, origin: impl Into<String>) -> Self {
        let entries = list.split([',', ' ', '\t', '\n']).map(str::trim);
        let entries = entries.filter_map(|entry| Entry::parse(entry).ok()).collect();
        Self { origin: origin.into(), entries }
    }

    /// Errors if a text is not a valid entry.
    pub fn check(entry: &str) -> Result<(), InvalidEntry> {
        Entry::parse(entry).map(drop)
    }

    /// Key or variable with the list.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// True if the host of a URL is in the list.
    pub(super) fn lists(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        let port = url.port_or_known_default();
        self.entries.iter().any(|entry| entry.matches(&host, port))
    }
}

// === impl Entry ===

impl Entry {
    fn parse(text: &str) -> Result<Self, InvalidEntry> {
        if let Some(block) = parse_block(text) {
            return Ok(Self { hosts: Hosts::Block(block), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| InvalidEntry)?)),
            None => (text, None),
        };
        if host == "*" {
            return Ok(Self { hosts: Hosts::All, port });
        }
        if let Some(block) = parse_block(host).filter(|_| !host.contains('/')) {
            return Ok(Self { hosts: Hosts::Block(block), port });
        }
        let name = host.strip_prefix('*').unwrap_or(host);
        let name = name.strip_prefix('.').unwrap_or(name).trim_end_matches('.');
        match Host::parse(name) {
            Ok(Host::Domain(name)) if !name.contains('*') => {
                Ok(Self { hosts: Hosts::Domain(name), port })
            }
            Ok(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_)) | Err(_) => Err(InvalidEntry),
        }
    }

    fn matches(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        if self.port.is_some() && self.port != port {
            return false;
        }
        match &self.hosts {
            Hosts::All => true,
            Hosts::Block(block) => match host {
                Host::Ipv4(ip) => block.contains(&IpAddr::V4(*ip)),
                Host::Ipv6(ip) => block.contains(&ip.to_canonical()),
                Host::Domain(_) => false,
            },
            Hosts::Domain(domain) => match host {
                Host::Domain(name) => is_within(name.trim_end_matches('.'), domain),
                Host::Ipv4(_) | Host::Ipv6(_) => false,
            },
        }
    }
}

/// Parses an address, or a CIDR block.
fn parse_block(text: &str) -> Option<IpNet> {
    if let Ok(block) = text.parse::<IpNet>() {
        return Some(block);
    }
    let address = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    address.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()))
}

/// True if `name` is the domain or one of its subdomains.
fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

//! Listen addresses: an IP address or a host name, with a port, or the path of a Unix socket. A name is
//! resolved when it is bound.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use tokio::{
    net::{TcpListener, lookup_host},
    time::timeout,
};

/// Timeout for the resolution of a name: two attempts of common resolvers.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum length of a host name (RFC 1035).
const MAX_NAME: usize = 253;

/// Prefix of the path of a Unix socket; `unix:///path` is the same as `unix:/path`.
const UNIX: &str = "unix:";

/// Maximum length of the path of a Unix socket in bytes: the kernel allows 107, and the file has a longer
/// name while it is created.
const MAX_PATH: usize = 100;

/// Name of this machine, which stands for loopback addresses only.
const LOCALHOST: &str = "localhost";

/// Address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// IP address and port.
    Socket(SocketAddr),
    /// Host name and port.
    Name(String, u16),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

/// Error for a text that is no listen address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not HOST:PORT with an IP address or a host name, and not unix:/PATH")]
pub struct InvalidListenAddress;

// === impl ListenAddress ===

impl ListenAddress {
    /// Reports whether only this machine reaches the address. Of names, only `localhost` is known to.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Socket(address) => address.ip().to_canonical().is_loopback(),
            Self::Name(name, _) => is_localhost(name),
            Self::Unix(_) => true,
        }
    }

    /// Reports whether the address is a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Reports whether only one of the two addresses can be bound. A host name other than `localhost` is
    /// compared as text, because it is resolved when it is bound.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let same_port = |one: u16, other: u16| one == other && one != 0;
        match (self, other) {
            (Self::Socket(one), Self::Socket(other)) => {
                let (ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
                let is_any = ip.is_unspecified() || other_ip.is_unspecified();
                same_port(one.port(), other.port()) && (ip == other_ip || is_any)
            }
            (Self::Name(name, port), Self::Socket(address))
            | (Self::Socket(address), Self::Name(name, port)) => {
                let ip = address.ip().to_canonical();
                let is_here = ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST;
                same_port(address.port(), *port) && is_localhost(name) && is_here
            }
            (Self::Name(name, port), Self::Name(other, other_port)) => {
                same_port(*port, *other_port) && name.eq_ignore_ascii_case(other)
            }
            (Self::Unix(path), Self::Unix(other)) => path == other,
            (Self::Unix(_), Self::Socket(_) | Self::Name(..))
            | (Self::Socket(_) | Self::Name(..), Self::Unix(_)) => false,
        }
    }

    /// Parses the path of a Unix socket; `None` if the text has no prefix `unix:`.
    pub fn unix_path(text: &str) -> Option<&Path> {
        let path = text.strip_prefix(UNIX)?;
        Some(Path::new(path.strip_prefix("//").unwrap_or(path)))
    }

    /// Listens with TCP on the first address of the name that can be bound, IPv4 before IPv6. The name
    /// `localhost` never stands for an address that other machines reach.
    pub async fn bind(&self) -> io::Result<TcpListener> {
        let (name, port) = match self {
            Self::Socket(address) => return TcpListener::bind(address).await,
            Self::Name(name, port) => (name.as_str(), *port),
            Self::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        for address in resolve(name, port).await? {
            match TcpListener::bind(address).await {
                Ok(listener) => return Ok(listener),
                Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
            }
        }
        Err(last)
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, InvalidListenAddress> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Socket(address));
        }
        if let Some(path) = Self::unix_path(text) {
            let is_path = path.is_absolute() && path.as_os_str().len() <= MAX_PATH;
            let is_file =
                path.file_name().is_some() && !text.contains('\0') && !text.ends_with('/');
            return if is_path && is_file {
                Ok(Self::Unix(path.to_owned()))
            } else {
                Err(InvalidListenAddress)
            };
        }
        let (name, port) = text.rsplit_once(':').ok_or(InvalidListenAddress)?;
        let port = port.parse().map_err(|_| InvalidListenAddress)?;
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        // A name that ends with a number is a misspelt IP address.
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = last.chars().all(|c| c.is_ascii_digit());
        if name.len() > MAX_NAME || is_number || !name.chars().all(is_allowed) {
            return Err(InvalidListenAddress);
        }
        Ok(Self::Name(name.to_owned(), port))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// Addresses of a name, IPv4 first.
async fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(RESOLVE_TIMEOUT, lookup_host((name, port))).await;
    let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let mut addresses: Vec<SocketAddr> = match found {
        Ok(found) => found.collect(),
        // An image without /etc/hosts.
        Err(_) if is_localhost(name) => {
            vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
        }
        Err(error) => {
            let text = format!("the host name has no address: {error}");
            return Err(io::Error::new(error.kind(), text));
        }
    };
    if is_localhost(name) {
        addresses.retain(|address| address.ip().to_canonical().is_loopback());
    }
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    Ok(addresses)
}

fn is_localhost(name: &str) -> bool {
    name.eq_ignore_ascii_case(LOCALHOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ListenAddress, InvalidListenAddress> {
        text.parse()
    }

    #[test]
    fn addresses_and_names_are_parsed_and_shown_alike() {
        for (text, is_loopback) in [
            ("127.0.0.1:50051", true),
            ("[::1]:0", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("localhost:50051", true),
            ("LocalHost:1", true),
            ("leadsd.internal:443", false),
            ("localhost.example.com:1", false),
            ("db_1:65535", false),
            ("unix:/run/leadsd/leadsd.sock", true),
        ] {
            let address = parse(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.is_loopback()), (text, is_loopback));
        }
        for odd in [
            "",
            "nonsense",
            "50051",
            ":50051",
            "host:",
            "host:65536",
            "host:-1",
            "a b:1",
            "10.0.0:1",
            "10.0.0.256:1",
            "::1:1",
            "[host]:1",
            "http://host:1",
            "host:1/",
            "é:1",
        ] {
            assert!(parse(odd).is_err(), "{odd}");
        }
        assert!(parse(&format!("{}:1", "a".repeat(254))).is_err());
        assert_eq!(parse("unix:///run/a").unwrap().to_string(), "unix:/run/a");
        let long = "x".repeat(100);
        for odd in
            ["unix:", "unix:a", "unix:/", "unix:/run/", "unix:/a\0b", "unix://host/a:1", "unix:1"]
        {
            assert!(parse(odd).is_err(), "{odd}");
        }
        assert!(parse(&format!("unix:/{long}")).is_err());
    }

    #[test]
    fn addresses_with_one_port_conflict_if_one_includes_the_other() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
            ("localhost:1", "127.0.0.1:1", true),
            ("LocalHost:1", "localhost:1", true),
            ("localhost:1", "0.0.0.0:1", true),
            ("localhost:1", "127.0.0.2:1", false),
            ("leadsd.internal:1", "10.0.0.1:1", false),
            ("leadsd.internal:1", "localhost:1", false),
            ("unix:/run/a", "unix:/run/a", true),
            ("unix:/run/a", "unix:/run/b", false),
            ("unix:/run/a", "127.0.0.1:1", false),
        ] {
            let (one, other) = (parse(one).unwrap(), parse(other).unwrap());
            assert_eq!(one.conflicts_with(&other), expected, "{one} {other}");
            assert_eq!(other.conflicts_with(&one), expected, "{other} {one}");
        }
    }

    #[tokio::test]
    async fn localhost_is_bound_on_loopback() {
        let listener = parse("localhost:0").unwrap().bind().await.unwrap();
        assert!(listener.local_addr().unwrap().ip().is_loopback());
        let taken = parse(&format!("localhost:{}", listener.local_addr().unwrap().port()));
        let taken = taken.unwrap();
        // Another address of localhost may be free.
        if let Err(error) = taken.bind().await {
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            assert!(error.to_string().contains(':'), "{error}");
        }
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error() {
        let error = parse("nowhere.invalid:1").unwrap().bind().await.unwrap_err();
        assert!(error.to_string().starts_with("the host name has no address"), "{error}");
    }
}

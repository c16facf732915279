//! Classifies connection failures by their remedy: the name, the port, the certificate.
//!
//! The messages are for operators and contain nothing of the request.

use std::{error::Error as StdError, io, net::SocketAddr};

use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

/// Maximum number of addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Reason why a request got no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The host name has no address.
    #[error("cannot be reached: the name has no address")]
    Dns,
    /// No process listens on the port.
    #[error("cannot be reached: the connection is refused")]
    Refused,
    /// No response arrived before the deadline.
    #[error("did not answer in time")]
    Timeout,
    /// The certificate of the peer was rejected.
    #[error("cannot be reached: its certificate {0}")]
    Certificate(CertificateError),
    /// The TLS handshake failed for another reason, such as a peer that does not speak TLS.
    #[error("cannot be reached: TLS failed: {0}")]
    Tls(String),
    /// The connection broke.
    #[error("cannot be reached: {0}")]
    Io(String),
    /// The proxy opened no connection to the peer.
    #[error("cannot be reached: the proxy {proxy} {cause}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// Cause.
        cause: ProxyError,
    },
}

/// Reason why a proxy opened no connection, as a predicate of the proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The host name of the proxy has no address.
    #[error("has no address")]
    Dns,
    /// No process listens on the port of the proxy.
    #[error("refuses the connection")]
    Refused,
    /// The proxy did not open a connection before the deadline.
    #[error("opened no connection in time")]
    Timeout,
    /// The proxy requires credentials, and there are none.
    #[error("requires credentials (status 407)")]
    CredentialsRequired,
    /// The proxy requires credentials for Vault, which contains them.
    #[error("requires credentials (status 407), and requests to Vault have none")]
    AnonymousRejected,
    /// The proxy rejects the credentials.
    #[error("rejects the credentials (status 407)")]
    CredentialsRejected,
    /// The credentials have not been read from Vault yet.
    #[error("was not asked: its credentials have not been read from Vault")]
    NoCredentials,
    /// The proxy rejects the request for a tunnel, with an unknown status.
    #[error("opened no tunnel")]
    Rejected,
    /// The proxy rejects the request for a tunnel with this status.
    #[error("opened no tunnel (status {0})")]
    Status(u16),
    /// The response is not HTTP, or its head is too large.
    #[error("does not respond like an HTTP proxy")]
    InvalidResponse,
    /// The proxy closed the connection instead of a response.
    #[error("closed the connection without a response")]
    Closed,
    /// The certificate of an `https` proxy was rejected.
    #[error("cannot be reached: its certificate {0}")]
    Certificate(CertificateError),
    /// The connection to the proxy broke.
    #[error("cannot be reached: {0}")]
    Io(String),
}

/// Error of a connection whose proxy needs credentials that have not been read from Vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credentials of the proxy have not been read from Vault")]
pub(super) struct CredentialsMissing;

/// Failure of a tunnel through a proxy, inside an error of reqwest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TunnelFailure {
    AuthenticationRequired,
    Rejected,
    InvalidResponse,
    Closed,
    NoCredentials,
    /// The connection to the proxy failed; the root cause says why.
    Broken,
}

/// Reason why a certificate was rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The certificate is not signed by a trusted CA.
    #[error("is signed by an authority that is not trusted")]
    UnknownIssuer,
    /// The validity of the certificate has ended.
    #[error("has expired")]
    Expired,
    /// The validity of the certificate has not begun.
    #[error("is not valid yet")]
    NotYetValid,
    /// The certificate is for another host name.
    #[error("is for another name")]
    NameMismatch,
    /// Any other reason.
    #[error("is not accepted: {0}")]
    Other(String),
}

/// Classifies the root cause of a request that got no response, regardless of a proxy.
pub(super) fn cause(error: &reqwest::Error) -> ConnectError {
    let cause = root_cause(error);
    let is_timeout = matches!(cause, ConnectError::Io(_)) && error.is_timeout();
    if is_timeout { ConnectError::Timeout } else { cause }
}

/// Classifies the root cause of an error.
pub fn root_cause(error: &(dyn StdError + 'static)) -> ConnectError {
    let mut cause = error;
    loop {
        if let Some(tls) = tls_in(cause) {
            return from_tls(tls);
        }
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionRefused
        {
            return ConnectError::Refused;
        }
        if cause.to_string().starts_with("dns error") {
            return ConnectError::Dns;
        }
        let Some(next) = cause.source() else { break };
        cause = next;
    }
    ConnectError::Io(cause.to_string())
}

/// Finds the failure of a tunnel inside an error. hyper-util does not export the type, only its texts.
pub(super) fn tunnel_failure(error: &reqwest::Error) -> Option<TunnelFailure> {
    let mut cause: &(dyn StdError + 'static) = error;
    loop {
        if cause.is::<CredentialsMissing>() {
            return Some(TunnelFailure::NoCredentials);
        }
        match cause.to_string().strip_prefix("tunnel error: ") {
            Some("proxy authorization required") => {
                return Some(TunnelFailure::AuthenticationRequired);
            }
            Some("unsuccessful") => return Some(TunnelFailure::Rejected),
            Some("proxy response headers too long") => return Some(TunnelFailure::InvalidResponse),
            Some("unexpected end of file") => return Some(TunnelFailure::Closed),
            Some(_) => return Some(TunnelFailure::Broken),
            None => {}
        }
        cause = cause.source()?;
    }
}

/// Finds the TLS error inside an error. I/O errors do not expose their payload through `source`.
fn tls_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(io) = error.downcast_ref::<io::Error>() {
        let inner: &(dyn StdError + 'static) = io.get_ref()?;
        return tls_in(inner);
    }
    error.downcast_ref()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds variants; others keep their text")]
fn from_tls(error: &rustls::Error) -> ConnectError {
    use rustls::{CertificateError as Tls, InvalidMessage};
    let rustls::Error::InvalidCertificate(cause) = error else {
        // The first bytes of the response are no TLS record, such as those of a plain HTTP response.
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        return ConnectError::Tls(if *error == plain {
            format!("the peer responds without TLS ({error})")
        } else {
            error.to_string()
        });
    };
    ConnectError::Certificate(match cause {
        Tls::UnknownIssuer => CertificateError::UnknownIssuer,
        Tls::Expired | Tls::ExpiredContext { .. } => CertificateError::Expired,
        Tls::NotValidYet | Tls::NotValidYetContext { .. } => CertificateError::NotYetValid,
        Tls::NotValidForName | Tls::NotValidForNameContext { .. } => CertificateError::NameMismatch,
        other => CertificateError::Other(other.to_string()),
    })
}

/// Resolves a host name to at most [`MAX_ADDRESSES`] addresses.
pub async fn resolve(
    host: &str,
    port: u16,
    until: Instant,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match timeout_at(until, lookup_host((host, port))).await {
        Err(_) => Err(ConnectError::Timeout),
        Ok(Err(_)) => Err(ConnectError::Dns),
        Ok(Ok(addresses)) => {
            let addresses: Vec<_> = addresses.take(MAX_ADDRESSES).collect();
            if addresses.is_empty() { Err(ConnectError::Dns) } else { Ok(addresses) }
        }
    }
}

/// Connects to the first address that accepts the connection.
pub async fn connect(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, ConnectError> {
    let mut last = ConnectError::Dns;
    for address in addresses {
        match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Err(_) => return Err(ConnectError::Timeout),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                last = ConnectError::Refused;
            }
            Ok(Err(error)) => last = ConnectError::Io(error.kind().to_string()),
        }
    }
    Err(last)
}

// === impl ProxyError ===

impl ProxyError {
    /// Cause and remedy in one sentence, for logs and error messages.
    pub fn advice(&self, proxy: &str) -> String {
        format!("the proxy {proxy} {self}; {}", self.remedy())
    }

    /// Remedy, for operators.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Dns => "check the host in the URL of the proxy, and the DNS configuration",
            Self::Refused => "start the proxy, or correct the port in its URL",
            Self::Timeout => {
                "check whether the proxy is overloaded or cannot reach the host, and whether a \
                 firewall drops the connection"
            }
            Self::CredentialsRequired => {
                "store username and password of the proxy in Vault, and set \
                 egress.credentials_secret"
            }
            Self::AnonymousRejected => {
                "list Vault's host in egress.no_proxy, or let the proxy open connections to it \
                 without credentials: the credentials are in Vault"
            }
            Self::CredentialsRejected => {
                "correct username and password in the secret of egress.credentials_secret"
            }
            Self::NoCredentials => {
                "store username and password in the secret of egress.credentials_secret, and allow \
                 leadsd to read it"
            }
            Self::Rejected | Self::Status(_) => {
                "allow connections to this host and port in the proxy, or list the host in \
                 egress.no_proxy"
            }
            Self::InvalidResponse => "check that the URL of the proxy names an HTTP proxy",
            Self::Closed => {
                "check the log of the proxy; an https proxy needs a URL that begins with https"
            }
            Self::Certificate(_) => "add the CA of the proxy's certificate to egress.ca_files",
            Self::Io(_) => "check the URL of the proxy, and the log of the proxy",
        }
    }
}

impl From<ConnectError> for ProxyError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Dns => Self::Dns,
            ConnectError::Refused => Self::Refused,
            ConnectError::Timeout => Self::Timeout,
            ConnectError::Certificate(error) => Self::Certificate(error),
            ConnectError::Tls(text) => Self::Io(format!("TLS failed: {text}")),
            ConnectError::Io(text) => Self::Io(text),
            ConnectError::Proxy { cause, .. } => cause,
        }
    }
}

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

/// Classifies the root cause of a request that got no response.
pub fn cause(error: &reqwest::Error) -> ConnectError {
    let mut cause: &(dyn StdError + 'static) = error;
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
    if error.is_timeout() { ConnectError::Timeout } else { ConnectError::Io(cause.to_string()) }
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
    use rustls::CertificateError as Tls;
    let rustls::Error::InvalidCertificate(cause) = error else {
        return ConnectError::Tls(error.to_string());
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
pub async fn connect(addresses: &[SocketAddr], until: Instant) -> Result<SocketAddr, ConnectError> {
    let mut last = ConnectError::Dns;
    for address in addresses {
        match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(*address),
            Err(_) => return Err(ConnectError::Timeout),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                last = ConnectError::Refused;
            }
            Ok(Err(error)) => last = ConnectError::Io(error.kind().to_string()),
        }
    }
    Err(last)
}

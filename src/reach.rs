//! Why a peer cannot be reached, told apart as far as it changes what to do: the name, the port, the
//! certificate. For operators; nothing of what was sent is in it.

use std::{error::Error as StdError, io, net::SocketAddr};

use rustls::CertificateError;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

/// Most addresses of a name that are looked at.
const MAX_ADDRESSES: usize = 16;

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// The name has no address.
    #[error("cannot be reached: the name has no address")]
    Name,
    /// Nobody listens on the port.
    #[error("cannot be reached: the connection is refused")]
    Refused,
    /// No answer came in time.
    #[error("did not answer in time")]
    Silent,
    /// Its certificate is not accepted.
    #[error("cannot be reached: its certificate {0}")]
    Certificate(Distrust),
    /// TLS failed for another reason, such as a peer that speaks none.
    #[error("cannot be reached: TLS failed: {0}")]
    Tls(String),
    /// The connection broke.
    #[error("cannot be reached: {0}")]
    Broken(String),
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// It is signed by nobody who is trusted.
    #[error("is signed by an authority that is not trusted")]
    Authority,
    /// Its time is over.
    #[error("has expired")]
    Expired,
    /// Its time has not come.
    #[error("is not valid yet")]
    Early,
    /// It is for another name.
    #[error("is for another name")]
    Name,
    /// Anything else.
    #[error("is not accepted: {0}")]
    Other(String),
}

/// Looks for the cause of a request that got no answer.
pub fn cause(error: &reqwest::Error) -> Unreached {
    let mut cause: &(dyn StdError + 'static) = error;
    loop {
        if let Some(tls) = tls_in(cause) {
            return of_tls(tls);
        }
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionRefused
        {
            return Unreached::Refused;
        }
        if cause.to_string().starts_with("dns error") {
            return Unreached::Name;
        }
        let Some(next) = cause.source() else { break };
        cause = next;
    }
    if error.is_timeout() { Unreached::Silent } else { Unreached::Broken(cause.to_string()) }
}

/// The TLS error in an error; I/O errors hide what they carry from `source`, one inside the other.
fn tls_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(io) = error.downcast_ref::<io::Error>() {
        let inner: &(dyn StdError + 'static) = io.get_ref()?;
        return tls_in(inner);
    }
    error.downcast_ref()
}

fn of_tls(error: &rustls::Error) -> Unreached {
    let rustls::Error::InvalidCertificate(fault) = error else {
        return Unreached::Tls(error.to_string());
    };
    Unreached::Certificate(match fault {
        CertificateError::UnknownIssuer => Distrust::Authority,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Distrust::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Distrust::Early
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Distrust::Name
        }
        other => Distrust::Other(other.to_string()),
    })
}

/// The addresses of a name.
pub async fn resolve(host: &str, port: u16, until: Instant) -> Result<Vec<SocketAddr>, Unreached> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match timeout_at(until, lookup_host((host, port))).await {
        Err(_) => Err(Unreached::Silent),
        Ok(Err(_)) => Err(Unreached::Name),
        Ok(Ok(addresses)) => {
            let addresses: Vec<_> = addresses.take(MAX_ADDRESSES).collect();
            if addresses.is_empty() { Err(Unreached::Name) } else { Ok(addresses) }
        }
    }
}

/// Connects to the first address that takes it.
pub async fn connect(addresses: &[SocketAddr], until: Instant) -> Result<SocketAddr, Unreached> {
    let mut last = Unreached::Name;
    for address in addresses {
        match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(*address),
            Err(_) => return Err(Unreached::Silent),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                last = Unreached::Refused;
            }
            Ok(Err(error)) => last = Unreached::Broken(error.kind().to_string()),
        }
    }
    Err(last)
}

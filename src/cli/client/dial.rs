//! Connection to a service: name, TCP, TLS and HTTP/2, all before one deadline.
//!
//! tonic's channel reconnects, balances, and answers a deadline with CANCELLED. A command makes one call
//! over one connection, and wants the exact cause of a failure.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use leadsd_base::{
    file_error,
    net::{
        connect_error::{ConnectError, connect, resolve, root_cause},
        trust::{CaError, CaSource, Trust},
    },
    task::{self, Task},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use super::{
    channel::Channel,
    target::{Place, Target, TargetTls},
};

/// Maximum time for one address of a name while others remain.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// Interval of pings while a call waits, and the time after which a silent connection is broken.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum time for telling the service that a call was cancelled.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(250);

/// Maximum size of response headers in bytes; errors have up to 8 KiB of details.
const MAX_HEADERS: u32 = 64 << 10;

/// HTTP/2 connection.
#[derive(Debug)]
pub(in crate::cli) struct Connection {
    requests: http2::SendRequest<Body>,
    driver: Task,
}

/// Error of a connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum DialError {
    /// A file of the command line or profile is invalid.
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error("cannot load {}: {what}", file.display())]
    File { file: PathBuf, what: String },
    #[error("{0:?} is no host name that a certificate can have: use --server-name")]
    ServerName(String),
    /// The service cannot be reached.
    #[error("{address} {cause}")]
    Connect { address: String, cause: ConnectError },
}

// === impl Connection ===

impl Connection {
    /// Connects before `until`.
    pub(in crate::cli) async fn open(target: &Target, until: Instant) -> Result<Self, DialError> {
        let failed = |cause| DialError::Connect { address: target.address().to_owned(), cause };
        let tls = target.tls.as_ref().map(connector).transpose()?;
        let (host, port) = match &target.place {
            Place::Tcp { host, port, .. } => (host, *port),
            Place::Unix { path, .. } => {
                let socket = match timeout_at(until, UnixStream::connect(path)).await {
                    Ok(socket) => socket.map_err(|error| failed(socket_error(&error)))?,
                    Err(_) => return Err(failed(ConnectError::Timeout)),
                };
                return Self::secure(socket, tls, until).await.map_err(failed);
            }
        };
        let addresses = resolve(host, port, until).await.map_err(failed)?;
        let mut socket = Err(ConnectError::Dns);
        for (index, address) in addresses.iter().enumerate() {
            let is_last = index + 1 == addresses.len();
            let own = if is_last { until } else { until.min(Instant::now() + ADDRESS_TIMEOUT) };
            socket = connect(&[*address], own).await;
            if socket.is_ok() {
                break;
            }
        }
        let socket = socket.map_err(failed)?;
        // Without it a small request could wait; an error only costs time.
        let _ = socket.set_nodelay(true);
        Self::secure(socket, tls, until).await.map_err(failed)
    }

    /// Performs the handshakes of TLS, if there is a configuration for it, and of HTTP/2.
    async fn secure(
        socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        tls: Option<(TlsConnector, ServerName<'static>)>,
        until: Instant,
    ) -> Result<Self, ConnectError> {
        let Some((tls, name)) = tls else { return Self::handshake(socket, until).await };
        match timeout_at(until, tls.connect(name, socket)).await {
            Ok(Ok(stream)) => Self::handshake(stream, until).await,
            Ok(Err(error)) => Err(root_cause(&error)),
            Err(_) => Err(ConnectError::Timeout),
        }
    }

    async fn handshake(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        until: Instant,
    ) -> Result<Self, ConnectError> {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_header_list_size(MAX_HEADERS);
        let handshake = timeout_at(until, http2.handshake(TokioIo::new(io))).await;
        let (requests, connection) = match handshake {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => return Err(root_cause(&error)),
            Err(_) => return Err(ConnectError::Timeout),
        };
        let driver = task::spawn("client connection", "", async move {
            // The call that uses the connection reports its error.
            let _ = connection.await;
        });
        Ok(Self { requests, driver })
    }

    /// Transport of calls over this connection.
    pub(in crate::cli) fn channel(&self) -> Channel {
        Channel(self.requests.clone())
    }

    /// Closes the connection after its calls were dropped, so that the service learns of it.
    pub(in crate::cli) async fn close(self) {
        let Self { requests, driver } = self;
        drop(requests);
        // A peer that does not respond must not delay the exit.
        let _ = timeout(CLOSE_TIMEOUT, driver.ended()).await;
    }
}

/// Error of a Unix socket.
fn socket_error(error: &io::Error) -> ConnectError {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return ConnectError::Refused;
    }
    ConnectError::Io(file_error::describe(error))
}

/// TLS client, and the name that it verifies.
fn connector(tls: &TargetTls) -> Result<(TlsConnector, ServerName<'static>), DialError> {
    let name = ServerName::try_from(tls.server_name.clone())
        .map_err(|_| DialError::ServerName(tls.server_name.clone()))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| DialError::File { file: PathBuf::from("TLS"), what: error.to_string() })?;
    let builder = match &tls.ca_file {
        // Only the private CA: a public one has no business with an internal service.
        Some(file) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(CaSource::file("--ca-file", file).read()?);
            builder.with_root_certificates(roots)
        }
        None => {
            let public = Trust::load(Vec::new())?;
            builder.dangerous().with_custom_certificate_verifier(public)
        }
    };
    let mut config = match &tls.identity {
        Some((cert_file, key_file)) => {
            let invalid =
                |file: &PathBuf, what: String| DialError::File { file: file.clone(), what };
            let chain = CertificateDer::pem_file_iter(cert_file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| invalid(cert_file, error.to_string()))?;
            if chain.is_empty() {
                return Err(invalid(cert_file, "the file contains no certificate".to_owned()));
            }
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| invalid(key_file, error.to_string()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| invalid(key_file, error.to_string()))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok((TlsConnector::from(Arc::new(config)), name))
}

// === impl DialError ===

impl DialError {
    /// True if a file or name of the command line is the cause, so that nothing was sent.
    pub(in crate::cli) fn is_usage(&self) -> bool {
        match self {
            Self::Ca(_) | Self::File { .. } | Self::ServerName(_) => true,
            Self::Connect { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_over_a_connection_that_falls_silent_ends_after_a_ping() {
        // A stream has no deadline: only the ping finds that the peer is unreachable.
        let (near, _far) = duplex(64 << 10);
        let start = Instant::now();
        let mut connection =
            Connection::handshake(near, start + Duration::from_secs(1)).await.unwrap();
        let request = http::Request::post("http://leadsd/").body(Body::empty()).unwrap();
        let error = connection.requests.send_request(request).await.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        assert_eq!(start.elapsed().as_secs(), (PING_INTERVAL + PING_TIMEOUT).as_secs());
        connection.close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_delays_the_end_by_the_maximum_only() {
        let (near, _far) = duplex(1);
        let start = Instant::now();
        let handshake = Connection::handshake(near, start + Duration::from_secs(1)).await;
        match handshake {
            Ok(connection) => connection.close().await,
            Err(error) => assert_eq!(error, ConnectError::Timeout),
        }
        assert!(start.elapsed() <= Duration::from_secs(1) + CLOSE_TIMEOUT, "{:?}", start.elapsed());
    }
}

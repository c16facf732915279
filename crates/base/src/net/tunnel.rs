//! Opens connections by the egress policy, for clients other than those of [`super::http`]: the exporter
//! of spans, and the checks of `leadsd doctor`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use url::Url;

use super::{
    connect_error::{self, ConnectError, ProxyError},
    egress::{Egress, Proxy, Route},
    http::{Protocols, tls_config},
    trust::Trust,
};

/// Maximum size of the head of the proxy's response in bytes.
const MAX_HEAD: usize = 8 * 1024;

/// Maximum number of headers of that response.
const MAX_HEADERS: usize = 64;

/// Stream that TLS or a client can use.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Open connection, with TLS if the URL is `https`.
pub struct Connection(Box<dyn Io>);

/// Requests for which a proxy is asked for a tunnel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tunnel {
    /// Requests for an `https` URL. Plain `http` requests are sent to the proxy itself.
    ForHttps,
    /// All: HTTP/2 has no other form of request to a proxy.
    Always,
}

/// Opens a connection to the host of a URL, through the proxy if there is one for it. Without TLS: the
/// connection ends at the host, or for plain `http` at the proxy.
pub async fn open(egress: &Egress, url: &Url, until: Instant) -> Result<Connection, ConnectError> {
    open_with(egress, url, until, Tunnel::ForHttps).await
}

/// Opens a connection for gRPC: HTTP/2, over TLS if the URL is `https`.
pub async fn open_http2(
    egress: &Egress,
    trust: &Arc<Trust>,
    url: &Url,
    until: Instant,
) -> Result<Connection, ConnectError> {
    let connection = open_with(egress, url, until, Tunnel::Always).await?;
    if url.scheme() != "https" {
        return Ok(connection);
    }
    let host = url.host_str().unwrap_or_default();
    let handshake = handshake(connection, trust, host, Protocols::Http2);
    timeout_at(until, handshake).await.unwrap_or(Err(ConnectError::Timeout))
}

async fn open_with(
    egress: &Egress,
    url: &Url,
    until: Instant,
    tunnel: Tunnel,
) -> Result<Connection, ConnectError> {
    let proxy = match egress.route(url) {
        Route::Direct(_) => {
            let port = url.port_or_known_default().unwrap_or(443);
            return dial(url.host_str().unwrap_or_default(), port, until)
                .await
                .map(Connection::new);
        }
        Route::Proxy(proxy) => proxy,
    };
    let opening = async {
        let socket = dial_proxy(egress, &proxy, until).await?;
        if tunnel == Tunnel::Always || url.scheme() == "https" {
            connect(egress, socket, url).await
        } else {
            Ok(socket)
        }
    };
    let opened = timeout_at(until, opening).await.unwrap_or(Err(ProxyError::Timeout));
    opened.map_err(|cause| ConnectError::Proxy { proxy: proxy.authority(), cause })
}

/// Connects to the proxy, with TLS if its URL is `https`.
async fn dial_proxy(
    egress: &Egress,
    proxy: &Proxy,
    until: Instant,
) -> Result<Connection, ProxyError> {
    let socket = Connection::new(dial(proxy.host(), proxy.port(), until).await?);
    if proxy.url().scheme() != "https" {
        return Ok(socket);
    }
    let trust = Trust::load(egress.settings().ca_sources.clone());
    let trust = trust.map_err(|error| ProxyError::Io(error.to_string()))?;
    Ok(handshake(socket, &trust, proxy.host(), Protocols::Http1).await?)
}

async fn dial(host: &str, port: u16, until: Instant) -> Result<TcpStream, ConnectError> {
    let addresses = connect_error::resolve(host, port, until).await?;
    connect_error::connect(&addresses, until).await
}

async fn handshake(
    connection: Connection,
    trust: &Arc<Trust>,
    host: &str,
    protocols: Protocols,
) -> Result<Connection, ConnectError> {
    let config = tls_config(trust, None, protocols);
    let config = config.map_err(|error| ConnectError::Tls(error.to_string()))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host);
    let name = name.map_err(|_| ConnectError::Tls("invalid host name".to_owned()))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, connection).await;
    let stream = stream.map_err(|error| connect_error::root_cause(&error))?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    if protocols == Protocols::Http2 && !is_http2 {
        return Err(ConnectError::Tls("the server does not speak HTTP/2".to_owned()));
    }
    Ok(Connection::new(stream))
}

/// Asks the proxy for a tunnel to the host of a URL.
async fn connect(
    egress: &Egress,
    mut proxy: Connection,
    url: &Url,
) -> Result<Connection, ProxyError> {
    let broken = |error: std::io::Error| ProxyError::Io(error.kind().to_string());
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default());
    let target = format!("{host}:{}", port.unwrap_or(443));
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(credentials) = egress.credentials() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(credentials.header().as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    proxy.write_all(&request).await.map_err(broken)?;
    zeroize::Zeroize::zeroize(&mut request);
    let mut head = Vec::new();
    loop {
        // One byte at a time: what follows the head belongs to the tunnel.
        let Ok(byte) = proxy.read_u8().await else { return Err(ProxyError::Closed) };
        head.push(byte);
        if byte == b'\n'
            && let Some(status) = status(&head)?
        {
            return match status {
                200..=299 => Ok(proxy),
                407 => Err(egress.authentication_required()),
                status => Err(ProxyError::Status(status)),
            };
        }
        if head.len() >= MAX_HEAD {
            return Err(ProxyError::InvalidResponse);
        }
    }
}

/// Status of a response; `None` if its head is incomplete.
fn status(head: &[u8]) -> Result<Option<u16>, ProxyError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head) {
        Ok(httparse::Status::Complete(_)) => Ok(response.code),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(ProxyError::InvalidResponse),
    }
}

// === impl Connection ===

impl Connection {
    fn new(io: impl Io + 'static) -> Self {
        Self(Box::new(io))
    }

    /// Converts it to the stream of a hyper client.
    pub fn into_hyper(self) -> TokioIo<Self> {
        TokioIo::new(self)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;

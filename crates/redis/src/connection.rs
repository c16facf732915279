//! Connection to Redis whose responses are bounded. The crate's own connection buffers a response of any
//! size before it parses it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use leadsd_base::{
    secret::Secret,
    task::{self, Task},
};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisConnectionInfo, RedisError,
    aio::MultiplexedConnection,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Timeout for a connection and for a response.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(200);

/// Maximum size in bytes of the response to one script. That to INFO has some KiB.
pub const MAX_RESPONSE: usize = 64 * 1024;

/// Maximum of unused bytes, however many requests had small responses.
const MAX_ALLOWANCE: usize = 1 << 20;

/// Maximum length in characters of an error text of the server.
const MAX_TEXT: usize = 200;

/// Redis cannot be reached or its response is invalid, with the cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RedisUnavailable(pub String);

/// An open connection. Clones share it; it is closed with the last one.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) redis: MultiplexedConnection,
    allowance: Arc<Allowance>,
    credential: Credential,
    _driver: Arc<Task>,
}

/// Password of the URL, which no error text may repeat.
#[derive(Clone, Default)]
pub(crate) struct Credential(Option<Secret>);

/// Bytes that the server may still send.
#[derive(Debug)]
struct Allowance(AtomicUsize);

/// Stream that ends with an error once the allowance is used up.
struct BoundedStream<S> {
    stream: S,
    allowance: Arc<Allowance>,
}

/// Connects and authenticates. `roots` are the CAs of the server; `None` uses the CAs of the machine.
#[expect(clippy::wildcard_enum_match_arm, reason = "other addresses are not supported alike")]
pub(crate) async fn connect(
    info: &ConnectionInfo,
    roots: Option<&[u8]>,
) -> Result<Connection, RedisUnavailable> {
    let failed = |error: io::Error| RedisUnavailable(error.to_string());
    let settings = info.redis_settings();
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => {
            open(settings, tcp(host, *port).await.map_err(failed)?).await
        }
        ConnectionAddr::TcpTls { host, port, insecure: false, .. } => {
            let name = ServerName::try_from(host.clone());
            let name = name.map_err(|error| RedisUnavailable(error.to_string()))?;
            let connector = TlsConnector::from(Arc::new(tls(roots)?));
            let socket = tcp(host, *port).await.map_err(failed)?;
            open(settings, connector.connect(name, socket).await.map_err(failed)?).await
        }
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            Err(RedisUnavailable("#insecure is not supported; set quota.shared.ca_file".to_owned()))
        }
        _ => Err(RedisUnavailable("the URL must start with redis:// or rediss://".to_owned())),
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let socket = TcpStream::connect((host, port)).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn tls(roots: Option<&[u8]>) -> Result<ClientConfig, RedisUnavailable> {
    let failed = |error: rustls::Error| RedisUnavailable(error.to_string());
    let mut store = RootCertStore::empty();
    match roots {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let invalid =
                    |_| RedisUnavailable("quota.shared.ca_file is not a PEM file".to_owned());
                store.add(certificate.map_err(invalid)?).map_err(failed)?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    Ok(config.with_root_certificates(store).with_no_client_auth())
}

/// Authenticates on a connected stream, and starts the task that reads it.
async fn open<S>(settings: &RedisConnectionInfo, stream: S) -> Result<Connection, RedisUnavailable>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let allowance = Arc::new(Allowance(AtomicUsize::new(MAX_RESPONSE)));
    let stream = BoundedStream { stream, allowance: Arc::clone(&allowance) };
    let credential = Credential(settings.password().map(Secret::new));
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUT));
    let opened = MultiplexedConnection::new_with_config(settings, stream, config).await;
    let (redis, driver) = opened.map_err(|error| credential.unavailable(&error))?;
    let driver = Arc::new(task::spawn("redis connection", "", driver));
    Ok(Connection { redis, allowance, credential, _driver: driver })
}

// === impl Connection ===

impl Connection {
    /// Allows the response to one more request.
    pub(crate) fn allow_response(&self) {
        self.allowance.grow();
    }

    /// Kind and text of an error.
    pub(crate) fn unavailable(&self, error: &RedisError) -> RedisUnavailable {
        self.credential.unavailable(error)
    }
}

// === impl Credential ===

impl Credential {
    /// Kind and text of an error, without the password: a server that does not know AUTH quotes its
    /// arguments.
    fn unavailable(&self, error: &RedisError) -> RedisUnavailable {
        let text = error.to_string();
        let text = match &self.0 {
            Some(password) if !password.is_empty() => text.replace(password.expose(), "[redacted]"),
            Some(_) | None => text,
        };
        RedisUnavailable(text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect())
    }
}

// === impl Allowance ===

impl Allowance {
    fn grow(&self) {
        let more = |left: usize| Some((left + MAX_RESPONSE).min(MAX_ALLOWANCE));
        // The closure always returns a value.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes bytes that have arrived; false if they exceed what is left.
    fn spend(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

// === impl BoundedStream ===

impl<S: AsyncRead + Unpin> AsyncRead for BoundedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let fits = self.allowance.spend(buf.filled().len() - before);
        let too_large = || io::Error::other("the response exceeds its maximum size");
        Poll::Ready(if fits { Ok(()) } else { Err(too_large()) })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BoundedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;

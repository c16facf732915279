//! Reads the HTTP/2 connection preface. Other clients are rejected; HTTP/1 clients get a response that
//! they understand.
//!
//! hyper-util's protocol detection (`server::conn::auto`) does not fit:
//! - It is a state inside the connection future, so no timeout can cover exactly TLS handshake and
//!   preface, and it has no timeout itself.
//! - It treats garbage as HTTP/1 and responds with 400.
//! - Restricted to HTTP/2, it does not inspect the first bytes: a browser gets a binary GOAWAY, and the
//!   connection counts as served.
//! - The detector (`ReadVersion`) is private.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::timeout,
};

use super::delegate_writes::delegate_writes;

/// Client connection preface (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// First bytes of HTTP/1 requests.
const HTTP1_METHODS: [&[u8]; 9] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"PATCH ",
    b"DELETE ",
    b"OPTIONS ",
    b"TRACE ",
    b"CONNECT ",
];

/// Response for HTTP/1 clients, such as browsers.
const HTTP1_RESPONSE: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    content-type: text/plain\r\ncontent-length: 88\r\nconnection: close\r\n\r\n\
    This port speaks gRPC over HTTP/2. Health and metrics over HTTP are on the admin port.\r\n";

/// Timeout for reading the rest of an HTTP/1 request. Closing a socket with unread data would reset the
/// connection, and the client would lose the response.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum number of bytes to read of the rest of an HTTP/1 request.
const DISCARD_BYTES: u64 = 64 * 1024;

/// Error of a connection before its HTTP/2 handshake completes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The connection failed or was closed.
    #[error("the connection ended before the preface: {0}")]
    Io(#[from] io::Error),
    /// The TLS handshake failed, or the client certificate is not trusted.
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    /// The TLS handshake or the preface timed out.
    #[error("the handshake timed out")]
    Timeout,
    /// The client speaks HTTP/1.
    #[error("the client speaks HTTP/1")]
    Http1,
    /// The client speaks another protocol.
    #[error("the client does not speak HTTP/2")]
    NotHttp2,
}

/// Connection whose preface was read; replays it to the HTTP/2 implementation.
#[derive(Debug)]
pub(crate) struct PrefacedIo<IO> {
    io: IO,
    /// Number of replayed bytes of the preface.
    at: usize,
}

/// Reads the preface. The caller applies the timeout.
pub(crate) async fn read<IO>(mut io: IO) -> Result<PrefacedIo<IO>, Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = [0; PREFACE.len()];
    let mut len = 0;
    while len < buffer.len() {
        match io.read(&mut buffer[len..]).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            read => len += read,
        }
        let received = &buffer[..len];
        if PREFACE.starts_with(received) {
            continue;
        }
        if HTTP1_METHODS.iter().any(|method| received.starts_with(method)) {
            reject_http1(io).await;
            return Err(Error::Http1);
        }
        if !HTTP1_METHODS.iter().any(|method| method.starts_with(received)) {
            return Err(Error::NotHttp2);
        }
    }
    Ok(PrefacedIo { io, at: 0 })
}

/// Sends the response to an HTTP/1 client and discards the rest of its request.
async fn reject_http1<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) {
    let respond = async {
        io.write_all(HTTP1_RESPONSE).await?;
        io.shutdown().await?;
        let mut rest = io.take(DISCARD_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // The connection is rejected even if the client has not read the response.
    let _ = timeout(DISCARD_TIMEOUT, respond).await;
}

// === impl PrefacedIo ===

impl<IO: AsyncRead + Unpin> AsyncRead for PrefacedIo<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at == PREFACE.len() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let more = (PREFACE.len() - self.at).min(buffer.remaining());
        buffer.put_slice(&PREFACE[self.at..self.at + more]);
        self.at += more;
        Poll::Ready(Ok(()))
    }
}

// Not vectored until the preface has been replayed; later writes are.
//
// At that time, h2 chooses up to which size it copies DATA into its write buffer: 256 bytes if writes are
// vectored, 1,024 if not. DATA that is not copied is written before the next frame. The trailers of small
// responses would then need a second system call and TLS record.
delegate_writes!(PrefacedIo, |wrapper| {
    wrapper.at == PREFACE.len() && wrapper.io.is_write_vectored()
});

#[cfg(test)]
mod tests;

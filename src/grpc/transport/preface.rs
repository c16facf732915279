//! The first bytes of a connection. An HTTP/2 client sends a fixed preface; anything else is rejected
//! here, and HTTP/1 clients get a response that they understand.
//!
//! hyper-util's protocol detection (`server::conn::auto`) does not serve for this. It is not a step of
//! its own but a state inside the connection future, so no timeout can cover the TLS handshake and the
//! preface together and end there, and it has none itself. It knows two outcomes, HTTP/2 and HTTP/1:
//! garbage is served by the HTTP/1 parser and gets a 400. With HTTP/2 alone it does not look at the
//! first bytes, and h2 answers a browser with a binary GOAWAY after the connection was counted as
//! served. The detector itself (`ReadVersion`) is private.

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

/// The client connection preface (RFC 9113, section 3.4).
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

/// Time and bytes for which the rest of an HTTP/1 request is read, so that the response is not lost: a
/// socket that is closed with unread data resets the connection.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
const DISCARD_BYTES: u64 = 64 * 1024;

/// Why a connection is rejected before its HTTP/2 handshake completes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The connection failed or was closed.
    #[error("the connection ended before the preface: {0}")]
    Io(#[from] io::Error),
    /// The TLS handshake failed, or the client certificate is not trusted.
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    /// The handshake or the preface did not come in time.
    #[error("the handshake timed out")]
    Timeout,
    /// The client speaks HTTP/1.
    #[error("the client speaks HTTP/1")]
    Http1,
    /// The client speaks something else.
    #[error("the client does not speak HTTP/2")]
    NotHttp2,
}

/// A connection whose preface has been read. It is replayed to the HTTP/2 implementation.
#[derive(Debug)]
pub(crate) struct PrefacedIo<IO> {
    io: IO,
    /// Bytes of the preface that have been replayed.
    at: usize,
}

/// Reads the preface. The caller bounds the time.
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

/// Sends the response for HTTP/1 and waits a moment for the client to read it.
async fn reject_http1<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) {
    let respond = async {
        io.write_all(HTTP1_RESPONSE).await?;
        io.shutdown().await?;
        let mut rest = io.take(DISCARD_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // The connection is rejected whether or not the client has read the response.
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

impl<IO: AsyncWrite + Unpin> AsyncWrite for PrefacedIo<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    /// Returns false until the preface has been replayed: that is when h2 chooses how much DATA it
    /// copies into its write buffer, up to 256 bytes if writes are vectored and up to 1,024 if not.
    /// DATA that is not copied must be written before another frame follows. The trailers of every
    /// response of a few hundred bytes would take a second system call, and a second TLS record.
    /// Later writes are vectored.
    fn is_write_vectored(&self) -> bool {
        self.at == PREFACE.len() && self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;

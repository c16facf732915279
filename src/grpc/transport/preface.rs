//! The first bytes of a connection: whoever speaks HTTP/2 says so with a fixed text. It is read here,
//! in a bounded time, and whoever says something else gets an answer where it would understand one.

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

/// What HTTP/2 begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How the requests of HTTP/1 begin.
const METHODS: [&[u8]; 9] = [
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

/// For those who come with HTTP/1, such as a browser.
const ANSWER: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    content-type: text/plain\r\ncontent-length: 88\r\nconnection: close\r\n\r\n\
    This port speaks gRPC over HTTP/2. Health and metrics over HTTP are on the admin port.\r\n";

/// How long, and how much, to read on so that the answer is not lost with the connection.
const READ_ON: Duration = Duration::from_secs(1);
const READ_ON_BYTES: usize = 64 * 1024;

/// Why a connection is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It ended, or it broke.
    #[error("it ended before it began: {0}")]
    Io(#[from] io::Error),
    /// There is no agreement about TLS, or the caller's certificate is not trusted.
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    /// It did not say in time what it speaks.
    #[error("nothing came in time")]
    Late,
    /// It speaks HTTP/1.
    #[error("the caller speaks HTTP/1")]
    Http1,
    /// It speaks something else.
    #[error("the caller does not speak HTTP/2")]
    Foreign,
}

/// A connection that has begun with the preface, which is read again first.
#[derive(Debug)]
pub(crate) struct PrefacedIo<IO> {
    io: IO,
    /// How much of the preface was read again.
    at: usize,
}

/// Waits for the preface.
pub(crate) async fn read<IO>(mut io: IO) -> Result<PrefacedIo<IO>, Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut first = [0; PREFACE.len()];
    let mut got = 0;
    while got < first.len() {
        match io.read(&mut first[got..]).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            more => got += more,
        }
        let said = &first[..got];
        if PREFACE.starts_with(said) {
            continue;
        }
        let is_method = |method: &&[u8]| said.starts_with(method);
        if METHODS.iter().any(is_method) {
            refuse(io).await;
            return Err(Error::Http1);
        }
        let may_become = |method: &&[u8]| method.starts_with(said);
        if !METHODS.iter().any(may_become) {
            return Err(Error::Foreign);
        }
    }
    Ok(PrefacedIo { io, at: 0 })
}

/// Answers and waits a moment for the caller to take it: to close a socket with bytes unread resets
/// the connection, and the answer with it.
async fn refuse<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) {
    let told = async {
        io.write_all(ANSWER).await?;
        io.shutdown().await?;
        let mut rest = io.take(READ_ON_BYTES as u64);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Whether it was heard makes no difference.
    let _ = timeout(READ_ON, told).await;
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
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use http::{HeaderMap, Request, Response};
    use http_body_util::{BodyExt as _, Empty, Full};
    use hyper::{
        body::{Body, Bytes, Incoming},
        client, server,
        service::service_fn,
    };
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{io::DuplexStream, task::JoinSet};

    use super::*;

    /// Vectored I/O that counts its writes.
    struct CountedWrites {
        io: DuplexStream,
        writes: Arc<AtomicUsize>,
    }

    impl AsyncRead for CountedWrites {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for CountedWrites {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes.fetch_add(1, Ordering::Relaxed);
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
            self.writes.fetch_add(1, Ordering::Relaxed);
            let bytes = pieces.iter().flat_map(|piece| piece.iter().copied());
            Pin::new(&mut self.io).poll_write(cx, &bytes.collect::<Vec<u8>>())
        }

        fn is_write_vectored(&self) -> bool {
            true
        }
    }

    /// Serves responses of the size that the request's path names, with trailers.
    async fn respond(
        request: Request<Incoming>,
    ) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
        let size = request.uri().path().trim_start_matches('/').parse().unwrap();
        let trailers = async { Some(Ok(HeaderMap::new())) };
        Ok(Response::new(Full::new(Bytes::from(vec![b'x'; size])).with_trailers(trailers)))
    }

    /// Counts the writes of a response of this size on a connection that has served one before.
    async fn writes_of_response(size: usize) -> usize {
        let writes = Arc::new(AtomicUsize::new(0));
        let (client, server) = tokio::io::duplex(64 * 1024);
        let counted = CountedWrites { io: server, writes: Arc::clone(&writes) };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let io = TokioIo::new(read(counted).await.unwrap());
            let http2 = server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = http2.serve_connection(io, service_fn(respond)).await;
        });
        let handshake = client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client));
        let (mut sender, connection) = handshake.await.unwrap();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        let mut before = 0;
        for _ in 0..2 {
            before = writes.load(Ordering::Relaxed);
            let uri = format!("http://localhost/{size}");
            let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), size);
        }
        writes.load(Ordering::Relaxed) - before
    }

    #[tokio::test]
    async fn a_small_response_and_its_trailers_take_one_write() {
        assert_eq!(writes_of_response(100).await, 1);
        assert_eq!(writes_of_response(1_000).await, 1);
        // DATA of this size is not copied, so the trailers follow in a write of their own.
        assert_eq!(writes_of_response(8_000).await, 2);
    }

    #[tokio::test]
    async fn the_preface_is_read_again_and_what_follows_with_it() {
        let (mut caller, ours) = tokio::io::duplex(64);
        let write = async {
            for byte in PREFACE.iter().chain(b"rest") {
                caller.write_all(&[*byte]).await.unwrap();
            }
            drop(caller);
        };
        let read = async {
            let mut all = Vec::new();
            read(ours).await.unwrap().read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), all) = tokio::join!(write, read);
        assert_eq!(all, [&PREFACE[..], b"rest"].concat());
    }

    #[tokio::test]
    async fn whoever_speaks_http1_is_told_and_nobody_else() {
        let (mut caller, ours) = tokio::io::duplex(1024);
        caller.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
        let listen = async {
            let mut answer = Vec::new();
            let mut end = [0; 256];
            while let Ok(read @ 1..) = caller.read(&mut end).await {
                answer.extend_from_slice(&end[..read]);
            }
            drop(caller);
            answer
        };
        let (refused, answer) = tokio::join!(read(ours), listen);
        assert!(matches!(refused, Err(Error::Http1)), "{refused:?}");
        assert_eq!(answer, ANSWER);
        let body = ANSWER.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let length = format!("content-length: {}\r\n", ANSWER.len() - body);
        assert!(String::from_utf8_lossy(ANSWER).contains(&length), "{length}");

        for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"PRI * HTTP/2.1", b"PX", b"\0"] {
            let (mut caller, ours) = tokio::io::duplex(64);
            caller.write_all(garbage).await.unwrap();
            let refused = read(ours).await;
            assert!(matches!(refused, Err(Error::Foreign)), "{garbage:?}: {refused:?}");
        }
        let (caller, ours) = tokio::io::duplex(64);
        drop(caller);
        assert!(matches!(read(ours).await, Err(Error::Io(_))));
    }
}

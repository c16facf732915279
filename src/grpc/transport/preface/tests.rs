//! Preface of a connection, over an in-memory pipe.

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

/// Vectored I/O with a counter of writes.
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

/// Responds with a body of the size in the request path, and with trailers.
async fn respond(
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let size = request.uri().path().trim_start_matches('/').parse().unwrap();
    let trailers = async { Some(Ok(HeaderMap::new())) };
    Ok(Response::new(Full::new(Bytes::from(vec![b'x'; size])).with_trailers(trailers)))
}

/// Counts the writes of a response of this size on an established connection.
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
    // DATA of this size is not copied, so the trailers need a separate write.
    assert_eq!(writes_of_response(8_000).await, 2);
}

#[tokio::test]
async fn the_preface_is_replayed_before_later_data() {
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
async fn http1_clients_get_a_response_and_others_none() {
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
    assert_eq!(answer, HTTP1_RESPONSE);
    let body = HTTP1_RESPONSE.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let length = format!("content-length: {}\r\n", HTTP1_RESPONSE.len() - body);
    assert!(String::from_utf8_lossy(HTTP1_RESPONSE).contains(&length), "{length}");

    for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"PRI * HTTP/2.1", b"PX", b"\0"] {
        let (mut caller, ours) = tokio::io::duplex(64);
        caller.write_all(garbage).await.unwrap();
        let refused = read(ours).await;
        assert!(matches!(refused, Err(Error::NotHttp2)), "{garbage:?}: {refused:?}");
    }
    let (caller, ours) = tokio::io::duplex(64);
    drop(caller);
    assert!(matches!(read(ours).await, Err(Error::Io(_))));
}

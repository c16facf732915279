//! Connection that ends with a GOAWAY frame with ENHANCE_YOUR_CALM.
//!
//! hyper closes a connection with NO_ERROR or without a frame. A client that exceeds a limit must not connect
//! again at once, so the last frame that it gets names the reason. If HTTP/2 has written a part of a frame,
//! the client sees a broken connection instead.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::delegate_writes::delegate_writes;

/// GOAWAY with ENHANCE_YOUR_CALM, by RFC 9113. All streams may have been processed, so none is safe to
/// repeat.
const ENHANCE_YOUR_CALM: [u8; 17] =
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// Connection that sends the GOAWAY when it is dropped, if the flag is set.
#[derive(Debug)]
pub(crate) struct GoAwayOnDrop<IO: AsyncWrite + Unpin> {
    io: IO,
    sends_goaway: Arc<AtomicBool>,
}

// === impl GoAwayOnDrop ===

impl<IO: AsyncWrite + Unpin> GoAwayOnDrop<IO> {
    /// Wraps a connection. Returns the flag, which is false: without it, HTTP/2 alone closes the connection.
    pub(crate) fn new(io: IO) -> (Self, Arc<AtomicBool>) {
        let sends_goaway = Arc::<AtomicBool>::default();
        (Self { io, sends_goaway: Arc::clone(&sends_goaway) }, sends_goaway)
    }
}

impl<IO: AsyncWrite + Unpin> Drop for GoAwayOnDrop<IO> {
    fn drop(&mut self) {
        if !self.sends_goaway.load(Ordering::Relaxed) {
            return;
        }
        // Does not wait: a client that does not read gets no frame.
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(_)) = Pin::new(&mut self.io).poll_write(&mut cx, &ENHANCE_YOUR_CALM) {
            let _ = Pin::new(&mut self.io).poll_flush(&mut cx);
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for GoAwayOnDrop<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

delegate_writes!(GoAwayOnDrop, |wrapper| wrapper.io.is_write_vectored());

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_goaway_is_sent_only_if_the_flag_is_set() {
        for sends_goaway in [true, false] {
            let (mut client, server) = tokio::io::duplex(64);
            let (connection, flag) = GoAwayOnDrop::new(server);
            flag.store(sends_goaway, Ordering::Relaxed);
            drop(connection);
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, if sends_goaway { &ENHANCE_YOUR_CALM[..] } else { &[] });
        }
    }

    #[test]
    fn a_client_that_does_not_read_delays_nothing() {
        let (_client, server) = tokio::io::duplex(4);
        let (connection, flag) = GoAwayOnDrop::new(server);
        flag.store(true, Ordering::Relaxed);
        drop(connection);
    }
}

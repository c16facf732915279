//! Bounds the requests that a connection starts in one turn of the scheduler.
//!
//! HTTP/2 spawns a task for each request that it reads. A client that opens hundreds of streams at once
//! would put hundreds of tasks into the queue of the runtime, ahead of the calls of all other connections.
//! This reader returns a few requests, and then lets the other tasks run before it reads further ones.
//!
//! Bytes of a large frame are read as before: its rest is no request.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{authority::ValidAuthority, delegate_writes::delegate_writes};

/// Number of requests after which the turn of a connection ends. A call takes about ten microseconds
/// before it waits for HubSpot, so that a turn takes less than a tenth of a millisecond.
const REQUESTS: usize = 4;

/// Number of bytes that are read at once, beside the rest of the current frame: about four requests with a
/// small message, at most fifteen without one.
const READ: usize = 256;

/// Connection that reads a few requests in each turn.
#[derive(Debug)]
pub(super) struct RequestTurns<IO> {
    io: ValidAuthority<IO>,
    /// Number of requests before the current turn.
    before: usize,
}

// === impl RequestTurns ===

impl<IO> RequestTurns<IO> {
    /// Wraps a connection from which nothing was read.
    pub(super) fn new(io: ValidAuthority<IO>) -> Self {
        Self { io, before: 0 }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for RequestTurns<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let requests = self.io.requests();
        if requests - self.before >= REQUESTS {
            self.before = requests;
            // The task of the connection is queued behind all others.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let size = (READ + self.io.rest_of_frame()).min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(size));
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut part);
        let read = part.filled().len();
        buffer.advance(read);
        if polled.is_pending() {
            self.before = requests;
        }
        polled
    }
}

delegate_writes!(RequestTurns, |wrapper| wrapper.io.is_write_vectored());

#[cfg(test)]
mod tests;

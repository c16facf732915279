//! Request body that is read to its end before the call takes a slot. A client that sends headers and no
//! message, or does not end its request, thus holds no slot of the calls in flight.
//!
//! The body of a call is read at once, so data that HTTP/2 has received is charged to its call and does
//! not stay in the buffers of HTTP/2.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::FutureExt as _;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::timeout;

use super::admission::CallGuard;
use crate::leads::{Error, Reason};

/// Maximum time between two parts of the request. A client that has the message sends the next part as
/// soon as the window permits.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time that is added to [`MESSAGE_TIMEOUT`], at random. Calls that a client opened together do not
/// end together, which would delay the calls of other clients.
const MESSAGE_TIMEOUT_JITTER: Duration = Duration::from_secs(1);

/// Prefetched body of a request with one message.
#[derive(Debug)]
pub(crate) struct PrefetchedBody<B: Body> {
    inner: B,
    /// Data of a message that arrived in one part, as most do.
    data: Bytes,
    /// Data of a message that arrived in parts. It is copied: many small parts would take more memory
    /// than is charged for their bytes.
    parts: Vec<u8>,
    /// Trailers or error after the data.
    last: Option<Result<Frame<Bytes>, B::Error>>,
    has_ended: bool,
}

// === impl PrefetchedBody ===

impl<B> PrefetchedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    pub(crate) fn new(inner: B) -> Self {
        Self { inner, data: Bytes::new(), parts: Vec::new(), last: None, has_ended: false }
    }

    /// Reads the request, then acquires a slot of the calls in flight for the call.
    pub(crate) async fn prefetch(&mut self, call: &CallGuard) -> Result<(), Error> {
        // Most requests arrive with their headers. Boxed, because those would carry the size.
        if poll_fn(|cx| self.poll_request(cx)).now_or_never().is_none() {
            Box::pin(self.receive(call)).await?;
        }
        call.start()
    }

    /// Waits for the rest of the request.
    async fn receive(&mut self, call: &CallGuard) -> Result<(), Error> {
        // Probes have a separate limit, and are served even if the memory limit is reached.
        let _waiting = if call.is_probe() { None } else { Some(call.wait()?) };
        loop {
            // Nothing is received of a compressed message before its end, but its parts are charged.
            let before = (self.received(), call.request_bytes());
            let limit = MESSAGE_TIMEOUT + MESSAGE_TIMEOUT_JITTER.mul_f64(rand::random());
            let request = timeout(limit, poll_fn(|cx| self.poll_request(cx))).await;
            match request {
                Ok(()) => return Ok(()),
                Err(_) if (self.received(), call.request_bytes()) != before => {}
                Err(_elapsed) => {
                    let text = format!(
                        "the request did not end: no data for {} s; send the message and the end of \
                         the stream with the call",
                        MESSAGE_TIMEOUT.as_secs()
                    );
                    return Err(Error::new(Reason::DeadlineExceeded, text));
                }
            }
        }
    }

    /// Completes when the body has ended.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let part = ready!(Pin::new(&mut self.inner).poll_frame(cx));
            let data = match part.map(|part| part.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => data,
                Some(Ok(Err(trailers))) => {
                    self.last = Some(Ok(trailers));
                    return Poll::Ready(());
                }
                Some(Err(error)) => {
                    self.last = Some(Err(error));
                    return Poll::Ready(());
                }
                None => {
                    self.has_ended = true;
                    return Poll::Ready(());
                }
            };
            self.add(data);
            if self.inner.is_end_stream() {
                self.has_ended = true;
                return Poll::Ready(());
            }
        }
    }

    fn add(&mut self, data: Bytes) {
        if self.received() == 0 {
            self.data = data;
            return;
        }
        self.parts.extend_from_slice(&std::mem::take(&mut self.data));
        self.parts.extend_from_slice(&data);
    }

    /// Number of prefetched bytes.
    fn received(&self) -> usize {
        self.data.len() + self.parts.len()
    }
}

impl<B> Body for PrefetchedBody<B>
where
    B: Body<Data = Bytes, Error: Unpin> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if !self.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.data)))));
        }
        if !self.parts.is_empty() {
            let parts = std::mem::take(&mut self.parts);
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(parts)))));
        }
        if let Some(last) = self.last.take() {
            self.has_ended = true;
            return Poll::Ready(Some(last));
        }
        if self.has_ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.received() == 0
            && self.last.is_none()
            && (self.has_ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.received() == 0 { self.inner.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests;

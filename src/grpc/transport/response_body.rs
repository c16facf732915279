//! The body of a response: followed to its real end, and handed to HTTP/2 in chunks, so that data a
//! slow client has not read stays here, where it is charged to the call and has a deadline.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderName};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::sync::watch;
use tonic::{Code, Status, body::Body};

use super::call_state::CallState;
use crate::grpc::status;

/// How a call ended: in the headers of a response without a body, else in its trailers.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Maximum number of bytes that are handed to HTTP/2 at a time, where they wait for the client as long
/// as the connection lives: one frame.
const CHUNK: usize = 16 * 1024;

/// Learns how a response ended. Dropped without a code if it was not sent to its end.
pub(crate) trait ResponseObserver: Send + Unpin + 'static {
    /// The call ended with this code.
    fn on_end(self, code: Code);
}

/// A response body that is observed by `O`.
pub(crate) struct ResponseBody<O> {
    inner: Body,
    /// The part of a large message that is not handed over yet.
    pending: Bytes,
    call: Arc<CallState>,
    /// `None` once the end is known.
    observer: Option<O>,
    /// For a stream that may go on for ever: ready when its connection starts to close.
    closing: Option<Closing>,
}

type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

// === impl ResponseBody ===

impl<O: ResponseObserver> ResponseBody<O> {
    /// A body without an end so far.
    pub(crate) fn new(inner: Body, call: Arc<CallState>, observer: O) -> Self {
        Self { inner, pending: Bytes::new(), call, observer: Some(observer), closing: None }
    }

    /// The body of a response that has ended with its headers.
    pub(crate) fn ended(inner: Body, call: Arc<CallState>) -> Self {
        Self { inner, pending: Bytes::new(), call, observer: None, closing: None }
    }

    /// Ends the body when the connection starts to close and there is nothing to send. A client that
    /// watches the health of a service would keep its connection open for ever.
    pub(crate) fn until(mut self, mut closing: watch::Receiver<bool>) -> Self {
        self.closing = Some(Box::pin(async move {
            // Errors if the connection does not exist any more.
            let _ = closing.wait_for(|closing| *closing).await;
        }));
        self
    }

    fn next_chunk(&mut self, mut data: Bytes) -> Frame<Bytes> {
        let was_pending = !self.pending.is_empty();
        self.pending = if data.len() > CHUNK { data.split_off(CHUNK) } else { Bytes::new() };
        if was_pending || !self.pending.is_empty() {
            self.call.guard.set_response_bytes(self.pending.len());
        }
        Frame::data(data)
    }

    fn end(&mut self, code: Code) {
        if let Some(observer) = self.observer.take() {
            observer.on_end(code);
        }
    }
}

impl<O: ResponseObserver> HttpBody for ResponseBody<O> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.pending.is_empty() {
            let pending = self.pending.clone();
            return Poll::Ready(Some(Ok(self.next_chunk(pending))));
        }
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            let Some(closing) = &mut self.closing else { return Poll::Pending };
            ready!(closing.as_mut().poll(cx));
            self.closing = None;
            self.inner = Body::empty();
            self.end(Code::Unavailable);
            return Poll::Ready(Some(Ok(Frame::trailers(status::closing()))));
        };
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => {
                self.end(status.code());
                return Poll::Ready(Some(Err(status)));
            }
            None => {
                self.end(Code::Ok);
                return Poll::Ready(None);
            }
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => self.next_chunk(data),
            Err(frame) => {
                let code = frame.trailers_ref().and_then(grpc_code).unwrap_or(Code::Unknown);
                self.end(code);
                frame
            }
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.pending.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.pending.is_empty() { self.inner.size_hint() } else { SizeHint::default() }
    }
}

/// The code in headers or trailers.
pub(crate) fn grpc_code(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get(GRPC_STATUS)?.as_bytes()))
}

#[cfg(test)]
mod tests;

//! Response body that records its end and passes data to HTTP/2 in chunks. Data that a slow client has
//! not read stays here, with a deadline.
//!
//! HTTP/2 keeps what it was passed until the client reads it, even after the body has ended, and a chunk
//! keeps the whole message in memory. The call keeps its slot and the charge of the message until HTTP/2
//! has dropped the last chunk. If that takes longer than the send deadline, the connection is closed
//! (`held_messages`).

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

use super::{call_state::CallState, framing::FrameTracker, held_messages::HeldPeriod};
use crate::grpc::status;

/// Header with the gRPC code: in the headers of a response without a body, else in the trailers.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Maximum number of bytes passed to HTTP/2 at a time: one frame. HTTP/2 holds them until the client reads
/// them or the connection ends.
const CHUNK: usize = 16 * 1024;

/// Maximum size in bytes of a message that is not charged while it is sent. Slots bound their number.
const UNCHARGED: usize = 1_024;

/// Observer of the end of a response. Dropped without a code if the response was not sent completely.
pub(crate) trait ResponseObserver: Send + Unpin + 'static {
    /// The call ended with this code.
    fn on_end(self, code: Code);
}

/// Response body with an observer.
pub(crate) struct ResponseBody<O> {
    inner: Body,
    /// Part of a large message that is not passed to HTTP/2 yet.
    pending: Bytes,
    /// Counts the messages.
    frames: FrameTracker,
    call: Arc<CallState>,
    /// `None` after the end.
    observer: Option<O>,
    /// For an open-ended stream: completes when its connection is closing.
    closing: Option<Closing>,
}

/// Message that is being sent. Its chunks share it, so it is dropped with the last one.
struct SentMessage {
    data: Bytes,
    charged: usize,
    /// `None` if there is no send deadline.
    held: Option<HeldPeriod>,
    call: Arc<CallState>,
}

type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

// === impl ResponseBody ===

impl<O: ResponseObserver> ResponseBody<O> {
    /// Wraps a body whose end is observed.
    pub(crate) fn new(inner: Body, call: Arc<CallState>, observer: O) -> Self {
        let frames = FrameTracker::default();
        Self { inner, pending: Bytes::new(), frames, call, observer: Some(observer), closing: None }
    }

    /// Wraps the body of a response that ended with its headers.
    pub(crate) fn ended(inner: Body, call: Arc<CallState>) -> Self {
        let frames = FrameTracker::default();
        Self { inner, pending: Bytes::new(), frames, call, observer: None, closing: None }
    }

    /// Ends the body when the connection is closing and no data is pending. Otherwise a client with a
    /// health watch would keep its connection open.
    pub(crate) fn until(mut self, mut closing: watch::Receiver<bool>) -> Self {
        self.closing = Some(Box::pin(async move {
            // An error means that the connection was dropped.
            let _ = closing.wait_for(|closing| *closing).await;
        }));
        self
    }

    /// Counts the messages that this data completes.
    fn count_messages(&mut self, data: &[u8]) {
        self.frames.add(data);
        self.call.messages.on_sent(self.frames.take_complete());
    }

    fn next_chunk(&mut self, mut data: Bytes) -> Frame<Bytes> {
        self.pending = if data.len() > CHUNK { data.split_off(CHUNK) } else { Bytes::new() };
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
            let pending = std::mem::take(&mut self.pending);
            return Poll::Ready(Some(Ok(self.next_chunk(pending))));
        }
        // HTTP/2 polls for more only if it has passed on what it got.
        self.call.send_deadline.end_message();
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
            Ok(data) => {
                self.count_messages(&data);
                let data = SentMessage::start(data, &self.call);
                self.next_chunk(data)
            }
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

// === impl SentMessage ===

impl SentMessage {
    /// Charges the data until the last part of it is dropped.
    fn start(data: Bytes, call: &Arc<CallState>) -> Bytes {
        let charged = if data.len() > UNCHARGED { data.len() } else { 0 };
        if charged > 0 {
            call.guard.start_sending(charged);
        }
        let started = call.send_deadline.start_message(call.started);
        let send_deadline = call.send_deadline.get();
        let held = send_deadline.and_then(|until| call.connection.held.add(started, until));
        Bytes::from_owner(Self { data, charged, held, call: Arc::clone(call) })
    }
}

impl AsRef<[u8]> for SentMessage {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for SentMessage {
    fn drop(&mut self) {
        if self.charged > 0 {
            self.call.guard.release_sent(self.charged);
        }
        if let Some(period) = self.held {
            self.call.connection.held.remove(period);
        }
    }
}

/// Code of the call in headers or trailers; `None` if there is none.
pub(crate) fn grpc_code(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get(GRPC_STATUS)?.as_bytes()))
}

#[cfg(test)]
mod tests;

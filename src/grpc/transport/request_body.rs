//! Request body that charges each message to its call while it arrives and while it is decompressed. This
//! bounds the memory for large, many or slow messages.

use std::{
    error::Error as StdError,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::HeaderMap;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tonic::Status;

use super::{
    call_state::CallState,
    decompress::{DecompressError, Encoding, MessageDecompressor},
    framing::FrameTracker,
};
use crate::leads::{Error, Reason};

/// Maximum size in bytes of the message of a health probe: a service name. It is not charged, since probes
/// are served even if the memory limit is reached.
const MAX_PROBE_MESSAGE: usize = 1_024;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Request body that charges its messages to the call.
#[derive(Debug)]
pub(crate) struct MeteredBody<B> {
    inner: B,
    call: Arc<CallState>,
    max_message: usize,
    frames: FrameTracker,
    /// `None` if messages are not compressed.
    decompressor: Option<MessageDecompressor>,
    /// Frame to return next.
    next: Option<Frame<Bytes>>,
}

// === impl MeteredBody ===

impl<B> MeteredBody<B> {
    pub(crate) fn new(
        inner: B,
        headers: &HeaderMap,
        call: Arc<CallState>,
        max_message: usize,
    ) -> Self {
        let max_message =
            if call.guard.is_probe() { max_message.min(MAX_PROBE_MESSAGE) } else { max_message };
        let decompressor = Encoding::from_headers(headers)
            .map(|encoding| MessageDecompressor::new(encoding, max_message));
        let frames = FrameTracker::default();
        Self { inner, call, max_message, frames, decompressor, next: None }
    }

    /// Charges the data and returns the data for the decoder.
    fn on_data(&mut self, data: Bytes) -> Result<Bytes, Status> {
        let Self { call, max_message, frames, decompressor, .. } = self;
        let is_charged = !call.guard.is_probe();
        if is_charged {
            call.reserve(frames.footprint(data.len()))?;
        }
        if let Err(length) = frames.add(&data, *max_message) {
            let text = format!(
                "the request message is too large ({length} bytes, limit {max_message} bytes); send \
                 fewer inputs per call"
            );
            return Err(too_large(call, text));
        }
        call.messages.on_received(frames.take_complete());
        let Some(decompressor) = decompressor else { return Ok(data) };
        let base = frames.footprint(0);
        let out = decompressor.add(&data, |bytes| match is_charged {
            true => call.reserve(base.saturating_add(bytes)),
            false => Ok(()),
        });
        let out = out.map_err(|error| match error {
            DecompressError::Rejected(status) => status,
            DecompressError::TooLarge => {
                let text = format!(
                    "the request message is too large after decompression (limit {max_message} \
                     bytes); send fewer inputs per call"
                );
                too_large(call, text)
            }
            DecompressError::Invalid(error) => {
                let text = format!(
                    "the request bytes are not a valid message: cannot decompress: {error}"
                );
                call.fail(Error::new(Reason::InvalidRequest, text))
            }
        })?;
        frames.on_decompressed(out.len());
        Ok(out)
    }

    /// Takes the data of an incomplete message, for which the decoder reports an error.
    fn take_incomplete(&mut self) -> Option<Frame<Bytes>> {
        self.decompressor.as_mut()?.take_incomplete().map(Frame::data)
    }
}

impl<B> Body for MeteredBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(frame) = self.next.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        loop {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                None if self.inner.is_end_stream() => {
                    return Poll::Ready(self.take_incomplete().map(Ok));
                }
                // The stream was reset; hyper ends such a body as if it were complete. Pending
                // suppresses a decode error of the incomplete message; the call is being dropped.
                None | Some(Err(_)) => return Poll::Pending,
            };
            match frame.into_data() {
                Ok(data) => {
                    let data = self.on_data(data)?;
                    // Without a complete message, decompression returns no data.
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Err(trailers) => {
                    let Some(incomplete) = self.take_incomplete() else {
                        return Poll::Ready(Some(Ok(trailers)));
                    };
                    self.next = Some(trailers);
                    return Poll::Ready(Some(Ok(incomplete)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && self.decompressor.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.decompressor.is_none() { self.inner.size_hint() } else { SizeHint::default() }
    }
}

fn too_large(call: &CallState, text: String) -> Status {
    call.guard.admission().on_message_too_large();
    call.fail(Error::new(Reason::RequestTooLarge, text))
}

#[cfg(test)]
mod tests;

//! Request body that charges each message to its call while it arrives and while it is decompressed. This
//! bounds the memory for large, many or slow messages.

use std::{
    error::Error as StdError,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tonic::Status;

use super::{
    call_state::CallState,
    decompress::{COMPRESSED, DecompressError, Decompressed, Encoding, MessageDecompressor},
    framing::{FrameError, FrameTracker, Part},
    scan::{MessageScanner, ScanError},
};
use crate::{
    grpc::shape::RequestShape,
    leads::{Error, FieldFault, Reason},
};

/// Maximum size in bytes of the message of a health probe: a service name. It is not charged, since probes
/// are served even if the memory limit is reached.
const MAX_PROBE_MESSAGE: usize = 1_024;

/// Number of bytes that are charged for each byte of a decoded message: the domain and HubSpot's JSON hold
/// the content again.
const COPIES: usize = 2;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Number of request messages that a method takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestMessages {
    /// Exactly one: the method is unary, or only its responses are a stream.
    One,
    /// Any number.
    Stream,
}

/// Format of the request messages of a method.
#[derive(Debug, Clone)]
pub(crate) struct RequestFormat {
    pub(crate) messages: RequestMessages,
    pub(crate) shape: RequestShape,
}

/// Request body that charges its messages to the call.
#[derive(Debug)]
pub(crate) struct MeteredBody<B> {
    inner: B,
    call: Arc<CallState>,
    messages: RequestMessages,
    max_message: usize,
    frames: FrameTracker,
    /// `None` if messages are not compressed.
    decompressor: Option<MessageDecompressor>,
    scanner: MessageScanner,
    /// Frame to return next.
    next: Option<Frame<Bytes>>,
}

// === impl MeteredBody ===

impl<B> MeteredBody<B> {
    pub(crate) fn new(
        inner: B,
        encoding: Option<Encoding>,
        call: Arc<CallState>,
        format: RequestFormat,
        max_message: usize,
    ) -> Self {
        let max_message =
            if call.guard.is_probe() { max_message.min(MAX_PROBE_MESSAGE) } else { max_message };
        let decompressor = encoding.map(|encoding| MessageDecompressor::new(encoding, max_message));
        let RequestFormat { messages, shape } = format;
        Self {
            inner,
            call,
            messages,
            max_message,
            frames: FrameTracker::default(),
            decompressor,
            scanner: MessageScanner::new(shape),
            next: None,
        }
    }

    /// Charges the data and returns the data for the decoder.
    fn on_data(&mut self, data: Bytes) -> Result<Bytes, Status> {
        let Self { call, messages, max_message, frames, decompressor, scanner, .. } = self;
        let call: &CallState = call;
        let is_charged = !call.guard.is_probe();
        let reserve = |bytes: usize, scanner: &MessageScanner| {
            let decoded = scanner.decoded().saturating_mul(COPIES);
            if is_charged { call.reserve(bytes.saturating_add(decoded)) } else { Ok(()) }
        };
        reserve(frames.footprint(data.len()), scanner)?;
        let added = frames.add_parts(&data, *max_message, |part| match part {
            Part::Prefix { flag: 0, length } => {
                scanner.start(length);
                Ok(())
            }
            // The decompressor passes the message to the scanner.
            Part::Prefix { flag: COMPRESSED, .. } if decompressor.is_some() => {
                scanner.stop();
                Ok(())
            }
            Part::Prefix { flag: COMPRESSED, .. } => Err(malformed(
                call,
                "it has the flag of a compressed message without grpc-encoding",
            )),
            Part::Prefix { flag, .. } => {
                Err(malformed(call, &format!("its compression flag is {flag}, not 0 or 1")))
            }
            Part::Message(data) => scanner.scan(data).map_err(|error| invalid(call, error)),
        });
        added.map_err(|error| match error {
            FrameError::Rejected(status) => status,
            FrameError::TooLarge(length) => {
                let text = format!(
                    "the request message is too large ({length} bytes, limit {max_message} bytes); \
                     send fewer inputs per call"
                );
                too_large(call, text)
            }
        })?;
        if *messages == RequestMessages::One && frames.started() > 1 {
            let text = "the call has more than one request message; the method takes exactly one";
            return Err(call.fail(Error::new(Reason::Unimplemented, text)));
        }
        call.messages.on_received(frames.take_complete());
        let base = frames.footprint(0);
        reserve(base, scanner)?;
        let Some(decompressor) = decompressor else { return Ok(data) };
        let out = decompressor.add(&data, |step| match step {
            Decompressed::Start => {
                scanner.start(usize::MAX);
                Ok(())
            }
            Decompressed::Data { data, total } => {
                scanner.scan(data).map_err(|error| invalid(call, error))?;
                reserve(base.saturating_add(total), scanner)
            }
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
                malformed(call, &format!("it cannot be decompressed: {error}"))
            }
        })?;
        frames.on_decompressed(out.len());
        Ok(out)
    }

    /// Errors if the body ends without the message that the method takes.
    fn check_end(&self) -> Result<(), Status> {
        if self.messages == RequestMessages::One && self.frames.started() == 0 {
            let text = "the call has no request message; the method takes exactly one";
            return Err(self.call.fail(Error::new(Reason::Unimplemented, text)));
        }
        Ok(())
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
                    self.check_end()?;
                    return Poll::Ready(self.take_incomplete().map(Ok));
                }
                // The stream was reset; hyper ends such a body as if it were complete. The task that
                // reads a stream of messages must learn of it.
                None | Some(Err(_)) if self.call.guard.is_stream() => {
                    let reset = io::Error::from(io::ErrorKind::ConnectionReset);
                    return Poll::Ready(Some(Err(reset.into())));
                }
                // Pending suppresses a decode error of the incomplete message; the call is being dropped.
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
                    self.check_end()?;
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
        self.next.is_none()
            && self.decompressor.is_none()
            && self.inner.is_end_stream()
            // The missing message is an error, which poll_frame returns.
            && (self.messages == RequestMessages::Stream || self.frames.started() > 0)
    }

    fn size_hint(&self) -> SizeHint {
        if self.decompressor.is_none() { self.inner.size_hint() } else { SizeHint::default() }
    }
}

fn malformed(call: &CallState, why: &str) -> Status {
    let text = format!("the request bytes are not a valid message: {why}");
    call.fail(Error::new(Reason::InvalidRequest, text))
}

fn invalid(call: &CallState, error: ScanError) -> Status {
    match error {
        ScanError::Malformed(why) => malformed(call, why),
        ScanError::TooMany { field, max } => {
            let entries = if max == 1 { "entry" } else { "entries" };
            let description = format!("must not exceed {max} {entries}");
            call.fail(Error::invalid(vec![FieldFault::new(field, description)]))
        }
        ScanError::InParts { field } => {
            let description = "must not be sent in parts with another message between them";
            call.fail(Error::invalid(vec![FieldFault::new(field, description)]))
        }
    }
}

fn too_large(call: &CallState, text: String) -> Status {
    call.guard.limits().on_message_too_large();
    call.fail(Error::new(Reason::RequestTooLarge, text))
}

#[cfg(test)]
mod tests;

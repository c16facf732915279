//! What a caller sends, on its way to the decoder: every message is held against the bounds while it
//! arrives, so that no caller can fill the memory, be it with large messages, many, or slow ones.

use std::{
    error::Error as StdError,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tonic::Status;

use super::call_state::CallState;
use crate::leads::{Error, Reason};

/// A gRPC message begins with one byte of flags and four of its length.
const PREFIX: usize = 5;

/// Largest message of a health probe, which has the name of a service. It is not held against the
/// memory: probes are answered when that is full.
const MAX_PROBE: usize = 1_024;

type BoxError = Box<dyn StdError + Send + Sync>;

/// The body of a request.
#[derive(Debug)]
pub(crate) struct MeteredBody {
    inner: Incoming,
    facts: CallState,
    max_message: usize,
    messages: Messages,
}

/// Where in the messages of a body the bytes that have arrived end.
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; PREFIX],
    /// How much of the prefix there is.
    prefixed: usize,
    /// How much of the message is still to come.
    missing: usize,
    /// Bytes of the message that is not complete yet.
    open: usize,
}

// === impl MeteredBody ===

impl MeteredBody {
    pub(crate) fn new(inner: Incoming, facts: CallState, max_message: usize) -> Self {
        let max_message =
            if facts.slot.is_probe() { max_message.min(MAX_PROBE) } else { max_message };
        Self { inner, facts, max_message, messages: Messages::default() }
    }

    fn arrived(&mut self, data: &[u8]) -> Result<(), Status> {
        if !self.facts.slot.is_probe() {
            self.facts.hold(self.messages.open.saturating_add(data.len()))?;
        }
        if let Err(length) = self.messages.arrived(data, self.max_message) {
            self.facts.slot.load().messages_too_large.fetch_add(1, Ordering::Relaxed);
            let most = self.max_message;
            let text = format!("the message has {length} bytes, and at most {most} are read");
            return Err(self.facts.failed(Error::new(Reason::RequestTooLarge, text)));
        }
        Ok(())
    }
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let has_left = match &frame {
            Some(Ok(_)) => false,
            Some(Err(_)) => true,
            // hyper ends the body of a stream that was cancelled like that of one that is complete.
            None => !self.inner.is_end_stream(),
        };
        if has_left {
            // Nobody is told what the decoder would say of half a message: the stream is gone, and
            // the call is dropped with it as soon as this future is not ready.
            return Poll::Pending;
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(BoxError::from)?;
            if let Some(data) = frame.data_ref() {
                self.arrived(data)?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

// === impl Messages ===

impl Messages {
    /// Follows the bytes; the length of a message that is over the bound is an error.
    fn arrived(&mut self, mut data: &[u8], max_message: usize) -> Result<(), usize> {
        while !data.is_empty() {
            if self.missing == 0 {
                let take = data.len().min(PREFIX - self.prefixed);
                self.prefix[self.prefixed..self.prefixed + take].copy_from_slice(&data[..take]);
                self.prefixed += take;
                self.open += take;
                data = &data[take..];
                if self.prefixed < PREFIX {
                    return Ok(());
                }
                let [_, a, b, c, d] = self.prefix;
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if length > max_message {
                    return Err(length);
                }
                self.missing = length;
            }
            let take = data.len().min(self.missing);
            self.missing -= take;
            self.open += take;
            data = &data[take..];
            if self.missing == 0 {
                (self.prefixed, self.open) = (0, 0);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(lengths: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for length in lengths {
            bytes.push(0);
            bytes.extend(u32::try_from(*length).unwrap().to_be_bytes());
            bytes.extend(vec![7; *length]);
        }
        bytes
    }

    proptest! {
        #[test]
        fn messages_are_followed_however_they_are_cut(
            lengths in prop::collection::vec(0_usize..40, 0..6),
            cuts in prop::collection::vec(1_usize..17, 1..60),
        ) {
            let bytes = encoded(&lengths);
            let mut messages = Messages::default();
            let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
            while at < bytes.len() {
                let end = (at + cuts.next().unwrap()).min(bytes.len());
                prop_assert_eq!(messages.arrived(&bytes[at..end], 40), Ok(()));
                at = end;
                // What is open is what has arrived since the last message was complete.
                let mut whole = 0;
                for length in &lengths {
                    if whole + PREFIX + length <= at {
                        whole += PREFIX + length;
                    } else {
                        break;
                    }
                }
                prop_assert_eq!(messages.open, at - whole);
            }
        }

        #[test]
        fn a_message_over_the_bound_is_found_by_its_prefix(
            before in prop::collection::vec(0_usize..40, 0..4),
            length in 41_u32..,
        ) {
            let mut bytes = encoded(&before);
            bytes.push(1);
            bytes.extend(length.to_be_bytes());
            prop_assert_eq!(Messages::default().arrived(&bytes, 40), Err(length as usize));
        }
    }
}

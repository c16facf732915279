//! Gives a gRPC status to requests that HTTP/2 rejects as malformed.
//!
//! The HTTP/2 implementation resets the stream of such a request before a service sees it: its `:authority`
//! is not valid, its path is missing, its body does not have the announced length. The caller would get an
//! error without a text. This wrapper replaces the frame RST_STREAM with PROTOCOL_ERROR, if the stream has
//! no response yet, by a response that says so, followed by RST_STREAM with NO_ERROR.
//!
//! - The fields of the response are literals without indexing, so that the compression state of both sides
//!   stays valid.
//! - Only the first bytes of a write are rewritten. Bytes that HTTP/2 has handed over are counted as written
//!   while the response waits to be sent.

use std::{
    collections::HashSet,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame_scanner::{FRAME_HEADER, FrameHeader, FrameScanner, HEADERS, PREFACE, RST_STREAM};
use crate::grpc::status;

/// Maximum number of streams without a response that are remembered. A connection has fewer; those of a
/// client that exceeds its limit are reset without a text.
const MAX_STREAMS: usize = 4_096;

/// Length of RST_STREAM with its header.
const RESET: usize = FRAME_HEADER + 4;

/// Error code PROTOCOL_ERROR.
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];

/// Flags END_STREAM and END_HEADERS.
const WHOLE_RESPONSE: u8 = 0x1 | 0x4;

/// Connection whose resets of malformed requests become responses.
#[derive(Debug)]
pub(super) struct ResetStatus<IO> {
    io: IO,
    received: FrameScanner,
    sent: FrameScanner,
    streams: Streams,
    /// Response that is to be written before anything else.
    pending: Vec<u8>,
}

/// Streams of the client.
#[derive(Debug, Default)]
struct Streams {
    unanswered: HashSet<u32>,
    /// Highest stream that the client has begun. Further HEADERS of a stream are trailers.
    last: u32,
}

// === impl ResetStatus ===

impl<IO> ResetStatus<IO> {
    /// Wraps a connection on which nothing was read or written.
    pub(super) fn new(io: IO) -> Self {
        Self {
            io,
            received: FrameScanner::after(PREFACE),
            sent: FrameScanner::after(0),
            streams: Streams::default(),
            pending: Vec::new(),
        }
    }
}

impl<IO: AsyncWrite + Unpin> ResetStatus<IO> {
    /// Writes the response that waits.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the first reset that is to be replaced if `bytes` begin with it. Otherwise returns the number
    /// of bytes before it, or all.
    fn take_reset(&mut self, bytes: &[u8]) -> Result<u32, usize> {
        let Some((at, stream)) = self.streams.find_reset(self.sent, bytes) else {
            return Err(bytes.len());
        };
        if at > 0 {
            return Err(at);
        }
        self.streams.unanswered.remove(&stream);
        Ok(stream)
    }

    fn count_written(&mut self, bytes: &[u8]) {
        let Self { sent, streams, .. } = self;
        sent.advance(bytes, |frame| streams.send(frame));
    }

    /// Queues the response for a stream and begins to write it. Returns the length of the replaced frame.
    fn respond(&mut self, cx: &mut Context<'_>, stream: u32) -> io::Result<usize> {
        self.pending = response(stream);
        // The rest is written before the next bytes.
        if let Poll::Ready(Err(error)) = self.poll_pending(cx) {
            return Err(error);
        }
        Ok(RESET)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for ResetStatus<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        let Self { received, streams, .. } = &mut *self;
        received.advance(&buffer.filled()[before..], |frame| streams.receive(frame));
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for ResetStatus<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(cx))?;
        let length = match self.take_reset(bytes) {
            Ok(stream) => return Poll::Ready(self.respond(cx, stream)),
            Err(length) => length,
        };
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, &bytes[..length]))?;
        self.count_written(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(cx))?;
        // HTTP/2 writes resets to its own buffer, which is the first piece; the others are of bodies.
        let first = pieces.iter().find(|piece| !piece.is_empty()).map_or(&[][..], |piece| &**piece);
        let written = match self.take_reset(first) {
            Ok(stream) => return Poll::Ready(self.respond(cx, stream)),
            Err(length) if length < first.len() => {
                ready!(Pin::new(&mut self.io).poll_write(cx, &first[..length]))?
            }
            Err(_) => ready!(Pin::new(&mut self.io).poll_write_vectored(cx, pieces))?,
        };
        let mut left = written;
        for piece in pieces {
            let of_piece = left.min(piece.len());
            self.count_written(&piece[..of_piece]);
            left -= of_piece;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

// === impl Streams ===

impl Streams {
    fn receive(&mut self, frame: FrameHeader) {
        if frame.kind == HEADERS && frame.stream > self.last {
            self.last = frame.stream;
            if self.unanswered.len() < MAX_STREAMS {
                self.unanswered.insert(frame.stream);
            }
        } else if frame.kind == RST_STREAM {
            self.unanswered.remove(&frame.stream);
        }
    }

    fn send(&mut self, frame: FrameHeader) {
        if frame.kind == HEADERS || frame.kind == RST_STREAM {
            self.unanswered.remove(&frame.stream);
        }
    }

    /// Position and stream of the first reset that is to be replaced. A reset that does not end in `bytes`
    /// stays as it is. Frames before it count as sent: they are written first.
    fn find_reset(&mut self, mut sent: FrameScanner, bytes: &[u8]) -> Option<(usize, u32)> {
        let mut found = None;
        sent.advance_with_position(bytes, |at, frame| {
            let payload = bytes.get(at + FRAME_HEADER..at + RESET);
            let is_malformed = frame.kind == RST_STREAM && payload == Some(&PROTOCOL_ERROR[..]);
            if found.is_some() {
            } else if is_malformed && self.unanswered.contains(&frame.stream) {
                found = Some((at, frame.stream));
            } else {
                self.send(frame);
            }
        });
        found
    }
}

/// Response with the status, and the reset after it.
fn response(stream: u32) -> Vec<u8> {
    let mut fields = Vec::new();
    literal(&mut fields, b":status", b"200");
    for (name, value) in &status::malformed_request() {
        literal(&mut fields, name.as_str().as_bytes(), value.as_bytes());
    }
    let mut bytes = Vec::new();
    frame(&mut bytes, HEADERS, WHOLE_RESPONSE, stream, &fields);
    frame(&mut bytes, RST_STREAM, 0, stream, &[0; 4]);
    bytes
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // The status is far shorter than the 16 KiB that every client accepts as a frame.
    let [.., high, middle, low] = payload.len().to_be_bytes();
    bytes.extend([high, middle, low, kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}

/// Encodes a field as a literal without indexing and without Huffman coding (RFC 7541, section 6.2.2).
fn literal(fields: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    fields.push(0);
    for text in [name, value] {
        let mut rest = text.len();
        if rest < 0x7f {
            fields.push(low_byte(rest));
        } else {
            fields.push(0x7f);
            rest -= 0x7f;
            while rest >= 0x80 {
                fields.push(low_byte(rest) | 0x80);
                rest >>= 7;
            }
            fields.push(low_byte(rest));
        }
        fields.extend(text);
    }
}

fn low_byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

#[cfg(test)]
mod tests;

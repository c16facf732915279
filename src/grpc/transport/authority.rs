//! Accepts requests whose `:authority` is not valid in HTTP.
//!
//! Clients of gRPC's C core (Python, Ruby, PHP, C++) send the target as `:authority`, also if it is a list
//! of addresses such as `127.0.0.1:50051,127.0.0.1:50052`. The HTTP/2 implementation resets such a stream
//! before a service sees it, so the caller gets an error without a text. No part of leadsd reads
//! `:authority`. This reader replaces the invalid bytes by `-`, in place: no length changes, so frames and
//! the compression state of both sides stay valid.
//!
//! - Only the first fields of a HEADERS frame are inspected; pseudo-header fields come first.
//! - A value with Huffman coding is left as it is. The C core never sends one. If it is not valid, the caller
//!   gets a status ([`reset_status`](super::reset_status)), and so does one with an empty value.

mod header_block;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use self::header_block::{HeaderBlock, Progress};
use super::{
    delegate_writes::delegate_writes,
    frame_scanner::{FRAME_HEADER, FrameHeader, HEADERS, PREFACE},
};

/// Flag of HEADERS: one byte with the length of the padding precedes the fields.
const PADDED: u8 = 0x8;

/// Flag of HEADERS: five bytes with a priority precede the fields.
const PRIORITY: u8 = 0x20;

/// Connection that replaces invalid bytes of `:authority` in what it reads.
#[derive(Debug)]
pub(super) struct ValidAuthority<IO> {
    io: IO,
    frames: Frames,
}

/// Position in the frames of a client.
#[derive(Debug)]
enum Frames {
    /// Bytes that are not inspected.
    Skip(usize),
    /// Header of a frame, and how many of its bytes have arrived.
    Header([u8; FRAME_HEADER], usize),
    /// Fields of a HEADERS frame, and the number of bytes up to its end.
    Fields(HeaderBlock, usize),
}

// === impl ValidAuthority ===

impl<IO> ValidAuthority<IO> {
    /// Wraps a connection from which nothing was read.
    pub(super) fn new(io: IO) -> Self {
        Self { io, frames: Frames::Skip(PREFACE) }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for ValidAuthority<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.frames.read(&mut buffer.filled_mut()[before..]);
        polled
    }
}

delegate_writes!(ValidAuthority, |wrapper| wrapper.io.is_write_vectored());

// === impl Frames ===

impl Frames {
    /// Inspects the next bytes of the connection, which may begin and end anywhere.
    fn read(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let read = match self {
                Self::Skip(left) => {
                    let read = bytes.len().min(*left);
                    *self = Self::skip(*left - read);
                    read
                }
                Self::Header(header, received) => {
                    let read = bytes.len().min(FRAME_HEADER - *received);
                    header[*received..*received + read].copy_from_slice(&bytes[..read]);
                    *received += read;
                    if *received == FRAME_HEADER {
                        *self = Self::payload(*header);
                    }
                    read
                }
                Self::Fields(block, left) => {
                    let available = bytes.len().min(*left);
                    let (read, progress) = block.read(&mut bytes[..available]);
                    *left -= read;
                    if *left == 0 || progress == Progress::Done {
                        *self = Self::skip(*left);
                    }
                    read
                }
            };
            bytes = &mut std::mem::take(&mut bytes)[read..];
        }
    }

    fn skip(left: usize) -> Self {
        if left == 0 { Self::Header([0; FRAME_HEADER], 0) } else { Self::Skip(left) }
    }

    /// Position after the header of a frame.
    fn payload(header: [u8; FRAME_HEADER]) -> Self {
        let FrameHeader { length, kind, flags, stream: _ } = FrameHeader::parse(header);
        if kind != HEADERS || length == 0 {
            return Self::skip(length);
        }
        let padding = usize::from(flags & PADDED != 0);
        let priority = if flags & PRIORITY != 0 { 5 } else { 0 };
        Self::Fields(HeaderBlock::after(padding + priority), length)
    }
}

#[cfg(test)]
mod tests;

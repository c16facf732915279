//! Decompresses request messages in steps, and charges each step before the next one.
//!
//! tonic's decompression cannot charge a call: it creates the decoder with `Default`, without access to
//! the call. Here the body knows its call. tonic still negotiates the encoding, and sees uncompressed
//! messages.

use std::io::{self, Read};

use hyper::body::Bytes;

use super::framing::PREFIX;

/// Size of a decompression step in bytes, the maximum that is not charged yet.
const STEP: usize = 16 * 1024;

/// Maximum window of zstd as a power of two, in bytes: what decoders should support, by RFC 8878. The window
/// is in memory beside the message.
const MAX_WINDOW_LOG: u32 = 23;

/// Flag byte of a compressed message.
pub(crate) const COMPRESSED: u8 = 1;

/// Message encoding that the server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Zstd,
}

/// Decompressor of the messages of a body.
#[derive(Debug)]
pub(crate) struct MessageDecompressor {
    encoding: Encoding,
    max_message: usize,
    /// Data of the incomplete message.
    buffer: Vec<u8>,
}

/// Step of a decompression.
#[derive(Debug)]
pub(crate) enum Decompressed<'a> {
    /// The start of a message.
    Start,
    /// The next bytes of the message.
    Data {
        /// The bytes.
        data: &'a [u8],
        /// Number of uncompressed bytes in memory, including these.
        total: usize,
    },
}

/// Error of a decompression. `E` is the error of the charge.
#[derive(Debug)]
pub(crate) enum DecompressError<E> {
    /// The message does not have the encoding in `grpc-encoding`.
    Invalid(io::Error),
    /// The message exceeds the maximum.
    TooLarge,
    /// The charge was rejected.
    Rejected(E),
}

// === impl MessageDecompressor ===

impl MessageDecompressor {
    pub(crate) fn new(encoding: Encoding, max_message: usize) -> Self {
        Self { encoding, max_message, buffer: Vec::new() }
    }

    /// Adds data and returns the complete messages, uncompressed. `on_step` is called for each step, of
    /// compressed messages only.
    pub(crate) fn add<E>(
        &mut self,
        data: &[u8],
        mut on_step: impl FnMut(Decompressed<'_>) -> Result<(), E>,
    ) -> Result<Bytes, DecompressError<E>> {
        self.buffer.extend_from_slice(data);
        let mut out = Vec::new();
        let mut rest = self.buffer.as_slice();
        while let Some(([flag, length @ ..], after)) = rest.split_first_chunk::<PREFIX>() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some((message, after)) = after.split_at_checked(length) else { break };
            if *flag == COMPRESSED {
                let start = out.len();
                out.extend_from_slice(&[0; PREFIX]);
                self.decompress(message, &mut out, &mut on_step)?;
                let length = out.len() - start - PREFIX;
                let length = u32::try_from(length).map_err(|_| DecompressError::TooLarge)?;
                out[start + 1..start + PREFIX].copy_from_slice(&length.to_be_bytes());
            } else {
                out.extend_from_slice(&rest[..PREFIX + length]);
            }
            rest = after;
        }
        let done = self.buffer.len() - rest.len();
        self.buffer.drain(..done);
        Ok(out.into())
    }

    /// Takes the data of an incomplete last message, for which the decoder reports an error.
    pub(crate) fn take_incomplete(&mut self) -> Option<Bytes> {
        (!self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer).into())
    }

    fn decompress<E>(
        &self,
        message: &[u8],
        out: &mut Vec<u8>,
        on_step: &mut impl FnMut(Decompressed<'_>) -> Result<(), E>,
    ) -> Result<(), DecompressError<E>> {
        let mut reader: Box<dyn Read + '_> = match self.encoding {
            Encoding::Gzip => Box::new(flate2::read::GzDecoder::new(message)),
            Encoding::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(message);
                let mut decoder = decoder.map_err(DecompressError::Invalid)?;
                decoder.window_log_max(MAX_WINDOW_LOG).map_err(DecompressError::Invalid)?;
                Box::new(decoder)
            }
        };
        let max = out.len() + self.max_message;
        on_step(Decompressed::Start).map_err(DecompressError::Rejected)?;
        loop {
            let mut step = reader.by_ref().take(STEP as u64);
            let read = step.read_to_end(out).map_err(DecompressError::Invalid)?;
            if out.len() > max {
                return Err(DecompressError::TooLarge);
            }
            let step = Decompressed::Data { data: &out[out.len() - read..], total: out.len() };
            on_step(step).map_err(DecompressError::Rejected)?;
            if read == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! The codec of messages: prost with buffers of the size of one lead.
//!
//! tonic reserves a buffer for the request and one for the response of every call, of 8 KiB each by
//! default. Most messages hold one lead and are far smaller. Larger ones grow their buffer.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Initial capacity of a buffer, in bytes: a lead with its default properties.
const BUFFER: usize = 1024;

/// Encoded bytes after which a stream hands its messages to HTTP/2; tonic's default.
const YIELD_THRESHOLD: usize = 32 * 1024;

/// Encodes `T` and decodes `U`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageCodec<T, U>(PhantomData<(T, U)>);

// === impl MessageCodec ===

impl<T, U> Default for MessageCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for MessageCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::new(settings())
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstDecoder::new(settings())
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(BUFFER, YIELD_THRESHOLD)
}

//! Protobuf as tonic-prost reads and writes it, but with every message counted before it is taken
//! apart: how large it is after decompression is known nowhere else.

use std::marker::PhantomData;

use hyper::body::Buf as _;
use prost::Message;
use tonic::{
    Status,
    codec::{DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use super::transport::call_state::CallState;

tokio::task_local! {
    /// The call that the task works on.
    pub(crate) static CALL: CallState;
}

/// The codec of the generated services and clients.
#[derive(Debug, Clone)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

/// Reads messages.
#[derive(Debug)]
pub struct MeteredDecoder<U>(ProstDecoder<U>);

// === impl Codec ===

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = MeteredDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        MeteredDecoder(ProstCodec::<T, U>::default().decoder())
    }
}

// === impl MeteredDecoder ===

impl<U: Message + Default> Decoder for MeteredDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = source.remaining();
        // Clients decode answers with this as well; those belong to no call of ours.
        if let Ok(Err(status)) = CALL.try_with(|facts| facts.reserve_at_least(bytes)) {
            return Err(status);
        }
        self.0.decode(source)
    }
}

//! One call over a connection: sends the requests, and writes each response message as it arrives.
//!
//! Memory is bounded by one message, however long a stream is: a message is read when the one before it
//! was written.

use std::{collections::VecDeque, future::Future, io, time::Duration};

use futures_util::stream;
use http::{Uri, uri::PathAndQuery};
use prost::{
    Message as _,
    bytes::{Buf as _, BufMut as _, Bytes},
};
use prost_reflect::{DynamicMessage, MethodDescriptor, ReflectMessage as _};
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming},
    metadata::{KeyAndValueRef, MetadataMap},
};

use super::{contract::method_name, escape::one_line, failure::Failure};
use crate::cli::client::Connection;

/// Time after the deadline that the service has to report it by itself, with details.
const DEADLINE_GRACE: Duration = Duration::from_millis(500);

/// Call to make.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) method: MethodDescriptor,
    pub(super) origin: Uri,
    pub(super) metadata: MetadataMap,
    pub(super) requests: Vec<Bytes>,
    /// Point in time and length of the deadline; `None` for no deadline.
    pub(super) deadline: Option<(Instant, Duration)>,
    /// Maximum size of a response message in bytes.
    pub(super) max_response: usize,
    /// Number of messages after which the call is cancelled; `None` for all.
    pub(super) max_messages: Option<u64>,
}

/// Writer of response messages and metadata.
pub(super) trait Sink {
    /// Writes a message.
    fn message(&mut self, message: &DynamicMessage) -> impl Future<Output = io::Result<()>>;

    /// Writes lines of metadata.
    fn metadata(&mut self, lines: &str);
}

/// Result of a call that did not fail.
#[derive(Debug)]
pub(super) struct Completed {
    /// Failed inputs of a batch, each with its path in the response; the first ones only.
    pub(super) failed: Vec<(String, Failure)>,
    pub(super) failed_count: usize,
    pub(super) input_count: usize,
}

/// End of a call without success.
#[derive(Debug)]
pub(super) enum Stopped {
    Failed(Box<Failure>),
    /// The output cannot be written.
    Output(io::Error),
}

/// Maximum number of failed inputs that are reported in full.
const MAX_REPORTED: usize = 20;

/// Codec of encoded messages. They are decoded outside tonic, by the descriptor of the method.
#[derive(Debug, Clone, Copy, Default)]
struct RawCodec;

// === impl RawCodec ===

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

// === impl Exchange ===

impl Exchange {
    /// Makes the call.
    pub(super) async fn run(
        self,
        connection: &Connection,
        sink: &mut impl Sink,
    ) -> Result<Completed, Stopped> {
        let until = self.deadline;
        let work = self.exchange(connection, sink);
        match until {
            None => work.await,
            Some((until, length)) => timeout_at(until + DEADLINE_GRACE, work)
                .await
                .unwrap_or_else(|_| Err(Stopped::Failed(Failure::deadline(length).into()))),
        }
    }

    async fn exchange(
        self,
        connection: &Connection,
        sink: &mut impl Sink,
    ) -> Result<Completed, Stopped> {
        let max = self.max_response;
        let failed = |status: Status| Stopped::Failed(Failure::from_status(&status, max).into());
        let is_stream = self.method.is_server_streaming();
        let mut completed = Completed { failed: Vec::new(), failed_count: 0, input_count: 0 };
        let mut messages = self.start(connection, sink).await.map_err(failed)?;
        let mut last = None;
        let mut count = 0;
        while let Some(bytes) = messages.message().await.map_err(failed)? {
            let message = self.decode(bytes)?;
            count += 1;
            if is_stream {
                sink.message(&message).await.map_err(Stopped::Output)?;
                if self.max_messages.is_some_and(|max| count >= max) {
                    return Ok(completed);
                }
            } else if last.replace(message).is_some() {
                return Err(Self::invalid("the service sent more than one response").into());
            }
        }
        let trailers = messages.trailers().await.map_err(failed)?.unwrap_or_default();
        sink.metadata(&lines(&trailers));
        if is_stream {
            return Ok(completed);
        }
        // A unary response counts once its status is known.
        let Some(message) = last else {
            return Err(Self::invalid("the service sent no response").into());
        };
        completed.add_inputs(&message);
        sink.message(&message).await.map_err(Stopped::Output)?;
        Ok(completed)
    }

    async fn start(
        &self,
        connection: &Connection,
        sink: &mut impl Sink,
    ) -> Result<Streaming<Bytes>, Status> {
        let mut grpc = Grpc::with_origin(connection.channel(), self.origin.clone())
            .max_decoding_message_size(self.max_response)
            .max_encoding_message_size(usize::MAX);
        let requests: VecDeque<_> = self.requests.iter().cloned().collect();
        let mut request = Request::new(stream::iter(requests));
        *request.metadata_mut() = self.metadata.clone();
        if let Some((until, _)) = self.deadline {
            let left = until.saturating_duration_since(Instant::now());
            request.set_timeout(left.max(Duration::from_millis(1)));
        }
        let path: PathAndQuery = match format!("/{}", method_name(&self.method)).parse() {
            Ok(path) => path,
            // Names of the contract are valid paths; the service rejects the root.
            Err(_) => PathAndQuery::from_static("/"),
        };
        let response = grpc.streaming(request, path, RawCodec).await?;
        let (metadata, messages, _) = response.into_parts();
        sink.metadata(&lines(&metadata));
        Ok(messages)
    }

    fn decode(&self, bytes: Bytes) -> Result<DynamicMessage, Box<Failure>> {
        let output = self.method.output();
        let name = output.name().to_owned();
        DynamicMessage::decode(output, bytes)
            .map_err(|error| Self::invalid(&format!("the response is no valid {name}: {error}")))
    }

    fn invalid(message: &str) -> Box<Failure> {
        let remedy = "check that the address is that of leadsd, and that its version fits";
        Box::new(Failure::local(Code::Internal, message, remedy))
    }
}

// === impl Completed ===

impl Completed {
    /// Adds the inputs of a batch: elements of a repeated field that have a `google.rpc.Status`.
    fn add_inputs(&mut self, response: &DynamicMessage) {
        for (field, value) in response.fields() {
            for (index, element) in value.as_list().into_iter().flatten().enumerate() {
                let Some(status) = element.as_message().map(status_of) else { continue };
                self.input_count += 1;
                let Some(status) = status.filter(|status| status.code != 0) else { continue };
                self.failed_count += 1;
                if self.failed.len() < MAX_REPORTED {
                    let path = format!("{}[{index}]", field.name());
                    self.failed.push((path, Failure::from_input(status)));
                }
            }
        }
    }
}

/// The `google.rpc.Status` of a result, if it has one.
fn status_of(result: &DynamicMessage) -> Option<tonic_types::Status> {
    let mut messages = result.fields().filter_map(|(_, value)| value.as_message());
    let status =
        messages.find(|message| message.descriptor().full_name() == "google.rpc.Status")?;
    tonic_types::Status::decode(&*status.encode_to_vec()).ok()
}

/// Metadata, one entry a line. Binary values are left out.
fn lines(metadata: &MetadataMap) -> String {
    let mut out = String::new();
    for entry in metadata.iter() {
        if let KeyAndValueRef::Ascii(key, value) = entry {
            let value = String::from_utf8_lossy(value.as_encoded_bytes());
            out.push_str(&format!("{key}: {}\n", one_line(&value)));
        }
    }
    out
}

// === impl Stopped ===

impl From<Box<Failure>> for Stopped {
    fn from(failure: Box<Failure>) -> Self {
        Self::Failed(failure)
    }
}

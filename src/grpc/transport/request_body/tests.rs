//! Metered bodies over scripted DATA frames, without a network.

use std::{collections::VecDeque, future::poll_fn, io::Write as _};

use tokio::time::Instant;
use tonic::Code;

use super::*;
use crate::grpc::transport::{
    admission::Admission,
    call_state::testing::{admission, call},
};

const MAX: usize = 64 * 1024;

/// Scripted DATA frames.
#[derive(Debug, Default)]
struct Scripted {
    frames: VecDeque<Frame<Bytes>>,
    /// True if the client resets the stream after the frames.
    is_reset: bool,
}

impl Scripted {
    fn new<D: Into<Bytes>>(frames: impl IntoIterator<Item = D>) -> Self {
        let frames = frames.into_iter().map(|data| Frame::data(data.into())).collect();
        Self { frames, is_reset: false }
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.frames.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && !self.is_reset
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag], &length[..], message].concat()
}

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(message).unwrap();
    encoder.finish().unwrap()
}

fn used(admission: &Admission) -> usize {
    admission.snapshot().limits.iter().find(|limit| limit.name == "memory").unwrap().used
}

fn metered(
    body: Scripted,
    encoding: Option<&'static str>,
    call: Arc<CallState>,
) -> MeteredBody<Scripted> {
    let mut headers = HeaderMap::new();
    headers.extend(encoding.map(|encoding| {
        let name = http::HeaderName::from_static("grpc-encoding");
        (name, http::HeaderValue::from_static(encoding))
    }));
    MeteredBody::new(body, &headers, call, MAX)
}

async fn read_all(body: &mut MeteredBody<Scripted>) -> Result<Vec<u8>, BoxError> {
    let mut out = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            out.extend_from_slice(&data);
        }
    }
    Ok(out)
}

#[track_caller]
fn status(error: BoxError) -> (Code, String) {
    let status = error.downcast::<Status>().expect("a status");
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn a_message_is_charged_until_its_call_ends() {
    let admission = admission(1_000_000);
    let call = Arc::new(call(&admission, false, Instant::now()));
    let data = framed(0, &[7; 1_000]);
    let frames = [&data[..3], &data[3..600], &data[600..], &[]];
    let frames = frames.map(Bytes::copy_from_slice);
    let mut body = metered(Scripted::new(frames), None, Arc::clone(&call));
    assert_eq!(read_all(&mut body).await.unwrap(), data);
    // An empty frame after the message releases no bytes: the decoder still holds it.
    assert_eq!(used(&admission), data.len());
    drop((body, call));
    assert_eq!(used(&admission), 0);
}

#[tokio::test]
async fn a_second_message_is_charged_beside_the_first() {
    let admission = admission(1_000_000);
    let call = Arc::new(call(&admission, false, Instant::now()));
    let frames = [framed(0, &[7; 1_000]), framed(0, &[7; 500])[..400].to_vec()];
    let mut body = metered(Scripted::new(frames), None, Arc::clone(&call));
    read_all(&mut body).await.unwrap();
    assert_eq!(used(&admission), 1_005 + 400);
    // The second is not complete.
    assert_eq!((call.messages.received(), call.messages.sent()), (1, 0));
}

#[tokio::test]
async fn a_message_over_the_maximum_is_rejected_by_its_prefix() {
    let admission = admission(1_000_000);
    let call = Arc::new(call(&admission, false, Instant::now()));
    let prefix = framed(0, &vec![0; MAX + 1])[..5].to_vec();
    let mut body = metered(Scripted::new([prefix]), None, Arc::clone(&call));
    let (code, text) = status(read_all(&mut body).await.unwrap_err());
    assert_eq!(code, Code::ResourceExhausted);
    assert!(text.contains(&format!("{} bytes, limit {MAX}", MAX + 1)), "{text}");
    assert_eq!(call.failure().unwrap().reason(), Reason::RequestTooLarge);
    assert!(admission.snapshot().rejected.contains(&("message_size", 1)));
}

#[tokio::test]
async fn a_message_over_the_memory_limit_is_rejected() {
    let admission = admission(1_000);
    let call = Arc::new(call(&admission, false, Instant::now()));
    let mut body = metered(Scripted::new([framed(0, &[7; 996])]), None, Arc::clone(&call));
    let (code, _) = status(read_all(&mut body).await.unwrap_err());
    assert_eq!(code, Code::ResourceExhausted);
    assert_eq!(call.failure().unwrap().bucket(), Some("memory"));
    assert_eq!(used(&admission), 0);
}

#[tokio::test]
async fn a_compressed_message_is_charged_with_its_decompressed_size() {
    let admission = admission(1_000_000);
    let call = Arc::new(call(&admission, false, Instant::now()));
    let data = framed(1, &gzip(&vec![0; MAX]));
    let frames = [&data[..7], &data[7..]].map(Bytes::copy_from_slice);
    let mut body = metered(Scripted::new(frames), Some("gzip"), call);
    assert_eq!(read_all(&mut body).await.unwrap(), framed(0, &vec![0; MAX]));
    assert!(used(&admission) >= MAX + 5 && used(&admission) <= MAX + 5 + data.len());
}

#[tokio::test]
async fn a_compression_bomb_is_rejected_at_the_maximum_or_at_the_memory_limit() {
    let bomb = framed(1, &gzip(&vec![0; 100 * MAX]));
    for (memory, bucket) in [(1_000_000, None), (MAX / 2, Some("memory"))] {
        let admission = admission(memory);
        let call = Arc::new(call(&admission, false, Instant::now()));
        let body = Scripted::new([bomb.clone()]);
        let mut body = metered(body, Some("gzip"), Arc::clone(&call));
        let (code, _) = status(read_all(&mut body).await.unwrap_err());
        assert_eq!(code, Code::ResourceExhausted);
        assert_eq!(call.failure().unwrap().bucket(), bucket);
        assert!(used(&admission) <= memory);
    }
}

#[tokio::test]
async fn data_that_does_not_match_its_encoding_is_an_invalid_request() {
    let admission = admission(1_000_000);
    let call = Arc::new(call(&admission, false, Instant::now()));
    let body = Scripted::new([framed(1, b"not gzip")]);
    let mut body = metered(body, Some("gzip"), Arc::clone(&call));
    let (code, text) = status(read_all(&mut body).await.unwrap_err());
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.contains("not a valid message"), "{text}");
    assert_eq!(call.failure().unwrap().reason(), Reason::InvalidRequest);
}

#[tokio::test]
async fn messages_with_an_unknown_encoding_are_passed_on_unchanged() {
    let admission = admission(1_000_000);
    let data = framed(1, b"whatever");
    for encoding in [None, Some("identity"), Some("deflate")] {
        let call = Arc::new(call(&admission, false, Instant::now()));
        let mut body = metered(Scripted::new([data.clone()]), encoding, call);
        assert_eq!(read_all(&mut body).await.unwrap(), data);
    }
}

#[tokio::test]
async fn the_decoder_sees_an_incomplete_message_before_the_trailers() {
    let admission = admission(1_000_000);
    let call = Arc::new(call(&admission, false, Instant::now()));
    let data = framed(1, &gzip(b"message"))[..9].to_vec();
    let mut scripted = Scripted::new([data.clone()]);
    scripted.frames.push_back(Frame::trailers(HeaderMap::new()));
    let mut body = metered(scripted, Some("gzip"), call);
    let mut frames = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        frames.push(frame.unwrap());
    }
    assert_eq!(frames[0].data_ref().unwrap(), &data);
    assert!(frames[1].is_trailers() && frames.len() == 2, "{frames:?}");
}

#[tokio::test]
async fn a_stream_that_was_reset_never_ends() {
    let admission = admission(1_000_000);
    let call = Arc::new(call(&admission, false, Instant::now()));
    let scripted = Scripted { is_reset: true, ..Scripted::new([framed(0, b"half")[..6].to_vec()]) };
    let mut body = metered(scripted, None, call);
    let first = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    assert!(first.unwrap().is_ok());
    let mut next = poll_once(&mut body);
    assert!(next.is_pending());
    next = poll_once(&mut body);
    assert!(next.is_pending() && !body.is_end_stream());
}

fn poll_once(body: &mut MeteredBody<Scripted>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    Pin::new(body).poll_frame(&mut cx)
}

#[tokio::test]
async fn a_probe_is_not_charged_and_its_message_is_bounded() {
    let admission = admission(0);
    let call = || Arc::new(call(&admission, true, Instant::now()));
    let small = framed(0, &[7; MAX_PROBE_MESSAGE]);
    let mut body = metered(Scripted::new([small.clone()]), None, call());
    assert_eq!(read_all(&mut body).await.unwrap(), small);
    assert_eq!(used(&admission), 0);
    let large = framed(0, &[7; MAX_PROBE_MESSAGE + 1]);
    let mut body = metered(Scripted::new([large]), None, call());
    assert_eq!(status(read_all(&mut body).await.unwrap_err()).0, Code::ResourceExhausted);
}

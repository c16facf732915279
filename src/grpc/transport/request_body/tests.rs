//! Metered bodies over scripted DATA frames, without a network.

use std::{collections::VecDeque, future::poll_fn, io::Write as _};

use http::HeaderMap;
use tokio::time::Instant;
use tonic::Code;

use super::*;
use crate::grpc::{
    methods::Methods,
    transport::{
        admission::Admission,
        call_state::testing::{admission, call},
    },
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

/// A message of this length, at least six bytes: one unknown field, which takes nothing when it is decoded.
fn message(length: usize) -> Vec<u8> {
    let content = length - 6;
    let byte = |at: usize| u8::try_from(content >> (7 * at) & 0x7f).unwrap();
    let head = [0x9a, 0x06, byte(0) | 0x80, byte(1) | 0x80, byte(2) | 0x80, byte(3)];
    [&head[..], &vec![0; content]].concat()
}

/// The format of SearchLeads.
fn format(messages: RequestMessages) -> RequestFormat {
    let methods = Methods::new(10);
    let search = methods.get(methods.find("/leadsd.v1.LeadsService/SearchLeads"));
    RequestFormat { messages, ..search.request.clone() }
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
    encoding: Option<Encoding>,
    call: Arc<CallState>,
) -> MeteredBody<Scripted> {
    MeteredBody::new(body, encoding, call, format(RequestMessages::Stream), MAX)
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
    let data = framed(0, &message(1_000));
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
    let frames = [framed(0, &message(1_000)), framed(0, &message(500))[..400].to_vec()];
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
async fn a_message_over_the_memory_limit_is_rejected_and_one_beside_others_may_be_retried() {
    let admission = admission(1_000);
    let call = || Arc::new(call(&admission, false, Instant::now()));
    let reject = async |size| {
        let call = call();
        let mut body = metered(Scripted::new([framed(0, &message(size))]), None, Arc::clone(&call));
        let (code, _) = status(read_all(&mut body).await.unwrap_err());
        assert_eq!(code, Code::ResourceExhausted);
        let error = call.failure().unwrap();
        assert_eq!(error.bucket(), Some("memory"));
        (error.reason(), error.retry_after().is_some())
    };
    assert_eq!(reject(996).await, (Reason::RequestTooLarge, false));
    assert_eq!(used(&admission), 0);
    let other = call();
    other.reserve(500).unwrap();
    assert_eq!(reject(900).await, (Reason::Overloaded, true));
    assert_eq!(used(&admission), 500);
}

#[tokio::test]
async fn a_compressed_message_is_charged_with_its_decompressed_size() {
    let admission = admission(1_000_000);
    let call = Arc::new(call(&admission, false, Instant::now()));
    let data = framed(1, &gzip(&message(MAX)));
    let frames = [&data[..7], &data[7..]].map(Bytes::copy_from_slice);
    let mut body = metered(Scripted::new(frames), Some(Encoding::Gzip), call);
    assert_eq!(read_all(&mut body).await.unwrap(), framed(0, &message(MAX)));
    assert!(used(&admission) >= MAX + 5 && used(&admission) <= MAX + 5 + data.len());
}

#[tokio::test]
async fn a_compression_bomb_is_rejected_at_the_maximum_or_at_the_memory_limit() {
    let bomb = framed(1, &gzip(&message(100 * MAX)));
    for (memory, bucket) in [(1_000_000, None), (MAX / 2, Some("memory"))] {
        let admission = admission(memory);
        let call = Arc::new(call(&admission, false, Instant::now()));
        let body = Scripted::new([bomb.clone()]);
        let mut body = metered(body, Some(Encoding::Gzip), Arc::clone(&call));
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
    let mut body = metered(body, Some(Encoding::Gzip), Arc::clone(&call));
    let (code, text) = status(read_all(&mut body).await.unwrap_err());
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.contains("not a valid message"), "{text}");
    assert_eq!(call.failure().unwrap().reason(), Reason::InvalidRequest);
}

#[tokio::test]
async fn invalid_compression_flags_are_invalid_requests() {
    let admission = admission(1_000_000);
    for (flag, encoding, text) in [
        (1, None, "without grpc-encoding"),
        (2, None, "compression flag is 2"),
        (2, Some(Encoding::Gzip), "compression flag is 2"),
        (255, None, "compression flag is 255"),
    ] {
        let call = Arc::new(call(&admission, false, Instant::now()));
        let data = framed(flag, &message(6));
        let mut body = metered(Scripted::new([data]), encoding, Arc::clone(&call));
        let (code, found) = status(read_all(&mut body).await.unwrap_err());
        assert_eq!(code, Code::InvalidArgument);
        assert!(found.contains(text), "{found}");
        assert_eq!(call.failure().unwrap().reason(), Reason::InvalidRequest);
    }
}

/// A search with this many empty filters in one group.
fn search(filters: usize) -> Vec<u8> {
    let mut message = vec![2 << 3 | 2];
    prost::encoding::encode_varint(2 * filters as u64, &mut message);
    message.extend([10, 0].repeat(filters));
    message
}

#[tokio::test]
async fn a_message_is_charged_with_its_decoded_size() {
    let admission = admission(1_000_000);
    let filter = size_of::<crate::grpc::pb::Filter>();
    for (flag, encoding, wire) in [
        (0, None, framed(0, &search(6))),
        (0, Some(Encoding::Gzip), framed(0, &search(6))),
        (1, Some(Encoding::Gzip), framed(1, &gzip(&search(6)))),
    ] {
        let call = Arc::new(call(&admission, false, Instant::now()));
        let frames = wire.chunks(3).map(Bytes::copy_from_slice);
        let mut body = metered(Scripted::new(frames), encoding, call);
        read_all(&mut body).await.unwrap();
        let least = wire.len() + COPIES * (8 * filter);
        assert!((least..2 * least).contains(&used(&admission)), "{flag}: {}", used(&admission));
        drop(body);
        assert_eq!(used(&admission), 0);
    }
}

#[tokio::test]
async fn a_message_with_too_many_elements_is_rejected_before_it_is_decompressed() {
    let admission = admission(1_000_000);
    let many = search(20_000);
    for (encoding, frames) in [
        (None, vec![framed(0, &many)[..100].to_vec()]),
        (Some(Encoding::Gzip), vec![framed(0, &many)[..100].to_vec()]),
        (Some(Encoding::Gzip), vec![framed(1, &gzip(&many))]),
    ] {
        let call = Arc::new(call(&admission, false, Instant::now()));
        let mut body = metered(Scripted::new(frames), encoding, Arc::clone(&call));
        let (code, text) = status(read_all(&mut body).await.unwrap_err());
        assert_eq!(code, Code::InvalidArgument);
        assert_eq!(text, "filter_groups[0].filters: must not exceed 6 entries");
        let failure = call.failure().unwrap();
        assert_eq!(failure.fields()[0].field, "filter_groups[0].filters");
        assert!(used(&admission) < 1_000, "{}", used(&admission));
    }
}

#[tokio::test]
async fn a_method_with_one_request_message_takes_exactly_one() {
    let admission = admission(1_000_000);
    let one = framed(0, &message(6));
    let two = [one.clone(), framed(0, b"")].concat();
    let first_of_two = two[..12].to_vec();
    for (frames, expected) in [
        (vec![one.clone()], Ok(one.clone())),
        (vec![framed(0, b"")], Ok(framed(0, b""))),
        (vec![], Err("no request message")),
        (vec![Vec::new()], Err("no request message")),
        (vec![two.clone()], Err("more than one request message")),
        (vec![one.clone(), one.clone()], Err("more than one request message")),
        (vec![first_of_two], Err("more than one request message")),
    ] {
        for encoding in [None, Some(Encoding::Gzip)] {
            for trailers in [false, true] {
                let call = Arc::new(call(&admission, false, Instant::now()));
                let mut scripted = Scripted::new(frames.clone());
                if trailers {
                    scripted.frames.push_back(Frame::trailers(HeaderMap::new()));
                }
                let format = format(RequestMessages::One);
                let mut body = MeteredBody::new(scripted, encoding, Arc::clone(&call), format, MAX);
                // An ended body is not polled.
                assert!(!body.is_end_stream());
                let read = read_all(&mut body).await;
                let what = format!("{frames:?} {encoding:?} {trailers}");
                match (read, expected.clone()) {
                    (Ok(read), Ok(expected)) => assert_eq!(read, expected, "{what}"),
                    (Err(error), Err(expected)) => {
                        let (code, text) = status(error);
                        assert_eq!(code, Code::Unimplemented, "{what}");
                        assert!(text.contains(expected), "{what}: {text}");
                        assert_eq!(call.failure().unwrap().reason(), Reason::Unimplemented);
                    }
                    (read, expected) => panic!("{what}: {read:?}, expected {expected:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn the_decoder_sees_an_incomplete_message_before_the_trailers() {
    let admission = admission(1_000_000);
    let call = Arc::new(call(&admission, false, Instant::now()));
    let data = framed(1, &gzip(&message(9)))[..9].to_vec();
    let mut scripted = Scripted::new([data.clone()]);
    scripted.frames.push_back(Frame::trailers(HeaderMap::new()));
    let mut body = metered(scripted, Some(Encoding::Gzip), call);
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
    let scripted =
        Scripted { is_reset: true, ..Scripted::new([framed(0, &message(6))[..6].to_vec()]) };
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
    let small = framed(0, &message(MAX_PROBE_MESSAGE));
    let mut body = metered(Scripted::new([small.clone()]), None, call());
    assert_eq!(read_all(&mut body).await.unwrap(), small);
    assert_eq!(used(&admission), 0);
    let large = framed(0, &message(MAX_PROBE_MESSAGE + 1));
    let mut body = metered(Scripted::new([large]), None, call());
    assert_eq!(status(read_all(&mut body).await.unwrap_err()).0, Code::ResourceExhausted);
}

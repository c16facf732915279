//! Response bodies over scripted frames, without a network.

use std::{collections::VecDeque, convert::Infallible, future::poll_fn};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::*;
use crate::grpc::transport::{
    admission::Admission,
    call_state::testing::{admission, call},
};

/// Observer that records the code of a call, or its drop without a code.
struct Recorder {
    code: Option<Code>,
    ends: Arc<Mutex<Vec<Option<Code>>>>,
}

impl ResponseObserver for Recorder {
    fn on_end(mut self, code: Code) {
        self.code = Some(code);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.ends.lock().push(self.code);
    }
}

/// Scripted frames, and whether more may follow.
struct Scripted {
    frames: VecDeque<Frame<Bytes>>,
    is_endless: bool,
}

impl HttpBody for Scripted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.frames.pop_front() {
            None if self.is_endless => Poll::Pending,
            frame => Poll::Ready(frame.map(Ok)),
        }
    }
}

struct World {
    admission: Arc<Admission>,
    ends: Arc<Mutex<Vec<Option<Code>>>>,
}

impl World {
    fn new() -> Self {
        Self { admission: admission(1_000), ends: Arc::default() }
    }

    fn body(
        &self,
        frames: impl IntoIterator<Item = Frame<Bytes>>,
        is_endless: bool,
    ) -> ResponseBody<Recorder> {
        let call = Arc::new(call(&self.admission, false, Instant::now()));
        let inner = Body::new(Scripted { frames: frames.into_iter().collect(), is_endless });
        let recorder = Recorder { code: None, ends: Arc::clone(&self.ends) };
        ResponseBody::new(inner, call, recorder)
    }

    fn used(&self) -> usize {
        self.limit("memory")
    }

    fn in_flight(&self) -> usize {
        self.limit("in_flight")
    }

    fn limit(&self, name: &str) -> usize {
        let limits = self.admission.snapshot().limits;
        limits.iter().find(|limit| limit.name == name).unwrap().used
    }
}

fn data(len: usize) -> Frame<Bytes> {
    Frame::data(vec![7; len].into())
}

fn trailers(code: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, code.parse().unwrap());
    Frame::trailers(trailers)
}

async fn next(body: &mut ResponseBody<Recorder>) -> Option<Frame<Bytes>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await.map(|frame| frame.unwrap())
}

#[tokio::test]
async fn a_large_message_is_sent_in_chunks_and_charged_until_the_last_one_is_dropped() {
    let world = World::new();
    let mut body = world.body([data(2 * CHUNK + 10), trailers("0")], false);
    for chunk in [CHUNK, CHUNK, 10] {
        assert!(!body.is_end_stream());
        let frame = next(&mut body).await.unwrap();
        assert_eq!((frame.data_ref().unwrap().len(), world.used()), (chunk, 2 * CHUNK + 10));
    }
    assert_eq!(world.used(), 0);
    assert!(next(&mut body).await.unwrap().is_trailers());
    assert_eq!(*world.ends.lock(), [Some(Code::Ok)]);
}

#[tokio::test]
async fn a_call_keeps_its_slot_and_its_charge_while_http_2_holds_a_chunk() {
    for size in [1, UNCHARGED + 1, 3 * CHUNK] {
        let world = World::new();
        let mut body = world.body([data(size), trailers("0")], false);
        body.call.guard.start().unwrap();
        let mut last = None;
        while let Some(frame) = next(&mut body).await {
            last = frame.into_data().ok().or(last);
        }
        drop(body);
        let charged = if size > UNCHARGED { size } else { 0 };
        assert_eq!((world.in_flight(), world.used()), (1, charged), "{size}");
        drop(last);
        assert_eq!((world.in_flight(), world.used()), (0, 0), "{size}");
    }
}

#[tokio::test]
async fn a_message_of_an_export_has_a_deadline_until_http_2_asks_for_more() {
    let world = World::new();
    let mut body = world.body([data(2 * CHUNK), data(10), trailers("0")], false);
    let call = Arc::clone(&body.call);
    call.send_deadline.start_for_each_message();
    for is_sending in [true, true, true, false] {
        next(&mut body).await.unwrap();
        assert_eq!(call.send_deadline.get().is_some(), is_sending);
    }
}

#[tokio::test]
async fn messages_are_counted_when_their_last_byte_is_passed_on() {
    let world = World::new();
    let framed = [&[0, 0, 0, 0, 2][..], b"ab", &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 1], b"c"].concat();
    let frames = [&framed[..3], &framed[3..6], &framed[6..12], &framed[12..]];
    let frames = frames.map(|part| Frame::data(Bytes::copy_from_slice(part)));
    let mut body = world.body(frames.into_iter().chain([trailers("0")]), false);
    let counters = Arc::clone(&body.call.messages);
    for sent in [0, 0, 2, 3, 3] {
        next(&mut body).await.unwrap();
        assert_eq!((counters.sent(), counters.received()), (sent, 0));
    }
}

#[tokio::test]
async fn the_code_is_the_one_in_the_trailers() {
    for (sent, code) in [("0", Code::Ok), ("5", Code::NotFound), ("x", Code::Unknown)] {
        let world = World::new();
        let mut body = world.body([data(10), trailers(sent)], false);
        while next(&mut body).await.is_some() {}
        assert_eq!(*world.ends.lock(), [Some(code)], "{sent}");
    }
}

#[tokio::test]
async fn an_incomplete_body_has_no_code_and_releases_its_bytes() {
    let world = World::new();
    let mut body = world.body([data(2 * CHUNK)], false);
    next(&mut body).await.unwrap();
    assert_eq!(world.used(), 2 * CHUNK);
    drop(body);
    assert_eq!((world.used(), world.ends.lock().clone()), (0, vec![None]));
}

#[tokio::test]
async fn an_open_ended_stream_ends_with_its_connection_after_pending_data() {
    let world = World::new();
    let (close, closing) = watch::channel(false);
    let mut body = world.body([data(10)], true).until(closing);
    close.send_replace(true);
    assert!(next(&mut body).await.unwrap().is_data());
    let frame = next(&mut body).await.unwrap();
    assert_eq!(frame.trailers_ref().and_then(grpc_code), Some(Code::Unavailable));
    assert!(next(&mut body).await.is_none());
    assert_eq!(*world.ends.lock(), [Some(Code::Unavailable)]);
}

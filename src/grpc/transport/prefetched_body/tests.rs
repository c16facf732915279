//! Prefetching without sockets, in simulated time.

use std::sync::Arc;

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::{sync::mpsc, time::Instant};

use super::*;
use crate::grpc::transport::{
    admission::{Admission, AdmissionLimits},
    call_guard::UNCHARGED_METADATA,
    call_state::testing,
    limits::CallerShare,
};

type Part = Result<Frame<Bytes>, &'static str>;

/// Body that a test feeds.
fn channel() -> (
    mpsc::UnboundedSender<Part>,
    PrefetchedBody<impl Body<Data = Bytes, Error = &'static str> + Unpin>,
) {
    let (parts, mut body) = mpsc::unbounded_channel();
    let body = StreamBody::new(stream::poll_fn(move |cx| body.poll_recv(cx)));
    (parts, PrefetchedBody::new(body))
}

fn data(bytes: &'static [u8]) -> Part {
    Ok(Frame::data(Bytes::from_static(bytes)))
}

fn call(admission: &Arc<Admission>) -> CallGuard {
    admission.admit(&testing::connection(), false, 0).expect("admitted")
}

fn used(admission: &Admission, limit: &str) -> usize {
    let limits = admission.snapshot().limits;
    limits.iter().find(|found| found.name == limit).expect("a limit").used
}

#[tokio::test(start_paused = true)]
async fn a_message_that_arrives_with_its_headers_takes_a_slot_at_once() {
    let admission = testing::admission(1_000_000);
    let (parts, mut body) = channel();
    parts.send(data(&[0, 0, 0, 0, 2, 7, 7])).unwrap();
    drop(parts);
    let call = call(&admission);
    body.prefetch(&call).now_or_never().expect("at once").expect("a slot");
    assert_eq!((used(&admission, "in_flight"), used(&admission, "waiting")), (1, 0));
    assert!(!body.is_end_stream());
    assert_eq!(body.collect().await.unwrap().to_bytes(), &[0, 0, 0, 0, 2, 7, 7][..]);
    drop(call);
    assert_eq!(used(&admission, "in_flight"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_no_slot_before_its_request_has_ended() {
    let admission = testing::admission(1_000_000);
    let (parts, mut body) = channel();
    let call = call(&admission);
    {
        let mut prefetch = std::pin::pin!(body.prefetch(&call));
        for part in [&[0_u8, 0][..], &[0, 0, 2], &[7], &[7]] {
            parts.send(data(part)).unwrap();
            assert!(timeout(MESSAGE_TIMEOUT / 2, prefetch.as_mut()).await.is_err());
            assert_eq!((used(&admission, "in_flight"), used(&admission, "waiting")), (0, 1));
        }
        drop(parts);
        prefetch.await.expect("a slot");
    }
    assert_eq!((used(&admission, "in_flight"), used(&admission, "waiting")), (1, 0));
    assert_eq!(body.collect().await.unwrap().to_bytes(), &[0, 0, 0, 0, 2, 7, 7][..]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_does_not_end_its_request_ends_and_takes_no_slot() {
    let admission = testing::admission(1_000_000);
    let (parts, mut body) = channel();
    parts.send(data(&[0, 0, 0, 0, 1, 7])).unwrap();
    let call = call(&admission);
    let error = body.prefetch(&call).await.unwrap_err();
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    assert!(error.message().contains("send the message and the end of the stream"), "{error}");
    assert_eq!((used(&admission, "in_flight"), used(&admission, "waiting")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_that_were_opened_together_do_not_end_together() {
    let start = Instant::now();
    let calls = (0..50).map(|_| async {
        // One for each call, since few calls of a caller may wait.
        let admission = testing::admission(1_000_000);
        let (_parts, mut body) = channel();
        let error = body.prefetch(&call(&admission)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::DeadlineExceeded);
        start.elapsed().as_millis()
    });
    let ends = futures_util::future::join_all(calls).await;
    let distinct: std::collections::HashSet<_> = ends.iter().map(|end| end / 100).collect();
    assert!(distinct.len() > 5, "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_of_which_only_charged_bytes_arrive_is_waited_for() {
    let admission = testing::admission(1_000_000);
    let (parts, mut body) = channel();
    let call = call(&admission);
    let compressed = async {
        for bytes in 1..5 {
            tokio::time::sleep(MESSAGE_TIMEOUT - Duration::from_secs(1)).await;
            call.reserve(bytes * 1_000).unwrap();
        }
        parts.send(data(&[0, 0, 0, 0, 0])).unwrap();
        drop(parts);
    };
    let (outcome, ()) = tokio::join!(body.prefetch(&call), compressed);
    outcome.expect("the client keeps sending");
}

#[tokio::test(start_paused = true)]
async fn large_metadata_is_charged_while_the_call_is_in_flight() {
    for (metadata, charged) in [(500, 0), (UNCHARGED_METADATA, 0), (8_000, 6_976)] {
        let admission = testing::admission(1_000_000);
        let (parts, mut body) = channel();
        drop(parts);
        let call = admission.admit(&testing::connection(), false, metadata).expect("admitted");
        body.prefetch(&call).await.expect("a slot");
        assert_eq!(used(&admission, "memory"), charged);
        drop(call);
        assert_eq!(used(&admission, "memory"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_message_does_not_arrive_ends_and_leaves_nothing() {
    let admission = testing::admission(1_000_000);
    let (parts, mut body) = channel();
    let call = call(&admission);
    let start = Instant::now();
    let part = async {
        tokio::time::sleep(MESSAGE_TIMEOUT / 2).await;
        parts.send(data(&[0])).unwrap();
    };
    let (outcome, ()) = tokio::join!(body.prefetch(&call), part);
    let error = outcome.unwrap_err();
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    // One period with data, and one without.
    let bounds = 2 * MESSAGE_TIMEOUT..=2 * (MESSAGE_TIMEOUT + MESSAGE_TIMEOUT_JITTER);
    assert!(bounds.contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!((used(&admission, "in_flight"), used(&admission, "waiting")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_leaves_nothing() {
    let admission = testing::admission(1_000_000);
    let (_parts, mut body) = channel();
    let call = call(&admission);
    assert!(timeout(MESSAGE_TIMEOUT / 2, body.prefetch(&call)).await.is_err());
    assert_eq!(used(&admission, "waiting"), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_without_messages_leave_slots_to_others() {
    let admission = Arc::new(Admission::new(AdmissionLimits {
        connections: 1,
        connections_per_address: 1,
        in_flight: 10,
        memory: 1_000_000,
        metadata: 1_000,
        caller_share: CallerShare(0.5),
    }));
    let [greedy, modest] = [1, 2].map(|host| testing::connection_from([10, 0, 0, host]));
    let new_call = |connection| {
        let call = admission.admit(connection, false, 0).expect("admitted");
        call.attach(connection, None).expect("a connection");
        call
    };
    let calls = [(); 20].map(|()| (new_call(&greedy), channel()));
    let mut waiting = Vec::new();
    for (call, (parts, body)) in calls {
        waiting.push(async move {
            let mut body = body;
            let outcome = body.prefetch(&call).await;
            drop(parts);
            outcome.unwrap_err().reason()
        });
    }
    let served = async {
        tokio::task::yield_now().await;
        assert_eq!(used(&admission, "waiting"), 5, "the share of the caller");
        for _ in 0..100 {
            let (parts, mut body) = channel();
            let call = new_call(&modest);
            let message = async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                parts.send(data(&[0; 5])).unwrap();
                drop(parts);
            };
            tokio::join!(message, async { body.prefetch(&call).await.expect("served") });
        }
    };
    let (outcomes, ()) = tokio::join!(futures_util::future::join_all(waiting), served);
    let late = outcomes.iter().filter(|reason| **reason == Reason::DeadlineExceeded).count();
    let rejected = outcomes.iter().filter(|reason| **reason == Reason::Overloaded).count();
    assert_eq!((late, rejected), (5, 15));
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_message_and_an_error_are_passed_on() {
    let admission = testing::admission(1_000_000);
    let (parts, mut body) = channel();
    drop(parts);
    body.prefetch(&call(&admission)).await.expect("the decoder reports the error");
    assert!(body.is_end_stream());
    assert!(body.frame().await.is_none());
    let (parts, mut body) = channel();
    parts.send(data(&[0, 0])).unwrap();
    parts.send(Err("reset")).unwrap();
    body.prefetch(&call(&admission)).await.expect("the decoder reports the error");
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), &[0, 0][..]);
    assert_eq!(body.frame().await.unwrap().unwrap_err(), "reset");
    assert!(body.frame().await.is_none());
}

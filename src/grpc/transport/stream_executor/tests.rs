//! Streams and their send deadlines in simulated time.

use std::{convert::Infallible, future::pending};

use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::{
    body::{Body, Bytes, Frame, Incoming},
    client, server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::*;
use crate::grpc::transport::send_deadline::{MESSAGE_TIMEOUT, NO_DEADLINE, SEND_GRACE};
use crate::grpc::transport::{
    admission::Admission,
    call_state::testing::{admission, call},
};

const TIMEOUT: Duration = Duration::from_secs(5);

fn new_call(admission: &Arc<Admission>) -> Arc<CallState> {
    Arc::new(call(admission, false, Instant::now() + TIMEOUT))
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_its_response_is_not_read_in_time() {
    let start = Instant::now();
    let call = new_call(&admission(0));
    call.send_deadline.start(call.deadline);
    until_deadline(pending(), call).await;
    assert_eq!(start.elapsed().as_secs(), (TIMEOUT + SEND_GRACE).as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_a_response_has_no_send_deadline() {
    let call = new_call(&admission(0));
    let stream = until_deadline(pending(), call);
    assert!(tokio::time::timeout(TIMEOUT * 100, stream).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_deadline_has_no_send_deadline() {
    let deadline = Instant::now() + NO_DEADLINE * 2;
    let call = Arc::new(call(&admission(0), false, deadline));
    call.send_deadline.start(call.deadline);
    assert_eq!(call.send_deadline.get(), None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_a_deadline_for_each_message_ends_only_while_one_is_sent() {
    let call = new_call(&admission(0));
    call.send_deadline.start_for_each_message();
    let (own, start) = (Arc::clone(&call), Instant::now());
    let messages = async move {
        for _ in 0..3 {
            // The service prepares a message, and the client reads it slowly.
            sleep(MESSAGE_TIMEOUT * 10).await;
            own.send_deadline.start_message(own.started);
            sleep(MESSAGE_TIMEOUT - Duration::from_millis(1)).await;
            own.send_deadline.end_message();
        }
        own.send_deadline.start_message(own.started);
        pending::<()>().await;
    };
    until_deadline(messages, call).await;
    let sent = MESSAGE_TIMEOUT * 11 - Duration::from_millis(1);
    assert_eq!(start.elapsed().as_secs(), (sent * 3 + MESSAGE_TIMEOUT).as_secs());
}

const CHUNKS: usize = 64;
const CHUNK: Bytes = Bytes::from_static(&[7; 16 * 1024]);

/// Responds with more data than the client's window, in chunks.
async fn respond(
    call: Arc<CallState>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    call.send_deadline.start(call.deadline);
    let chunks = stream::iter((0..CHUNKS).map(|_| Ok(Frame::data(CHUNK))));
    Ok(Response::new(StreamBody::new(chunks)))
}

#[tokio::test(start_paused = true)]
async fn the_executor_gets_the_call_of_each_stream() {
    let (client, server) = tokio::io::duplex(1 << 20);
    let admission = admission(0);
    let mut tasks = JoinSet::new();
    let (calls, handover) = (Arc::clone(&admission), StreamHandover::default());
    let executor = StreamExecutor::new(handover.clone());
    tasks.spawn(async move {
        let service = service_fn(move |_: Request<Incoming>| {
            let call = new_call(&calls);
            handover.put(Arc::clone(&call));
            respond(call)
        });
        let http2 = server::conn::http2::Builder::new(executor);
        let _ = http2.serve_connection(TokioIo::new(server), service).await;
    });
    let mut http2 = client::conn::http2::Builder::new(TokioExecutor::new());
    http2.initial_stream_window_size(16 * 1024);
    let (mut sender, connection) = http2.handshake(TokioIo::new(client)).await.unwrap();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let mut get = || {
        let request = Request::get("http://localhost/").body(Empty::<Bytes>::new()).unwrap();
        sender.send_request(request)
    };
    // One response is read completely, the other is not read.
    let (unread, read) = (get().await.unwrap(), get().await.unwrap());
    assert_eq!(read.into_body().collect().await.unwrap().to_bytes().len(), CHUNKS * CHUNK.len());
    tokio::time::sleep(TIMEOUT + SEND_GRACE + Duration::from_millis(1)).await;
    let reset = unread.into_body().collect().await;
    assert!(reset.is_err(), "the stream was reset");
    assert_eq!(admission.snapshot().limits[1].used, 0, "both calls have ended");
}

//! Streams in simulated time: clients that send nothing, and the deadline of a call.

use http_body_util::StreamBody;
use hyper::body::Frame;
use leadsd_base::time::SystemClock;
use leadsd_quota::{Caller, Priority, Requester};
use prost::{Message as _, bytes::Bytes};
use tokio::time::advance;
use tonic::{body::Body, codec::Codec as _};
use tonic_prost::ProstCodec;

use super::*;
use crate::{
    grpc::transport::{
        call_state::{
            NewCall,
            testing::{admission, connection},
        },
        conn_info::ConnInfo,
    },
    leads::{PortalName, ResponseLimit, Settings, ValidationSettings, testing::portal},
    telemetry::trace_context::TraceContext,
};

/// Deadline of the call, far behind the idle timeout.
const DEADLINE: Duration = Duration::from_secs(3_600);

fn service() -> Service {
    let response = ResponseLimit { max_bytes: 1 << 20, lead_size: |_| 0 };
    let validation = ValidationSettings::default();
    let clock = Arc::new(SystemClock);
    Service::new(&Settings { batch_concurrency: 1, response, validation, clock })
}

/// Requests of a client that sends these messages and then nothing.
fn requests(messages: Vec<pb::ImportLeadsRequest>) -> Requests {
    let frame = |message: pb::ImportLeadsRequest| {
        let bytes = message.encode_to_vec();
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        let framed = [&[0], &length[..], &bytes].concat();
        Ok::<_, Status>(Frame::data(Bytes::from(framed)))
    };
    let frames: Vec<_> = messages.into_iter().map(frame).collect();
    let body = futures_util::StreamExt::chain(stream::iter(frames), stream::pending());
    let mut codec = ProstCodec::<pb::ImportLeadsResponse, pb::ImportLeadsRequest>::default();
    Streaming::new_request(codec.decoder(), Body::new(StreamBody::new(body)), None, None)
}

fn settings() -> pb::ImportLeadsRequest {
    let settings = pb::ImportSettings { import_id: "i".into(), ..Default::default() };
    pb::ImportLeadsRequest { content: Some(import_leads_request::Content::Settings(settings)) }
}

/// A row that is invalid, so that its result needs no HubSpot.
fn invalid_row() -> pb::ImportLeadsRequest {
    let write = Some(pb::import_row::Write::Create(pb::LeadCreate::default()));
    let row = pb::ImportRow { key: "1".into(), write };
    pb::ImportLeadsRequest { content: Some(import_leads_request::Content::Row(row)) }
}

/// Starts a stream. The sender closes its connection.
fn stream_of(messages: Vec<pb::ImportLeadsRequest>) -> (ImportStream, watch::Sender<bool>) {
    let (close, closing) = watch::channel(false);
    let connection = Arc::new(ConnInfo { closing, ..connection() });
    let guard = admission(64 << 20).admit(&connection, false, 0).expect("a free slot");
    let state = Arc::new(CallState::new(NewCall {
        request_id: "r-1".into(),
        error_docs_url: "".into(),
        started: Instant::now(),
        deadline: Instant::now() + DEADLINE,
        parent: None,
        trace: TraceContext::root(0.0),
        guard,
        connection,
        messages: Arc::default(),
    }));
    let requester = Requester { caller: Caller::new("web"), priority: Priority::Bulk };
    let portal = portal(&PortalName::parse("default").expect("a valid name"));
    let call = AuthorizedCall::new(&state, requester, portal);
    let stream = start(call, requests(messages), &service(), 1 << 20).expect("a stream");
    (stream, close)
}

async fn next(stream: &mut ImportStream) -> Option<Result<pb::ImportLeadsResponse, Status>> {
    futures_util::StreamExt::next(stream).await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_is_disconnected() {
    for (messages, after) in
        [(vec![], 0), (vec![settings()], 0), (vec![settings(), invalid_row()], 1)]
    {
        let (mut stream, _close) = stream_of(messages);
        for _ in 0..after {
            let result = next(&mut stream).await.expect("a result").expect("no error");
            assert!(matches!(result.content, Some(import_leads_response::Content::Result(_))));
        }
        let started = Instant::now();
        let status = next(&mut stream).await.expect("an end").unwrap_err();
        assert_eq!(started.elapsed(), IDLE_TIMEOUT);
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let expected = format!("the client has sent nothing for 60 s after row {after}");
        assert!(status.message().starts_with(&expected), "{status:?}");
        assert!(next(&mut stream).await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_results_are_not_read_is_not_idle() {
    let (mut stream, _close) = stream_of(vec![settings(), invalid_row()]);
    // The stream is not polled while HTTP/2 has no room for its messages.
    advance(10 * IDLE_TIMEOUT).await;
    let result = next(&mut stream).await.expect("a result").expect("no error");
    assert!(matches!(result.content, Some(import_leads_response::Content::Result(_))));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closes_ends_the_stream_with_a_summary() {
    let (mut stream, close) = stream_of(vec![settings()]);
    let closing = async {
        advance(Duration::from_secs(1)).await;
        close.send_replace(true);
    };
    let (message, ()) = tokio::join!(next(&mut stream), closing);
    let message = message.expect("a message").expect("no error");
    let Some(import_leads_response::Content::Summary(summary)) = message.content else {
        panic!("{message:?}");
    };
    assert!(summary.drained && !summary.complete, "{summary:?}");
}

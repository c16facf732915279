//! Cancellations and deadlines of many calls of one connection.

use leadsd_testkit::http2::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, RawConnection,
    WINDOW_UPDATE, request_headers,
};

use crate::{
    harness::{TestApp, leads_rpc},
    hostile_clients::{closed, metric, others_are_served, until_metric},
};

/// CANCEL, by RFC 9113.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// ENHANCE_YOUR_CALM, by RFC 9113.
const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 11];

/// Calls of one connection by default.
const CALLS: u32 = 1_024;

const IN_FLIGHT: &str = "leadsd_admission_used{limit=\"in_flight\"}";
const WAITING: &str = "leadsd_admission_used{limit=\"waiting\"}";

/// Opens a connection with a WatchQuota, which stays open.
async fn watching(app: &TestApp) -> RawConnection {
    let mut connection = RawConnection::connect(&app.grpc, &[]).await;
    connection.acknowledge_settings().await;
    connection.frame(WINDOW_UPDATE, 0, 0, &1_000_000_u32.to_be_bytes()).await;
    connection.call(1, "/leadsd.v1.QuotaService/WatchQuota", 0).await;
    connection.frame(DATA, END_STREAM, 1, &[0; 5]).await;
    connection.until(|frame| frame.kind == DATA && frame.stream == 1).await.expect("a quota");
    connection
}

/// Asserts that the connection lives, and with it the watch.
async fn assert_alive(app: &TestApp, connection: &mut RawConnection) {
    connection.frame(PING, 0, 0, &[7; 8]).await;
    let is_end = |kind, flags| kind == GOAWAY || kind == PING && flags & ACK != 0;
    let answer = connection.until(|frame| is_end(frame.kind, frame.flags)).await;
    assert_eq!(answer.expect("the connection lives").kind, PING);
    assert_eq!(metric(app, IN_FLIGHT).await, 1.0, "the watch goes on");
}

#[tokio::test]
async fn all_calls_that_have_arrived_may_be_cancelled_at_once_beside_a_watch() {
    let app = TestApp::start().await;
    let mut connection = watching(&app).await;
    // Twice: the limit is four times all calls.
    for round in 0..2 {
        let streams = (1..CALLS).map(|number| (round * CALLS + number) * 2 + 1);
        for stream in streams.clone() {
            // A call without a message waits for it.
            connection.call(stream, &leads_rpc("GetLead"), 0).await;
        }
        until_metric(&app, WAITING, |used| used == f64::from(CALLS - 1)).await;
        for stream in streams {
            connection.frame(RST_STREAM, 0, stream, &CANCEL).await;
        }
        until_metric(&app, WAITING, |used| used == 0.0).await;
    }
    assert_alive(&app, &mut connection).await;
}

#[tokio::test]
async fn a_client_that_cancels_again_and_again_gets_a_goaway() {
    // 1,024 at once and 256 per second, which is less than a client can cancel even on a busy machine: a round
    // may take a second.
    const STREAMS: u32 = 256;
    let app = TestApp::builder().set("GRPC__MAX_STREAMS_PER_CONNECTION", "256").start().await;
    let mut connection = RawConnection::connect(&app.grpc, &[]).await;
    let goaway = async {
        for round in 0.. {
            let streams = (0..STREAMS).map(|number| (round * STREAMS + number) * 2 + 1);
            for stream in streams.clone() {
                connection.call(stream, &leads_rpc("GetLead"), 0).await;
            }
            // The calls have arrived when a ping after them is answered.
            connection.frame(PING, 0, 0, &[7; 8]).await;
            let is_next = |kind, flags| kind == GOAWAY || kind == PING && flags & ACK != 0;
            let next = connection.until(|frame| is_next(frame.kind, frame.flags)).await;
            let next = next.expect("a frame before the end");
            if next.kind == GOAWAY {
                return next;
            }
            for stream in streams {
                connection.frame(RST_STREAM, 0, stream, &CANCEL).await;
            }
        }
        unreachable!("the rounds do not end")
    };
    let goaway = goaway.await;
    assert_eq!(goaway.payload[4..8], ENHANCE_YOUR_CALM);
    until_metric(&app, &closed("cancellations"), |count| count == 1.0).await;
    until_metric(&app, WAITING, |used| used == 0.0).await;
    others_are_served(&app).await;
}

#[tokio::test]
async fn deadlines_of_all_calls_that_pass_together_do_not_count() {
    let app = TestApp::start().await;
    let mut connection = watching(&app).await;
    let headers = request_headers(&leads_rpc("GetLead"), &[("grpc-timeout", "2S")]);
    let streams = (1..CALLS).map(|number| number * 2 + 1);
    for stream in streams.clone() {
        connection.frame(HEADERS, END_HEADERS, stream, &headers).await;
    }
    // The first deadline has passed: the client resets all its streams at the same time.
    let late = connection.until(|frame| frame.kind == HEADERS && frame.stream > 1).await;
    late.expect("DEADLINE_EXCEEDED");
    for stream in streams {
        connection.frame(RST_STREAM, 0, stream, &CANCEL).await;
    }
    until_metric(&app, WAITING, |used| used == 0.0).await;
    assert_alive(&app, &mut connection).await;
}

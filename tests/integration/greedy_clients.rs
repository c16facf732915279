//! Greedy clients: each takes as much of one resource as it can get, and other clients are served.
//!
//! Greedy and modest clients have different addresses: the loopback interface has many.

use std::net::Ipv4Addr;

use leadsd::grpc::pb::{
    self, leads_service_client::LeadsServiceClient, quota_service_client::QuotaServiceClient,
};
use leadsd_testkit::http2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, RawConnection, SETTINGS,
    WINDOW_UPDATE, frame, request_headers,
};
use tonic::Status;

use crate::{
    harness::{TestApp, leads_rpc},
    hostile_clients::{connect, health, metric, others_are_served, until_metric},
};

const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// SETTINGS_INITIAL_WINDOW_SIZE.
const WINDOW: u16 = 4;

/// Makes calls one after the other, each on a new connection; returns the failures.
async fn modest_calls(app: &TestApp, calls: usize) -> Vec<Status> {
    let id = app.lead("Jane");
    let mut failures = Vec::new();
    for _ in 0..calls {
        let mut leads = LeadsServiceClient::new(connect(app).await);
        let request = pb::GetLeadRequest { id: id.clone(), ..Default::default() };
        failures.extend(leads.get_lead(request).await.err());
        assert_eq!(health(connect(app).await).await.expect("a probe is answered"), 1);
    }
    failures
}

fn used(limit: &str) -> String {
    format!("leadsd_admission_used{{limit=\"{limit}\"}}")
}

#[tokio::test]
async fn headers_without_messages_leave_calls_to_others() {
    let app = TestApp::builder().set("GRPC__MAX_IN_FLIGHT", "100").start().await;
    let mut greedy = Vec::new();
    for _ in 0..4 {
        let mut connection = RawConnection::silent_from(GREEDY, &app.grpc).await;
        connection.start(&[]).await;
        for number in 0..50 {
            connection.call(number * 2 + 1, &leads_rpc("GetLead"), 0).await;
        }
        greedy.push(connection);
    }
    until_metric(&app, &used("waiting"), |used| used == 50.0).await;
    assert_eq!(metric(&app, &used("in_flight")).await, 0.0);
    assert!(modest_calls(&app, 20).await.is_empty());
    // The calls over the share were rejected.
    let rejected = r#"leadsd_admission_rejected_total{limit="waiting"}"#;
    until_metric(&app, rejected, |rejected| rejected >= 150.0).await;
    drop(greedy);
    until_metric(&app, &used("waiting"), |used| used == 0.0).await;
    until_metric(&app, &used("memory"), |used| used == 0.0).await;
}

#[tokio::test]
async fn incomplete_messages_leave_memory_to_others() {
    let app = TestApp::builder()
        .set("GRPC__MAX_REQUEST_SIZE", "1MiB")
        .set("GRPC__MAX_REQUEST_MEMORY", "4MiB")
        .set("GRPC__MAX_RESPONSE_SIZE", "1MiB")
        .start()
        .await;
    let mut greedy = Vec::new();
    for _ in 0..8 {
        let mut connection = RawConnection::silent_from(GREEDY, &app.grpc).await;
        connection.start(&[]).await;
        connection.acknowledge_settings().await;
        // The initial window is 64 KiB.
        connection.call(1, &leads_rpc("BatchGetLeads"), 0).await;
        connection.frame(DATA, 0, 1, &[&[0][..], &900_000_u32.to_be_bytes()].concat()).await;
        // An unknown field, which takes nothing when it is decoded.
        connection.frame(DATA, 0, 1, &[0x9a, 0x06, 0x9a, 0xf7, 0xb6, 0x00]).await;
        for _ in 0..3 {
            connection.frame(DATA, 0, 1, &[0; 16_000]).await;
        }
        greedy.push(connection);
    }
    // All that arrives of a message is charged, and a caller has no more than half.
    until_metric(&app, &used("memory"), |used| used > 8.0 * 48_000.0).await;
    assert!(metric(&app, &used("memory")).await <= f64::from(2 << 20));
    assert!(modest_calls(&app, 10).await.is_empty());
    drop(greedy);
    until_metric(&app, &used("memory"), |used| used == 0.0).await;
}

#[tokio::test]
async fn silent_connections_leave_connections_to_others() {
    // The pool of unidentified connections has 64 places.
    let app = TestApp::builder().set("GRPC__MAX_CONNECTIONS", "64").start().await;
    for local in [GREEDY, Ipv4Addr::LOCALHOST] {
        let mut silent = Vec::new();
        for _ in 0..500 {
            silent.push(RawConnection::silent_from(local, &app.grpc).await);
        }
        assert!(modest_calls(&app, 20).await.is_empty(), "beside silent connections from {local}");
        assert!(metric(&app, &used("unidentified")).await <= 64.0);
        // The oldest were closed.
        assert_eq!(silent[0].rest().await, b"");
    }
}

#[tokio::test]
async fn connections_without_calls_are_closed() {
    let app = TestApp::builder().set("GRPC__MAX_CONNECTION_IDLE", "300ms").start().await;
    let mut idle = RawConnection::connect(&app.grpc, &[]).await;
    let mut busy = QuotaServiceClient::new(connect(&app).await);
    let mut watch = busy.watch_quota(pb::WatchQuotaRequest::default()).await.unwrap().into_inner();
    assert!(idle.until(|frame| frame.kind == GOAWAY).await.is_some());
    drop(idle);
    let closed = r#"leadsd_connections_closed_total{reason="idle"}"#;
    until_metric(&app, closed, |count| count >= 1.0).await;
    others_are_served(&app).await;
    assert!(watch.message().await.expect("the stream lasts").is_some());
}

#[tokio::test]
async fn a_client_may_cancel_all_calls_of_a_connection_at_once() {
    const STREAMS: u32 = 1_024;
    let app = TestApp::start().await;
    let mut client = RawConnection::connect(&app.grpc, &[]).await;
    client.acknowledge_settings().await;
    // A stream that stays.
    let watch = "/leadsd.v1.QuotaService/WatchQuota";
    client.call(1, watch, 0).await;
    client.frame(DATA, END_STREAM, 1, &[0; 5]).await;
    client.until_answering_pings(|frame| frame.kind == DATA).await.expect("the first message");
    let headers = request_headers(&leads_rpc("GetLead"), &[]);
    for round in 0..3 {
        // As many calls as may be open, cancelled before the server has seen them.
        let first = round * STREAMS * 2 + 3;
        let mut burst = Vec::new();
        let streams = (0..STREAMS - 1).map(|number| first + number * 2);
        for stream in streams.clone() {
            burst.extend(frame(HEADERS, END_HEADERS, stream, &headers));
        }
        for stream in streams {
            burst.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        client.send(&burst).await;
        let next = first + (STREAMS - 1) * 2;
        client.call(next, &leads_rpc("GetLead"), 0).await;
        client.frame(DATA, END_STREAM, next, &[0; 5]).await;
        let answer = client
            .until_answering_pings(|frame| frame.kind == GOAWAY || frame.stream == next)
            .await
            .expect("the connection lives");
        assert_eq!((answer.kind, answer.stream), (HEADERS, next));
    }
    until_metric(&app, &used("in_flight"), |used| used == 1.0).await;
}

#[tokio::test]
async fn reflection_streams_that_are_not_read_are_charged() {
    // A quarter of the memory has four large windows, and one address gets at most two.
    let app = TestApp::builder()
        .set("GRPC__MAX_REQUEST_MEMORY", "16MiB")
        .set("GRPC__MAX_CONNECTIONS", "1000")
        .start()
        .await;
    // Asks for all extension numbers of a type with a long name.
    let mut request = vec![0x32, 0xf4, 0x03];
    request.extend([b'x'; 500]);
    let mut framed = vec![0, 0, 0];
    framed.extend(u16::try_from(request.len()).unwrap().to_be_bytes());
    framed.extend(request);
    let mut greedy = Vec::new();
    let mut windows = 0;
    for _ in 0..10 {
        let mut connection = RawConnection::silent_from(GREEDY, &app.grpc).await;
        connection.start(&[(WINDOW, 0)]).await;
        let settings = connection.until(|frame| frame.kind == SETTINGS).await.unwrap();
        let window = settings.payload.chunks(6).find(|one| one[..2] == [0, 4]);
        let window = window.map_or(65_535, |one| u32::from_be_bytes(one[2..].try_into().unwrap()));
        windows += u64::from(window);
        connection.frame(SETTINGS, 1, 0, &[]).await;
        for stream in [1, 3] {
            connection.call(stream, REFLECTION, 0).await;
            for _ in 0..60 {
                connection.frame(DATA, 0, stream, &framed).await;
            }
        }
        greedy.push(connection);
    }
    assert!(windows <= 2 * 256 * 1024 + 8 * 65_535, "{windows} bytes of windows");
    // Each stream is charged for its window and for unread responses.
    let charged = 20.0 * (65_535.0 + 196_608.0);
    until_metric(&app, &used("memory"), |used| used >= charged).await;
    assert!(modest_calls(&app, 5).await.is_empty());
    // A caller holds no more than half of the memory in such streams.
    for connection in &mut greedy {
        for stream in (5..40).step_by(2) {
            connection.call(stream, REFLECTION, 0).await;
        }
    }
    let rejected = r#"leadsd_admission_rejected_total{limit="memory"}"#;
    until_metric(&app, rejected, |rejected| rejected > 50.0).await;
    assert!(metric(&app, &used("memory")).await <= f64::from(8 << 20));
    assert!(modest_calls(&app, 5).await.is_empty());
    // A stream that waits for the next message ends with its connection.
    drop(greedy);
    until_metric(&app, &used("memory"), |used| used == 0.0).await;
    until_metric(&app, &used("in_flight"), |used| used == 0.0).await;
}

#[tokio::test]
async fn unread_batches_leave_memory_to_others() {
    let app = TestApp::builder()
        .set("GRPC__MAX_REQUEST_MEMORY", "16MiB")
        .set("GRPC__MAX_RESPONSE_SIZE", "2MiB")
        .set("QUOTA__BURST", "10000")
        .start()
        .await;
    app.hubspot.limit(|limits| limits.burst = 10_000);
    let mut large = app.create_request("Jane");
    large.properties.insert("hs_lead_name".to_owned(), "x".repeat(60_000));
    let created = app.leads.clone().create_lead(large).await.unwrap().into_inner();
    // One lead, named so often that the response is full.
    let request = pb::BatchGetLeadsRequest {
        ids: vec![created.lead.unwrap().id; 1_000],
        properties: vec!["hs_lead_name".to_owned()],
        ..Default::default()
    };
    let message = prost::Message::encode_to_vec(&request);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[0][..], &length, &message].concat();
    let mut greedy = Vec::new();
    for _ in 0..20 {
        let mut connection = RawConnection::silent_from(GREEDY, &app.grpc).await;
        connection.start(&[(WINDOW, 0)]).await;
        connection.call(1, &leads_rpc("BatchGetLeads"), 0).await;
        connection.frame(DATA, END_STREAM, 1, &framed).await;
        greedy.push(connection);
    }
    // Each call is rejected or has a response that nothing reads.
    let rejected = r#"leadsd_admission_rejected_total{limit="memory"}"#;
    until_metric(&app, rejected, |rejected| rejected > 0.0).await;
    until_metric(&app, &used("memory"), |used| used > f64::from(2 << 20)).await;
    assert!(modest_calls(&app, 50).await.is_empty());
    let held = metric(&app, &used("memory")).await;
    assert!(held > f64::from(2 << 20), "{held} bytes are still unread");
    // Beyond the share, a call in progress still gets a short outcome for each input.
    let outcomes = 20.0 * 1_000.0 * 168.0;
    assert!(held <= f64::from(8 << 20) + outcomes, "{held} bytes exceed the share");
    drop(greedy);
    until_metric(&app, &used("memory"), |used| used == 0.0).await;
}

#[tokio::test]
async fn calls_in_flight_of_one_address_leave_calls_to_others() {
    let app = TestApp::builder()
        .set("GRPC__MAX_IN_FLIGHT", "20")
        .set("QUOTA__BURST", "1")
        .set("QUOTA__BURST_WINDOW", "1s")
        .start()
        .await;
    let mut greedy = RawConnection::silent_from(GREEDY, &app.grpc).await;
    greedy.start(&[]).await;
    for number in 0..40 {
        let stream = number * 2 + 1;
        // Watches take no quota and last.
        greedy.call(stream, "/leadsd.v1.QuotaService/WatchQuota", 0).await;
        greedy.frame(DATA, END_STREAM, stream, &[0; 5]).await;
        greedy.frame(WINDOW_UPDATE, 0, 0, &1_000_u32.to_be_bytes()).await;
    }
    until_metric(&app, &used("in_flight"), |used| used == 10.0).await;
    let mut modest = QuotaServiceClient::new(connect(&app).await);
    for _ in 0..20 {
        modest.get_quota(pb::GetQuotaRequest {}).await.expect("served");
    }
    let rejected = r#"leadsd_admission_rejected_total{limit="in_flight"}"#;
    assert_eq!(metric(&app, rejected).await, 30.0);
    drop(greedy);
    until_metric(&app, &used("in_flight"), |used| used == 0.0).await;
}

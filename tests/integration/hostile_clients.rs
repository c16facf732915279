//! Hostile and broken clients: slow, silent, malformed, too many or too large requests. Each is
//! bounded and gets an error, and other clients are served.

use std::time::Duration;

use leadsd::grpc::pb::{
    self, leads_service_client::LeadsServiceClient, quota_service_client::QuotaServiceClient,
};
use leadsd_hubspot_fake::{Gate, ScriptedResponse};
use leadsd_testkit::http2::{
    ACK, DATA, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, RawConnection, SETTINGS,
    WINDOW_UPDATE, frame, request_headers,
};
use tonic::{Code, Request, Status, codec::CompressionEncoding, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::{
    authentication::issuers::unless_unsent,
    harness::{Builder, PATIENCE, TestApp, failure, leads_rpc, properties},
};

/// SETTINGS_INITIAL_WINDOW_SIZE.
const WINDOW: u16 = 4;

/// Opens a separate connection.
pub(crate) async fn connect(app: &TestApp) -> Channel {
    let url = format!("http://{}", app.grpc);
    Channel::from_shared(url).unwrap().connect().await.expect("a connection")
}

/// Asserts that a call on a new connection is served soon.
pub(crate) async fn others_are_served(app: &TestApp) {
    let id = app.lead("Jane");
    let served = async {
        let mut leads = LeadsServiceClient::new(connect(app).await);
        leads.get_lead(pb::GetLeadRequest { id, ..Default::default() }).await.expect("served");
        assert_eq!(health(connect(app).await).await.expect("a probe is answered"), 1);
    };
    tokio::time::timeout(PATIENCE, served).await.expect("served");
}

pub(crate) async fn health(channel: Channel) -> Result<i32, Status> {
    let request = HealthCheckRequest { service: String::new() };
    Ok(HealthClient::new(channel).check(request).await?.into_inner().status)
}

/// Value of a metric.
pub(crate) async fn metric(app: &TestApp, name: &str) -> f64 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let text =
        http.get(format!("{}/metrics", app.admin)).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a number"))
}

pub(crate) async fn until_metric(app: &TestApp, name: &str, wanted: impl Fn(f64) -> bool) {
    let reached = async {
        while !wanted(metric(app, name).await) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{name} in time"));
}

pub(crate) fn closed(cause: &str) -> String {
    format!("leadsd_connections_closed_total{{reason=\"{cause}\"}}")
}

/// Settings with frequent keepalive pings.
fn watchful() -> Builder {
    TestApp::builder().set("GRPC__KEEPALIVE_INTERVAL", "500ms").set("GRPC__KEEPALIVE_TIMEOUT", "3s")
}

/// Asserts a rejection for a limit of the replica.
#[track_caller]
fn refused_for<T: std::fmt::Debug>(answer: Result<T, Status>, limit: &str) {
    let status = answer.expect_err("refused");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["bucket"], limit);
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    let (code, reason, _) = failure(Err::<(), _>(status));
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "OVERLOADED"));
}

#[tokio::test]
async fn non_http_2_clients_are_disconnected_with_an_error_if_possible() {
    let app = TestApp::start().await;
    let mut browser = RawConnection::silent(&app.grpc).await;
    browser.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = String::from_utf8(browser.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 505 ") && answer.contains("gRPC"), "{answer}");
    for garbage in [&[0; 64][..], &[0xff; 4096], b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/3.0"]
    {
        let mut stranger = RawConnection::silent(&app.grpc).await;
        stranger.send(garbage).await;
        assert_eq!(stranger.rest().await, b"");
    }
    // Garbage after the preface, instead of frames: the server answers with GOAWAY.
    let mut broken = RawConnection::connect(&app.grpc, &[]).await;
    broken.send(&[0xff; 4096]).await;
    assert!(broken.until(|frame| frame.kind == GOAWAY).await.is_some());
    until_metric(&app, &closed("handshake"), |count| count == 5.0).await;
    others_are_served(&app).await;
}

#[tokio::test]
async fn idle_connection_without_preface_is_closed() {
    let app = TestApp::start().await;
    let mut silent = RawConnection::silent(&app.grpc).await;
    let mut slow = RawConnection::silent(&app.grpc).await;
    slow.send(b"PRI * HTT").await;
    others_are_served(&app).await;
    tokio::join!(silent.rest(), slow.rest());
}

#[tokio::test]
async fn unresponsive_client_is_detected_by_keepalive() {
    let app = watchful().start().await;
    // The client sent its preface and became unresponsive.
    let mut gone = RawConnection::connect(&app.grpc, &[]).await;
    gone.frame(SETTINGS, ACK, 0, &[]).await;
    // This client is idle, but answers pings.
    let mut quiet = RawConnection::connect(&app.grpc, &[]).await;
    let pings = async {
        let mut pings = 0;
        while pings < 5 {
            quiet.until_answering_pings(|frame| frame.kind == PING).await.expect("still open");
            pings += 1;
        }
    };
    tokio::join!(pings, async { gone.until(|_| false).await });
    until_metric(&app, &closed("error"), |count| count == 1.0).await;
    assert_eq!(metric(&app, r#"leadsd_admission_used{limit="connections"}"#).await, 1.0);
}

#[tokio::test]
async fn unfinished_headers_do_not_hold_a_connection() {
    let app = watchful().start().await;
    let mut slow = RawConnection::connect(&app.grpc, &[]).await;
    // Without END_HEADERS, HTTP/2 permits no other frame, not even a ping acknowledgement.
    slow.frame(HEADERS, 0, 1, &request_headers("/leadsd.v1.LeadsService/GetLead", &[])).await;
    others_are_served(&app).await;
    slow.until(|_| false).await;
    until_metric(&app, &closed("error"), |count| count == 1.0).await;
}

#[tokio::test]
async fn unfinished_request_body_ends_at_the_deadline() {
    let app = TestApp::builder().set("GRPC__MAX_DEADLINE", "400ms").start().await;
    let mut slow = RawConnection::connect(&app.grpc, &[]).await;
    slow.call(1, &leads_rpc("GetLead"), 0).await;
    slow.frame(DATA, 0, 1, &[0, 0, 0, 1, 0, 10]).await;
    // A watch has no deadline, but must start.
    let watch = request_headers("/leadsd.v1.QuotaService/WatchQuota", &[]);
    slow.frame(HEADERS, 4, 3, &watch).await;
    others_are_served(&app).await;
    for _ in 0..2 {
        let ended = slow.until(|frame| frame.kind == HEADERS).await.expect("an answer");
        assert_eq!(ended.flags & END_STREAM, END_STREAM);
    }
    let counted = r#"grpc_server_handled_total{grpc_type="unary",grpc_service="leadsd.v1.LeadsService",grpc_method="GetLead",grpc_code="DeadlineExceeded"}"#;
    assert_eq!(metric(&app, counted).await, 1.0);
    until_metric(&app, r#"leadsd_admission_used{limit="in_flight"}"#, |used| used == 0.0).await;
}

/// Creates leads with large properties.
async fn large_answer(app: &TestApp) -> Vec<String> {
    let mut leads = app.leads.clone();
    let mut ids = Vec::new();
    for _ in 0..20 {
        let values = [("hs_lead_name", "x".repeat(50_000))];
        let mut request = app.create_request("Jane");
        request.properties.extend(values.map(|(name, value)| (name.to_owned(), value)));
        ids.push(leads.create_lead(request).await.unwrap().into_inner().lead.unwrap().id);
    }
    ids
}

#[tokio::test]
async fn unread_response_is_counted_and_dropped_after_the_deadline() {
    let app = TestApp::builder()
        .set("GRPC__MAX_BATCH_DEADLINE", "1500ms")
        .set("QUOTA__BURST", "10000")
        .start()
        .await;
    app.hubspot.limit(|limits| limits.burst = 10_000);
    let ids = large_answer(&app).await;
    let request = pb::BatchGetLeadsRequest {
        ids,
        properties: vec!["hs_lead_name".to_owned()],
        ..Default::default()
    };
    let message = prost::Message::encode_to_vec(&request);
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    // The window admits some bytes and is not extended.
    let mut slow = RawConnection::connect(&app.grpc, &[(WINDOW, 1_000)]).await;
    slow.call(1, &leads_rpc("BatchGetLeads"), 0).await;
    slow.frame(DATA, END_STREAM, 1, &framed).await;
    slow.until_answering_pings(|frame| frame.kind == DATA).await.expect("the answer begins");
    let memory = r#"leadsd_admission_used{limit="memory"}"#;
    until_metric(&app, memory, |used| used > 900_000.0).await;
    assert_eq!(metric(&app, r#"leadsd_admission_used{limit="in_flight"}"#).await, 1.0);
    others_are_served(&app).await;
    let reset =
        slow.until_answering_pings(|frame| frame.kind == RST_STREAM).await.expect("it is cut off");
    assert_eq!(reset.stream, 1);
    until_metric(&app, memory, |used| used == 0.0).await;
    let counted = r#"grpc_server_handled_total{grpc_type="unary",grpc_service="leadsd.v1.LeadsService",grpc_method="BatchGetLeads",grpc_code="DeadlineExceeded"}"#;
    until_metric(&app, counted, |count| count == 1.0).await;
    // A client that reads slowly receives the whole response.
    slow.call(3, &leads_rpc("BatchGetLeads"), 0).await;
    slow.frame(DATA, END_STREAM, 3, &framed).await;
    let mut got = 0;
    let end = loop {
        let frame = slow.until_answering_pings(|frame| frame.stream == 3).await.expect("more");
        match frame {
            Frame { kind: DATA, payload, .. } => {
                got += payload.len();
                let more = u32::try_from(payload.len()).unwrap().to_be_bytes();
                slow.frame(WINDOW_UPDATE, 0, 3, &more).await;
                slow.frame(WINDOW_UPDATE, 0, 0, &more).await;
                // Large window updates, to avoid a thousand round trips.
                slow.frame(WINDOW_UPDATE, 0, 3, &100_000_u32.to_be_bytes()).await;
            }
            Frame { kind: HEADERS, flags, .. } if flags & END_STREAM != 0 => break true,
            Frame { kind: RST_STREAM, .. } => break false,
            _ => {}
        }
    };
    assert!(end && got > 1_000_000, "{got} bytes");
}

#[tokio::test]
async fn response_that_http_2_holds_keeps_its_slot_and_its_charge() {
    let app = TestApp::builder().set("QUOTA__BURST", "10000").start().await;
    app.hubspot.limit(|limits| limits.burst = 10_000);
    let ids = large_answer(&app).await;
    let properties = vec!["hs_lead_name".to_owned()];
    let request = pb::BatchGetLeadsRequest { ids, properties, ..Default::default() };
    let message = prost::Message::encode_to_vec(&request);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[0][..], &length, &message].concat();
    let response = app.leads.clone().batch_get_leads(request).await.unwrap().into_inner();
    let size = 5 + prost::Message::encoded_len(&response);
    // All but the last bytes fit in the window, so the last chunk passes to HTTP/2.
    let window = u32::try_from(size - 100).unwrap();
    let mut client = RawConnection::connect(&app.grpc, &[(WINDOW, window)]).await;
    client.frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes()).await;
    client.call(1, &leads_rpc("BatchGetLeads"), 0).await;
    client.frame(DATA, END_STREAM, 1, &framed).await;
    let mut read = 0;
    while read < size - 100 {
        let frame = client.until_answering_pings(|frame| frame.kind == DATA).await.expect("more");
        read += frame.payload.len();
    }
    let handled = r#"grpc_server_handled_total{grpc_type="unary",grpc_service="leadsd.v1.LeadsService",grpc_method="BatchGetLeads",grpc_code="OK"}"#;
    until_metric(&app, handled, |count| count == 2.0).await;
    let [memory, in_flight] =
        ["memory", "in_flight"].map(|limit| format!("leadsd_admission_used{{limit=\"{limit}\"}}"));
    assert_eq!(metric(&app, &in_flight).await, 1.0);
    assert!(metric(&app, &memory).await > 900_000.0);
    others_are_served(&app).await;
    drop(client);
    until_metric(&app, &in_flight, |used| used == 0.0).await;
    until_metric(&app, &memory, |used| used == 0.0).await;
}

#[tokio::test]
async fn a_response_whose_end_is_not_read_ends_with_its_connection() {
    let app = TestApp::builder()
        .set("QUOTA__BURST", "10000")
        .set("GRPC__MAX_DEADLINE", "2s")
        .set("GRPC__MAX_BATCH_DEADLINE", "2s")
        .set("GRPC__MAX_CONNECTION_AGE_GRACE", "2s")
        .start()
        .await;
    app.hubspot.limit(|limits| limits.burst = 10_000);
    let ids = large_answer(&app).await;
    let properties = vec!["hs_lead_name".to_owned()];
    let request = pb::BatchGetLeadsRequest { ids, properties, ..Default::default() };
    let message = prost::Message::encode_to_vec(&request);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[0][..], &length, &message].concat();
    let response = app.leads.clone().batch_get_leads(request).await.unwrap().into_inner();
    // The last bytes do not fit in the window: HTTP/2 holds them.
    let size = 5 + prost::Message::encoded_len(&response);
    let window = u32::try_from(size - 100).unwrap();
    let mut client = RawConnection::connect(&app.grpc, &[(WINDOW, window)]).await;
    client.frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes()).await;
    client.call(1, &leads_rpc("BatchGetLeads"), 0).await;
    client.frame(DATA, END_STREAM, 1, &framed).await;
    let goaway = client.until_answering_pings(|frame| frame.kind == GOAWAY).await;
    goaway.expect("the connection is closed gracefully");
    until_metric(&app, &closed("unread"), |count| count == 1.0).await;
    for limit in ["memory", "in_flight"] {
        let used = format!("leadsd_admission_used{{limit=\"{limit}\"}}");
        until_metric(&app, &used, |used| used == 0.0).await;
    }
    others_are_served(&app).await;
}

#[tokio::test]
async fn rapid_resets_close_only_their_connection() {
    // A client may reset as many streams at once as it may open, and at least 256.
    let app = TestApp::builder().set("GRPC__MAX_STREAMS_PER_CONNECTION", "200").start().await;
    let id = app.lead("Jane");
    let message = prost::Message::encode_to_vec(&pb::GetLeadRequest { id, ..Default::default() });
    let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    framed.extend(message);
    let mut rapid = RawConnection::connect(&app.grpc, &[]).await;
    let path = request_headers("/leadsd.v1.LeadsService/GetLead", &[]);
    let mut burst = Vec::new();
    for number in 0..20_000_u32 {
        let stream = number * 2 + 1;
        burst.extend(frame(HEADERS, 4, stream, &path));
        burst.extend(frame(DATA, END_STREAM, stream, &framed));
        burst.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let storm = async {
        rapid.send(&burst).await;
        rapid.until(|frame| frame.kind == GOAWAY).await
    };
    let (ended, ()) = tokio::join!(storm, others_are_served(&app));
    // ENHANCE_YOUR_CALM.
    let goaway = ended.expect("a GOAWAY with a code");
    assert_eq!(goaway.payload[4..8], 11_u32.to_be_bytes());
    until_metric(&app, r#"leadsd_admission_used{limit="in_flight"}"#, |used| used == 0.0).await;
    assert!(app.hubspot_calls().len() < 100, "HubSpot's quota is not spent on it");
    others_are_served(&app).await;
}

#[tokio::test]
async fn streams_over_the_connection_limit_are_refused() {
    let app = TestApp::builder().set("GRPC__MAX_STREAMS_PER_CONNECTION", "2").start().await;
    let mut raw = RawConnection::connect(&app.grpc, &[]).await;
    let settings = raw.until(|frame| frame.kind == SETTINGS).await.unwrap();
    // SETTINGS_MAX_CONCURRENT_STREAMS
    assert!(settings.payload.chunks(6).any(|one| one == [0, 3, 0, 0, 0, 2]), "{settings:?}");
    raw.frame(SETTINGS, ACK, 0, &[]).await;
    for stream in [1, 3, 5] {
        raw.call(stream, &leads_rpc("GetLead"), 0).await;
    }
    let refused = raw.until(|frame| frame.kind == RST_STREAM).await.unwrap();
    // REFUSED_STREAM: a client may retry on another connection.
    assert_eq!((refused.stream, refused.payload), (5, 7_u32.to_be_bytes().to_vec()));
    raw.frame(DATA, END_STREAM, 1, &[0, 0, 0, 0, 0]).await;
    let answer = raw.until(|frame| frame.kind == HEADERS).await.unwrap();
    assert_eq!(answer.stream, 1);
    others_are_served(&app).await;
}

#[tokio::test]
async fn connection_over_the_limit_is_rejected_except_for_health() {
    let app = TestApp::builder()
        .set("GRPC__MAX_CONNECTIONS", "2")
        .set("GRPC__MAX_CALLER_SHARE", "1.0")
        .start()
        .await;
    let id = app.lead("Jane");
    // The client of the app connects lazily and is not connected yet.
    let held = [connect(&app).await, connect(&app).await];
    until_metric(&app, r#"leadsd_admission_used{limit="connections"}"#, |used| used == 2.0).await;
    let third = connect(&app).await;
    let request = pb::GetLeadRequest { id, ..Default::default() };
    refused_for(
        LeadsServiceClient::new(third.clone()).get_lead(request.clone()).await,
        "connections",
    );
    assert_eq!(health(third).await.expect("a probe is answered"), 1);
    for channel in &held {
        let mut leads = LeadsServiceClient::new(channel.clone());
        leads.get_lead(request.clone()).await.expect("open streams are served");
    }
    drop(held);
    until_metric(&app, r#"leadsd_admission_used{limit="connections"}"#, |used| used == 0.0).await;
    others_are_served(&app).await;
}

#[tokio::test]
async fn calls_over_the_limit_are_rejected_immediately_and_probes_are_not() {
    let app = TestApp::builder().set("GRPC__MAX_IN_FLIGHT", "1").start().await;
    let (id, held) = (app.lead("Jane"), Gate::new());
    app.hubspot.script("GET", &format!("/{id}"), ScriptedResponse::Held(held.clone()));
    let mut leads = app.leads.clone();
    let request = pb::GetLeadRequest { id, ..Default::default() };
    let first = tokio::spawn({
        let (mut leads, request) = (app.leads.clone(), request.clone());
        async move { leads.get_lead(request).await }
    });
    let in_flight = r#"leadsd_admission_used{limit="in_flight"}"#;
    until_metric(&app, in_flight, |used| used == 1.0).await;
    refused_for(leads.list_leads(pb::ListLeadsRequest::default()).await, "in_flight");
    assert_eq!(health(connect(&app).await).await.unwrap(), 1);
    held.open();
    first.await.unwrap().expect("the first is served");
    until_metric(&app, in_flight, |used| used == 0.0).await;
    others_are_served(&app).await;
    assert_eq!(metric(&app, r#"leadsd_admission_rejected_total{limit="in_flight"}"#).await, 1.0);
}

#[tokio::test]
async fn write_is_in_flight_until_it_ends_even_if_cancelled() {
    let app = TestApp::builder().set("GRPC__MAX_IN_FLIGHT", "1").start().await;
    let held = Gate::new();
    app.hubspot.script("POST", "/leads", ScriptedResponse::Held(held.clone()));
    let mut request = Request::new(app.create_request("Jane"));
    request.set_timeout(Duration::from_secs(1));
    app.leads.clone().create_lead(request).await.expect_err("the caller does not wait");
    assert_eq!(app.hubspot.scripts_left(), 0, "HubSpot has received the request");
    refused_for(app.leads.clone().list_leads(pb::ListLeadsRequest::default()).await, "in_flight");
    held.open();
    until_metric(&app, r#"leadsd_admission_used{limit="in_flight"}"#, |used| used == 0.0).await;
    assert_eq!(app.hubspot.lead_names(), ["Jane"]);
}

#[tokio::test]
async fn bytes_over_the_limit_are_rejected_and_small_calls_continue() {
    let app = TestApp::builder()
        .set("GRPC__MAX_REQUEST_SIZE", "1MiB")
        .set("GRPC__MAX_REQUEST_MEMORY", "1536KiB")
        .set("GRPC__MAX_CALLER_SHARE", "1.0")
        .set("GRPC__MAX_RESPONSE_SIZE", "1MiB")
        .start()
        .await;
    // Most of a large message, without its end.
    let mut slow = RawConnection::connect(&app.grpc, &[]).await;
    slow.acknowledge_settings().await;
    slow.call(1, &leads_rpc("BatchGetLeads"), 0).await;
    slow.frame(DATA, 0, 1, &[&[0][..], &900_000_u32.to_be_bytes()].concat()).await;
    // An unknown field, which takes nothing when it is decoded.
    slow.frame(DATA, 0, 1, &[0x9a, 0x06, 0x9a, 0xf7, 0xb6, 0x00]).await;
    let mut window = 65_524;
    for _ in 0..50 {
        while window < 16_000 {
            let is_update = |frame: &Frame| frame.kind == WINDOW_UPDATE && frame.stream == 1;
            let update = slow.until_answering_pings(is_update).await.expect("a larger window");
            window += u32::from_be_bytes(update.payload.try_into().expect("four bytes"));
        }
        slow.frame(DATA, 0, 1, &[0; 16_000]).await;
        window -= 16_000;
    }
    let memory = r#"leadsd_admission_used{limit="memory"}"#;
    // The call without a complete message is charged for its metadata and its stream as well.
    until_metric(&app, memory, |used| (800_011.0..810_000.0).contains(&used)).await;
    let mut large = app.create_request("Jane");
    large.properties.insert("hs_lead_name".to_owned(), "x".repeat(400_000));
    refused_for(app.leads.clone().create_lead(large.clone()).await, "memory");
    // The compressed message is small; its decompressed size counts.
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut leads = app.leads.clone().send_compressed(encoding);
        refused_for(leads.create_lead(large.clone()).await, "memory");
    }
    others_are_served(&app).await;
    drop(slow);
    until_metric(&app, memory, |used| used == 0.0).await;
    app.leads.clone().create_lead(large).await.expect("there is room again");
    until_metric(&app, memory, |used| used == 0.0).await;
}

#[tokio::test]
async fn health_watches_and_open_probes_are_bounded_per_connection() {
    let app = TestApp::start().await;
    let channel = connect(&app).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        let request = HealthCheckRequest { service: String::new() };
        held.push(HealthClient::new(channel.clone()).watch(request).await.expect("a watch"));
    }
    refused_for(health(channel.clone()).await, "probes");
    others_are_served(&app).await;
    held.clear();
    until_metric(&app, r#"leadsd_admission_used{limit="probes"}"#, |used| used == 0.0).await;
    assert_eq!(health(channel).await.expect("there is room again"), 1);
    // A request without its body.
    let mut slow = RawConnection::connect(&app.grpc, &[]).await;
    slow.frame(HEADERS, 4, 1, &request_headers("/grpc.health.v1.Health/Check", &[])).await;
    slow.frame(HEADERS, 4, 3, &request_headers("/grpc.health.v1.Health/Watch", &[])).await;
    for _ in 0..2 {
        let ended =
            slow.until_answering_pings(|frame| frame.kind == HEADERS).await.expect("an answer");
        assert_eq!(ended.flags & END_STREAM, END_STREAM);
    }
    // A request with an invalid service name.
    let large = HealthCheckRequest { service: "x".repeat(2_000) };
    let (code, reason, _) = failure(HealthClient::new(connect(&app).await).check(large).await);
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "REQUEST_TOO_LARGE"));
}

#[tokio::test]
async fn probes_are_answered_when_the_memory_is_full() {
    let app = TestApp::builder()
        .set("GRPC__MAX_REQUEST_SIZE", "6MiB")
        .set("GRPC__MAX_REQUEST_MEMORY", "6MiB")
        .set("GRPC__MAX_CALLER_SHARE", "1.0")
        .set("QUOTA__BURST", "10000")
        .start()
        .await;
    app.hubspot.limit(|limits| limits.burst = 10_000);
    let request = pb::BatchGetLeadsRequest {
        ids: large_answer(&app).await,
        properties: vec!["hs_lead_name".to_owned()],
        ..Default::default()
    };
    let message = prost::Message::encode_to_vec(&request);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[0][..], &length, &message].concat();
    // An unread response, beside which a large request has no room.
    let mut slow = RawConnection::connect(&app.grpc, &[(WINDOW, 1_000)]).await;
    slow.call(1, &leads_rpc("BatchGetLeads"), 0).await;
    slow.frame(DATA, END_STREAM, 1, &framed).await;
    slow.until_answering_pings(|frame| frame.kind == DATA).await.expect("the answer begins");
    let memory = r#"leadsd_admission_used{limit="memory"}"#;
    until_metric(&app, memory, |used| (900_000.0..1_100_000.0).contains(&used)).await;
    let mut large = app.create_request("Jane");
    // With its decoded and encoded copies, it would fit alone.
    large.properties.insert("hs_lead_name".to_owned(), "x".repeat(1_850_000));
    refused_for(app.leads.clone().create_lead(large).await, "memory");
    assert_eq!(health(connect(&app).await).await.expect("a probe is answered"), 1);
}

#[tokio::test]
async fn oversized_requests_are_rejected_with_their_reason() {
    let app = TestApp::builder().set("GRPC__MAX_REQUEST_SIZE", "64KiB").start().await;
    let mut large = app.create_request("Jane");
    large.properties = properties(&[("hs_lead_name", &"x".repeat(8 << 20))]);
    let too_large = |answer: Result<_, Status>| {
        let (code, reason, _) = failure(answer);
        assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "REQUEST_TOO_LARGE"));
    };
    too_large(app.leads.clone().create_lead(large.clone()).await);
    // Eight mebibytes of one letter compress to a few kilobytes.
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut leads = app.leads.clone().send_compressed(encoding);
        too_large(leads.create_lead(large.clone()).await);
    }
    assert_eq!(metric(&app, r#"leadsd_admission_rejected_total{limit="message_size"}"#).await, 3.0);
    let mut heavy = Request::new(app.create_request("Jane"));
    heavy.metadata_mut().insert("x-much", "x".repeat(20_000).parse().unwrap());
    too_large(app.leads.clone().create_lead(heavy).await);
    assert_eq!(metric(&app, r#"leadsd_admission_rejected_total{limit="header_size"}"#).await, 1.0);
    // Above twice the bound, HTTP/2 itself rejects the headers.
    let mut huge = Request::new(app.create_request("Jane"));
    huge.metadata_mut().insert("x-much", "x".repeat(60_000).parse().unwrap());
    app.leads.clone().create_lead(huge).await.expect_err("refused");
    assert_eq!(app.hubspot_calls(), Vec::<String>::new());
    others_are_served(&app).await;
}

#[tokio::test]
async fn connections_end_at_their_maximum_age_without_losing_calls() {
    let app = TestApp::builder()
        .set("GRPC__MAX_CONNECTION_AGE", "150ms")
        .set("GRPC__MAX_CONNECTION_AGE_GRACE", "20s")
        .set("GRPC__MAX_DEADLINE", "20s")
        .set("GRPC__MAX_BATCH_DEADLINE", "20s")
        .start()
        .await;
    let id = app.lead("Jane");
    let mut watched = QuotaServiceClient::new(connect(&app).await);
    let mut quotas =
        watched.watch_quota(pb::WatchQuotaRequest::default()).await.unwrap().into_inner();
    let calls = async {
        let mut calls = 0;
        while calls <= 20 || metric(&app, &closed("age")).await < 5.0 {
            // A client retries a call that the closing connection did not accept, as gRPC
            // specifies.
            let call = unless_unsent(async || app.get(&id).await).await;
            call.expect("no call is lost");
            calls += 1;
        }
    };
    tokio::time::timeout(PATIENCE, calls).await.expect("connections come and go");
    assert_eq!(metric(&app, &closed("forced")).await, 0.0);
    let ended = async { while quotas.message().await.expect("no error").is_some() {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the open call ends");
}

#[tokio::test]
async fn call_ends_by_its_deadline_and_not_by_the_age_of_its_connection() {
    let app = TestApp::builder()
        .set("GRPC__MAX_CONNECTION_AGE", "100ms")
        .set("GRPC__MAX_CONNECTION_AGE_GRACE", "1s")
        .set("GRPC__MAX_DEADLINE", "1s")
        .set("GRPC__MAX_BATCH_DEADLINE", "1s")
        .start()
        .await;
    let id = app.lead("Jane");
    app.hubspot.script("GET", &format!("/{id}"), ScriptedResponse::Held(Gate::new()));
    let status = app.get(&id).await.expect_err("no response");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    until_metric(&app, &closed("age"), |count| count >= 1.0).await;
    assert_eq!(metric(&app, &closed("forced")).await, 0.0);
    until_metric(&app, r#"leadsd_admission_used{limit="in_flight"}"#, |used| used == 0.0).await;
}

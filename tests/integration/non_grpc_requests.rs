//! Requests that are not well-formed gRPC requests: none has an effect, and each gets an error of HTTP or
//! of gRPC.

use axum::http::{HeaderMap, Method, StatusCode};
use leadsd::grpc::pb;
use leadsd_hubspot_fake::ScriptedResponse;
use leadsd_testkit::http2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, RawConnection, hpack,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{TestApp, leads_rpc};

/// Target of audit events.
const AUDIT: &str = "leadsd::audit";

/// Request id of the requests of a test.
const ID: &str = "not-grpc";

/// Client of HTTP/2 without gRPC.
struct Client {
    http: reqwest::Client,
    grpc: String,
}

/// Response to a request.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

// === impl Client ===

impl Client {
    fn new(app: &TestApp) -> Self {
        let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
        Self { http, grpc: app.grpc.clone() }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &'static str)],
        body: Vec<u8>,
    ) -> Answer {
        let url = format!("http://{}{path}", self.grpc);
        let mut request = self.http.request(method, url).header("x-request-id", ID).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("a response");
        let (status, headers) = (answer.status(), answer.headers().clone());
        Answer { status, headers, body: answer.text().await.unwrap() }
    }

    /// Sends a gRPC request and returns its error, from the headers of the response.
    async fn fail(
        &self,
        path: &str,
        more: &[(&'static str, &'static str)],
        body: Vec<u8>,
    ) -> (Code, String, Status, HeaderMap) {
        let headers = [&[("content-type", "application/grpc"), ("te", "trailers")], more].concat();
        let answer = self.send(Method::POST, path, &headers, body).await;
        assert_eq!(answer.status, StatusCode::OK);
        let status = Status::from_header_map(&answer.headers).expect("a gRPC status");
        let info = status.get_details_error_info().expect("an ErrorInfo");
        (status.code(), info.reason, status, answer.headers)
    }
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat()
}

/// Asserts that nothing was written or audited, and that calls are served.
async fn assert_untouched(app: &TestApp) {
    assert_eq!(app.hubspot_calls(), Vec::<String>::new());
    assert_eq!(app.logs.events(AUDIT, ID), Vec::<String>::new());
    app.leads.clone().create_lead(app.create_request("Jane")).await.expect("served");
}

#[tokio::test]
async fn other_http_methods_are_405_and_have_no_effect() {
    let app = TestApp::start().await;
    let client = Client::new(&app);
    let body = framed(&app.create_request("Jane"));
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "QUERY"] {
        let verb = Method::from_bytes(method.as_bytes()).unwrap();
        let path = leads_rpc("CreateLead");
        let answer = client.send(verb, &path, &grpc, body.clone()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.headers["allow"], "POST", "{method}");
        assert_eq!(answer.headers["x-request-id"], ID);
        assert!(!answer.headers.contains_key("grpc-status"), "{method}");
        assert_eq!(answer.body.contains("gRPC"), method != "HEAD", "{method}");
    }
    // Also where no credential is required, and without a method.
    for path in ["/grpc.health.v1.Health/Check", "/", "/metrics"] {
        let answer = client.send(Method::GET, path, &[], Vec::new()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    assert_untouched(&app).await;
}

#[tokio::test]
async fn connect_has_no_effect_on_other_calls() {
    let app = TestApp::start().await;
    let mut raw = RawConnection::connect(&app.grpc, &[]).await;
    let connect = hpack(&[(":method", "CONNECT"), (":authority", "example.com:443")]);
    raw.frame(HEADERS, END_HEADERS, 1, &connect).await;
    let answer = raw.until(|frame| frame.kind == HEADERS).await.expect("a response");
    assert_eq!(answer.stream, 1);
    assert_eq!(answer.flags & END_STREAM, 0, "the text follows");
    assert_untouched(&app).await;
}

/// Huffman codes of RFC 7541 of the characters in the tests, with their lengths.
const HUFFMAN: [(char, u32, u32); 13] = [
    ('0', 0x0, 5),
    ('1', 0x1, 5),
    ('2', 0x2, 5),
    ('5', 0x1b, 6),
    ('7', 0x1d, 6),
    ('.', 0x17, 6),
    (':', 0x5c, 7),
    (',', 0xfa, 8),
    (' ', 0x14, 6),
    ('a', 0x3, 5),
    ('b', 0x23, 6),
    ('l', 0x28, 6),
    ('[', 0x1ffb, 13),
];

/// The field `:authority` with index 1 and Huffman coding.
fn coded_authority(value: &str) -> Vec<u8> {
    let mut bits = Vec::new();
    for char in value.chars() {
        let (_, code, length) = HUFFMAN.into_iter().find(|(c, ..)| *c == char).expect("a code");
        bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    }
    let coded = bits.chunks(8).map(|byte| {
        // The padding is ones.
        let bit = |at: usize| u8::from(byte.get(at).copied().unwrap_or(true)) << (7 - at);
        (0..8).map(bit).sum::<u8>()
    });
    let coded: Vec<u8> = coded.collect();
    [&[0x41, 0x80 | u8::try_from(coded.len()).unwrap()][..], &coded].concat()
}

#[tokio::test]
async fn the_authority_may_be_absent_or_any_host_and_an_invalid_one_fails_only_its_call_with_a_text()
 {
    const PATH: &str = "/grpc.health.v1.Health/Check";
    let app = TestApp::start().await;
    let mut raw = RawConnection::connect(&app.grpc, &[]).await;
    let long = vec!["127.0.0.1:50051"; 40].join(",");
    let literal = |value: &str| hpack(&[(":authority", value)]);
    let valid = [
        Vec::new(),
        literal("leadsd"),
        literal("localhost"),
        literal("[::1]:50051"),
        // Lists of addresses, as gRPC's C core sends them for such a target, and paths of sockets.
        literal("127.0.0.1:50051,127.0.0.1:50052"),
        literal("127.0.0.1:1%2C127.0.0.1:2"),
        literal("[::1]:50051,[::1]:50052"),
        literal(&long),
        literal("/run/leadsd.sock"),
        coded_authority("127.0.0.1:5001"),
    ];
    let invalid = [
        literal(""),
        literal("a b"),
        literal("a:1:2"),
        literal("[::1"),
        // Not UTF-8, and UTF-8 beyond ASCII.
        vec![0x41, 2, 0xff, 0xfe],
        vec![0x41, 3, b'a', 0xc3, 0xb4],
        vec![0x41, 0],
        vec![0x41, 0x80],
        coded_authority("a b"),
        coded_authority("[::1"),
        coded_authority("127.0.0.1:50051,127.0.0.1:50052"),
        // A second one.
        [literal("a"), literal("b")].concat(),
    ];
    let valid = valid.into_iter().map(|authority| (authority, true));
    let invalid = invalid.into_iter().map(|authority| (authority, false));
    let mut stream = 1;
    for (authority, is_valid) in valid.chain(invalid).chain([(Vec::new(), true)]) {
        let before = hpack(&[(":method", "POST"), (":scheme", "http"), (":path", PATH)]);
        let after = hpack(&[("content-type", "application/grpc"), ("te", "trailers")]);
        let headers = [before, authority.clone(), after].concat();
        raw.frame(HEADERS, END_HEADERS, stream, &headers).await;
        raw.frame(DATA, END_STREAM, stream, &[0; 5]).await;
        let answer = raw.until(|frame| frame.stream == stream).await;
        let answer = answer.expect("the connection lives");
        assert_eq!(answer.kind, HEADERS, "{authority:?}");
        let text = String::from_utf8_lossy(&answer.payload).into_owned();
        let is_refused = text.contains("grpc-status\u{1}3") && text.contains("as%20malformed");
        assert_eq!(is_refused, !is_valid, "{authority:?}: {text}");
        if is_refused {
            assert_eq!(answer.flags & END_STREAM, END_STREAM);
            let reset = raw.until(|frame| frame.stream == stream).await.unwrap();
            assert_eq!((reset.kind, &reset.payload[..]), (RST_STREAM, &[0; 4][..]), "NO_ERROR");
        }
        stream += 2;
    }
}

#[tokio::test]
async fn other_malformed_requests_get_a_response_too() {
    let app = TestApp::start().await;
    let mut raw = RawConnection::connect(&app.grpc, &[]).await;
    let call = [("content-type", "application/grpc"), ("te", "trailers")];
    let requests = [
        vec![(":method", "POST"), (":scheme", "http")],
        vec![(":method", "POST"), (":path", "/x")],
        vec![(":scheme", "http"), (":path", "/x")],
        vec![(":method", "POST"), (":scheme", "http"), (":path", "")],
        vec![(":method", "POST"), (":scheme", "http"), (":path", "/x"), ("connection", "close")],
        vec![(":method", "POST"), (":scheme", "http"), (":path", "/x"), ("content-length", "9")],
    ];
    for (headers, number) in requests.into_iter().zip(0..) {
        let stream = 2 * number + 1;
        let headers = [&headers[..], &call].concat();
        raw.frame(HEADERS, END_HEADERS, stream, &hpack(&headers)).await;
        raw.frame(DATA, END_STREAM, stream, &[0; 5]).await;
        let answer = raw.until(|frame| frame.stream == stream).await;
        let answer = answer.expect("the connection lives");
        // leadsd or the wrapper of the connection responds; none of them is a reset alone.
        assert_eq!((answer.kind, answer.flags & END_STREAM), (HEADERS, END_STREAM), "{headers:?}");
    }
    assert_untouched(&app).await;
}

#[tokio::test]
async fn other_content_types_are_415_and_have_no_effect() {
    let app = TestApp::start().await;
    let client = Client::new(&app);
    let body = framed(&app.create_request("Jane"));
    let path = leads_rpc("CreateLead");
    for types in [
        &[][..],
        &["text/plain"],
        &["application/json"],
        &["application/grpc-web"],
        &["application/grpc+json"],
        &["application/grpc", "text/plain"],
        &["application/grpc", "application/grpc"],
    ] {
        let types: Vec<_> = types.iter().map(|value| ("content-type", *value)).collect();
        let answer = client.send(Method::POST, &path, &types, body.clone()).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{types:?}");
        assert!(answer.headers["accept-post"].to_str().unwrap().contains("application/grpc+proto"));
        assert!(!answer.headers.contains_key("grpc-status"), "{types:?}");
        assert!(answer.body.contains("content-type"), "{}", answer.body);
    }
    assert_untouched(&app).await;
}

#[tokio::test]
async fn grpc_content_types_are_served_in_any_spelling_and_without_te() {
    let app = TestApp::start().await;
    let client = Client::new(&app);
    let body = framed(&app.create_request("Jane"));
    let path = leads_rpc("CreateLead");
    for kind in ["application/grpc", "Application/GRPC+Proto", "application/grpc; charset=utf-8"] {
        let headers = [("content-type", kind)];
        let answer = client.send(Method::POST, &path, &headers, body.clone()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers["content-type"], "application/grpc");
        assert!(!answer.headers.contains_key("grpc-status"), "{:?}", answer.headers);
    }
    assert_eq!(app.hubspot_calls().len(), 3);
}

#[tokio::test]
async fn a_unary_call_takes_exactly_one_message() {
    let app = TestApp::start().await;
    let client = Client::new(&app);
    let one = framed(&app.create_request("Jane"));
    let empty = framed(&pb::GetLeadRequest::default());
    for (body, text) in [
        (Vec::new(), "no request message"),
        ([one.clone(), one.clone()].concat(), "more than one request message"),
        ([one.clone(), empty].concat(), "more than one request message"),
        ([&one[..], &[0]].concat(), "more than one request message"),
    ] {
        let (code, reason, status, _) = client.fail(&leads_rpc("CreateLead"), &[], body).await;
        assert_eq!((code, reason.as_str()), (Code::Unimplemented, "UNIMPLEMENTED"));
        assert!(status.message().contains(text), "{status:?}");
    }
    assert_untouched(&app).await;
}

#[tokio::test]
async fn a_malformed_timeout_is_an_invalid_argument() {
    let app = TestApp::start().await;
    let client = Client::new(&app);
    let body = framed(&app.create_request("Jane"));
    let cases = ["", "5", "-1S", "123456789S", "1.5S", "5s", "5 S", "never"]
        .map(|timeout| vec![("grpc-timeout", timeout)]);
    let twice = vec![("grpc-timeout", "5S"), ("grpc-timeout", "6S")];
    for headers in cases.into_iter().chain([twice]) {
        for path in [leads_rpc("CreateLead"), "/grpc.health.v1.Health/Check".to_owned()] {
            let (code, reason, status, _) = client.fail(&path, &headers, body.clone()).await;
            let found = (code, reason.as_str());
            assert_eq!(found, (Code::InvalidArgument, "INVALID_REQUEST"), "{headers:?}");
            let details = status.get_error_details();
            let field = &details.bad_request().unwrap().field_violations[0].field;
            assert_eq!(field, "grpc-timeout");
            assert!(status.message().contains("grpc-timeout: must be"), "{status:?}");
        }
    }
    assert_untouched(&app).await;
}

#[tokio::test]
async fn unknown_methods_and_services_are_unimplemented_with_a_reason() {
    let app = TestApp::start().await;
    let client = Client::new(&app);
    for (path, text) in [
        (leads_rpc("CreateLeads"), "service leadsd.v1.LeadsService has no method \"CreateLeads\""),
        ("/leadsd.v2.LeadsService/CreateLead".to_owned(), "no service \"leadsd.v2.LeadsService\""),
        ("/grpc.health.v1.Health/Nope".to_owned(), "service grpc.health.v1.Health has no method"),
        ("/".to_owned(), "no service \"\""),
        ("/x".to_owned(), "no service \"x\""),
    ] {
        let body = framed(&app.create_request("Jane"));
        let (code, reason, status, _) = client.fail(&path, &[], body).await;
        assert_eq!((code, reason.as_str()), (Code::Unimplemented, "UNIMPLEMENTED"), "{path}");
        assert!(status.message().contains(text), "{status:?}");
        assert_eq!(status.get_error_details().request_info().unwrap().request_id, ID);
    }
    assert_untouched(&app).await;
}

#[tokio::test]
async fn unsupported_encodings_are_unimplemented_and_the_response_lists_the_supported_ones() {
    let app = TestApp::start().await;
    let client = Client::new(&app);
    let body = framed(&app.create_request("Jane"));
    let twice = [("grpc-encoding", "gzip"), ("grpc-encoding", "gzip")];
    for headers in [&[("grpc-encoding", "br")][..], &[("grpc-encoding", "")], &twice] {
        for path in [leads_rpc("CreateLead"), "/grpc.health.v1.Health/Check".to_owned()] {
            let (code, reason, _, headers) = client.fail(&path, headers, body.clone()).await;
            assert_eq!((code, reason.as_str()), (Code::Unimplemented, "UNIMPLEMENTED"));
            assert_eq!(headers["grpc-accept-encoding"], "identity,gzip,zstd");
        }
    }
    // The flag of a compressed message, without its encoding.
    let mut flagged = body;
    flagged[0] = 1;
    for headers in [&[][..], &[("grpc-encoding", "identity")]] {
        let path = leads_rpc("CreateLead");
        let (code, reason, _, _) = client.fail(&path, headers, flagged.clone()).await;
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
    }
    assert_untouched(&app).await;
}

/// Size of the headers of a failed response as HTTP/2 counts them.
fn header_list_size(headers: &HeaderMap) -> usize {
    let size = |name: &str, value: &[u8]| name.len() + value.len() + 32;
    let all = headers.iter().map(|(name, value)| size(name.as_str(), value.as_bytes()));
    all.sum::<usize>() + size(":status", b"200")
}

#[tokio::test]
async fn large_errors_of_hubspot_fit_in_the_headers_that_clients_accept() {
    let app = TestApp::start().await;
    let client = Client::new(&app);
    let options = (0..60).map(|at| format!("option_{at}")).collect::<Vec<_>>().join(", ");
    let errors: Vec<_> = (0..16)
        .map(|at| {
            serde_json::json!({
                "message": format!("v was not among: [{options}]"),
                "code": "INVALID_OPTION",
                "context": {"propertyName": [format!("p_{at}")]},
            })
        })
        .collect();
    let rejection = |message: &str, errors: &[serde_json::Value]| {
        let body = serde_json::json!({
            "status": "error",
            "category": "VALIDATION_ERROR",
            "message": message,
            "errors": errors,
        });
        ScriptedResponse::Reply(400, "application/json", body.to_string())
    };
    let many = rejection("not valid", &errors);
    let long = rejection(&"漢".repeat(500), &[]);
    for (answer, omitted) in [(many, true), (long, false)] {
        app.hubspot.script("POST", "/leads", answer);
        let body = framed(&app.create_request("Jane"));
        let path = leads_rpc("CreateLead");
        let (code, reason, status, headers) = client.fail(&path, &[], body).await;
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"));
        let size = header_list_size(&headers);
        assert!(size <= 8_192, "{size} bytes");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata.contains_key("omittedDetails"), omitted, "{info:?}");
    }
    app.scripts_used().await;
}

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

#[tokio::test]
async fn the_authority_may_be_absent_or_any_host_and_an_invalid_one_fails_only_its_call() {
    const PATH: &str = "/grpc.health.v1.Health/Check";
    let app = TestApp::start().await;
    let mut raw = RawConnection::connect(&app.grpc, &[]).await;
    let long = vec!["127.0.0.1:50051"; 40].join(",");
    let valid = [
        None,
        Some("leadsd"),
        Some("localhost"),
        Some("[::1]:50051"),
        // Lists of addresses, as gRPC's C core sends them for such a target, and paths of sockets.
        Some("127.0.0.1:50051,127.0.0.1:50052"),
        Some("127.0.0.1:1%2C127.0.0.1:2"),
        Some("[::1]:50051,[::1]:50052"),
        Some(&long),
        Some("/run/leadsd.sock"),
    ];
    let invalid = [Some(""), Some("a b"), Some("a:1:2"), Some("[::1")];
    let mut stream = 1;
    for (authority, is_valid) in valid
        .iter()
        .map(|a| (a, true))
        .chain(invalid.iter().map(|a| (a, false)))
        .chain([(&None, true)])
    {
        let mut headers = vec![(":method", "POST"), (":scheme", "http"), (":path", PATH)];
        headers.extend(authority.map(|authority| (":authority", authority)));
        headers.extend([("content-type", "application/grpc"), ("te", "trailers")]);
        raw.frame(HEADERS, END_HEADERS, stream, &hpack(&headers)).await;
        raw.frame(DATA, END_STREAM, stream, &[0; 5]).await;
        let is_answer = |kind| kind == HEADERS || kind == RST_STREAM;
        let answer = raw.until(|frame| frame.stream == stream && is_answer(frame.kind)).await;
        let answer = answer.expect("the connection lives");
        assert_eq!(answer.kind == HEADERS, is_valid, "{authority:?}");
        stream += 2;
    }
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

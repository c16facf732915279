//! `leadsd call` against servers that lie, hang, or send too much.

use std::{convert::Infallible, net::SocketAddr};

use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use leadsd::grpc::pb;
use prost::{Message, bytes::Bytes};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{call, leadsd_call, ran};

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(super) type Respond = fn() -> Response<Body>;

/// A message in the framing of gRPC.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

fn trailers(pairs: &[(&'static str, &str)]) -> Frame<Bytes> {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.insert(*name, value.parse().unwrap());
    }
    Frame::trailers(map)
}

pub(super) fn ok() -> Frame<Bytes> {
    trailers(&[("grpc-status", "0")])
}

/// A response with these frames.
pub(super) fn responds(frames: Vec<Frame<Bytes>>) -> Response<Body> {
    streams(stream::iter(frames))
}

fn streams(frames: impl stream::Stream<Item = Frame<Bytes>> + Send + 'static) -> Response<Body> {
    let body = StreamBody::new(frames.map(Ok::<_, Infallible>)).boxed_unsync();
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

fn lead(id: &str) -> Frame<Bytes> {
    let lead = pb::Lead { id: id.into(), ..Default::default() };
    Frame::data(framed(
        &pb::GetLeadResponse { lead: Some(lead), labels_error: None }.encode_to_vec(),
    ))
}

/// Starts a server that responds to every call in this way.
pub(super) async fn server(respond: Respond) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service_fn(move |request: Request<Incoming>| async move {
                // The request is read to its end before the response.
                let _ = request.into_body().collect().await;
                Ok::<_, Infallible>(respond())
            });
            let http2 = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http2.serve_connection(TokioIo::new(socket), service));
        }
    });
    address.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_that_are_no_response_have_a_code_and_a_cause() {
    let table: [(&str, Respond, i32, &[&str]); 10] = [
        (
            "a message of more than the maximum",
            || responds(vec![Frame::data(framed(&vec![0; 2_000])), ok()]),
            72,
            &[
                "RESOURCE_EXHAUSTED: the response has a message of more than 1024 bytes",
                "remedy: raise --max-response-size",
            ],
        ),
        (
            "a length of 4 GiB",
            || responds(vec![Frame::data(Bytes::from_static(&[0, 255, 255, 255, 255])), ok()]),
            72,
            &["more than 1024 bytes"],
        ),
        ("no message", || responds(vec![ok()]), 77, &["INTERNAL: the service sent no response"]),
        (
            "two messages",
            || responds(vec![lead("1"), lead("2"), ok()]),
            77,
            &["INTERNAL: the service sent more than one response"],
        ),
        (
            "endless messages for one response",
            || streams(stream::repeat_with(|| lead("1"))),
            77,
            &["more than one response"],
        ),
        (
            "an invalid message",
            || responds(vec![Frame::data(framed(&[0xff; 9])), ok()]),
            77,
            &["INTERNAL: the response is no valid GetLeadResponse: "],
        ),
        (
            "a web page",
            || {
                let mut page = responds(vec![Frame::data(Bytes::from_static(b"<html>"))]);
                *page.status_mut() = http::StatusCode::BAD_GATEWAY;
                page.headers_mut().insert("content-type", "text/html".parse().unwrap());
                page
            },
            78,
            &["leadsd: UNAVAILABLE: "],
        ),
        ("no trailers", || responds(vec![lead("1")]), 66, &["leadsd: UNKNOWN: "]),
        (
            "an unknown code",
            || responds(vec![trailers(&[("grpc-status", "99"), ("grpc-message", "odd")])]),
            66,
            &["leadsd: UNKNOWN: odd"],
        ),
        (
            "details that are no status",
            || {
                let details = ("grpc-status-details-bin", "////");
                responds(vec![trailers(&[("grpc-status", "5"), details])])
            },
            69,
            &["leadsd: NOT_FOUND\n"],
        ),
    ];
    for (what, respond, code, parts) in table {
        let address = server(respond).await;
        let ran = call(&address, &["GetLead", "id=1", "--max-response-size", "1KiB"]).await;
        assert_eq!(ran.code, Some(code), "{what}: {ran:?}");
        ran.failed(code, parts);
        assert!(ran.out.is_empty(), "{what}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_characters_of_a_server_reach_no_terminal() {
    let respond = || {
        let evil = "\u{1b}]0;owned\u{7}\u{9b}31m\r\nroot: true\u{202e}";
        let properties = [(evil.to_owned(), evil.to_owned())].into();
        let lead = pb::Lead { id: evil.into(), properties, ..Default::default() };
        let message = pb::GetLeadResponse { lead: Some(lead), labels_error: None }.encode_to_vec();
        responds(vec![Frame::data(framed(&message)), ok()])
    };
    let address = server(respond).await;
    let is_unsafe = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    for arguments in [&["GetLead", "id=1"][..], &["GetLead", "id=1", "--json"]] {
        let ran = call(&address, arguments).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!ran.out.contains(is_unsafe) && ran.out.contains("\\u001b]0;owned"), "{ran:?}");
        assert!(!ran.out.contains("\nroot"), "{ran:?}");
    }
    let address = server(|| {
        // The message is percent-encoded.
        let message = "%1B]0;owned%07%0Aleadsd: OK%E2%80%AE";
        responds(vec![trailers(&[("grpc-status", "5"), ("grpc-message", message)])])
    })
    .await;
    let failed = call(&address, &["GetLead", "id=1", "--verbose"]).await;
    failed.failed(69, &["leadsd: NOT_FOUND: \\u{1b}]0;owned\\u{7}\\nleadsd: OK\\u{202e}\n"]);
    assert!(!failed.err.contains(is_unsafe), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_stream_is_written_message_by_message_until_the_reader_has_enough() {
    let respond = || {
        let quota = pb::Quota { portal: "x".repeat(100_000), ..Default::default() };
        let message = pb::WatchQuotaResponse { quota: Some(quota) }.encode_to_vec();
        let message = framed(&message);
        streams(stream::repeat_with(move || Frame::data(message.clone())))
    };
    let address = server(respond).await;
    let whole = call(&address, &["WatchQuota", "--max-messages", "500", "--json"]).await;
    assert_eq!((whole.code, whole.out.lines().count()), (Some(0), 500), "{}", whole.err);
    // `head` closes the pipe.
    let leadsd = crate::harness::LEADSD;
    let script = format!(
        "set -o pipefail; '{leadsd}' call WatchQuota --json --address {address} | head -n 2 | wc -l"
    );
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &script]).env_remove("HOME").env_remove("XDG_CONFIG_HOME");
    let piped = ran(shell).await;
    assert_eq!((piped.code, piped.out.trim(), piped.err.as_str()), (Some(0), "2", ""), "{piped:?}");
}

/// Starts a TCP server that does this with its first connection, and then keeps it open.
async fn tcp(bytes: &'static [u8], closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 64]).await;
                let _ = socket.write_all(bytes).await;
                if !closes {
                    // Until the client disconnects.
                    let _ = socket.read_to_end(&mut Vec::new()).await;
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_hang_close_or_speak_otherwise_end_the_call() {
    const HTTP1: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    for (what, address, code, part) in [
        ("silent", tcp(b"", false).await, 68, "DEADLINE_EXCEEDED: no response within 300ms"),
        ("closing", tcp(b"", true).await, 78, "UNAVAILABLE: "),
        ("HTTP/1", tcp(HTTP1, true).await, 78, "UNAVAILABLE: "),
    ] {
        let address = address.to_string();
        let ran = call(&address, &["GetLead", "id=1", "--deadline", "300ms"]).await;
        assert_eq!(ran.code, Some(code), "{what}: {ran:?}");
        ran.failed(code, &[part, "\n  remedy: "]);
    }
    // TLS is asked of a peer that does not speak it.
    let address = tcp(b"no TLS", false).await.to_string();
    let tls = ["GetLead", "id=1", "--tls", "--address", &address];
    ran(leadsd_call(&tls)).await.failed(78, &["cannot be reached: TLS failed: "]);
    let silent = tcp(b"", false).await.to_string();
    let tls = ["GetLead", "id=1", "--tls", "--address", &silent, "--deadline", "300ms"];
    ran(leadsd_call(&tls)).await.failed(68, &["DEADLINE_EXCEEDED: "]);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    call(&closed, &["GetLead"]).await.failed(78, &["cannot be reached: the connection is refused"]);
    let name = "no-such-host.invalid:1";
    call(name, &["GetLead"]).await.failed(78, &["cannot be reached: the name has no address"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_shows_what_arrived() {
    let address = server(|| {
        let message = pb::WatchQuotaResponse { quota: Some(pb::Quota::default()) };
        let status = trailers(&[("grpc-status", "14"), ("grpc-message", "closing")]);
        responds(vec![Frame::data(framed(&message.encode_to_vec())), status])
    })
    .await;
    let ran = call(&address, &["WatchQuota", "--json"]).await;
    ran.failed(78, &[r#""message":"closing""#]);
    assert_eq!(ran.out, "{\"quota\":{}}\n");
    let address = server(|| {
        // A message that never ends; the deadline does.
        let part = Frame::data(Bytes::from_static(&[0, 0, 0, 1, 0, 8]));
        streams(stream::iter([part]).chain(stream::pending()))
    })
    .await;
    let ran = call(&address, &["WatchQuota", "--deadline", "300ms"]).await;
    ran.failed(68, &["no response within 300ms"]);
}

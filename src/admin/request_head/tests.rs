//! Heads that are accepted, and heads that HTTP implementations read differently.

use std::pin::pin;

use tokio::{
    io::{AsyncWriteExt as _, duplex},
    time::{Instant, sleep},
};

use super::*;

/// Result for a client that sends these bytes and stays connected.
async fn result(bytes: &[u8]) -> Result<Vec<u8>, HeadError> {
    let (mut client, mut server) = duplex(64 * 1024);
    client.write_all(bytes).await.unwrap();
    read(&mut server).await
}

#[tokio::test(start_paused = true)]
async fn ordinary_heads_are_accepted() {
    for head in [
        "GET /live HTTP/1.1\r\nHost: localhost:9090\r\n\r\n",
        "GET /live HTTP/1.0\r\nhost: x\r\n\r\n",
        "PUT /log HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\ninfo",
        "PUT /log HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: Chunked\r\n\r\n4\r\ninfo\r\n0\r\n\r\n",
        "GET /metrics?a=b HTTP/1.1\r\nhost:x\r\naccept:\t*/*\r\nx-name: caf\u{e9}\r\nx-empty:\r\n\r\n",
    ] {
        assert_eq!(result(head.as_bytes()).await.as_deref(), Ok(head.as_bytes()), "{head}");
    }
}

#[tokio::test(start_paused = true)]
async fn ambiguous_heads_are_rejected() {
    for (head, cause) in [
        ("GET /live HTTP/1.1\nhost: x\n\n", "bare line feed"),
        ("GET /live HTTP/1.1\r\nhost: x\n\r\n", "bare line feed"),
        ("GET /live HTTP/1.1\r\nhost: x\r\n\n", "bare line feed"),
        ("GET /live HTTP/1.1\r\nhost: x\r\nx-a: a\rb\r\n\r\n", "carriage return"),
        ("GET /live HTTP/1.1\r\n\r\n", "exactly one Host"),
        ("GET /live HTTP/1.0\r\n\r\n", "exactly one Host"),
        ("GET /live HTTP/1.1\r\nhost: x\r\nHOST: y\r\n\r\n", "exactly one Host"),
        (
            "PUT /log HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
            "exclude each other",
        ),
        (
            "PUT /log HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n",
            "exclude each other",
        ),
        (
            "PUT /log HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\n",
            "repeated",
        ),
        ("PUT /log HTTP/1.1\r\nhost: x\r\ncontent-length: +4\r\n\r\n", "not a number"),
        ("PUT /log HTTP/1.1\r\nhost: x\r\ncontent-length: 4, 4\r\n\r\n", "not a number"),
        ("PUT /log HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "not chunked"),
        ("PUT /log HTTP/1.1\r\nhost: x\r\ntransfer-encoding: \x0bchunked\r\n\r\n", "not HTTP"),
        ("PUT /log HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", "HTTP/1.0"),
        ("PUT /log HTTP/1.1\r\nhost : x\r\n\r\n", "NAME: VALUE"),
        ("PUT /log HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n", "NAME: VALUE"),
        ("PUT /log HTTP/1.1\r\nhost: x\r\n: y\r\n\r\n", "NAME: VALUE"),
        ("GET http://evil.example/live HTTP/1.1\r\nhost: x\r\n\r\n", "not a path"),
        ("CONNECT evil.example:80 HTTP/1.1\r\nhost: x\r\n\r\n", "not a path"),
        ("OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", "not a path"),
        ("GET  /live HTTP/1.1\r\nhost: x\r\n\r\n", "METHOD PATH VERSION"),
        ("GET /live\r\n\r\n", "METHOD PATH VERSION"),
        ("GET /live HTTP/2.0\r\n", "neither"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "not a path"),
        ("\r\nGET /live HTTP/1.1\r\nhost: x\r\n\r\n", "empty line"),
        ("\x16\x03\x01\x02", "not HTTP"),
        ("GET /\0 HTTP/1.1\r\n", "not HTTP"),
    ] {
        let Err(HeadError::Malformed(text)) = result(head.as_bytes()).await else {
            panic!("accepted: {head:?}");
        };
        assert!(text.contains(cause), "{head:?}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn large_and_slow_heads_are_rejected() {
    let large = format!("GET /live HTTP/1.1\r\nhost: x\r\nx-large: {}", "x".repeat(MAX_HEAD));
    assert_eq!(result(large.as_bytes()).await, Err(HeadError::TooLarge));
    let (mut client, mut server) = duplex(64);
    let since = Instant::now();
    let trickle = async {
        for byte in b"GET /live HTTP/1.1\r\nhost: x\r\nx-slow: ".iter().cycle() {
            sleep(Duration::from_millis(500)).await;
            client.write_all(&[*byte]).await.unwrap();
        }
    };
    tokio::select! {
        read = read(&mut server) => assert_eq!(read, Err(HeadError::Timeout)),
        () = pin!(trickle) => unreachable!("it never ends"),
    }
    assert_eq!(since.elapsed(), TIMEOUT);
    let (client, mut server) = duplex(64);
    drop(client);
    assert_eq!(read(&mut server).await, Err(HeadError::Closed));
}

//! Frames that HTTP/2 writes, and what the client gets.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// Frame types DATA and PING.
const DATA: u8 = 0;
const PING: u8 = 6;

fn framed(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame(&mut bytes, kind, 0, stream, payload);
    bytes
}

/// A connection on which the client has sent these frames.
async fn connection(frames: &[Vec<u8>], size: usize) -> (DuplexStream, ResetStatus<DuplexStream>) {
    let sent = [&[b'P'; PREFACE][..], &frames.concat()].concat();
    let (mut client, server) = duplex(size);
    let mut server = ResetStatus::new(server);
    let mut received = vec![0; sent.len()];
    let (written, read) = tokio::join!(client.write_all(&sent), server.read_exact(&mut received));
    written.unwrap();
    read.unwrap();
    assert_eq!(received, sent, "what is read stays");
    (client, server)
}

/// Writes the frames at once, in single pieces or vectored; returns what the client gets.
async fn written(received: &[Vec<u8>], sent: &[Vec<u8>], size: usize) -> Vec<u8> {
    let (mut client, mut server) = connection(received, size).await;
    let bytes = sent.concat();
    let mut got = Vec::new();
    let write = async move {
        server.write_all(&bytes).await.unwrap();
        server.flush().await.unwrap();
    };
    let (_, read) = tokio::join!(write, client.read_to_end(&mut got));
    read.unwrap();
    got
}

#[tokio::test]
async fn a_reset_of_a_malformed_request_becomes_a_status() {
    let calls = [framed(HEADERS, 1, b"x"), framed(DATA, 1, b"x"), framed(HEADERS, 3, b"x")];
    let (ping, reset) = (framed(PING, 0, &[7; 8]), framed(RST_STREAM, 1, &PROTOCOL_ERROR));
    let (headers, other) = (framed(HEADERS, 3, b"y"), framed(DATA, 3, &[3; 100]));
    let sent = [ping.clone(), reset.clone(), headers.clone(), other.clone()];
    let expected = [ping, response(1), headers, other].concat();
    for size in [1, 5, 64, 4_096] {
        assert!(written(&calls, &sent, size).await == expected, "{size} bytes at once");
    }
    let text = String::from_utf8_lossy(&expected).into_owned();
    for part in [
        ":status\u{3}200",
        "grpc-status\u{1}3",
        "application/grpc",
        ":authority%20must%20be%20HOST",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn other_resets_stay() {
    let call = framed(HEADERS, 1, b"x");
    let malformed = framed(RST_STREAM, 1, &PROTOCOL_ERROR);
    for (name, received, sent) in [
        ("another code", vec![call.clone()], vec![framed(RST_STREAM, 1, &CANCEL)]),
        (
            "a response has begun",
            vec![call.clone()],
            vec![framed(HEADERS, 1, b"y"), malformed.clone()],
        ),
        (
            "a second one",
            vec![call.clone()],
            vec![framed(RST_STREAM, 1, &CANCEL), malformed.clone()],
        ),
        ("no request", vec![framed(PING, 0, &[7; 8])], vec![malformed.clone()]),
        ("cancelled", vec![call.clone(), framed(RST_STREAM, 1, &CANCEL)], vec![malformed.clone()]),
        (
            "the trailers of an earlier stream",
            vec![framed(HEADERS, 3, b"x"), call.clone()],
            vec![malformed.clone()],
        ),
        ("data that looks so", vec![call], vec![framed(DATA, 1, &malformed)]),
    ] {
        assert_eq!(written(&received, &sent, 4_096).await, sent.concat(), "{name}");
    }
}

#[tokio::test]
async fn vectored_writes_are_rewritten_as_well() {
    let (mut client, mut server) = connection(&[framed(HEADERS, 1, b"x")], 4_096).await;
    let reset = framed(RST_STREAM, 1, &PROTOCOL_ERROR);
    let ping = framed(PING, 0, &[7; 8]);
    let first = [&ping[..], &reset].concat();
    let data = framed(DATA, 3, &[3; 10]);
    let (mut at, whole) = (0, [&first[..], &data].concat());
    while at < whole.len() {
        let pieces = [&first[at.min(first.len())..], &data[at.saturating_sub(first.len())..]];
        at += server.write_vectored(&pieces.map(IoSlice::new)).await.unwrap();
    }
    server.shutdown().await.unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, [ping, response(1), data].concat());
}

#[test]
fn lengths_have_the_form_of_rfc_7541() {
    for (length, bytes) in
        [(0, &[0][..]), (126, &[126]), (127, &[127, 0]), (1_337, &[127, 0xba, 9])]
    {
        let mut fields = Vec::new();
        literal(&mut fields, b"", &vec![b'x'; length]);
        assert_eq!(fields[..bytes.len() + 2], [&[0, 0], bytes].concat(), "{length}");
    }
}

//! Responses of a server that sends more than it was asked for.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    net::TcpListener,
};

use super::*;
use crate::{RedisClient, RedisSettings, RedisUrl};

/// Bytes that the test server sends at most: more than any bound here, and than buffers of sockets.
const ENDLESS: usize = 256 << 20;

/// Client of a server that answers everything with `greeting`, and what comes after the first request
/// with `answer` and an endless text. Gives the number of bytes that the server could send.
async fn probed(greeting: &'static [u8], answer: &'static [u8]) -> (RedisUnavailable, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let _ = socket.read(&mut request).await.unwrap();
        socket.write_all(greeting).await.unwrap();
        let _ = socket.read(&mut request).await.unwrap();
        let filler = vec![b'x'; 64 * 1024];
        let mut sent = 0;
        let mut next = answer;
        while sent < ENDLESS {
            match socket.write(next).await {
                Ok(written) if written > 0 => sent += written,
                Ok(_) | Err(_) => break,
            }
            next = &filler;
        }
        sent
    };
    let client = RedisClient::new(RedisSettings {
        url: RedisUrl::Inline(format!("redis://user:hunter2-password@{address}")),
        ca_file: None,
        prefix: "test".to_owned(),
    });
    let probe = async move { client.probe().await.unwrap_err() };
    tokio::join!(probe, server)
}

#[tokio::test]
async fn a_giant_response_ends_the_connection_at_its_bound() {
    let hello = b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n";
    for answer in [
        &b"$1500000000\r\n"[..],
        b"+",
        b"-ERR ",
        b"*1000000000000\r\n$1500000000\r\n",
        b"*9223372036854775807\r\n+",
    ] {
        let (error, sent) = probed(hello, answer).await;
        let answer = String::from_utf8_lossy(answer);
        assert!(sent < ENDLESS, "{answer}: {sent} bytes were read");
        assert!(error.0.chars().count() <= MAX_TEXT, "{answer}: {error}");
    }
}

#[tokio::test]
async fn an_error_that_quotes_the_password_is_redacted() {
    let quoting =
        b"-ERR unknown command 'AUTH', with args beginning with: 'user' 'hunter2-password'\r\n\
                    -ERR unknown command 'CLIENT'\r\n-ERR unknown command 'CLIENT'\r\n";
    let (error, _) = probed(quoting, b"+OK\r\n").await;
    assert!(!error.0.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn the_allowance_grows_with_requests_up_to_its_maximum() {
    let allowance = Arc::new(Allowance(AtomicUsize::new(0)));
    for _ in 0..1_000 {
        allowance.grow();
    }
    let (mut server, client) = duplex(4 * MAX_ALLOWANCE);
    server.write_all(&vec![b'x'; MAX_ALLOWANCE + 1]).await.unwrap();
    drop(server);
    let mut stream = BoundedStream { stream: client, allowance };
    let mut read = vec![0; MAX_ALLOWANCE];
    stream.read_exact(&mut read).await.unwrap();
    let error = stream.read(&mut read).await.unwrap_err();
    assert!(error.to_string().contains("exceeds its maximum size"), "{error}");
}

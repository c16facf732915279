//! Responses of a proxy to CONNECT.

use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::{
    net::egress::{ProxyCredentials, Settings},
    secret::Secret,
    task,
};

/// Opens a tunnel through a proxy with this response; gives what the proxy received, and the outcome:
/// the first bytes of the tunnel, or the error.
async fn outcome(response: &'static [u8]) -> (String, Result<String, ConnectError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = tokio::sync::oneshot::channel();
    let _proxy = task::spawn("proxy", "", async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await.unwrap());
        }
        sender.send(String::from_utf8(request).unwrap()).unwrap();
        socket.write_all(response).await.unwrap();
    });
    let proxy = Proxy::new(format!("http://{address}").parse().unwrap(), "egress.proxy");
    let egress = Egress::new(Settings { https: Some(proxy), ..Settings::default() });
    let credentials = ProxyCredentials::new(Secret::new("user"), Secret::new("hush")).unwrap();
    egress.set_credentials(credentials);
    let until = Instant::now() + Duration::from_secs(10);
    let opened = open(&egress, &"https://api.test/v1".parse().unwrap(), until).await;
    let first = match opened {
        Ok(mut connection) => {
            let mut text = String::new();
            connection.read_to_string(&mut text).await.unwrap();
            Ok(text)
        }
        Err(error) => Err(error),
    };
    (received.await.unwrap(), first)
}

#[tokio::test]
async fn the_head_of_the_response_decides_and_the_rest_belongs_to_the_tunnel() {
    let (request, opened) = outcome(b"HTTP/1.0 200 Connection established\r\n\r\nhello").await;
    assert_eq!(
        request,
        "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\
         Proxy-Authorization: Basic dXNlcjpodXNo\r\n\r\n"
    );
    assert_eq!(opened.as_deref(), Ok("hello"));
    let long = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'x'; 2 * MAX_HEAD]].concat().leak();
    for (response, expected) in [
        (b"HTTP/1.1 407 Auth\r\n\r\n".as_slice(), ProxyError::CredentialsRejected),
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 5\r\n\r\nsorry", ProxyError::Status(403)),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", ProxyError::Status(502)),
        (b"HTTP/1.1 101 Switching\r\n\r\n", ProxyError::Status(101)),
        (b"SSH-2.0-OpenSSH_9.9\r\n", ProxyError::InvalidResponse),
        (b"\x15\x03\x01\0\x02\x02\n", ProxyError::InvalidResponse),
        (long, ProxyError::InvalidResponse),
        (b"", ProxyError::Closed),
        (b"HTTP/1.1 200 OK\r\n", ProxyError::Closed),
    ] {
        let (_, opened) = outcome(response).await;
        match opened {
            Err(ConnectError::Proxy { cause, .. }) => assert_eq!(cause, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
    }
}

#[test]
fn every_cause_has_a_remedy_and_shows_no_credentials() {
    for cause in [
        ProxyError::Dns,
        ProxyError::CredentialsRequired,
        ProxyError::AnonymousRejected,
        ProxyError::CredentialsRejected,
        ProxyError::NoCredentials,
        ProxyError::Status(403),
    ] {
        let advice = cause.advice("proxy.example:3128");
        assert!(advice.starts_with("the proxy proxy.example:3128 "), "{advice}");
        assert!(advice.ends_with(cause.remedy()), "{advice}");
    }
}

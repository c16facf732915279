//! Proxies that refuse, hang, lie or are gone.

use std::time::Duration;

use leadsd::{config::Loaded, hubspot::DiagnosticsClient, vault::AdminClient};
use leadsd_base::{
    net::{
        connect_error::{ConnectError, ProxyError},
        egress::ProxyCredentials,
    },
    secret::Secret,
};
use leadsd_testkit::{ForwardProxy, ProxyBehaviour};
use tokio::time::Instant;

use super::{FIRST, Private};
use crate::harness::{PATIENCE, TestApp};

/// Configuration of HubSpot and Vault behind a proxy.
fn config(proxy: &str, more: &[(&str, &str)]) -> leadsd::config::Config {
    let settings = [
        ("VAULT__ADDRESS", "http://vault.test:8200"),
        ("VAULT__TIMEOUT", "2s"),
        ("VAULT__AUTH__METHOD", "token"),
        ("VAULT__AUTH__FILE", "/dev/null"),
        ("PORTALS__DEFAULT__SECRET", "hubspot/default"),
        ("HUBSPOT__CONNECT_TIMEOUT", "300ms"),
        ("EGRESS__PROXY", proxy),
    ];
    let all = settings.iter().chain(more);
    let all = all.map(|(key, value)| (format!("LEADSD_{key}"), (*value).to_owned()));
    Loaded::new(None, all).unwrap().config
}

/// Cause of a request to HubSpot that got no response.
async fn cause(config: &leadsd::config::Config) -> ConnectError {
    let client = DiagnosticsClient::new(&config.hubspot).unwrap();
    client.probe(Instant::now() + PATIENCE).await.expect_err("no response")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_of_the_proxy_is_named() {
    let proxy = ForwardProxy::start().await;
    let private = Private::new();
    proxy
        .map("api.hubapi.com:443", private.front("api.hubapi.com", "127.0.0.1:1".parse().unwrap()));
    let config = config(&proxy.url(), &[]);
    let respond = |text: &[u8]| ProxyBehaviour::Respond(text.to_vec());
    let endless = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'x'; 64 * 1024]].concat();
    for (behaviour, expected) in [
        (ProxyBehaviour::Require(FIRST.to_owned()), ProxyError::CredentialsRequired),
        (respond(b"HTTP/1.1 403 Forbidden\r\n\r\n"), ProxyError::Rejected),
        (
            respond(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops"),
            ProxyError::Rejected,
        ),
        (respond(b"SSH-2.0-OpenSSH_9.9\r\n"), ProxyError::Rejected),
        (respond(&endless), ProxyError::InvalidResponse),
        (respond(b""), ProxyError::Closed),
        (respond(b"HTTP/1.1 200 OK\r\n"), ProxyError::Closed),
        (ProxyBehaviour::Hang, ProxyError::Timeout),
    ] {
        proxy.set(behaviour.clone());
        let found = cause(&config).await;
        let proxy = proxy.authority();
        assert_eq!(found, ConnectError::Proxy { proxy, cause: expected }, "{behaviour:?}");
    }
    // Bytes behind the head of the response are no TLS: the peer is at fault as far as one can tell, and
    // the client does not hang.
    proxy.set(respond(b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-OpenSSH_9.9\r\n"));
    let after = cause(&config).await;
    assert!(matches!(after, ConnectError::Tls(_) | ConnectError::Io(_)), "{after:?}");
    // The certificate of the server behind the tunnel is judged as without a proxy.
    proxy.set(ProxyBehaviour::Forward);
    let untrusted = cause(&config).await;
    assert!(matches!(untrusted, ConnectError::Certificate(_)), "{untrusted:?}");
    let credentials = ProxyCredentials::new(Secret::new("user"), Secret::new("hush-2")).unwrap();
    config.egress.policy.set_credentials(credentials);
    proxy.set(ProxyBehaviour::Require(FIRST.to_owned()));
    let found = cause(&config).await;
    let proxy = proxy.authority();
    let expected = ConnectError::Proxy { proxy, cause: ProxyError::CredentialsRejected };
    assert_eq!(found, expected);
    assert!(!format!("{found} {found:?}").contains("hush"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_gone_or_has_no_address_is_named() {
    for (url, expected) in [
        ("http://127.0.0.1:1", ProxyError::Refused),
        ("http://no-such-proxy.invalid:3128", ProxyError::Dns),
    ] {
        let config = config(url, &[]);
        let named = url.trim_start_matches("http://").to_owned();
        let expected = ConnectError::Proxy { proxy: named, cause: expected };
        assert_eq!(cause(&config).await, expected);
        // Plain requests to Vault as well.
        let vault = AdminClient::health(&config.vault).await.unwrap_err();
        assert_eq!(vault, leadsd::vault::Error::Connect(expected));
    }
    // A TLS handshake with a proxy that speaks plain HTTP.
    let proxy = ForwardProxy::start().await;
    proxy.set(ProxyBehaviour::Respond(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    let found = cause(&config(&proxy.url().replace("http:", "https:"), &[])).await;
    assert!(matches!(found, ConnectError::Proxy { .. }), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_vault_have_no_credentials_and_a_proxy_that_wants_them_is_named() {
    let proxy = ForwardProxy::start().await;
    let secret = [("EGRESS__CREDENTIALS_SECRET", "leadsd/egress-proxy")];
    let config = config(&proxy.url(), &secret);
    let credentials = ProxyCredentials::new(Secret::new("user"), Secret::new("hush-1")).unwrap();
    config.egress.policy.set_credentials(credentials);
    proxy.set(ProxyBehaviour::Require(FIRST.to_owned()));
    let error = AdminClient::health(&config.vault).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "cannot be reached: the proxy {} requires credentials (status 407), and requests to \
             Vault have none",
            proxy.authority()
        )
    );
    let seen = proxy.requests().pop().unwrap();
    assert_eq!(seen.line, "GET http://vault.test:8200/v1/sys/health HTTP/1.1");
    assert_eq!(seen.authorization, None);
    proxy.set(ProxyBehaviour::Hang);
    let hangs = AdminClient::health(&config.vault);
    tokio::time::timeout(Duration::from_secs(15), hangs).await.expect("a timeout").unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_calls_name_the_proxy_and_the_remedy() {
    let proxy = ForwardProxy::start().await;
    proxy.set(ProxyBehaviour::Require(FIRST.to_owned()));
    let app = TestApp::builder()
        .unready()
        .set("HUBSPOT__BASE_URL", "https://api.hubapi.com")
        .set("HUBSPOT__MAX_ATTEMPTS", "1")
        .set("EGRESS__PROXY", &proxy.url())
        .start()
        .await;
    crate::harness::wait_ready(&app.admin).await;
    let result = app.leads.clone().create_lead(app.create_request("Jane")).await;
    let message = result.as_ref().unwrap_err().message().to_owned();
    assert_eq!(
        message,
        format!(
            "cannot connect to HubSpot: the proxy {} requires credentials (status 407); store username \
             and password of the proxy in Vault, and set egress.credentials_secret",
            proxy.authority()
        )
    );
    let (code, reason, _) = crate::harness::failure(result);
    assert_eq!((code, &*reason), (tonic::Code::Unavailable, "UPSTREAM_UNAVAILABLE"));
    app.stop().await;
}

//! Vault, the issuer of tokens, the token endpoint and HubSpot as peers that send too much, or never end.

use std::{collections::BTreeMap, io::Write as _, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, Uri, header::AUTHORIZATION},
};
use flate2::{Compression, write::GzEncoder};
use futures_util::future::join_all;
use leadsd::{
    auth, config, hubspot,
    leads::{LeadId, MemoryAccount, MemoryCharge, Reason, Request, Unlimited},
    vault,
};
use leadsd_base::{net::egress::Egress, secret::Secret, time::SystemClock};
use leadsd_credentials::{GrantError, RefreshRequest, TokenSource as _};
use leadsd_quota::Quota;
use leadsd_testkit::{HostileBody, HostileHttp, HttpPeer};
use serde_json::json;
use tokio::time::Instant;

use crate::harness::PATIENCE;

/// Bytes that a peer may send before its client is gone: the largest bound of these clients, and what
/// the buffers of a socket hold.
const MAX_SENT: usize = 64 << 20;

/// Name of the peer that sends interim responses until its client is gone. None of them is kept, so only
/// the timeout of the request bounds them: how many that are depends on the machine.
const INTERIM: &str = "endless interim responses";

/// Decompressed size of a bomb: a multiple of every bound.
const BOMB: usize = 64 << 20;

fn gzip_bomb() -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let spaces = vec![b' '; 1 << 20];
    for _ in 0..BOMB >> 20 {
        gzip.write_all(&spaces).unwrap();
    }
    gzip.finish().unwrap()
}

fn head(more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{more}\r\n")
}

/// Responses that no client here should read to their end.
async fn peers() -> Vec<(&'static str, HostileHttp)> {
    let bomb = gzip_bomb();
    let gzip = format!("content-encoding: gzip\r\ncontent-length: {}\r\n", bomb.len());
    let zstd_bomb = zstd::encode_all(&vec![b' '; BOMB][..], 1).unwrap();
    let zstd = format!("content-encoding: zstd\r\ncontent-length: {}\r\n", zstd_bomb.len());
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
    let values = HostileBody::Once([b"{\"data\":[0".to_vec(), b",0".repeat(400_000)].concat());
    let repeated = |text: &str| HostileBody::Repeated(text.as_bytes().to_vec());
    let table = [
        ("a body of 1.5 GB", head("content-length: 1500000000\r\n"), repeated(" ")),
        ("endless chunks", head("transfer-encoding: chunked\r\n"), HostileBody::Repeated(chunk)),
        ("a gzip bomb", head(&gzip), HostileBody::Once(bomb)),
        ("a zstd bomb", head(&zstd), HostileBody::Once(zstd_bomb)),
        ("many JSON values", head("content-length: 800010\r\n"), values),
        ("endless headers", "HTTP/1.1 200 OK\r\n".to_owned(), repeated("x-more: and more\r\n")),
        ("one endless header", "HTTP/1.1 200 OK\r\nx-long: ".to_owned(), repeated("x")),
        ("a body that trickles", head("content-length: 1500000000\r\n"), HostileBody::Trickled),
        ("a head that trickles", "HTTP/1.1 200 OK\r\nx-slow: ".to_owned(), HostileBody::Trickled),
        (INTERIM, String::new(), repeated("HTTP/1.1 103 Early Hints\r\n\r\n")),
    ];
    let mut peers = Vec::new();
    for (what, head, body) in table {
        peers.push((what, HostileHttp::start(&head, body).await));
    }
    peers
}

/// Asserts that the peer could not send more than the bound of its client.
fn assert_sent_within_bound(what: &str, peer: &HostileHttp) {
    let sent = peer.most_sent();
    assert!(what == INTERIM || sent <= MAX_SENT, "{what}: {sent} bytes");
}

/// Configuration with these URLs, and short timeouts.
pub(crate) fn config(url: &str) -> config::Config {
    let pairs = [
        ("VAULT__ADDRESS", url),
        ("VAULT__TIMEOUT", "500ms"),
        ("VAULT__AUTH__METHOD", "token_file"),
        ("VAULT__AUTH__FILE", "/vault/token"),
        ("HUBSPOT__BASE_URL", url),
        ("HUBSPOT__REQUEST_TIMEOUT", "500ms"),
        ("PORTALS__DEFAULT__SECRET", "hubspot/default"),
    ];
    let pairs = pairs.map(|(key, value)| (format!("LEADSD_{key}"), value.to_owned()));
    config::Loaded::new(None, pairs).unwrap().config
}

/// A quota for token checks.
pub(crate) fn quota() -> Arc<Quota> {
    Arc::new(Quota::new(leadsd_quota::testing::settings(190), Arc::new(SystemClock)))
}

#[tokio::test]
async fn vault_cannot_send_more_than_its_bound() {
    for (what, peer) in peers().await {
        let error = vault::AdminClient::health(&config(&peer.url()).vault).await.expect_err(what);
        assert!(matches!(error, vault::Error::Unavailable(_) | vault::Error::Connect(_)), "{what}");
        assert_sent_within_bound(what, &peer);
    }
}

#[tokio::test]
async fn the_token_endpoint_cannot_send_more_than_its_bound() {
    let secret = |text: &str| Secret::new(text);
    let request = RefreshRequest {
        client_id: "app".to_owned(),
        client_secret: secret("hush-client"),
        refresh_token: secret("hush-refresh"),
    };
    for (what, peer) in peers().await {
        let oauth =
            hubspot::OAuth::new(&config(&peer.url()).hubspot, &BTreeMap::new(), quota()).unwrap();
        let error = oauth.refresh("default", &request).await.expect_err(what);
        assert!(matches!(error, GrantError::Unavailable(_)), "{what}: {error}");
        assert_sent_within_bound(what, &peer);
    }
}

#[tokio::test]
async fn an_issuer_cannot_send_more_than_its_bound() {
    // Side by side: the timeout of a slow one is fixed.
    // Its timeout is fixed at ten seconds, for which interim responses would use the machine.
    let peers = peers().await.into_iter().filter(|(what, _)| *what != INTERIM);
    let loads = peers.map(|(what, peer)| async move {
        let jwks = config::Jwks::Url {
            url: peer.url().parse().unwrap(),
            ca_file: None,
            token_file: None,
            refresh_interval: Duration::from_secs(300),
            egress: Egress::default(),
        };
        let loaded = tokio::time::timeout(PATIENCE, auth::load_jwks(&jwks)).await;
        assert!(loaded.expect(what).is_err(), "{what}");
        assert_sent_within_bound(what, &peer);
    });
    join_all(loads).await;
}

/// Peer that quotes the credential of each request in every text of an error, also as an item of a batch.
async fn quoting_peer() -> HttpPeer {
    let answer = |headers: HeaderMap, uri: Uri| async move {
        let text = headers[AUTHORIZATION].to_str().unwrap().to_owned();
        let message = format!("{}{text}", "x".repeat(490));
        let error = json!({
            "category": text, "subCategory": text, "message": message, "policyName": text,
            "correlationId": text,
            "errors": [{"message": text, "context": {"propertyName": [text], "ids": [text]}}],
        });
        let body = json!({"status": "COMPLETE", "results": [], "errors": [error]});
        let is_batch = uri.path().contains("/batch/");
        let status = if is_batch { StatusCode::MULTI_STATUS } else { StatusCode::BAD_REQUEST };
        let body = if is_batch { body } else { error };
        (status, [("x-hubspot-correlation-id", text)], body.to_string())
    };
    HttpPeer::start(Router::new().fallback(answer)).await
}

#[tokio::test]
async fn no_error_repeats_the_token_that_hubspot_quotes() {
    let peer = quoting_peer().await;
    let (config, token) = (config(&peer.url()).hubspot, Secret::new("pat-na1-hunter2-hunter2"));
    let client = hubspot::HubspotClient::new(&config).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let id = LeadId::parse("101").unwrap();
    let mut texts = Vec::new();
    for request in [Request::Archive(id.clone()), Request::BatchArchive(vec![id])] {
        let mut head = client.send(&request, &token, HeaderMap::new()).await.unwrap();
        assert_eq!(head.correlation_id(), None);
        let account: Arc<dyn MemoryAccount> = Arc::new(Unlimited);
        let mut charge = MemoryCharge::new(&account);
        texts.push(format!("{:?}", head.read(deadline, &mut charge).await));
    }
    let diagnostics = hubspot::DiagnosticsClient::new(&config).unwrap();
    texts.push(format!("{:?}", diagnostics.leads(&token, deadline).await.unwrap_err()));
    for text in texts {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("[redacted]"), "{text}");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_built_is_no_outage_of_hubspot() {
    let client = hubspot::HubspotClient::new(&config("http://127.0.0.1:9").hubspot).unwrap();
    let request = Request::Archive(LeadId::parse("101").unwrap());
    let token = Secret::new("pat-first\npat-second");
    let error = client.send(&request, &token, HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Internal, "{error:?}");
    assert!(!format!("{error:?}").contains("pat-"), "{error:?}");
}

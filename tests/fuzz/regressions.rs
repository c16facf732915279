//! Regression tests for inputs that once caused a failure.

use axum::{Router, routing::get};
use leadsd::{config::Loaded, telemetry, vault::AdminClient};
use leadsd_credentials::SecretPath;
use tokio::net::TcpListener;

use crate::{
    requests,
    setup::{Peers, framed, set},
};

#[test]
fn log_filter_with_a_multi_byte_character_is_rejected() {
    for text in
        ["a \u{fffd}[2", " 21 Oc\u{fffd}\u{1b}[26 07:28:00 GMT", "leadsd=\u{e4}", "\u{1f600}"]
    {
        assert!(telemetry::filter(text).is_err(), "{text:?}");
        let level = ("LEADSD_LOG__LEVEL".to_owned(), text.to_owned());
        let said = Loaded::new(None, [level]).unwrap_err().to_string();
        assert!(said.contains("log.level: must be a filter"), "{said}");
    }
    telemetry::filter("info,leadsd=debug").expect("the filter is valid");
}

/// tonic reports INTERNAL, which alerts operators and which clients retry.
#[tokio::test(flavor = "multi_thread")]
async fn undecodable_request_is_invalid_argument() {
    let peers = Peers::start().await;
    let service = requests::service(&peers).await;
    let wrong_type = framed(&[0x0a, 0x02, 0x08, 0x01]);
    let path = "/leadsd.v1.LeadsService/BatchUpdateLeads";
    let cut_off = vec![0, 0, 0, 0, 9, 1];
    let bad_flag = [&[7][..], &framed(&[])[1..]].concat();
    for (what, body) in [("type", wrong_type), ("end", cut_off), ("flag", bad_flag)] {
        let answer = service.call(path, &[], body).await.expect("an answer");
        assert_eq!(answer.code, Some(3), "{what}: {answer:?}");
        assert!(answer.message.contains("not a valid message"), "{what}: {answer:?}");
    }
    // gRPC has a separate code for a number of messages that the method does not take.
    let answer = service.call(path, &[], Vec::new()).await.expect("an answer");
    assert_eq!(answer.code, Some(12), "{answer:?}");
    let compressed = [&[1][..], &framed(b"no gzip")[1..]].concat();
    let headers = [("grpc-encoding", b"gzip".to_vec())];
    let answer = service.call(path, &headers, compressed).await.expect("an answer");
    assert_eq!(answer.code, Some(3), "{answer:?}");
}

#[tokio::test]
async fn vault_response_with_a_list_is_an_invalid_response() {
    let peers = Peers::start().await;
    let lookup = "/v1/auth/token/lookup-self";
    let real = reqwest::Client::builder().no_proxy().build().unwrap();
    let real = real.get(format!("http://{}{lookup}", peers.vault.address()));
    let real = real.header("X-Vault-Token", peers.vault.root_token().expose());
    let real = real.send().await.unwrap().text().await.unwrap();
    let router = Router::new().route(lookup, get(|| async { real })).fallback(|| async { "[]" });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut settings = peers.settings();
    set(&mut settings, &[("VAULT__ADDRESS", &address)]);
    let config = Loaded::new(None, settings).unwrap().config.vault;
    let admin = AdminClient::log_in(&config).await.expect("logged in");
    let secret = SecretPath::parse("hubspot/default").unwrap();
    admin.mount_info().await.expect_err("the body has no mount");
    admin.list(&secret).await.expect_err("the body has no list of names");
    admin.read(&secret).await.expect_err("the body has no version");
}

//! Inputs that once did harm, each with what must come of it.

use axum::{Router, routing::get};
use leadsd::{config::Loaded, telemetry, vault::AdminClient};
use leadsd_credentials::SecretPath;
use tokio::net::TcpListener;

use crate::{
    requests,
    world::{Peers, framed, set},
};

#[test]
fn a_log_filter_with_a_letter_of_several_bytes_is_refused() {
    for text in
        ["a \u{fffd}[2", " 21 Oc\u{fffd}\u{1b}[26 07:28:00 GMT", "leadsd=\u{e4}", "\u{1f600}"]
    {
        assert!(telemetry::filter(text).is_err(), "{text:?}");
        let level = ("LEADSD_LOG__LEVEL".to_owned(), text.to_owned());
        let said = Loaded::new(None, [level]).unwrap_err().to_string();
        assert!(said.contains("log.level: must be a filter"), "{said}");
    }
    telemetry::filter("info,leadsd=debug").expect("a good one");
}

/// Not INTERNAL, as tonic has it: operators are told of that, and callers try again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_the_callers_fault() {
    let peers = Peers::start().await;
    let service = requests::service(&peers).await;
    let wrong_type = framed(&[0x0a, 0x02, 0x08, 0x01]);
    let path = "/leadsd.v1.LeadsService/BatchUpdateLeads";
    let cut_off = vec![0, 0, 0, 0, 9, 1];
    let bad_flag = [&[7][..], &framed(&[])[1..]].concat();
    for (what, body) in
        [("type", wrong_type), ("end", cut_off), ("flag", bad_flag), ("nothing", Vec::new())]
    {
        let answer = service.call(path, &[], body).await.expect("an answer");
        assert_eq!(answer.code, Some(3), "{what}: {answer:?}");
        assert!(answer.message.contains("not a valid message"), "{what}: {answer:?}");
    }
    let squeezed = [&[1][..], &framed(b"no gzip")[1..]].concat();
    let headers = [("grpc-encoding", b"gzip".to_vec())];
    let answer = service.call(path, &headers, squeezed).await.expect("an answer");
    assert_eq!(answer.code, Some(3), "{answer:?}");
}

#[tokio::test]
async fn a_vault_that_answers_with_a_list_answers_nonsense() {
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
    admin.mount_info().await.expect_err("no mount");
    admin.list(&secret).await.expect_err("no list of names");
    admin.read(&secret).await.expect_err("no version");
}

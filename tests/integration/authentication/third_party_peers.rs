//! Authentication with third-party peers: grpcurl as the caller, OpenBao with the hashes.

use std::process::Command;

use leadsd_hubspot_fake::{READ, WRITE};
use serde_json::json;

use super::{
    World, api_key,
    issuers::{Authority, Names, sha256},
    until, with_policies,
};
use crate::{
    harness::{TestApp, wait_ready},
    openbao::OpenBao,
    real_peers::{run, text, tool},
};

const LIST: &str = "leadsd.v1.LeadsService/ListLeads";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs grpcurl"]
async fn grpcurl_comes_in_with_a_certificate_a_token_or_a_key_and_not_without() {
    let world = World::start().await;
    let folder = world.folder.path();
    world.ca.client(&Names::uri("spiffe://test/reader")).write(folder, "reader");
    Authority::new("other").client(&Names::uri("spiffe://test/reader")).write(folder, "other");
    let grpcurl = async |more: &[&str], method: &str| {
        let mut command = Command::new(tool("LEADSD_TEST_GRPCURL", "grpcurl"));
        command.current_dir(folder).args(["-cacert", "ca.crt", "-authority", "localhost"]);
        let output = run(command.args(more).args([&world.app.grpc, method])).await;
        (output.status.success(), text(&output))
    };
    let token = format!("authorization: Bearer {}", world.issuer.token("reader", json!({})));
    let key = format!("x-api-key: {}", api_key("reader"));
    for proof in
        [&["-cert", "reader.crt", "-key", "reader.key"][..], &["-H", &token], &["-H", &key]]
    {
        let (done, said) = grpcurl(proof, LIST).await;
        assert!(done, "{said}");
        let (done, said) = grpcurl(proof, "list").await;
        assert!(done && said.contains("leadsd.v1.LeadsService"), "{said}");
    }
    let (done, said) = grpcurl(&[], "list").await;
    assert!(!done && said.contains("is not authenticated"), "{said}");
    let (done, said) = grpcurl(&["-cert", "other.crt", "-key", "other.key"], LIST).await;
    assert!(!done, "{said}");
    // With local protos, reflection is not needed, and the reason is decoded.
    let stale =
        format!("authorization: Bearer {}", world.issuer.token("reader", json!({"exp": 1})));
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let imported = concat!(env!("CARGO_MANIFEST_DIR"), "/third_party/googleapis");
    let paths = ["-import-path", proto, "-import-path", imported];
    let files = [&paths[..], &["-proto", "leadsd/v1/leads_service.proto"]].concat();
    let (done, said) = grpcurl(&[&files[..], &["-H", &stale]].concat(), LIST).await;
    assert!(!done && said.contains("Unauthenticated") && said.contains("has expired"), "{said}");
    let health = grpcurl(&paths, "grpc.health.v1.Health/Check").await;
    assert!(
        !health.0,
        "reflection is what tells grpcurl of health, and it is closed: {}",
        health.1
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn hashes_of_api_keys_are_read_from_a_real_openbao_and_followed() {
    let bao = OpenBao::start().await;
    let (old, new) = (api_key("reader"), api_key("reader-new"));
    let app = with_policies(TestApp::builder())
        .portals(&["default", "zurich"])
        .unready()
        .set("VAULT__ADDRESS", &bao.address)
        .set("AUTH__API_KEYS__SECRET", "leadsd/api-keys");
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), &bao.root).unwrap();
    let app = app.set("VAULT__AUTH__FILE", &token.path().display().to_string()).start().await;
    for portal in ["default", "zurich"] {
        let secret =
            json!({"data": {"access_token": app.hubspot.static_token(&[READ, WRITE]).expose()}});
        bao.post(&format!("secret/data/hubspot/{portal}"), secret).await;
    }
    let put = async |value: &str| {
        bao.post("secret/data/leadsd/api-keys", json!({"data": {"reader": value}})).await;
    };
    put(&sha256(&old)).await;
    wait_ready(&app.admin).await;
    let works = async |key: &str| super::key_rotation::list(&app, "x-api-key", key).await.is_ok();
    until("the key", async || works(&old).await).await;
    put(&format!("{},{}", sha256(&old), sha256(&new))).await;
    until("the new key", async || works(&new).await).await;
    assert!(works(&old).await);
    bao.call(reqwest::Method::DELETE, "secret/data/leadsd/api-keys", json!(null)).await;
    until("the end of all keys", async || !works(&new).await).await;
}

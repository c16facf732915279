//! Whole reports: passed and skipped checks, and side effects.

use leadsd_hubspot_fake::{ApiError, OWNERS, READ, ScriptedResponse, WRITE};
use reqwest::Method;
use serde_json::json;

use super::World;
use crate::openbao::OpenBao;

#[tokio::test(flavor = "multi_thread")]
async fn all_checks_pass_for_both_credential_kinds_and_all_versions() {
    for version in ["2026-09", "2026-03", "v3"] {
        for oauth in [false, true] {
            let mut world = World::new().await;
            if oauth {
                world.oauth();
            }
            world.hubspot.add_unique_property("request_key");
            world.portal_keys = "request_id_property = \"request_key\"".to_owned();
            world.hubspot_keys = format!("api_version = \"{version}\"");
            let said = world.diagnose().await;
            assert_eq!(said.report["result"], "ok", "{version} {:#}", said.report);
            assert!(said.checks().len() >= 23);
            assert!(said.check_result("hubspot.scopes")["found"].as_str().unwrap().contains(WRITE));
            let kind = said.check_result("hubspot.token")["found"].as_str().unwrap();
            assert!(kind.contains(if oauth { "refresh token" } else { "static token" }), "{kind}");
            assert!(kind.contains("stored 0 days ago"), "{kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_only_reads_and_uses_few_calls() {
    let world = World::new().await;
    let before = world.vault.get("hubspot/default");
    world.hubspot.clear_log();
    world.diagnose().await;
    assert_eq!(world.vault.get("hubspot/default"), before);
    let log = world.hubspot.log();
    let writes: Vec<_> = log
        .iter()
        .filter(|call| call.method != "GET" && !call.path.starts_with("/oauth/"))
        .collect();
    assert!(writes.is_empty(), "{writes:?}");
    assert!(log.len() <= 10, "{} calls", log.len());
    // The login token is revoked.
    assert_eq!(world.vault.logins(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_are_optional_and_their_scope_is_named() {
    let world = World::new().await;
    let said = world.diagnose().await;
    assert_eq!(said.report["result"], "ok", "{:#}", said.report);
    let found = said.check_result("hubspot.schema")["found"].as_str().unwrap();
    assert!(found.contains("association types to contacts"), "{found}");
    assert!(found.contains("MISSING_SCOPES") && found.contains(OWNERS), "{found}");
    let token = world.hubspot.static_token(&[READ, WRITE, OWNERS]);
    world.vault.put("hubspot/default", json!({"access_token": token.expose()}));
    for owners in ["no owners", "; owners"] {
        let said = world.diagnose().await;
        let found = said.check_result("hubspot.schema")["found"].as_str().unwrap();
        assert!(found.ends_with(owners), "{found}");
        world.hubspot.add_owner("ada@example.com");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_refresh_token_is_stored() {
    let world = World::new().await;
    world.oauth();
    world.hubspot.behave(|behaviour| behaviour.rotate_refresh_tokens = true);
    let (before, version) = world.vault.get("hubspot/default").unwrap();
    let said = world.diagnose().await;
    assert_eq!(said.report["result"], "ok", "{:#}", said.report);
    let found = said.check_result("hubspot.token")["found"].as_str().unwrap();
    assert!(found.contains("stored the rotated refresh token"), "{found}");
    let (after, now) = world.vault.get("hubspot/default").unwrap();
    assert_eq!(now, version + 1);
    assert_ne!(before["refresh_token"], after["refresh_token"]);
    assert_eq!(before["client_id"], after["client_id"]);
    assert_eq!(world.diagnose().await.report["result"], "ok", "the new one works");
}

#[tokio::test(flavor = "multi_thread")]
async fn skipped_checks_name_the_failed_check() {
    let world = World::new().await;
    world.vault.set_sealed(true);
    let said = world.diagnose().await;
    assert_eq!(said.with("fail"), ["vault.health"]);
    for check in ["vault.login", "vault.engine", "vault.policy", "hubspot.token", "hubspot.quota"] {
        assert_eq!(said.check_result(check)["result"], "skipped", "{check}");
        assert_eq!(said.check_result(check)["because"], "vault.health", "{check}");
    }
    assert_eq!(
        said.check_result("hubspot.api")["result"],
        "ok",
        "HubSpot needs no Vault to be looked at"
    );
    world.vault.set_sealed(false);
    // Usage is reported with the leads, and with no later failure.
    let first = ScriptedResponse::Reject(ApiError::Unauthenticated);
    world.hubspot.script("GET", "/objects/2026-09/leads", first);
    world.hubspot.script("GET", "/objects/2026-09/leads", ScriptedResponse::empty(500));
    world.hubspot.script("GET", "/properties/2026-09/leads", ScriptedResponse::empty(500));
    let said = world.diagnose_with(&["--write-probe", "--yes"]).await;
    assert_eq!(said.with("fail"), ["hubspot.leads", "hubspot.properties"], "{:#}", said.report);
    for check in ["hubspot.quota", "hubspot.write"] {
        assert_eq!(said.check_result(check)["because"], "hubspot.leads", "{check}");
    }
    let mut world = world;
    world.hubspot_keys = "base_uri = 1".to_owned();
    let said = world.diagnose().await;
    for check in ["vault.dns", "hubspot.leads", "grpc.certificate", "grpc.callers"] {
        assert_eq!(said.check_result(check)["because"], "config", "{check}");
    }
    assert!(said.checks().iter().all(|found| found["check"] != "hubspot.write"));
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_are_checked_individually_and_can_be_selected() {
    let mut world = World::new().await;
    world.sections = "[portals.eu]\n[portal_discovery]\npath = \"hubspot\"\n".to_owned();
    let token = world.hubspot.static_token(&[READ, WRITE]);
    world.vault.put("hubspot/us", json!({"access_token": token.expose()}));
    let said = world.diagnose().await;
    let status_of = |portal: &str, check: &str| {
        let fits =
            |found: &&serde_json::Value| found["portal"] == portal && found["check"] == check;
        said.checks().iter().find(fits).map(|found| found["result"].clone())
    };
    assert_eq!(status_of("default", "hubspot.leads"), Some(json!("ok")));
    assert_eq!(status_of("eu", "vault.secret"), Some(json!("fail")), "it has no secret");
    assert_eq!(status_of("eu", "hubspot.leads"), Some(json!("skipped")));
    assert_eq!(status_of("us", "hubspot.leads"), Some(json!("ok")), "found in the folder");
    let said = world.diagnose_with(&["--portal", "us"]).await;
    assert_eq!(said.report["result"], "ok");
    assert!(said.checks().iter().all(|found| found["portal"].is_null() || found["portal"] == "us"));
}

#[tokio::test(flavor = "multi_thread")]
async fn write_probe_asks_first_and_leaves_only_an_archived_lead() {
    let world = World::new().await;
    let contact = world.hubspot.add_contact("ada@example.com");
    let output = tokio::task::block_in_place(|| world.run(&["--write-probe"]));
    assert_eq!(output.status.code(), Some(64), "the prompt has no terminal");
    assert!(world.hubspot.log().is_empty(), "nothing was done");
    let said = world.diagnose_with(&["--write-probe", "--yes"]).await;
    assert!(said.check_result("hubspot.write")["fix"].as_str().unwrap().contains("--contact"));
    let arguments = ["--write-probe", "--yes", "--contact", &contact];
    let said = world.diagnose_with(&arguments).await;
    assert_eq!(said.check_result("hubspot.write")["result"], "ok", "{:#}", said.report);
    assert_eq!(world.hubspot.lead_names(), Vec::<String>::new(), "it was archived");
    // The contact of an existing lead is used.
    world.hubspot.add_lead(&contact, &json!({"hs_lead_name": "Jane"})).unwrap();
    let said = world.diagnose_with(&["--write-probe", "--yes"]).await;
    assert_eq!(said.check_result("hubspot.write")["result"], "ok", "{:#}", said.report);
    assert_eq!(world.hubspot.lead_names(), ["Jane"]);
    let token = world.hubspot.static_token(&[READ]);
    world.vault.put("hubspot/default", json!({"access_token": token.expose()}));
    let said = world.diagnose_with(&["--write-probe", "--yes"]).await;
    let found = said.check_result("hubspot.write");
    assert!(found["fix"].as_str().unwrap().contains(WRITE), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_output_has_cause_fix_and_summary() {
    let world = World::new().await;
    world.vault.remove("hubspot/default");
    let output = tokio::task::block_in_place(|| world.run(&[]));
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "vault.login ",
        "default: vault.secret",
        "FAIL",
        "there is no secret at secret/data/hubspot/default",
        "Remedy: store the credential: leadsd login --portal default",
        "because of vault.secret",
        " failed, ",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let unknown = tokio::task::block_in_place(|| world.run(&["--portal", "unknown"]));
    assert_eq!(unknown.status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn a_real_openbao_is_understood_and_its_faults_are_named() {
    let mut world = World::new().await;
    let bao = OpenBao::start().await;
    let (role_id, secret_id) = bao.approle("1h").await;
    world.file("role-id", &role_id);
    world.file("secret-id", &secret_id);
    world.vault_url.clone_from(&bao.address);
    let none = world.diagnose().await;
    assert_eq!(none.with("fail"), ["vault.secret"], "{:#}", none.report);
    let keys = json!({"data": {"access_token": world.token.expose()}});
    bao.post("secret/data/hubspot/default", keys).await;
    let said = world.diagnose().await;
    assert_eq!(said.report["result"], "ok", "{:#}", said.report);
    let token = said.check_result("vault.token")["found"].as_str().unwrap();
    assert!(token.contains("policies: default, leadsd"), "{token}");
    assert!(
        said.check_result("hubspot.token")["found"].as_str().unwrap().contains("stored 0 days ago")
    );
    // The engine has another version, or another path.
    let engine = json!({"type": "kv", "options": {"version": "1"}});
    bao.post("sys/mounts/old", engine).await;
    let policy = json!({"policy": r#"path "*" { capabilities = ["read", "list"] }"#});
    bao.post("sys/policies/acl/leadsd", policy).await;
    world.vault_keys = "mount = \"old\"".to_owned();
    let said = world.diagnose().await;
    assert_eq!(said.with("fail"), ["vault.engine"], "{:#}", said.report);
    assert!(said.check_result("vault.engine")["cause"].as_str().unwrap().contains("has version 1"));
    world.vault_keys = "mount = \"nowhere\"".to_owned();
    assert_eq!(world.diagnose().await.with("fail"), ["vault.engine"]);
    // The policy does not cover the metadata: the service works without them.
    world.vault_keys = String::new();
    let narrow = r#"path "secret/data/hubspot/*" { capabilities = ["read"] }"#;
    bao.post("sys/policies/acl/leadsd", json!({ "policy": narrow })).await;
    let said = world.diagnose().await;
    assert_eq!(said.with("fail"), [""; 0], "{:#}", said.report);
    assert_eq!(said.with("warn"), ["vault.policy"], "{:#}", said.report);
    assert!(
        said.check_result("vault.policy")["cause"].as_str().unwrap().contains("secret/metadata/")
    );
    bao.seal().await;
    assert_eq!(world.diagnose().await.with("fail"), ["vault.health"]);
    // Every login token of the doctor is revoked.
    bao.unseal().await;
    let tokens = bao.call(Method::GET, "auth/token/accessors?list=true", json!(null)).await;
    assert_eq!(tokens.unwrap()["data"]["keys"].as_array().unwrap().len(), 1);
}

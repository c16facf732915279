//! Changes of a real OpenBao in operation: versions with a deletion time, a name that moves to another
//! node, rotated CAs and certificates, redirects, and an agent in between.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use axum::{
    Router,
    http::{StatusCode, Uri, header::LOCATION},
};
use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_hubspot_fake::{READ, WRITE};
use leadsd_testkit::{HttpPeer, Process};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    binary::{config, fake_hubspot},
    harness::{Builder, LEADSD, TestApp, eventually, metrics_page, wait_ready},
    openbao::{Authority, OpenBao, file},
    real_peers::tool,
    vault_outages::{store, takes_new_token},
};

/// The service at this address of Vault, with an AppRole of the server.
async fn by_approle(bao: &OpenBao, folder: &TempDir, address: &str) -> Builder {
    let (role_id, secret_id) = bao.approle("1h").await;
    let file = |name, text: &str| file(folder, name, text).display().to_string();
    TestApp::builder()
        .unready()
        .without("VAULT__AUTH__FILE")
        .set("VAULT__ADDRESS", address)
        .set("VAULT__AUTH__METHOD", "approle")
        .set("VAULT__AUTH__ROLE_ID_FILE", &file("role-id", &role_id))
        .set("VAULT__AUTH__SECRET_ID_FILE", &file("secret-id", &secret_id))
}

/// Stores a static token and waits until the service is ready with it; returns the id of a lead.
async fn ready_with_token(app: &TestApp, bao: &OpenBao) -> String {
    let token = app.hubspot.static_token(&[READ, WRITE]);
    store(bao, json!({"access_token": token.expose()})).await;
    wait_ready(&app.admin).await;
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    id
}

async fn portal(app: &TestApp) -> Value {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = http.get(format!("{}/portals", app.admin)).send().await.unwrap().text().await;
    let mut portals: Value = serde_json::from_str(&text.unwrap()).unwrap();
    portals[0].take()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn a_version_with_a_deletion_time_is_used_until_then() {
    const METADATA: &str = "secret/metadata/hubspot/default";
    let (bao, folder) = (OpenBao::start().await, tempfile::tempdir().unwrap());
    bao.post(METADATA, json!({"delete_version_after": "720h"})).await;
    let app = by_approle(&bao, &folder, &bao.address).await.start().await;
    let id = ready_with_token(&app, &bao).await;
    let found = bao.call(Method::GET, METADATA, Value::Null).await.unwrap();
    let deleted_at = found["data"]["versions"]["1"]["deletion_time"].as_str().unwrap();
    assert!(!deleted_at.is_empty(), "the version has a deletion time: {found}");
    takes_new_token(&app, &id, |secret| store(&bao, secret)).await;
    eventually("the version is no deleted one", async || {
        let view = portal(&app).await;
        view["state"] == "fresh" && view["secret_deleted"] == false
    })
    .await;

    // A version that is deleted soon serves beyond that, and operators see that it is gone.
    bao.post(METADATA, json!({"delete_version_after": "10s"})).await;
    takes_new_token(&app, &id, |secret| store(&bao, secret)).await;
    eventually("the deletion is shown", async || {
        let view = portal(&app).await;
        view["secret_deleted"] == true && view["state"] == "stale" && view["usable"] == true
    })
    .await;
    app.get(&id).await.expect("the token in memory serves");
    bao.post(METADATA, json!({"delete_version_after": "0s"})).await;
    takes_new_token(&app, &id, |secret| store(&bao, secret)).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao) and unshare"]
async fn after_a_failover_the_node_that_the_name_moved_to_is_asked() {
    let nodes = OpenBao::start_cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let hubspot = fake_hubspot().await;
    hubspot.seed();
    let id = hubspot.first_lead().unwrap();
    let (role_id, secret_id) = nodes[0].approle("1h").await;
    let auth = format!(
        "method = \"approle\"\nrole_id_file = \"{}\"\nsecret_id_file = \"{}\"",
        file(&folder, "role-id", &role_id).display(),
        file(&folder, "secret-id", &secret_id).display(),
    );
    let token = hubspot.static_token(&[READ, WRITE]);
    store(&nodes[0], json!({"access_token": token.expose()})).await;
    // The process has its own /etc/hosts, so that the name can move.
    let hosts = folder.path().join("hosts");
    let point_at = |ip: &str| std::fs::write(&hosts, format!("{ip} vault.leadsd.test\n")).unwrap();
    point_at("127.0.0.1");
    let address = nodes[0].address.replace("127.0.0.1", "vault.leadsd.test");
    let config = config(&folder, &address, &auth, &hubspot);
    let mount = format!("mount --bind {} /etc/hosts; exec \"$0\" \"$@\"", hosts.display());
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &mount, LEADSD, "serve", "--config"]).arg(&config);
    let process = Process::start(&mut command);
    let grpc = process.ready().await;
    let mut leads = LeadsServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    let get = pb::GetLeadRequest { id, ..Default::default() };
    leads.get_lead(get.clone()).await.unwrap();

    // The first node is sealed, and keeps its connections. Another becomes active.
    nodes[0].seal().await;
    point_at("127.0.0.2");
    let token = hubspot.static_token(&[READ, WRITE]);
    let secret = json!({"data": {"access_token": token.expose()}});
    eventually("another node is active", async || {
        let path = "secret/data/hubspot/default";
        nodes[1].call(Method::POST, path, secret.clone()).await.is_some()
    })
    .await;
    hubspot.revoke_tokens_but(&token);
    eventually("the new token is read", async || leads.clone().get_lead(get.clone()).await.is_ok())
        .await;
    process.signal("TERM");
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn rotated_cas_and_client_certificates_of_vault_need_no_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let (mut bao, folder) = (OpenBao::start_tls(&old).await, tempfile::tempdir().unwrap());
    bao.policy().await;
    bao.post("sys/auth/cert", json!({"type": "cert"})).await;
    let trust = async |bao: &OpenBao, authority: &Authority| {
        let role = json!({"certificate": authority.pem(), "token_policies": "leadsd",
                          "token_ttl": "1h"});
        bao.post("auth/cert/certs/leadsd", role).await;
    };
    trust(&bao, &old).await;
    let write = |name: &str, text: &str| file(&folder, name, text).display().to_string();
    let client = |authority: &Authority| {
        let (certificate, key) = authority.issue("leadsd.internal");
        (write("client.pem", &certificate), write("client-key.pem", &key))
    };
    let (certificate, key) = client(&old);
    let app = TestApp::builder()
        .unready()
        .without("VAULT__AUTH__FILE")
        .set("VAULT__ADDRESS", &bao.address)
        .set("VAULT__CA_FILE", &write("ca.pem", old.pem()))
        .set("VAULT__CLIENT_CERT_FILE", &certificate)
        .set("VAULT__CLIENT_KEY_FILE", &key)
        .set("VAULT__AUTH__METHOD", "cert")
        .start()
        .await;
    let id = ready_with_token(&app, &bao).await;

    write("ca.pem", &format!("{}{}", old.pem(), new.pem()));
    bao.move_to(&old, &new).await;
    takes_new_token(&app, &id, |secret| store(&bao, secret)).await;

    client(&new);
    trust(&bao, &new).await;
    bao.call(Method::PUT, "sys/leases/revoke-force/auth/cert/login", json!({})).await;
    let token = app.hubspot.static_token(&[READ, WRITE]);
    store(&bao, json!({"access_token": token.expose()})).await;
    app.hubspot.revoke_tokens_but(&token);
    eventually("the new certificate logs in", async || app.get(&id).await.is_ok()).await;

    // A CA that was removed is no longer trusted, whatever the server shows.
    write("ca.pem", old.pem());
    bao.kill();
    bao.restart().await;
    let vault = format!("{}/vault", app.admin);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    eventually("the server is not trusted", async || {
        let text = http.get(&vault).send().await.unwrap().text().await.unwrap();
        text.contains("is signed by an authority that is not trusted")
            || portal(&app).await["failure"] == "store_unavailable"
    })
    .await;
    app.get(&id).await.expect("the token in memory serves");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn redirects_of_a_standby_are_followed_for_logins_reads_and_writes() {
    let (bao, folder) = (OpenBao::start().await, tempfile::tempdir().unwrap());
    let active = bao.address.clone();
    let redirect = move |uri: Uri| {
        let target = format!("{active}{uri}");
        async move { (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, target)]) }
    };
    let standby = HttpPeer::start(Router::new().fallback(redirect)).await;
    let address = format!("http://{}", standby.address());
    let app = by_approle(&bao, &folder, &address).await.start().await;
    let id = ready_with_token(&app, &bao).await;
    takes_new_token(&app, &id, |secret| store(&bao, secret)).await;
    app.hubspot.behave(|behaviour| behaviour.rotate_refresh_tokens = true);
    let (client_id, client_secret, refresh_token) = app.hubspot.oauth_app();
    let grant = json!({"client_id": client_id, "client_secret": client_secret.expose(),
                       "refresh_token": refresh_token.expose()});
    store(&bao, grant).await;
    eventually("the rotated refresh token is written through the redirect", async || {
        let path = "secret/data/hubspot/default";
        let found = bao.call(Method::GET, path, Value::Null).await.unwrap();
        let stored = &found["data"]["data"]["refresh_token"];
        stored.is_string() && *stored != json!(refresh_token.expose())
    })
    .await;
    app.get(&id).await.unwrap();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn the_end_of_a_secret_id_is_announced() {
    let (bao, folder) = (OpenBao::start().await, tempfile::tempdir().unwrap());
    bao.approle("1h").await;
    let policy = r#"path "secret/data/hubspot/*" { capabilities = ["read", "update"] }
                    path "secret/metadata/hubspot/*" { capabilities = ["read", "list"] }
                    path "auth/approle/role/leadsd/secret-id/lookup" { capabilities = ["update"] }"#;
    bao.post("sys/policies/acl/leadsd", json!({ "policy": policy })).await;
    let role = json!({"token_policies": "leadsd", "token_ttl": "1h", "secret_id_ttl": "48h"});
    bao.post("auth/approle/role/leadsd", role).await;
    let role_id = bao.call(Method::GET, "auth/approle/role/leadsd/role-id", Value::Null).await;
    let role_id = role_id.unwrap()["data"]["role_id"].as_str().unwrap().to_owned();
    let made = bao.post("auth/approle/role/leadsd/secret-id", json!({})).await;
    let secret_id = made["data"]["secret_id"].as_str().unwrap();
    let file = |name, text: &str| file(&folder, name, text).display().to_string();
    let settings = [
        ("VAULT__ADDRESS", bao.address.clone()),
        ("VAULT__AUTH__METHOD", "approle".to_owned()),
        ("VAULT__AUTH__ROLE_ID_FILE", file("role-id", &role_id)),
        ("VAULT__AUTH__SECRET_ID_FILE", file("secret-id", secret_id)),
    ];
    let builder = TestApp::builder().unready().without("VAULT__AUTH__FILE");
    let builder = settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
    let app = builder.start().await;
    ready_with_token(&app, &bao).await;
    let metric = "leadsd_vault_secret_id_expires_in_seconds{method=\"approle\"} ";
    eventually("the metric shows two days", async || {
        let page = metrics_page(&app.admin).await.unwrap_or_default();
        let left = page.lines().find_map(|line| line.strip_prefix(metric)?.parse::<f64>().ok());
        left.is_some_and(|left| (172_000.0..=172_800.0).contains(&left))
    })
    .await;
    let found = doctor(&app, &settings);
    let token = found["checks"].as_array().unwrap().iter().find(|c| c["check"] == "vault.token");
    let cause = token.unwrap()["cause"].as_str().unwrap();
    assert!(cause.contains("the secret id of the AppRole expires in 47 hours"), "{cause}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn every_kind_of_token_serves_and_doctor_finds_no_fault_in_it() {
    let (bao, folder) = (OpenBao::start().await, tempfile::tempdir().unwrap());
    bao.policy().await;
    for (kind, more, fix) in [
        ("service", json!({}), Some("-period=24h")),
        ("batch", json!({"type": "batch"}), None),
        ("periodic", json!({"period": "240h"}), None),
        ("not renewable", json!({"renewable": false}), None),
        ("orphan", json!({"no_parent": true}), Some("-period=24h")),
        ("with a last day", json!({"explicit_max_ttl": "240h"}), Some("-period=24h")),
        ("with a use limit", json!({"num_uses": 500}), Some("without -use-limit")),
    ] {
        let mut token = json!({"policies": ["leadsd"], "ttl": "240h"});
        token.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = bao.post("auth/token/create", token).await;
        let token = made["auth"]["client_token"].as_str().unwrap();
        let settings = [
            ("VAULT__ADDRESS", bao.address.clone()),
            ("VAULT__AUTH__METHOD", "token".to_owned()),
            ("VAULT__AUTH__FILE", file(&folder, "token", token).display().to_string()),
        ];
        let builder = TestApp::builder().unready();
        let builder =
            settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        let app = builder.start().await;
        let id = ready_with_token(&app, &bao).await;
        takes_new_token(&app, &id, |secret| store(&bao, secret)).await;
        let report = doctor(&app, &settings);
        let faults: Vec<_> = report["checks"].as_array().unwrap().iter().collect();
        let faults: Vec<_> = faults
            .into_iter()
            .filter(|check| check["result"] != "ok" && check["result"] != "skipped")
            .collect();
        let fixes: Vec<_> = faults.iter().map(|fault| fault["fix"].as_str().unwrap()).collect();
        assert_eq!(fixes.len(), usize::from(fix.is_some()), "{kind}: {faults:#?}");
        assert!(fixes.iter().all(|found| found.contains(fix.unwrap())), "{kind}: {fixes:?}");
        app.stop().await;
    }
    // Without the default policy a token may not look itself up, which Vault reports like an unknown token.
    let token = json!({"policies": ["leadsd"], "ttl": "240h", "no_default_policy": true});
    let made = bao.post("auth/token/create", token).await;
    file(&folder, "token", made["auth"]["client_token"].as_str().unwrap());
    let settings = [
        ("VAULT__ADDRESS", bao.address.clone()),
        ("VAULT__AUTH__METHOD", "token".to_owned()),
        ("VAULT__AUTH__FILE", folder.path().join("token").display().to_string()),
    ];
    let builder = TestApp::builder().unready();
    let builder = settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
    let app = builder.start().await;
    let report = doctor(&app, &settings);
    let login = report["checks"].as_array().unwrap().iter().find(|c| c["check"] == "vault.login");
    let fix = login.unwrap()["fix"].as_str().unwrap();
    assert!(fix.contains("lookup-self"), "{fix}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn every_kind_of_approle_and_policy_serves_and_logs_no_warning_twice() {
    const DATA: &str = r#"path "secret/data/hubspot/*" { capabilities = ["read"] }"#;
    const METADATA: &str = r#"path "secret/metadata/hubspot/*" { capabilities = ["read"] }"#;
    let bao = OpenBao::start().await;
    bao.approle("1h").await;
    let short = |more: Value| {
        let mut role = json!({"token_policies": "leadsd", "token_ttl": "5s"});
        role.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        role
    };
    let roles = [
        ("service", short(json!({})), None),
        ("batch", short(json!({"token_type": "batch"})), None),
        ("no default policy", short(json!({"token_no_default_policy": true})), None),
        ("maximum", short(json!({"token_max_ttl": "8s"})), None),
        ("explicit maximum", short(json!({"token_explicit_max_ttl": "8s"})), None),
        ("use limit", short(json!({"token_num_uses": 9})), Some("vault.token")),
    ];
    for policy in [DATA.to_owned(), format!("{DATA}\n{METADATA}")] {
        bao.post("sys/policies/acl/leadsd", json!({ "policy": policy })).await;
        let kinds = roles.clone().map(|(kind, role, fails)| {
            let bao = &bao;
            async move { serves_without_noise(bao, kind, role, fails).await }
        });
        // The roles have one name, so they are tried one after the other.
        for kind in kinds {
            kind.await;
        }
    }
}

/// Runs the service and doctor with this role, until it has had several tokens and a new secret.
async fn serves_without_noise(bao: &OpenBao, kind: &str, role: Value, fails: Option<&str>) {
    let (folder, hubspot) = (tempfile::tempdir().unwrap(), fake_hubspot().await);
    let name = kind.replace(' ', "-");
    let path = |rest: &str| format!("auth/approle/role/{name}{rest}");
    bao.post(&path(""), role).await;
    let role_id = bao.call(Method::GET, &path("/role-id"), Value::Null).await.unwrap();
    let secret_id = bao.post(&path("/secret-id"), json!({})).await;
    let write = |name: &str, text: &Value| {
        file(&folder, name, text.as_str().unwrap()).display().to_string()
    };
    let role_id = write("role-id", &role_id["data"]["role_id"]);
    let secret_id = write("secret-id", &secret_id["data"]["secret_id"]);
    let auth = format!(
        "method = \"approle\"\nrole_id_file = \"{role_id}\"\nsecret_id_file = \"{secret_id}\""
    );
    hubspot.seed();
    let id = hubspot.first_lead().unwrap();
    let token = hubspot.static_token(&[READ, WRITE]);
    store(bao, json!({"access_token": token.expose()})).await;
    let config = config(&folder, &bao.address, &auth, &hubspot);
    let process = Process::serve(LEADSD, &config, &[]);
    let grpc = process.ready().await;
    let admin = format!("http://{}", process.logged("admin.address").await);
    let leads = LeadsServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    let get = pb::GetLeadRequest { id, ..Default::default() };
    leads.clone().get_lead(get.clone()).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for round in 1..=3 {
        let token = hubspot.static_token(&[READ, WRITE]);
        store(bao, json!({"access_token": token.expose()})).await;
        hubspot.revoke_tokens_but(&token);
        eventually(&format!("{kind}: the new token is read"), async || {
            leads.clone().get_lead(get.clone()).await.is_ok()
        })
        .await;
        eventually(&format!("{kind}: a token is renewed or replaced"), async || {
            let text =
                http.get(format!("{admin}/vault")).send().await.unwrap().text().await.unwrap();
            let view: Value = serde_json::from_str(&text).unwrap();
            let count = |key: &str| view[key].as_u64().unwrap();
            count("logins") + count("renewals") > 2 * round
        })
        .await;
    }
    let output = tokio::task::block_in_place(|| {
        let mut doctor = Command::new(LEADSD);
        doctor.args(["doctor", "--json", "--config"]).arg(&config).output().unwrap()
    });
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let failed = checks.iter().find(|check| check["result"] == "fail");
    // The service has its listeners, and doctor says so; that is no fault of Vault.
    assert_eq!(failed.map(|check| check["check"].as_str().unwrap()), fails, "{kind}: {report:#}");
    process.signal("TERM");
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{kind}: {log}");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // HubSpot rejects each token that the test revokes.
    let mut warnings: Vec<_> = lines
        .filter(|line| line["level"] == "WARN" && line["target"] != "leadsd::access")
        .map(|line| line["message"].as_str().unwrap_or_default().to_owned())
        .filter(|message| !message.starts_with("HubSpot rejected"))
        .collect();
    warnings.sort();
    let total = warnings.len();
    warnings.dedup();
    assert_eq!(warnings.len(), total, "{kind}: a warning is repeated: {warnings:#?}\n{log}");
}

/// Report of doctor with this Vault and the HubSpot of the service.
fn doctor(app: &TestApp, vault: &[(&str, String)]) -> Value {
    let hubspot = format!("http://{}", app.hubspot.address());
    let others = [
        ("HUBSPOT__BASE_URL", hubspot.as_str()),
        ("QUOTA__TIME_ZONE", "US/Eastern"),
        ("PORTALS__DEFAULT__SECRET", "hubspot/default"),
        ("GRPC__LISTEN", "127.0.0.1:0"),
        ("ADMIN__LISTEN", "127.0.0.1:0"),
    ];
    let mut doctor = Command::new(LEADSD);
    doctor.args(["doctor", "--json"]).env_clear();
    doctor.envs(others.map(|(key, value)| (format!("LEADSD_{key}"), value)));
    doctor.envs(vault.iter().map(|(key, value)| (format!("LEADSD_{key}"), value)));
    let output = tokio::task::block_in_place(|| doctor.output().unwrap());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A running agent; killed when dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// === impl Agent ===

impl Agent {
    /// Starts `bao agent` or `bao proxy`, which logs in with the AppRole of the folder, writes its token to
    /// the file `agent-token`, and forwards requests that have the header. Returns its address.
    async fn start(kind: &str, bao: &OpenBao, folder: &Path) -> (Self, String) {
        let port = leadsd_testkit::unused_port();
        let shown = folder.display();
        let config = format!(
            "vault {{ address = \"{}\" }}\n\
             auto_auth {{\n  method \"approle\" {{\n    config = {{\n      \
             role_id_file_path = \"{shown}/role-id\"\n      \
             secret_id_file_path = \"{shown}/secret-id\"\n      \
             remove_secret_id_file_after_reading = false\n    }}\n  }}\n  \
             sink \"file\" {{\n    config = {{ path = \"{shown}/agent-token\" }}\n  }}\n}}\n\
             api_proxy {{}}\n\
             listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  tls_disable = true\n  \
             require_request_header = true\n}}\n",
            bao.address
        );
        let file = folder.join("agent.hcl");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(tool("LEADSD_TEST_BAO", "bao"));
        command.arg(kind).arg(format!("-config={}", file.display()));
        let agent = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let address = format!("http://127.0.0.1:{port}");
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let health = format!("{address}/v1/sys/health");
        eventually("the agent has a token and rejects requests without the header", async || {
            let refused = http.get(&health).send().await;
            folder.join("agent-token").exists()
                && refused.is_ok_and(|response| response.status().as_u16() == 412)
        })
        .await;
        (agent, address)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn an_agent_that_requires_the_request_header_is_a_vault() {
    for kind in ["agent", "proxy"] {
        let (bao, folder) = (OpenBao::start().await, tempfile::tempdir().unwrap());
        let (role_id, secret_id) = bao.approle("1h").await;
        file(&folder, "role-id", &role_id);
        file(&folder, "secret-id", &secret_id);
        let (_agent, address) = Agent::start(kind, &bao, folder.path()).await;
        let settings = [
            ("VAULT__ADDRESS", address),
            ("VAULT__AUTH__METHOD", "token_file".to_owned()),
            ("VAULT__AUTH__FILE", folder.path().join("agent-token").display().to_string()),
        ];
        let builder = TestApp::builder().unready();
        let builder =
            settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        let app = builder.start().await;
        let id = ready_with_token(&app, &bao).await;
        takes_new_token(&app, &id, |secret| store(&bao, secret)).await;

        // Doctor understands the token of the agent, and says nothing against it.
        let report = doctor(&app, &settings);
        assert_eq!(report["result"], "ok", "{kind}: {report:#}");
        app.stop().await;
    }
}

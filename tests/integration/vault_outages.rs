//! Vault outages: no call fails for lack of a credential while a token is in memory, and the
//! service recovers without a restart.

use std::time::Duration;

use futures_util::future::join_all;
use leadsd_hubspot_fake::{READ, WRITE};
use leadsd_vault_fake::Fault;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::{Builder, PATIENCE, TestApp, eventually, metrics_page, wait_ready},
    openbao::{OpenBao, file, jwt, token_reviewer},
};

/// Maximum recovery time after an outage.
const RECOVERY: Duration = Duration::from_secs(30);

async fn vault_view(app: &TestApp) -> Value {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(format!("{}/vault", app.admin)).send().await.unwrap();
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

/// Makes calls for `time`; each must succeed.
async fn served_for(app: &TestApp, id: &str, time: Duration) {
    let ends = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < ends {
        app.get(id).await.expect("a token is in memory");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a new static token, which `write` stores, has replaced the one in use.
pub(crate) async fn takes_new_token<F: Future<Output = ()>>(
    app: &TestApp,
    id: &str,
    write: impl FnOnce(Value) -> F,
) {
    let token = app.hubspot.static_token(&[READ, WRITE]);
    write(json!({"access_token": token.expose()})).await;
    app.hubspot.revoke_tokens_but(&token);
    let taken = async {
        while app.get(id).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(RECOVERY, taken).await.expect("the new token is taken in time");
}

#[tokio::test]
async fn vault_failures_fail_no_call_and_the_next_secret_is_found() {
    let faults = [
        Fault::Status(429),
        Fault::Status(472),
        Fault::Status(473),
        Fault::Status(412),
        Fault::Status(500),
        Fault::Status(503),
        Fault::Garbage,
        Fault::Empty,
        Fault::Silence,
    ];
    join_all(faults.map(|fault| async move {
        let app = TestApp::builder().set("VAULT__TIMEOUT", "300ms").start().await;
        let id = app.lead("Jane");
        app.vault.fail(Some(fault));
        let failed = "leadsd_credential_store_failures_total{portal=\"default\"";
        eventually(&format!("{fault:?} is noticed"), async || {
            let page = metrics_page(&app.admin).await.unwrap_or_default();
            page.lines().any(|line| line.starts_with(failed) && !line.ends_with(" 0"))
        })
        .await;
        app.get(&id).await.expect("a token is in memory");
        app.vault.fail(None);
        takes_new_token(&app, &id, async |secret| app.vault.put("hubspot/default", secret)).await;
    }))
    .await;
}

#[tokio::test]
async fn denied_vault_access_is_retried() {
    let first = TestApp::start().await;
    first.vault.fail(Some(Fault::Status(403)));
    let app = first.replica().unready().start().await;
    let denied = async || {
        let view = vault_view(&app).await;
        view["error"].as_str().is_some_and(|why| why.contains("403"))
    };
    eventually("the denial is shown", denied).await;
    app.vault.fail(None);
    wait_ready(&app.admin).await;
}

/// The service on a real OpenBao that it logs in to by `method`.
async fn on_openbao(bao: &OpenBao, folder: &TempDir, method: &str) -> TestApp {
    let builder = TestApp::builder()
        .unready()
        .without("VAULT__AUTH__FILE")
        .set("VAULT__ADDRESS", &bao.address)
        .set("VAULT__TIMEOUT", "1s")
        .set("VAULT__AUTH__METHOD", method);
    let set = |builder: Builder, key: &str, name: &str, text: &str| {
        builder.set(&format!("VAULT__AUTH__{key}"), &file(folder, name, text).display().to_string())
    };
    let builder = match method {
        "approle" => {
            let (role_id, secret_id) = bao.approle("1h").await;
            let builder = set(builder, "ROLE_ID_FILE", "role-id", &role_id);
            set(builder, "SECRET_ID_FILE", "secret-id", &secret_id)
        }
        "jwt" => {
            bao.jwt().await;
            set(builder.set("VAULT__AUTH__ROLE", "leadsd"), "JWT_FILE", "jwt", &jwt())
        }
        _ => {
            bao.kubernetes(&token_reviewer().await).await;
            set(builder.set("VAULT__AUTH__ROLE", "leadsd"), "JWT_FILE", "jwt", &jwt())
        }
    };
    let app = builder.start().await;
    let token = app.hubspot.static_token(&[READ, WRITE]);
    store(bao, json!({"access_token": token.expose()})).await;
    wait_ready(&app.admin).await;
    app
}

pub(crate) async fn store(bao: &OpenBao, secret: Value) {
    bao.post("secret/data/hubspot/default", json!({ "data": secret })).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn a_real_openbao_may_be_sealed_and_killed_with_every_login_method() {
    for method in ["approle", "jwt", "kubernetes"] {
        let mut bao = OpenBao::start().await;
        let folder = tempfile::tempdir().unwrap();
        let app = on_openbao(&bao, &folder, method).await;
        let id = app.lead("Jane");

        bao.seal().await;
        served_for(&app, &id, Duration::from_secs(2)).await;
        bao.unseal().await;
        takes_new_token(&app, &id, |secret| store(&bao, secret)).await;

        bao.kill();
        served_for(&app, &id, Duration::from_secs(3)).await;
        bao.restart().await;
        takes_new_token(&app, &id, |secret| store(&bao, secret)).await;

        // All tokens are revoked, as after a restart without a token store.
        let prefix = format!("sys/leases/revoke-force/auth/{method}/login");
        bao.call(reqwest::Method::PUT, &prefix, json!({})).await;
        takes_new_token(&app, &id, |secret| store(&bao, secret)).await;
        assert_eq!(vault_view(&app).await["logged_in"], true, "{method}");
        tokio::time::timeout(PATIENCE, app.stop()).await.expect("stopped");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn two_replicas_on_a_real_openbao_never_lose_a_rotating_grant() {
    let bao = OpenBao::start().await;
    let folder = tempfile::tempdir().unwrap();
    let first = on_openbao(&bao, &folder, "approle").await;
    // The second replica uses the HubSpot of the first.
    let hubspot = format!("http://{}", first.hubspot.address());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let second = TestApp::builder()
        .unready()
        .without("VAULT__AUTH__FILE")
        .set("VAULT__ADDRESS", &bao.address)
        .set("VAULT__AUTH__METHOD", "approle")
        .set("VAULT__AUTH__ROLE_ID_FILE", &path("role-id"))
        .set("VAULT__AUTH__SECRET_ID_FILE", &path("secret-id"))
        .set("HUBSPOT__BASE_URL", &hubspot)
        .start()
        .await;
    wait_ready(&second.admin).await;
    first.hubspot.behave(|behaviour| behaviour.rotate_refresh_tokens = true);
    let (client_id, client_secret, refresh_token) = first.hubspot.oauth_app();
    let grant = json!({"client_id": client_id, "client_secret": client_secret.expose(),
                       "refresh_token": refresh_token.expose()});
    store(&bao, grant).await;
    let id = first.lead("Jane");
    // Both replicas move from the static token to the grant, and then refresh repeatedly.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        first.hubspot.expire_tokens();
        let both = async {
            loop {
                let (one, two) = tokio::join!(first.get(&id), second.get(&id));
                if one.is_ok() && two.is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(RECOVERY, both).await.expect("both recover");
    }
    assert!(first.hubspot.grants() >= 4);
}

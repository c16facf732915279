//! Malformed Vault responses to logins, reads, polls, lists and writes of secrets, and malformed
//! contents of secrets.

use std::time::Duration;

use leadsd::{
    config::{self, Loaded},
    vault::{AdminClient, KvStore, Session},
};
use leadsd_base::secret::Secret;
use leadsd_credentials::{SecretPath, SecretStore as _};
use serde_json::{Value, json};

use crate::{
    malformed_json,
    proxy::Proxy,
    random::Random,
    run::Run,
    setup::{Peers, set},
};

/// Timeout for a login: rejected logins are retried with backoff.
const PATIENCE: Duration = Duration::from_millis(60);

fn config(peers: &Peers, proxy: &Proxy, files: &[(&str, String)]) -> config::Vault {
    let mut settings = peers.settings();
    set(&mut settings, &[("VAULT__ADDRESS", &proxy.url), ("VAULT__TIMEOUT", "200ms")]);
    for (key, value) in files {
        set(&mut settings, &[(*key, value)]);
    }
    if files.len() > 1 {
        settings.retain(|(key, _)| key != "LEADSD_VAULT__AUTH__FILE");
    }
    Loaded::new(None, settings).unwrap().config.vault
}

#[tokio::test(flavor = "multi_thread")]
async fn vault_responses() {
    let mut run = Run::start("vault_responses").await;
    let peers = Peers::start().await;
    let proxy = Proxy::start(format!("http://{}", peers.vault.address())).await;
    let (role, secret_id) = peers.vault.approle();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("role"), role.expose()).unwrap();
    std::fs::write(path("secret"), secret_id.expose()).unwrap();
    let with_token = config(&peers, &proxy, &[]);
    let with_role = config(
        &peers,
        &proxy,
        &[
            ("VAULT__AUTH__METHOD", "approle".to_owned()),
            ("VAULT__AUTH__ROLE_ID_FILE", path("role")),
            ("VAULT__AUTH__SECRET_ID_FILE", path("secret")),
        ],
    );
    let (mut reads, mut read) = (0, 0);
    while let Some(mut random) = run.next() {
        let secret = SecretPath::parse("hubspot/fuzz").unwrap();
        peers.vault.remove("hubspot/fuzz");
        peers.vault.put("hubspot/fuzz", content(&mut random));
        let config = if random.one_in(3) { &with_role } else { &with_token };
        // Most logins succeed, because nothing else runs without one.
        let exempt_path = if random.one_in(5) { "" } else { "/auth/" };
        proxy.mutate_responses(&random, 4, exempt_path);
        if random.one_in(5) {
            run.in_time(admin(config, &secret)).await;
            continue;
        }
        let session = Session::start(config).unwrap();
        let store = KvStore::new(session.clone(), "secret", PATIENCE);
        reads += 1;
        let works = async {
            let done = store.read(&secret).await.is_ok();
            let _ = store.version(&secret).await;
            let _ = store.read_strings(&secret).await;
            let _ = store.list(&SecretPath::parse("hubspot").unwrap()).await;
            let _ = store.replace_refresh_token(&secret, 1, &Secret::new("next")).await;
            let _ = format!("{:?}", session.status());
            done
        };
        read += u32::from(run.in_time(works).await);
        proxy.mutate_responses(&random, 1, "");
    }
    println!("vault_responses: {read} of {reads} reads gave a credential");
}

/// Content of a secret, sometimes malformed.
fn content(random: &mut Random) -> Value {
    let mut content = match random.below(3) {
        0 => json!({"access_token": "a-token"}),
        1 => json!({"client_id": "a", "client_secret": "b", "refresh_token": "c", "more": 1}),
        _ => json!({"billing": "0".repeat(64), "shop": format!("{0},{0}", "a1".repeat(32))}),
    };
    if random.one_in(2) {
        malformed_json::mutate(random, &mut content);
    }
    content
}

/// Sends each Vault request of the commands.
async fn admin(config: &config::Vault, secret: &SecretPath) {
    let _ = AdminClient::health(config).await;
    let Ok(mut admin) = AdminClient::log_in(config).await else { return };
    let _ = admin.ensure_ttl(Duration::from_secs(60)).await;
    let _ = admin.look_up_token().await;
    let _ = admin.mount_info().await;
    let _ = admin.capabilities(&[admin.data_path(secret)]).await;
    let _ = admin.list(&SecretPath::parse("hubspot").unwrap()).await;
    if let Ok(Some(stored)) = admin.read(secret).await
        && let Some(keys) = stored.data
    {
        let _ = keys.names().count();
        let _ = (keys.text("access_token"), keys.secret("access_token"));
        let _ = admin.write(secret, stored.version, &keys).await;
    }
    admin.close().await;
}

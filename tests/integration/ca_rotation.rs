//! Rotated CAs of HubSpot, Vault, the collector and Redis: each client reads its file again, without a
//! restart. `authentication/key_rotation` has the token issuer, and `openbao_changes` a real OpenBao.

use std::net::SocketAddr;

use leadsd_hubspot_fake::{READ, WRITE};
use leadsd_testkit::Redis;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    harness::{TestApp, eventually, metrics_page},
    openbao::Authority,
    tls_front::RotatingFront,
    traces::Collector,
};

/// Peers with certificates of the old CA, and the file with the trusted CAs.
struct Rotation {
    old: Authority,
    new: Authority,
    folder: TempDir,
}

// === impl Rotation ===

impl Rotation {
    fn new() -> Self {
        let rotation = Self {
            old: Authority::new(),
            new: Authority::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        rotation.trust(&[&rotation.old]);
        rotation
    }

    fn ca_file(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// Replaces the trusted CAs.
    fn trust(&self, authorities: &[&Authority]) {
        let all: String = authorities.iter().map(|authority| authority.pem()).collect();
        std::fs::write(self.ca_file(), all).unwrap();
    }

    fn front(&self, behind: SocketAddr) -> RotatingFront {
        let (chain, key) = self.old.issue("localhost");
        RotatingFront::start((&chain, &key), behind)
    }

    /// The peer moves to a certificate of this CA, and closes its connections.
    fn rotate(front: &RotatingFront, authority: &Authority) {
        let (chain, key) = authority.issue("localhost");
        front.rotate((&chain, &key));
    }
}

fn url(front: &RotatingFront) -> String {
    format!("https://localhost:{}", front.address.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn hubspot_vault_and_the_collector_move_to_another_ca_without_a_restart() {
    let (rotation, (collector, plain)) = (Rotation::new(), Collector::start().await);
    // The fakes are those of a service without TLS.
    let peers = TestApp::start().await;
    let hubspot = rotation.front(peers.hubspot.address());
    let vault = rotation.front(peers.vault.address());
    let traces = rotation.front(plain.trim_start_matches("http://").parse().unwrap());
    let ca_file = rotation.ca_file();
    let app = peers
        .replica()
        .set("HUBSPOT__BASE_URL", &url(&hubspot))
        .set("EGRESS__CA_FILES", &format!("[\"{ca_file}\"]"))
        .set("VAULT__ADDRESS", &url(&vault))
        .set("VAULT__CA_FILE", &ca_file)
        .set("TRACE__OTLP_ENDPOINT", &url(&traces))
        .set("TRACE__CA_FILE", &ca_file)
        .start()
        .await;
    let id = peers.lead("Jane");
    let exported = async || {
        let before = collector.count();
        eventually("spans arrive", async || {
            app.get(&id).await.unwrap();
            collector.count() > before
        })
        .await;
    };
    let reads_vault = async || {
        let token = peers.hubspot.static_token(&[READ, WRITE]);
        peers.vault.put("hubspot/default", json!({"access_token": token.expose()}));
        peers.hubspot.revoke_tokens_but(&token);
        eventually("the new token is read", async || app.get(&id).await.is_ok()).await;
    };
    exported().await;
    reads_vault().await;
    // Each file has an expiry, by the key that names it.
    let page = metrics_page(&app.admin).await.unwrap();
    for key in ["egress.ca_files", "vault.ca_file", "trace.ca_file"] {
        let series =
            format!("leadsd_ca_file_expires_in_seconds{{key=\"{key}\",file=\"{ca_file}\"}} ");
        assert!(page.contains(&series), "{key}");
    }

    rotation.trust(&[&rotation.old, &rotation.new]);
    for front in [&hubspot, &vault, &traces] {
        Rotation::rotate(front, &rotation.new);
    }
    eventually("HubSpot is trusted", async || app.get(&id).await.is_ok()).await;
    reads_vault().await;
    exported().await;

    // A CA that was removed is not trusted any more.
    rotation.trust(&[&rotation.old]);
    eventually("HubSpot is not trusted", async || {
        // Only new connections show it, and the file is read once a second at most.
        Rotation::rotate(&hubspot, &rotation.new);
        app.get(&id).await.is_err()
    })
    .await;
    rotation.trust(&[&rotation.new]);
    eventually("HubSpot is trusted again", async || app.get(&id).await.is_ok()).await;
    app.stop().await;
    peers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn redis_moves_to_another_ca_without_a_restart() {
    let (rotation, redis) = (Rotation::new(), Redis::start().await);
    let front = rotation.front(SocketAddr::from(([127, 0, 0, 1], redis.port())));
    let app = TestApp::builder()
        .set("QUOTA__SHARED__URL", &format!("rediss://localhost:{}", front.address.port()))
        .set("QUOTA__SHARED__CA_FILE", &rotation.ca_file())
        .set("QUOTA__SHARED__EXPECTED_REPLICAS", "1")
        .start()
        .await;
    let id = app.lead("Jane");
    let until_up = async |expected: &str| {
        let sample =
            format!("leadsd_quota_ledger_up{{portal=\"default\",bucket=\"burst\"}} {expected}.0");
        eventually(&sample, async || {
            app.get(&id).await.unwrap();
            let page = metrics_page(&app.admin).await.unwrap_or_default();
            page.lines().any(|line| line == sample)
        })
        .await;
    };
    until_up("1").await;
    // The peer moves first: the ledger is not trusted, and calls go on.
    Rotation::rotate(&front, &rotation.new);
    until_up("0").await;
    rotation.trust(&[&rotation.old, &rotation.new]);
    until_up("1").await;
    app.stop().await;
}

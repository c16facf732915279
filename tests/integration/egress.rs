//! HubSpot, its token endpoint, Vault, the token issuer and the trace collector through a proxy.

mod every_rpc;
mod failures;
mod real_proxy;

use std::{net::SocketAddr, path::PathBuf, process::Command};

use leadsd::auth;
use leadsd_testkit::{ForwardProxy, HttpPeer, ProxyBehaviour};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    harness::{LEADSD, TestApp, eventually, wait_ready},
    login::Setting,
    openbao::{Authority, file},
    real_peers::{run, text},
    tls_front,
};

/// Header with the credentials `user` and `hush-1`.
const FIRST: &str = "Basic dXNlcjpodXNoLTE=";

/// Header with the credentials `user` and `hush-2`.
const SECOND: &str = "Basic dXNlcjpodXNoLTI=";

/// Request for a tunnel to HubSpot.
const CONNECT: &str = "CONNECT api.hubapi.com:443 HTTP/1.1";

/// A private CA in a file, with TLS in front of servers.
struct Private {
    authority: Authority,
    folder: TempDir,
}

// === impl Private ===

impl Private {
    fn new() -> Self {
        Self { authority: Authority::new(), folder: tempfile::tempdir().unwrap() }
    }

    fn ca_file(&self) -> PathBuf {
        file(&self.folder, "ca.pem", self.authority.pem())
    }

    /// Starts TLS in front of a server, with a certificate for this name.
    fn front(&self, name: &str, behind: SocketAddr) -> SocketAddr {
        let (chain, key) = self.authority.issue(name);
        tls_front::start_with(&chain, &key, behind)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_refreshes_go_through_the_proxy_with_credentials_from_vault() {
    let (proxy, private) = (ForwardProxy::start().await, Private::new());
    proxy.set(ProxyBehaviour::Require(FIRST.to_owned()));
    let ca_files = format!("[\"{}\"]", private.ca_file().display());
    let app = TestApp::builder()
        .unready()
        .oauth()
        .set("HUBSPOT__BASE_URL", "https://api.hubapi.com")
        .set("EGRESS__PROXY", &proxy.url())
        .set("EGRESS__CA_FILES", &ca_files)
        .set("EGRESS__CREDENTIALS_SECRET", "leadsd/egress-proxy")
        .set("VAULT__POLL_INTERVAL", "1h")
        .secret("leadsd/egress-proxy", json!({"username": "user", "password": "hush-1\n"}))
        .start()
        .await;
    proxy.map("api.hubapi.com:443", private.front("api.hubapi.com", app.hubspot.address()));
    wait_ready(&app.admin).await;
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    let refreshes = app.hubspot.log().into_iter().filter(|call| call.path.starts_with("/oauth/"));
    assert!(refreshes.count() > 0, "the token endpoint was asked");
    let seen = proxy.requests();
    assert!(!seen.is_empty());
    for request in seen {
        assert_eq!(request.line, CONNECT);
        assert_eq!(request.authorization.as_deref(), Some(FIRST));
    }

    app.hubspot.add_unique_property("crm_key");
    every_rpc::call_every_rpc(&app.grpc, &app.hubspot, &["SchemaService/ListOwners"]).await;

    // The credentials change at the proxy and in Vault: long before the next poll, calls work again.
    proxy.set(ProxyBehaviour::Require(SECOND.to_owned()));
    app.vault.put("leadsd/egress-proxy", json!({"username": "user", "password": "hush-2"}));
    proxy.cut();
    eventually("the new credentials are used", async || app.get(&id).await.is_ok()).await;
    let last = proxy.requests().pop().unwrap();
    assert_eq!(last.authorization.as_deref(), Some(SECOND));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_wait_for_credentials_and_then_say_that_vault_has_none() {
    let proxy = ForwardProxy::start().await;
    let app = TestApp::builder()
        .unready()
        .set("HUBSPOT__BASE_URL", "https://api.hubapi.com")
        .set("HUBSPOT__CONNECT_TIMEOUT", "200ms")
        .set("HUBSPOT__MAX_ATTEMPTS", "1")
        .set("EGRESS__PROXY", &proxy.url())
        .set("EGRESS__CREDENTIALS_SECRET", "leadsd/egress-proxy")
        .start()
        .await;
    wait_ready(&app.admin).await;
    let status = app.get("1").await.unwrap_err();
    let expected = format!(
        "cannot connect to HubSpot: the proxy {} was not asked: its credentials have not been read \
         from Vault; store username and password",
        proxy.authority()
    );
    assert!(status.message().starts_with(&expected), "{status}");
    assert!(proxy.requests().is_empty(), "nothing is sent without credentials");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exceptions_are_reached_directly() {
    let proxy = ForwardProxy::start().await;
    proxy.set(ProxyBehaviour::Hang);
    let private = Private::new();
    let app = TestApp::builder().unready().start().await;
    let front = private.front("localhost", app.hubspot.address());
    let replica = app
        .replica()
        .set("HUBSPOT__BASE_URL", &format!("https://localhost:{}", front.port()))
        .set("EGRESS__PROXY", &proxy.url())
        .set("EGRESS__NO_PROXY", &format!("[\"localhost:{}\"]", front.port()))
        .set("EGRESS__CA_FILES", &format!("[\"{}\"]", private.ca_file().display()))
        .start()
        .await;
    let id = app.lead("Jane");
    replica.get(&id).await.unwrap();
    assert!(proxy.requests().is_empty(), "{:?}", proxy.requests());
    replica.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_issuer_and_the_collector_are_reached_through_the_proxy() {
    let (proxy, private) = (ForwardProxy::start().await, Private::new());
    let keys = axum::Router::new().route("/keys", axum::routing::get(async || r#"{"keys":[]}"#));
    let issuer = HttpPeer::start(keys).await;
    proxy.map("issuer.test:443", private.front("issuer.test", issuer.address()));
    let app = TestApp::builder()
        .set("EGRESS__PROXY", &proxy.url())
        .set("EGRESS__CA_FILES", &format!("[\"{}\"]", private.ca_file().display()))
        .set("TRACE__OTLP_ENDPOINT", "http://collector.test:4317")
        .start()
        .await;
    app.get(&app.lead("Jane")).await.unwrap();
    eventually("the collector is asked for", async || {
        let seen = proxy.requests();
        seen.iter().any(|request| request.line == "CONNECT collector.test:4317 HTTP/1.1")
    })
    .await;
    let settings = [
        ("LEADSD_VAULT__ADDRESS", "http://127.0.0.1:1".to_owned()),
        ("LEADSD_VAULT__AUTH__METHOD", "token".to_owned()),
        ("LEADSD_VAULT__AUTH__FILE", "/dev/null".to_owned()),
        ("LEADSD_PORTALS__DEFAULT__SECRET", "hubspot/default".to_owned()),
        ("LEADSD_AUTH__JWT__ISSUER", "issuer".to_owned()),
        ("LEADSD_AUTH__JWT__AUDIENCE", "leadsd".to_owned()),
        ("LEADSD_AUTH__JWT__JWKS_URL", "https://issuer.test/keys".to_owned()),
        ("LEADSD_AUTH__JWT__CA_FILE", private.ca_file().display().to_string()),
        ("LEADSD_POLICY__ALL__CALLERS", "[\"*\"]".to_owned()),
        ("LEADSD_POLICY__ALL__PORTALS", "[\"*\"]".to_owned()),
        ("LEADSD_POLICY__ALL__ACCESS", "read".to_owned()),
        ("HTTPS_PROXY", proxy.url()),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value));
    let config = leadsd::config::Loaded::new(None, settings).unwrap().config;
    assert_eq!(auth::load_jwks(&config.auth.jwt.unwrap().jwks).await, Ok(0));
    // The export of spans uses the proxy at the same time.
    let line = "CONNECT issuer.test:443 HTTP/1.1";
    assert!(proxy.requests().iter().any(|request| request.line == line), "{line}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_used_and_one_with_credentials_refused() {
    let (setting, proxy, private) =
        (Setting::new().await, ForwardProxy::start().await, Private::new());
    proxy.map("api.hubapi.com:443", private.front("api.hubapi.com", setting.hubspot.address()));
    let config = setting.folder.path().join("leadsd.toml");
    let plain = std::fs::read_to_string(&config).unwrap();
    let plain = plain.replace(
        &format!("base_url = \"http://{}\"", setting.hubspot.address()),
        "base_url = \"https://api.hubapi.com\"",
    );
    std::fs::write(&config, plain).unwrap();
    let token =
        setting.hubspot.static_token(&[leadsd_hubspot_fake::READ, leadsd_hubspot_fake::WRITE]);
    setting.vault.put("hubspot/default", json!({"access_token": token.expose()}));
    setting.hubspot.seed();
    let doctor = |name: &str, value: &str| {
        let mut doctor = Command::new(LEADSD);
        doctor.args(["doctor", "--config"]).arg(&config).env_clear();
        doctor.env("SSL_CERT_FILE", private.ca_file()).env(name, value);
        doctor
    };
    let said = text(&run(&mut doctor("https_proxy", &proxy.url())).await);
    let way = format!("; proxy {} (https_proxy)", proxy.authority());
    assert_eq!(said.matches(&way).count(), 2, "hubspot.dns and hubspot.tcp: {said}");
    assert!(said.contains("; direct (") && !said.contains("FAIL"), "{said}");
    assert!(proxy.requests().iter().all(|request| request.line == CONNECT));
    let secret = format!("http://user:hush-1@{}", proxy.authority());
    for command in ["doctor", "serve", "login"] {
        let mut refused = Command::new(LEADSD);
        refused.args([command, "--config"]).arg(&config).env_clear().env("HTTPS_PROXY", &secret);
        let output = run(&mut refused).await;
        let said = text(&output);
        assert!(said.contains("HTTPS_PROXY: must not contain credentials"), "{command}: {said}");
        assert!(!said.contains("hush") && !output.status.success(), "{command}: {said}");
    }
}

//! Requirements of the service on Vault, checked against the fake and against a real OpenBao, so
//! that both behave alike.

use std::time::Duration;

use leadsd::{
    config::{self, VaultAuth},
    vault::{KvStore, Session, SessionState},
};
use leadsd_base::{net::egress::Egress, secret::Secret};
use leadsd_credentials::{PortalSecret, SecretPath, SecretStore as _, StoreError, VersionState};
use leadsd_vault_fake::FakeVault;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::PATIENCE,
    openbao::{Authority, OpenBao, file, jwt, token_reviewer},
};

/// A Vault of either kind, and its setup.
enum Peer {
    Fake(FakeVault),
    Real(Box<OpenBao>),
}

// === impl Peer ===

impl Peer {
    fn address(&self) -> String {
        match self {
            Self::Fake(fake) => format!("http://{}", fake.address()),
            Self::Real(bao) => bao.address.clone(),
        }
    }

    fn root(&self) -> String {
        match self {
            Self::Fake(fake) => fake.root_token().expose().to_owned(),
            Self::Real(bao) => bao.root.clone(),
        }
    }

    /// Role id and secret id of an AppRole for the paths below `hubspot/`.
    async fn approle(&self) -> (String, String) {
        match self {
            Self::Fake(fake) => {
                let (role_id, secret_id) = fake.approle();
                (role_id.expose().to_owned(), secret_id.expose().to_owned())
            }
            Self::Real(bao) => bao.approle("1h").await,
        }
    }

    /// A wrapping token that holds the secret id.
    async fn wrapped(&self, secret_id: &str) -> String {
        match self {
            Self::Fake(fake) => fake.wrap_secret_id(&Secret::new(secret_id)).expose().to_owned(),
            Self::Real(bao) => {
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                let url = format!("{}/v1/auth/approle/role/leadsd/secret-id", bao.address);
                let request = http.post(url).header("x-vault-token", &bao.root);
                let answer = request.header("x-vault-wrap-ttl", "5m").json(&json!({})).send();
                let text = answer.await.unwrap().text().await.unwrap();
                let answer: Value = serde_json::from_str(&text).unwrap();
                answer["wrap_info"]["token"].as_str().unwrap().to_owned()
            }
        }
    }

    async fn jwt_logins(&self) {
        match self {
            Self::Fake(fake) => {
                fake.accept_jwt("jwt", "leadsd", &jwt());
                fake.accept_jwt("kubernetes", "leadsd", &jwt());
                fake.add_user("leadsd", "correct");
            }
            Self::Real(bao) => {
                bao.jwt().await;
                bao.kubernetes(&token_reviewer().await).await;
                bao.post("sys/auth/userpass", json!({"type": "userpass"})).await;
                let user = json!({"password": "correct", "token_policies": "leadsd"});
                bao.post("auth/userpass/users/leadsd", user).await;
            }
        }
    }

    /// Status and body of a request with a token.
    async fn http(&self, method: Method, path: &str, token: &str, body: Value) -> (u16, Value) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/v1/{path}", self.address());
        let request = http.request(method, url).header("x-vault-token", token);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn write(&self, path: &str, data: Value) -> u64 {
        let path = format!("secret/data/{path}");
        let body = json!({ "data": data });
        let (status, answer) = self.http(Method::POST, &path, &self.root(), body).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"]["version"].as_u64().unwrap()
    }

    fn config(&self, auth: VaultAuth) -> config::Vault {
        config::Vault {
            address: url::Url::parse(&self.address()).unwrap(),
            namespace: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            mount: "secret".to_owned(),
            timeout: Duration::from_secs(5),
            poll_interval: Duration::from_secs(30),
            auth,
            egress: Egress::default(),
        }
    }

    fn log_in(&self, auth: VaultAuth) -> (Session, KvStore) {
        let session = Session::start(&self.config(auth)).unwrap();
        let store = KvStore::new(session.clone(), "secret", Duration::from_secs(5));
        (session, store)
    }

    /// Logs in with the approle.
    async fn enter(&self, folder: &TempDir) -> (Session, KvStore) {
        let (role_id, secret_id) = self.approle().await;
        self.log_in(VaultAuth::AppRole {
            mount: "approle".to_owned(),
            role_id_file: file(folder, "role-id", &role_id),
            secret_id_file: Some(file(folder, "secret-id", &secret_id)),
            secret_id_wrapped: false,
        })
    }
}

#[tokio::test]
#[ignore = "needs bao (OpenBao)"]
async fn a_client_certificate_opens_a_real_openbao_behind_tls() {
    let authority = Authority::new();
    let bao = OpenBao::start_tls(&authority).await;
    bao.policy().await;
    bao.post("sys/auth/cert", json!({"type": "cert"})).await;
    let role = json!({"certificate": authority.pem(), "token_policies": "leadsd"});
    bao.post("auth/cert/certs/leadsd", role.clone()).await;
    let mut other = role;
    other["allowed_common_names"] = json!(["other.internal"]);
    bao.post("auth/cert/certs/other", other).await;
    let secret = json!({"data": {"access_token": "pat-1"}});
    bao.post("secret/data/hubspot/default", secret).await;
    let (certificate, key) = authority.issue("leadsd.internal");
    let write = |name: &str, text: &str| file(&authority.folder, name, text);
    let peer = Peer::Real(Box::new(bao));
    let log_in = |role: Option<&str>, ca: &str| {
        let auth = VaultAuth::Cert { mount: "cert".to_owned(), role: role.map(str::to_owned) };
        let config = config::Vault {
            ca_file: Some(write("ca.pem", ca)),
            client_cert_file: Some(write("client.pem", &certificate)),
            client_key_file: Some(write("client-key.pem", &key)),
            ..peer.config(auth)
        };
        Session::start(&config).unwrap()
    };
    for role in [None, Some("leadsd")] {
        let session = log_in(role, authority.pem());
        assert_eq!(settled(&session).await, None, "{role:?}");
        let store = KvStore::new(session, "secret", Duration::from_secs(5));
        assert_eq!(store.read(&path("hubspot/default")).await.unwrap().version, 1);
    }
    let trouble = settled(&log_in(Some("other"), authority.pem())).await.expect("refused");
    assert!(trouble.contains("rejected with HTTP status 40"), "the role is named: {trouble}");
    let trouble = settled(&log_in(None, Authority::new().pem())).await.expect("not trusted");
    assert!(trouble.contains("cannot be reached"), "another CA: {trouble}");
}

#[tokio::test]
async fn denied_request_with_failed_lookup_keeps_the_token() {
    use axum::{Json, Router, http::StatusCode, routing::get};
    // Accepts one login, then denies reads, and is too busy to look up the token.
    let looked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let lookup = move || {
        let again = looked.swap(true, std::sync::atomic::Ordering::Relaxed);
        let found = json!({"request_id": "r", "lease_id": "", "renewable": false, "lease_duration": 0,
            "wrap_info": null, "warnings": null, "auth": null, "data": {
            "accessor": "a", "creation_time": 0, "creation_ttl": 0, "display_name": "token",
            "entity_id": "", "expire_time": null, "explicit_max_ttl": 0, "id": "t",
            "identity_policies": null, "issue_time": null, "meta": null, "num_uses": 0,
            "orphan": true, "path": "auth/token/create", "policies": ["default"],
            "renewable": false, "role": null, "ttl": 0}});
        let busy = (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"errors": ["busy"]})));
        async move { if again { busy } else { (StatusCode::OK, Json(found)) } }
    };
    let refuse = || async { (StatusCode::FORBIDDEN, Json(json!({"errors": ["no"]}))) };
    let router = Router::new().route("/v1/auth/token/lookup-self", get(lookup)).fallback(refuse);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeVault::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let auth = VaultAuth::Token { file: file(&folder, "token", "t") };
    let mut config = Peer::Fake(fake).config(auth);
    config.address = url::Url::parse(&format!("http://{address}")).unwrap();
    let session = Session::start(&config).unwrap();
    let store = KvStore::new(session.clone(), "secret", Duration::from_secs(5));
    assert_eq!(settled(&session).await, None);
    let refused = store.read(&path("hubspot/default")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert_eq!(session.status().state, SessionState::LoggedIn);
}

/// Waits until the session is logged in or has failed; returns its state.
async fn settled(session: &Session) -> Option<String> {
    let settled = async {
        loop {
            let status = session.status();
            match status.state {
                SessionState::LoggedIn => return None,
                SessionState::LoggedOut(why) if status.login_failures > 0 => return Some(why),
                SessionState::LoggedOut(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("settled in time")
}

fn path(text: &str) -> SecretPath {
    SecretPath::parse(text).unwrap()
}

async fn versions_and_check_and_set(peer: &Peer) {
    let folder = tempfile::tempdir().unwrap();
    let (_session, store) = peer.enter(&folder).await;
    let at = path("hubspot/versions");
    assert_eq!(store.read(&at).await.unwrap_err(), StoreError::NotFound);
    assert_eq!(store.version(&at).await.unwrap_err(), StoreError::NotFound);
    assert_eq!(peer.write("hubspot/versions", json!({"access_token": "pat-1"})).await, 1);
    let found = store.read(&at).await.unwrap();
    let fixed = PortalSecret::Static { access_token: Secret::new("pat-1") };
    assert_eq!((found.version, found.secret), (1, fixed));

    let oauth =
        json!({"client_id": "c", "client_secret": "s", "refresh_token": "r-1", "owner": "x"});
    assert_eq!(peer.write("hubspot/versions", oauth).await, 2);
    assert_eq!(store.version(&at).await.unwrap(), VersionState::Live(2));
    let stale = store.replace_refresh_token(&at, 1, &Secret::new("r-2")).await;
    assert_eq!(stale.unwrap_err(), StoreError::Conflict);
    assert_eq!(store.replace_refresh_token(&at, 2, &Secret::new("r-2")).await.unwrap(), 3);
    let data = "secret/data/hubspot/versions";
    let (_, now) = peer.http(Method::GET, data, &peer.root(), Value::Null).await;
    let wanted =
        json!({"client_id": "c", "client_secret": "s", "refresh_token": "r-2", "owner": "x"});
    assert_eq!(now["data"]["data"], wanted);
    let raced = json!({"options": {"cas": 2}, "data": {"access_token": "late"}});
    assert_eq!(peer.http(Method::POST, data, &peer.root(), raced).await.0, 400);
}

async fn deletes(peer: &Peer) {
    let folder = tempfile::tempdir().unwrap();
    let (_session, store) = peer.enter(&folder).await;
    let at = path("hubspot/deletes");
    peer.write("hubspot/deletes", json!({"access_token": "pat-1"})).await;
    let root = peer.root();
    let change = |method: Method, path: &'static str, body: Value| {
        let root = root.clone();
        async move {
            let (status, answer) = peer.http(method, path, &root, body).await;
            assert!((200..300).contains(&status), "{path}: {status} {answer}");
        }
    };
    change(Method::DELETE, "secret/data/hubspot/deletes", Value::Null).await;
    assert_eq!(store.read(&at).await.unwrap_err(), StoreError::NotFound);
    assert_eq!(store.version(&at).await.unwrap(), VersionState::Deleted(1));
    change(Method::POST, "secret/undelete/hubspot/deletes", json!({"versions": [1]})).await;
    assert_eq!(store.version(&at).await.unwrap(), VersionState::Live(1));
    assert_eq!(store.read(&at).await.unwrap().version, 1);
    change(Method::PUT, "secret/destroy/hubspot/deletes", json!({"versions": [1]})).await;
    assert_eq!(store.version(&at).await.unwrap(), VersionState::Deleted(1));
    assert_eq!(store.read(&at).await.unwrap_err(), StoreError::NotFound);
    change(Method::DELETE, "secret/metadata/hubspot/deletes", Value::Null).await;
    assert_eq!(store.version(&at).await.unwrap_err(), StoreError::NotFound);
}

async fn folders(peer: &Peer) {
    let folder = tempfile::tempdir().unwrap();
    let (_session, store) = peer.enter(&folder).await;
    assert_eq!(store.list(&path("hubspot/empty")).await.unwrap(), Vec::<String>::new());
    for name in ["list/one", "list/two", "list/deep/er"] {
        peer.write(&format!("hubspot/{name}"), json!({"access_token": "pat"})).await;
    }
    let mut names = store.list(&path("hubspot/list")).await.unwrap();
    names.sort();
    assert_eq!(names, ["one", "two"], "folders are no secrets");
}

#[tokio::test]
async fn the_expiry_of_a_secret_id_is_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let status = async |expiry: &str| {
        let fake = FakeVault::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        fake.set_secret_id_expiry(expiry);
        let peer = Peer::Fake(fake);
        let (session, store) = peer.enter(&folder).await;
        peer.write("hubspot/default", json!({"access_token": "pat"})).await;
        store.read(&path("hubspot/default")).await.unwrap();
        // The lookup follows the login; a status without it stays so.
        let known = async || {
            let status = session.status();
            status.secret_id_expires_in.is_some() || expiry.starts_with('0')
        };
        crate::harness::eventually("the secret id is looked up", known).await;
        session.status()
    };
    let known = status("2126-01-01T00:00:00Z").await;
    let days = known.secret_id_expires_in.unwrap().as_secs() / 86_400;
    assert!((30_000..40_000).contains(&days), "{days}");
    assert!(known.is_replaced, "the login replaces its token");
    assert_eq!(status("2026-01-01T00:00:00Z").await.secret_id_expires_in, Some(Duration::ZERO));
    let unlimited = status("0001-01-01T00:00:00Z").await;
    assert_eq!(unlimited.secret_id_expires_in, None);
}

async fn policies(peer: &Peer) {
    let folder = tempfile::tempdir().unwrap();
    if let Peer::Fake(fake) = peer {
        fake.restrict("secret/data/hubspot/");
    }
    let (session, store) = peer.enter(&folder).await;
    peer.write("other/secret", json!({"access_token": "pat"})).await;
    peer.write("hubspot/allowed", json!({"access_token": "pat"})).await;
    assert_eq!(store.read(&path("other/secret")).await.unwrap_err(), StoreError::Denied);
    store.read(&path("hubspot/allowed")).await.unwrap();
    assert_eq!(session.status().logins, 1, "a path that is not allowed is no reason to log in");
}

async fn without_default_policy(peer: &Peer) {
    let folder = tempfile::tempdir().unwrap();
    let (role_id, secret_id) = peer.approle().await;
    match peer {
        Peer::Fake(fake) => {
            fake.set_default_policy(false);
            fake.allow(&[("secret/data/hubspot/", &["read"])]);
        }
        Peer::Real(bao) => {
            let policy = r#"path "secret/data/hubspot/*" { capabilities = ["read"] }"#;
            bao.post("sys/policies/acl/leadsd", json!({ "policy": policy })).await;
            let role = json!({"token_policies": "leadsd", "token_ttl": "1h",
                              "token_no_default_policy": true});
            bao.post("auth/approle/role/leadsd", role).await;
        }
    }
    let (session, store) = peer.log_in(VaultAuth::AppRole {
        mount: "approle".to_owned(),
        role_id_file: file(&folder, "role-id", &role_id),
        secret_id_file: Some(file(&folder, "secret-id", &secret_id)),
        secret_id_wrapped: false,
    });
    let at = path("hubspot/secret");
    peer.write("hubspot/secret", json!({"access_token": "pat"})).await;
    for _ in 0..3 {
        assert_eq!(store.version(&at).await.unwrap_err(), StoreError::Denied);
        store.read(&at).await.unwrap();
    }
    assert_eq!(session.status().logins, 1, "the policy denies the metadata and the lookup");
}

async fn tokens(peer: &Peer) {
    let (role_id, secret_id) = peer.approle().await;
    let login = |secret_id: &str| {
        let body = json!({"role_id": role_id, "secret_id": secret_id});
        async move { peer.http(Method::POST, "auth/approle/login", "", body).await }
    };
    assert_eq!(login("wrong").await.0, 400);
    let (status, answer) = login(&secret_id).await;
    assert_eq!(status, 200, "{answer}");
    let auth = &answer["auth"];
    assert_eq!((&auth["renewable"], &auth["lease_duration"]), (&json!(true), &json!(3_600)));
    let token = auth["client_token"].as_str().unwrap().to_owned();
    let own = |method: Method, path: &'static str| {
        let token = token.clone();
        async move { peer.http(method, path, &token, Value::Null).await }
    };
    let (status, found) = own(Method::GET, "auth/token/lookup-self").await;
    assert_eq!(status, 200);
    assert!((3_590..=3_600).contains(&found["data"]["ttl"].as_u64().unwrap()), "{found}");
    let (status, renewed) = own(Method::POST, "auth/token/renew-self").await;
    assert_eq!((status, &renewed["auth"]["lease_duration"]), (200, &json!(3_600)));
    assert_eq!(own(Method::POST, "auth/token/revoke-self").await.0, 204);
    assert_eq!(own(Method::GET, "auth/token/lookup-self").await.0, 403);
    let unknown = peer.http(Method::GET, "secret/data/hubspot/x", "hvs.nobody", Value::Null).await;
    assert_eq!(unknown.0, 403);
}

async fn logins(peer: &Peer) {
    let folder = tempfile::tempdir().unwrap();
    peer.jwt_logins().await;
    peer.write("hubspot/logins", json!({"access_token": "pat-1"})).await;
    let good = file(&folder, "good.jwt", &jwt());
    let bad = file(&folder, "bad.jwt", &format!("{}x", jwt()));
    let (role, mount) = (|| "leadsd".to_owned(), |name: &str| name.to_owned());
    let username = role;
    for (auth, works) in [
        (VaultAuth::Jwt { mount: mount("jwt"), role: Some(role()), jwt_file: good.clone() }, true),
        (VaultAuth::Jwt { mount: mount("jwt"), role: Some(role()), jwt_file: bad.clone() }, false),
        (VaultAuth::Kubernetes { mount: mount("kubernetes"), role: role(), jwt_file: good }, true),
        (VaultAuth::Kubernetes { mount: mount("kubernetes"), role: role(), jwt_file: bad }, false),
        (
            VaultAuth::UserPass {
                mount: mount("userpass"),
                username: username(),
                password_file: file(&folder, "right", "correct"),
            },
            true,
        ),
        (
            VaultAuth::UserPass {
                mount: mount("userpass"),
                username: username(),
                password_file: file(&folder, "wrong", "incorrect"),
            },
            false,
        ),
        (VaultAuth::Token { file: file(&folder, "root", &peer.root()) }, true),
        (VaultAuth::TokenFile { file: file(&folder, "unknown", "hvs.unknown") }, false),
    ] {
        let shown = format!("{auth:?}");
        let (session, store) = peer.log_in(auth);
        let trouble = settled(&session).await;
        assert_eq!(trouble.is_none(), works, "{shown}: {trouble:?}");
        if works {
            assert_eq!(store.read(&path("hubspot/logins")).await.unwrap().version, 1, "{shown}");
        } else {
            let trouble = trouble.unwrap();
            assert!(trouble.contains("rejected with HTTP status 40"), "{shown}: {trouble}");
        }
        session.close(tokio::time::Instant::now() + PATIENCE).await;
    }
}

async fn wrapped_secret_ids(peer: &Peer) {
    let folder = tempfile::tempdir().unwrap();
    let (role_id, secret_id) = peer.approle().await;
    let wrapping_token = peer.wrapped(&secret_id).await;
    let auth = VaultAuth::AppRole {
        mount: "approle".to_owned(),
        role_id_file: file(&folder, "role-id", &role_id),
        secret_id_file: Some(file(&folder, "wrapped", &wrapping_token)),
        secret_id_wrapped: true,
    };
    let (first, _store) = peer.log_in(auth.clone());
    assert_eq!(settled(&first).await, None);
    let (second, _store) = peer.log_in(auth);
    let trouble = settled(&second).await.expect("a wrapping token works once");
    assert!(trouble.contains("wrapping token") && trouble.contains("intercepted"), "{trouble}");
    // A new token is used without a restart.
    file(&folder, "wrapped", &peer.wrapped(&secret_id).await);
    let logged_in = async {
        while second.status().state != SessionState::LoggedIn {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, logged_in).await.expect("logged in");
}

async fn seals(peer: &Peer) {
    let folder = tempfile::tempdir().unwrap();
    let (_session, store) = peer.enter(&folder).await;
    peer.write("hubspot/seals", json!({"access_token": "pat"})).await;
    let at = path("hubspot/seals");
    store.read(&at).await.unwrap();
    match peer {
        Peer::Fake(fake) => fake.set_sealed(true),
        Peer::Real(bao) => bao.seal().await,
    }
    let sealed = store.read(&at).await.unwrap_err();
    assert!(matches!(&sealed, StoreError::Unavailable(why) if why.contains("sealed")), "{sealed}");
    match peer {
        Peer::Fake(fake) => fake.set_sealed(false),
        Peer::Real(bao) => bao.unseal().await,
    }
    store.read(&at).await.unwrap();
}

macro_rules! contract {
    ($($name:ident),+) => {
        mod fake {
            $(#[tokio::test]
            async fn $name() {
                let logs = leadsd_testkit::LogCapture::default();
                let filter = leadsd::telemetry::filter("trace").expect("a valid filter");
                let _captured = tracing::dispatcher::set_default(&logs.dispatch(filter));
                let fake = super::FakeVault::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
                super::$name(&super::Peer::Fake(fake)).await;
                assert!(logs.lines() > 0, "the capture sees the lines of the session");
                logs.assert_clean();
            })+
        }

        mod real {
            $(#[tokio::test]
            #[ignore = "needs bao (OpenBao)"]
            async fn $name() {
                super::$name(&super::Peer::Real(Box::new(super::OpenBao::start().await))).await;
            })+
        }
    };
}

contract!(
    versions_and_check_and_set,
    deletes,
    folders,
    policies,
    without_default_policy,
    tokens,
    logins,
    wrapped_secret_ids,
    seals
);

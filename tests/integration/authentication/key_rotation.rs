//! Rotation and outages of the token issuer's keys and of API key hashes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::get,
};
use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_vault_fake::Fault;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Request, Status};

use super::{
    World, api_key,
    issuers::{self, Authority, Issuer, sha256},
    metric, until, with_policies,
};
use crate::{
    harness::{Builder, TestApp, failure},
    tls_front::RotatingFront,
};

/// Key set endpoint of an issuer.
struct KeyServer {
    address: std::net::SocketAddr,
    shown: Arc<Mutex<Option<Value>>>,
    asked: Arc<AtomicUsize>,
    tokens: Arc<Mutex<Vec<String>>>,
}

// === impl KeyServer ===

impl KeyServer {
    async fn start(keys: Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shown = Arc::new(Mutex::new(Some(keys)));
        let (asked, tokens) = (Arc::default(), Arc::default());
        let state = (Arc::clone(&shown), Arc::clone(&asked), Arc::clone(&tokens));
        let router = Router::new().route("/jwks", get(answer)).with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shown, asked, tokens }
    }

    fn show(&self, keys: Option<Value>) {
        *self.shown.lock().unwrap() = keys;
    }
}

type Shown = (Arc<Mutex<Option<Value>>>, Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>);

async fn answer(
    State((shown, asked, tokens)): State<Shown>,
    headers: HeaderMap,
) -> Result<String, StatusCode> {
    asked.fetch_add(1, Ordering::Relaxed);
    let sent = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    tokens.lock().unwrap().extend(sent);
    let shown = shown.lock().unwrap().as_ref().map(Value::to_string);
    shown.ok_or(StatusCode::SERVICE_UNAVAILABLE)
}

/// Starts a service without TLS that verifies tokens with the keys at this URL.
fn with_tokens(url: &str) -> Builder {
    with_policies(TestApp::builder())
        .portals(&["default", "zurich"])
        .set("AUTH__JWT__ISSUER", issuers::ISSUER)
        .set("AUTH__JWT__AUDIENCE", "leadsd")
        .set("AUTH__JWT__JWKS_URL", url)
}

/// Lists leads with one request header.
pub(super) async fn list(app: &TestApp, header: &'static str, value: &str) -> Result<(), Status> {
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", app.grpc)).unwrap();
    let mut leads = LeadsServiceClient::new(channel.connect().await.unwrap());
    let mut request = Request::new(pb::ListLeadsRequest::default());
    request.metadata_mut().insert(header, value.parse().unwrap());
    request.set_timeout(Duration::from_secs(10));
    leads.list_leads(request).await.map(|_| ())
}

async fn with_token(app: &TestApp, token: &str) -> Result<(), Status> {
    list(app, "authorization", &format!("Bearer {token}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn key_rotation_fails_no_call_and_a_removed_key_is_rejected() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let server = KeyServer::start(old.jwks()).await;
    let url = format!("http://{}/jwks", server.address);
    let app = with_tokens(&url).set("AUTH__JWT__REFRESH_INTERVAL", "1h").start().await;
    with_token(&app, &old.token("reader", json!({}))).await.unwrap();
    // Reloads caused by tokens with unknown keys are ten seconds apart.
    tokio::time::sleep(Duration::from_secs(11)).await;
    server.show(Some(json!({"keys": [old.jwk(), new.jwk()]})));
    let token = new.token("reader", json!({}));
    let calls = (0..20).map(|_| with_token(&app, &token));
    for answer in futures_util::future::join_all(calls).await {
        answer.expect("the first token of a new key is as good as any");
    }
    assert_eq!(server.asked.load(Ordering::Relaxed), 2, "one look for all of them");
    with_token(&app, &old.token("reader", json!({}))).await.unwrap();
    // Invalid tokens must not cause a reload for each call.
    for _ in 0..20 {
        let stranger = Issuer::new().token("reader", json!({}));
        let (code, reason, _) = failure(with_token(&app, &stranger).await);
        assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"));
    }
    assert_eq!(server.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_keys_serve_while_the_issuer_is_unavailable() {
    let (one, other) = (Issuer::new(), Issuer::new());
    let server = KeyServer::start(one.jwks()).await;
    let folder = tempfile::tempdir().unwrap();
    let bearer = folder.path().join("token");
    std::fs::write(&bearer, "first-0123456789\n").unwrap();
    let url = format!("http://{}/jwks", server.address);
    let app = with_tokens(&url)
        .set("AUTH__JWT__REFRESH_INTERVAL", "1s")
        .set("AUTH__JWT__TOKEN_FILE", &bearer.display().to_string())
        .start()
        .await;
    let token = one.token("reader", json!({}));
    with_token(&app, &token).await.unwrap();
    std::fs::write(&bearer, "second-0123456789\n").unwrap();
    server.show(None);
    let failed = "leadsd_auth_source_loads_total{source=\"auth:jwks\",outcome=\"failed\"}";
    until("failures", async || metric(&app, failed).await >= Some(2.0)).await;
    with_token(&app, &token).await.expect("the old keys serve");
    server.show(Some(json!({"keys": "nonsense"})));
    until("failures", async || metric(&app, failed).await >= Some(3.0)).await;
    with_token(&app, &token).await.expect("the old keys serve");
    server.show(Some(other.jwks()));
    until("the key is gone", async || with_token(&app, &token).await.is_err()).await;
    with_token(&app, &other.token("reader", json!({}))).await.unwrap();
    let sent = server.tokens.lock().unwrap().clone();
    let has = |token: &str| sent.iter().any(|sent| sent == &format!("Bearer {token}"));
    assert!(has("first-0123456789") && has("second-0123456789"), "the file is read every time");
    assert_eq!(metric(&app, "leadsd_auth_source_entries{source=\"auth:jwks\"}").await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_loaded_over_tls_with_the_configured_ca() {
    let (ca, issuer) = (Authority::new("cluster"), Issuer::new());
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.crt");
    std::fs::write(&ca_file, ca.pem()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}/openid/v1/jwks", listener.local_addr().unwrap().port());
    let body = issuer.jwks().to_string();
    let acceptor = issuers::acceptor(&ca.server());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (acceptor, body) = (acceptor.clone(), body.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    let app =
        with_tokens(&url).set("AUTH__JWT__CA_FILE", &ca_file.display().to_string()).start().await;
    with_token(&app, &issuer.token("reader", json!({}))).await.unwrap();
    let untrusting = with_tokens(&url).unready().start().await;
    let (code, reason, _) =
        failure(with_token(&untrusting, &issuer.token("reader", json!({}))).await);
    assert_eq!((code, reason.as_str()), (Code::Unavailable, "AUTHENTICATION_UNAVAILABLE"));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready = http.get(format!("{}/ready", untrusting.admin)).send().await.unwrap();
    assert_eq!(ready.status().as_u16(), 503);
    assert!(ready.text().await.unwrap().contains("auth:jwks"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_ca_of_the_issuer_needs_no_restart() {
    let (first, second) = (Issuer::new(), Issuer::new());
    let (old, new) = (crate::openbao::Authority::new(), crate::openbao::Authority::new());
    let server = KeyServer::start(first.jwks()).await;
    let certificate = |authority: &crate::openbao::Authority| authority.issue("127.0.0.1");
    let (chain, key) = certificate(&old);
    let front = RotatingFront::start((&chain, &key), server.address);
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, old.pem()).unwrap();
    let app = with_tokens(&format!("https://{}/jwks", front.address))
        .set("AUTH__JWT__CA_FILE", &ca_file.display().to_string())
        .set("AUTH__JWT__REFRESH_INTERVAL", "1s")
        .start()
        .await;
    with_token(&app, &first.token("reader", json!({}))).await.unwrap();
    std::fs::write(&ca_file, format!("{}{}", old.pem(), new.pem())).unwrap();
    let (chain, key) = certificate(&new);
    front.rotate((&chain, &key));
    server.show(Some(second.jwks()));
    let token = second.token("reader", json!({}));
    until("the new key is loaded", async || with_token(&app, &token).await.is_ok()).await;
    // Without the new CA no key set is loaded any more, and the last one serves.
    std::fs::write(&ca_file, old.pem()).unwrap();
    let failed = "leadsd_auth_source_loads_total{source=\"auth:jwks\",outcome=\"failed\"}";
    let before = metric(&app, failed).await.unwrap_or_default();
    until("loads fail", async || metric(&app, failed).await > Some(before)).await;
    with_token(&app, &token).await.expect("the last keys serve");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_file_is_reloaded_on_change() {
    let world = World::start().await;
    let (channel, new) = (world.connect().await, Issuer::new());
    let call = async |issuer: &Issuer| {
        let mut request = Request::new(pb::ListLeadsRequest::default());
        let token = format!("Bearer {}", issuer.token("reader", json!({})));
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        LeadsServiceClient::new(channel.clone()).list_leads(request).await.is_ok()
    };
    assert!(call(&world.issuer).await && !call(&new).await);
    std::fs::write(world.folder.path().join("jwks.json"), new.jwks().to_string()).unwrap();
    until("the new key", async || call(&new).await).await;
    assert!(!call(&world.issuer).await);
}

/// Starts a service without TLS that accepts API keys.
fn with_keys(secret: Value) -> Builder {
    with_policies(TestApp::builder())
        .portals(&["default", "zurich"])
        .set("AUTH__API_KEYS__SECRET", "leadsd/api-keys")
        .secret("leadsd/api-keys", secret)
}

#[tokio::test(flavor = "multi_thread")]
async fn api_keys_rotate_and_are_revoked_within_the_poll_interval() {
    let (old, new) = (api_key("reader"), api_key("reader-new"));
    let app = with_keys(json!({"reader": sha256(&old)})).start().await;
    let works = async |key: &str| list(&app, "x-api-key", key).await.is_ok();
    assert!(works(&old).await && !works(&new).await);
    let both = format!("{},{}", sha256(&old), sha256(&new));
    app.vault.put("leadsd/api-keys", json!({ "reader": both }));
    until("the new key", async || works(&new).await).await;
    assert!(works(&old).await);
    app.vault.put("leadsd/api-keys", json!({"reader": sha256(&new)}));
    until("the end of the old key", async || !works(&old).await).await;
    assert!(works(&new).await);
    // An unreadable secret changes nothing.
    app.vault.fail(Some(Fault::Status(503)));
    let failed = "leadsd_auth_source_loads_total{source=\"auth:api_keys\",outcome=\"failed\"}";
    until("a failure", async || metric(&app, failed).await >= Some(1.0)).await;
    assert!(works(&new).await);
    app.vault.fail(None);
    // A deleted secret removes all keys.
    app.vault.remove("leadsd/api-keys");
    until("the end of all keys", async || !works(&new).await).await;
    let (code, reason, _) = failure(list(&app, "x-api-key", &new).await);
    assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_vault_is_not_reported_as_unauthenticated() {
    let app = with_keys(json!({"reader": sha256(&api_key("reader"))})).unready();
    let app = app.set("VAULT__AUTH__FILE", "/nonexistent/token").start().await;
    let status = list(&app, "x-api-key", &api_key("reader")).await.unwrap_err();
    let wait = tonic_types::StatusExt::get_error_details(&status).retry_info().cloned();
    assert!(wait.unwrap().retry_delay.is_some());
    let (code, reason, _) = failure(Err::<(), _>(status));
    assert_eq!((code, reason.as_str()), (Code::Unavailable, "AUTHENTICATION_UNAVAILABLE"));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready = http.get(format!("{}/ready", app.admin)).send().await.unwrap();
    assert!(ready.text().await.unwrap().contains("auth:api_keys"));
    // A call without a key does not wait for Vault.
    let (code, ..) = failure(list(&app, "x-other", "1").await);
    assert_eq!(code, Code::Unauthenticated);
    assert_eq!(metric(&app, "leadsd_auth_failure_total{reason=\"missing\"}").await, Some(1.0));
    assert_eq!(metric(&app, "leadsd_auth_failure_total{reason=\"unavailable\"}").await, Some(1.0));
}

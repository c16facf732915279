//! The service and the command line classify each response of Vault alike.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use axum::{Router, http::StatusCode, response::IntoResponse as _, routing::any};
use reqwest::Method;
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};

use super::{
    AdminClient, CasOutcome, Error, KvStore, SecretData, Session,
    auth_method::{IssuedToken, LoginMethod, Replacement},
    client::VaultClient,
    lease::Lease,
};
use crate::config;
use leadsd_base::{
    net::egress::Egress,
    secret::Secret,
    task::{self, Task},
};
use leadsd_credentials::{SecretPath, SecretStore as _, StoreError};

/// Configuration for a server at this address.
pub(super) fn config(address: &str) -> config::Vault {
    config::Vault {
        address: url::Url::parse(address).unwrap(),
        namespace: None,
        ca_file: None,
        client_cert_file: None,
        client_key_file: None,
        mount: "secret".to_owned(),
        timeout: Duration::from_secs(5),
        poll_interval: Duration::from_secs(30),
        auth: config::VaultAuth::Cert { mount: "cert".to_owned(), role: None },
        egress: Egress::default(),
    }
}

/// Auth method with a constant token.
struct FixedToken;

#[async_trait]
impl LoginMethod for FixedToken {
    async fn log_in(&self) -> Result<IssuedToken, Error> {
        let lease = Lease { ttl: Duration::ZERO, renewable: false };
        Ok(IssuedToken {
            token: Secret::new("fixed"),
            lease,
            owned: false,
            replacement: Replacement::Operator,
            age: Duration::ZERO,
            is_known: false,
            uses_left: None,
        })
    }

    async fn renew(&self, _: &Secret) -> Result<Lease, Error> {
        Err(Error::Denied)
    }

    async fn revoke(&self, _: &Secret) -> Result<(), Error> {
        Ok(())
    }

    async fn external_token(&self) -> Option<Secret> {
        None
    }

    async fn secret_id_left(&self, _: &Secret) -> Option<Duration> {
        None
    }
}

/// Server with a scripted response to every request except logins and lookups, which succeed.
struct Peer {
    now: watch::Sender<(u16, String)>,
    address: String,
    _task: Task,
}

impl Peer {
    async fn start() -> Self {
        let (now, seen) = watch::channel((200, String::new()));
        let scripted = any(move || {
            let (status, body) = seen.borrow().clone();
            std::future::ready((StatusCode::from_u16(status).unwrap(), body))
        });
        let login = json!({"auth": {
            "client_token": "hush", "accessor": "", "policies": [], "token_policies": [],
            "metadata": null, "lease_duration": 0, "renewable": false, "entity_id": "",
            "token_type": "service", "orphan": true,
        }});
        let success = |body: serde_json::Value| any(move || std::future::ready(body.to_string()));
        let router = Router::new()
            .route("/v1/auth/cert/login", success(login))
            .route("/v1/auth/token/lookup-self", success(json!({"data": {"ttl": 0}})))
            .fallback(scripted);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let task = task::spawn("vault-peer", "", async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { now, address, _task: task }
    }

    fn respond(&self, status: u16, body: &str) {
        self.now.send_replace((status, body.to_owned()));
    }

    fn kv_store(&self) -> KvStore {
        let client = VaultClient::new(&config(&self.address)).unwrap();
        let session = Session::with_auth(client, "fixed", Box::new(FixedToken), || 0.5);
        KvStore::new(session, "secret", Duration::from_secs(5))
    }
}

const CAS_CONFLICT: &str =
    r#"{"errors":["check-and-set parameter did not match the current version"]}"#;

const BODIES: [&str; 7] = [
    "",
    "<html>no JSON</html>",
    "{}",
    "[]",
    r#"{"errors":[]}"#,
    r#"{"errors":["1 error occurred: some text"]}"#,
    CAS_CONFLICT,
];

const STATUSES: [u16; 15] =
    [200, 204, 301, 400, 403, 404, 405, 412, 429, 472, 473, 500, 502, 503, 504];

#[tokio::test]
async fn the_service_and_the_command_line_classify_each_response_alike() {
    let peer = Peer::start().await;
    let store = peer.kv_store();
    let admin = AdminClient::log_in(&config(&peer.address)).await.unwrap();
    let path = SecretPath::parse("leadsd/default").unwrap();
    let mut seen = BTreeMap::new();
    for status in STATUSES {
        for body in BODIES {
            peer.respond(status, body);
            let served = store.read(&path).await.map(|_| ());
            let read = match admin.read(&path).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err(StoreError::NotFound),
                Err(error) => Err(StoreError::from(error)),
            };
            assert_eq!(served, read, "read: {status} {body}");
            let listed = store.list(&path).await;
            assert_eq!(
                listed,
                admin.list(&path).await.map_err(StoreError::from),
                "{status} {body}"
            );
            let written = match admin.write(&path, 1, &SecretData::default()).await {
                Ok(CasOutcome::Written(version)) => Ok(version),
                Ok(CasOutcome::Conflict) => Err(StoreError::Conflict),
                Err(error) => Err(StoreError::from(error)),
            };
            seen.insert((status, body), written);
        }
    }
    let written = |status, body| seen[&(status, body)].clone();
    assert_eq!(written(400, CAS_CONFLICT), Err(StoreError::Conflict));
    let invalid = Err(StoreError::Unavailable(Error::Invalid.to_string()));
    assert_eq!(written(400, BODIES[5]), invalid);
    assert_eq!(written(403, ""), Err(StoreError::Denied));
    assert_eq!(written(404, ""), Err(StoreError::NotFound));
    let conflicts = seen.values().filter(|outcome| **outcome == Err(StoreError::Conflict)).count();
    assert_eq!(conflicts, 1, "nothing but a 400 with that text is a conflict");
}

#[tokio::test]
async fn a_write_of_the_service_is_a_conflict_for_the_same_responses() {
    let peer = Peer::start().await;
    let store = peer.kv_store();
    let path = SecretPath::parse("leadsd/default").unwrap();
    let current = r#"{"data":{"data":{"a":"b"},"metadata":{"version":3}}}"#;
    peer.respond(200, current);
    let other = store.replace_refresh_token(&path, 2, &Secret::new("new")).await;
    assert_eq!(other, Err(StoreError::Conflict), "another version is there");
    // The response to the write that follows is the same.
    let written = store.replace_refresh_token(&path, 3, &Secret::new("new")).await;
    assert_eq!(written, Err(StoreError::Unavailable("the response has no version".to_owned())));
}

/// Starts a server that answers every request by `respond`; returns its address and task.
async fn server<F, R>(respond: F) -> (String, Task)
where
    F: Fn(axum::extract::Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = axum::response::Response> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(any(respond));
    let task = task::spawn("vault-node", "", async move {
        axum::serve(listener, router).await.unwrap();
    });
    (address, task)
}

/// A node in standby, which redirects every request to `target` with its path.
async fn standby(status: u16, target: String) -> (String, Task) {
    server(move |request| {
        let path = request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned();
        let location = format!("{target}{path}");
        async move {
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("location", location)]).into_response()
        }
    })
    .await
}

#[tokio::test]
async fn one_redirect_of_a_standby_is_followed_with_method_body_and_token() {
    let (active, _active) = server(async |request: axum::extract::Request| {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1_024).await.unwrap();
        let header = |name| head.headers.get(name).map_or("", |value| value.to_str().unwrap());
        let seen = format!(
            "{} {} {} {} {}",
            head.method,
            head.uri,
            header("x-vault-token"),
            header("x-vault-request"),
            String::from_utf8(body.to_vec()).unwrap(),
        );
        json!({"seen": seen}).to_string().into_response()
    })
    .await;
    for status in [307, 308] {
        let (address, _standby) = standby(status, active.clone()).await;
        let client = VaultClient::new(&config(&address)).unwrap();
        for (method, body, wanted) in [
            (Method::GET, None, "GET /v1/secret/data/a hush true "),
            (Method::POST, Some(r#"{"a":1}"#), r#"POST /v1/secret/data/a hush true {"a":1}"#),
            (Method::PUT, Some("{}"), "PUT /v1/secret/data/a hush true {}"),
        ] {
            let body = body.map(|body| body.as_bytes().to_vec());
            let token = Secret::new("hush");
            let response = client.send(Some(&token), method, "secret/data/a", body).await.unwrap();
            assert_eq!(response.json()["seen"], wanted, "{status}");
        }
        let (twice, _twice) = standby(status, address.clone()).await;
        let client = VaultClient::new(&config(&twice)).unwrap();
        let error = client.send(None, Method::GET, "sys/health", None).await.err().unwrap();
        assert!(error.to_string().contains("set vault.address"), "{error}");
    }
    let (downgrade, _downgrade) = standby(307, "https://127.0.0.1:1".to_owned()).await;
    let client = VaultClient::new(&config(&downgrade)).unwrap();
    let error = client.send(None, Method::GET, "sys/health", None).await.err().unwrap();
    assert!(error.to_string().contains("another scheme"), "{error}");
}

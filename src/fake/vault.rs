//! A Vault in memory: KV v2 with versions and check-and-set, approle and token logins, and tokens
//! that expire. Policies are not modelled: a token may do everything or nothing.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, time::Instant};
use uuid::Uuid;

use super::MARK;
use crate::{
    secret::Secret,
    task::{self, Task},
};

/// Largest request body read.
const MAX_BODY: usize = 1024 * 1024;

/// Life of a token from a login, and of a renewal.
const TOKEN_TTL: Duration = Duration::from_secs(3_600);

/// The running fake; it stops when dropped.
#[derive(Debug)]
pub struct FakeVault {
    address: SocketAddr,
    vault: Arc<Mutex<Vault>>,
    root: Secret,
    _server: Task,
}

#[derive(Debug, Default)]
struct Vault {
    sealed: bool,
    secrets: BTreeMap<String, Vec<Version>>,
    tokens: HashMap<String, Token>,
    roles: HashMap<String, String>,
    logins: u64,
}

#[derive(Debug, Clone)]
struct Version {
    data: Value,
    deleted: bool,
    destroyed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    expires: Option<Instant>,
}

/// Status and body of an answer.
type Answer = (StatusCode, Value);

// === impl FakeVault ===

impl FakeVault {
    /// Starts on `listen`; port 0 picks a free one.
    pub async fn start(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let root = Secret::new(format!("root-{MARK}-{}", Uuid::new_v4()));
        let mut vault = Vault::default();
        vault.tokens.insert(root.expose().to_owned(), Token { expires: None });
        let vault = Arc::new(Mutex::new(vault));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&vault));
        let server = task::spawn("fake-vault", "", async move {
            // It ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, vault, root, _server: server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A token that may do everything and never expires.
    pub fn root_token(&self) -> &Secret {
        &self.root
    }

    /// Writes a new version of a secret of the mount `secret`.
    pub fn put(&self, path: &str, data: Value) {
        let version = Version { data, deleted: false, destroyed: false };
        self.vault.lock().secrets.entry(path.to_owned()).or_default().push(version);
    }

    /// The newest version of a secret and its number.
    pub fn get(&self, path: &str) -> Option<(Value, usize)> {
        let vault = self.vault.lock();
        let versions = vault.secrets.get(path)?;
        Some((versions.last()?.data.clone(), versions.len()))
    }

    /// Removes a secret with all its versions and metadata.
    pub fn remove(&self, path: &str) {
        self.vault.lock().secrets.remove(path);
    }

    /// Makes an approle: its role id and its secret id.
    pub fn approle(&self) -> (Secret, Secret) {
        let role = Uuid::new_v4().to_string();
        let secret = format!("{MARK}-{}", Uuid::new_v4());
        self.vault.lock().roles.insert(role.clone(), secret.clone());
        (Secret::new(role), Secret::new(secret))
    }

    /// Seals or unseals.
    pub fn set_sealed(&self, sealed: bool) {
        self.vault.lock().sealed = sealed;
    }

    /// Forgets all tokens but the root one, as a restart without a token store does.
    pub fn forget_tokens(&self) {
        let root = self.root.expose();
        self.vault.lock().tokens.retain(|token, _| token == root);
    }

    /// How often somebody logged in.
    pub fn logins(&self) -> u64 {
        self.vault.lock().logins
    }
}

async fn serve(State(vault): State<Arc<Mutex<Vault>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = match axum::body::to_bytes(body, MAX_BODY).await {
        Ok(body) => body,
        Err(_) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
    };
    let token = parts.headers.get("x-vault-token").and_then(|token| token.to_str().ok());
    let path = parts.uri.path().trim_start_matches("/v1/").to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let list = parts.uri.query().is_some_and(|query| query.contains("list=true"))
        || parts.method.as_str() == "LIST";
    let (status, body) =
        vault.lock().answer(&parts.method, &path, token.unwrap_or_default(), &body, list);
    if status == StatusCode::NO_CONTENT {
        return status.into_response();
    }
    (status, axum::Json(body)).into_response()
}

// === impl Vault ===

impl Vault {
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        token: &str,
        body: &Value,
        list: bool,
    ) -> Answer {
        if path == "sys/health" || path == "sys/seal-status" {
            let status = if self.sealed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            return (status, json!({"sealed": self.sealed, "initialized": true, "standby": false}));
        }
        if self.sealed {
            return errors(StatusCode::SERVICE_UNAVAILABLE, &["Vault is sealed"]);
        }
        if path == "auth/approle/login" {
            return self.approle_login(body);
        }
        let now = Instant::now();
        let valid = |token: &Token| token.expires.is_none_or(|expires| expires > now);
        if !self.tokens.get(token).is_some_and(valid) {
            return errors(StatusCode::FORBIDDEN, &["permission denied"]);
        }
        match path {
            "auth/token/lookup-self" => self.lookup(token),
            "auth/token/renew-self" => self.renew(token),
            "auth/token/revoke-self" => {
                self.tokens.remove(token);
                (StatusCode::NO_CONTENT, Value::Null)
            }
            _ => self.kv(method, path, body, list),
        }
    }

    fn approle_login(&mut self, body: &Value) -> Answer {
        let text = |key: &str| body[key].as_str().unwrap_or_default();
        let known = self.roles.get(text("role_id")).is_some_and(|id| id == text("secret_id"));
        if !known {
            return errors(StatusCode::BAD_REQUEST, &["invalid role or secret ID"]);
        }
        self.logins += 1;
        let token = format!("hvs.{MARK}-{}", Uuid::new_v4());
        let expires = Some(Instant::now() + TOKEN_TTL);
        self.tokens.insert(token.clone(), Token { expires });
        result(Value::Null, auth(&token))
    }

    fn lookup(&self, token: &str) -> Answer {
        let expires = self.tokens[token].expires;
        let ttl = expires.map_or(0, |expires| (expires - Instant::now()).as_secs().max(1));
        result(
            json!({
                "accessor": "accessor", "creation_time": 0, "creation_ttl": ttl,
                "display_name": "token", "entity_id": "", "expire_time": null,
                "explicit_max_ttl": 0, "id": token, "identity_policies": null,
                "issue_time": null, "meta": null, "num_uses": 0, "orphan": true,
                "path": "auth/token/create", "policies": ["default"],
                "renewable": expires.is_some(), "role": null, "ttl": ttl,
            }),
            Value::Null,
        )
    }

    fn renew(&mut self, token: &str) -> Answer {
        let expires = Some(Instant::now() + TOKEN_TTL);
        self.tokens.insert(token.to_owned(), Token { expires });
        result(Value::Null, auth(token))
    }

    fn kv(&mut self, method: &Method, path: &str, body: &Value, list: bool) -> Answer {
        if let Some(path) = path.strip_prefix("secret/data/") {
            return match method.as_str() {
                "GET" => self.read(path),
                "POST" | "PUT" => self.write(path, body),
                "DELETE" => self.delete(path),
                _ => errors(StatusCode::METHOD_NOT_ALLOWED, &[]),
            };
        }
        match path.strip_prefix("secret/metadata/") {
            Some(folder) if list => self.list(folder),
            Some(path) if method == Method::GET => self.metadata(path),
            _ => errors(StatusCode::NOT_FOUND, &[]),
        }
    }

    fn read(&self, path: &str) -> Answer {
        let Some((number, version)) = self.newest(path) else {
            return errors(StatusCode::NOT_FOUND, &[]);
        };
        let gone = version.deleted || version.destroyed;
        let data = if gone { Value::Null } else { version.data.clone() };
        let status = if gone { StatusCode::NOT_FOUND } else { StatusCode::OK };
        let (_, body) =
            result(json!({"data": data, "metadata": facts(number, version)}), Value::Null);
        (status, body)
    }

    fn write(&mut self, path: &str, body: &Value) -> Answer {
        let versions = self.secrets.entry(path.to_owned()).or_default();
        let cas = body["options"]["cas"].as_u64();
        if cas.is_some_and(|cas| cas != versions.len() as u64) {
            let text = "check-and-set parameter did not match the current version";
            return errors(StatusCode::BAD_REQUEST, &[text]);
        }
        if !body["data"].is_object() {
            return errors(StatusCode::BAD_REQUEST, &["no data provided"]);
        }
        let version = Version { data: body["data"].clone(), deleted: false, destroyed: false };
        versions.push(version.clone());
        result(facts(versions.len(), &version), Value::Null)
    }

    fn delete(&mut self, path: &str) -> Answer {
        if let Some(version) = self.secrets.get_mut(path).and_then(|versions| versions.last_mut()) {
            version.deleted = true;
        }
        (StatusCode::NO_CONTENT, Value::Null)
    }

    fn metadata(&self, path: &str) -> Answer {
        let Some(versions) = self.secrets.get(path).filter(|versions| !versions.is_empty()) else {
            return errors(StatusCode::NOT_FOUND, &[]);
        };
        let each: Map<String, Value> = versions
            .iter()
            .enumerate()
            .map(|(index, version)| ((index + 1).to_string(), facts(index + 1, version)))
            .collect();
        result(
            json!({
                "cas_required": false, "created_time": TIME, "current_version": versions.len(),
                "delete_version_after": "0s", "max_versions": 0, "oldest_version": 0,
                "updated_time": TIME, "custom_metadata": null, "versions": each,
            }),
            Value::Null,
        )
    }

    fn list(&self, folder: &str) -> Answer {
        let prefix = format!("{}/", folder.trim_end_matches('/'));
        let mut keys: Vec<String> = Vec::new();
        for path in self.secrets.keys() {
            let Some(rest) = path.strip_prefix(&prefix) else { continue };
            let key = match rest.split_once('/') {
                Some((sub, _)) => format!("{sub}/"),
                None => rest.to_owned(),
            };
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return errors(StatusCode::NOT_FOUND, &[]);
        }
        result(json!({ "keys": keys }), Value::Null)
    }

    fn newest(&self, path: &str) -> Option<(usize, &Version)> {
        let versions = self.secrets.get(path)?;
        Some((versions.len(), versions.last()?))
    }
}

/// A time where only the shape matters.
const TIME: &str = "2026-11-01T08:00:00.000000000Z";

fn facts(number: usize, version: &Version) -> Value {
    json!({
        "created_time": TIME,
        "custom_metadata": null,
        "deletion_time": if version.deleted { TIME } else { "" },
        "destroyed": version.destroyed,
        "version": number,
    })
}

fn auth(token: &str) -> Value {
    json!({
        "client_token": token, "accessor": "accessor", "policies": ["default"],
        "token_policies": ["default"], "metadata": null, "lease_duration": TOKEN_TTL.as_secs(),
        "renewable": true, "entity_id": "", "token_type": "service", "orphan": true,
    })
}

fn result(data: Value, auth: Value) -> Answer {
    let body = json!({
        "request_id": Uuid::new_v4().to_string(), "lease_id": "", "renewable": false,
        "lease_duration": 0, "data": data, "wrap_info": null, "warnings": null, "auth": auth,
    });
    (StatusCode::OK, body)
}

fn errors(status: StatusCode, errors: &[&str]) -> Answer {
    (status, json!({ "errors": errors }))
}

//! In-memory Vault over HTTP, for `leadsd dev` and tests.
//!
//! - KV v2 with versions and check-and-set at `secret/`.
//! - Logins by AppRole, JWT, Kubernetes, userpass and cert; tokens that expire.
//! - A policy is a list of path prefixes with capabilities.
//!
//! The crate must not know leadsd: it shares no code with the client that it tests.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use leadsd_vault_fake::FakeVault;
//!
//! let vault = FakeVault::start(([127, 0, 0, 1], 0).into()).await?;
//! vault.put("hubspot/default", serde_json::json!({"access_token": "pat-1"}));
//! assert_eq!(vault.get("hubspot/default").expect("a secret").1, 1);
//! # Ok(())
//! # }
//! ```

mod auth;
mod kv;
mod response;

use leadsd_base::secret::SECRET_MARKER;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
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
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use uuid::Uuid;

use self::{
    auth::{Token, TokenLifetimes},
    response::{errors, result},
};
use leadsd_base::{
    secret::Secret,
    task::{self, Task},
    time::{SystemClock, Timestamp, WallClock as _},
};

/// Maximum size of a request body; larger ones are rejected with 413.
const MAX_BODY: usize = 1024 * 1024;

/// Lifetime of a login token, and extension by a renewal.
const TOKEN_TTL: Duration = Duration::from_secs(3_600);

/// Maximum lifetime of a login token, equal to Vault's default.
const TOKEN_MAX_TTL: Duration = Duration::from_secs(32 * 24 * 3_600);

/// A running fake Vault. Dropping it stops the server.
#[derive(Debug)]
pub struct FakeVault {
    address: SocketAddr,
    vault: Arc<Mutex<VaultState>>,
    root: Secret,
    _server: Task,
}

#[derive(Debug)]
struct VaultState {
    sealed: bool,
    fault: Option<Fault>,
    secrets: BTreeMap<String, Vec<StoredVersion>>,
    tokens: HashMap<String, Token>,
    /// Secret ids by role id.
    roles: HashMap<String, String>,
    /// Passwords by user.
    users: HashMap<String, String>,
    /// Accepted logins: mount, role and JWT.
    jwts: HashSet<(String, String, String)>,
    /// Content by wrapping token.
    wrapped: HashMap<String, Value>,
    token_lifetimes: TokenLifetimes,
    /// FakePolicy of login tokens; `None` permits everything.
    policy: Option<FakePolicy>,
    /// True if later tokens have the policy `default`.
    has_default_policy: bool,
    /// Version of the KV engine at `secret`.
    kv_version: u64,
    /// True if reads omit the newest version.
    stale: bool,
    /// Expiry that the lookup of a secret id shows; year 1 stands for none.
    secret_id_expiry: String,
    logins: u64,
}

/// Path prefixes with their capabilities; the longest matching prefix applies.
type FakePolicy = Vec<(String, Vec<String>)>;

/// Fault that replaces every response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status with Vault's error body.
    Status(u16),
    /// Success with a body that is not JSON.
    Garbage,
    /// Success without a body.
    Empty,
    /// No response.
    Silence,
}

#[derive(Debug, Clone)]
struct StoredVersion {
    data: Value,
    created: Timestamp,
    deleted: bool,
    destroyed: bool,
}

/// Status and body of a response.
type VaultResponse = (StatusCode, Value);

// === impl StoredVersion ===

impl StoredVersion {
    fn new(data: Value) -> Self {
        Self { data, created: SystemClock.now(), deleted: false, destroyed: false }
    }
}

// === impl FakeVault ===

impl FakeVault {
    /// Starts on `listen`; port 0 picks a free port.
    pub async fn start(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let root = Secret::new(format!("root-{SECRET_MARKER}-{}", Uuid::new_v4()));
        let mut vault = VaultState {
            sealed: false,
            fault: None,
            secrets: BTreeMap::new(),
            tokens: HashMap::new(),
            roles: HashMap::new(),
            users: HashMap::new(),
            jwts: HashSet::new(),
            wrapped: HashMap::new(),
            token_lifetimes: TokenLifetimes { ttl: TOKEN_TTL, max: TOKEN_MAX_TTL },
            policy: None,
            has_default_policy: true,
            kv_version: 2,
            stale: false,
            secret_id_expiry: "0001-01-01T00:00:00Z".to_owned(),
            logins: 0,
        };
        vault.tokens.insert(root.expose().to_owned(), Token::new(None));
        let vault = Arc::new(Mutex::new(vault));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&vault));
        let server = task::spawn("fake-vault", "", async move {
            // The task owns the server, so it ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, vault, root, _server: server })
    }

    /// Address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Token with all capabilities and no expiry.
    pub fn root_token(&self) -> &Secret {
        &self.root
    }

    /// Writes a new version of a secret in the mount `secret`.
    pub fn put(&self, path: &str, data: Value) {
        self.vault
            .lock()
            .secrets
            .entry(path.to_owned())
            .or_default()
            .push(StoredVersion::new(data));
    }

    /// Sets the age of the newest version of a secret.
    pub fn age(&self, path: &str, by: Duration) {
        if let Some(newest) =
            self.vault.lock().secrets.get_mut(path).and_then(|versions| versions.last_mut())
        {
            newest.created -= by;
        }
    }

    /// Newest version of a secret, and its version number.
    pub fn get(&self, path: &str) -> Option<(Value, usize)> {
        let vault = self.vault.lock();
        let versions = vault.secrets.get(path)?;
        Some((versions.last()?.data.clone(), versions.len()))
    }

    /// Removes a secret with all versions and metadata.
    pub fn remove(&self, path: &str) {
        self.vault.lock().secrets.remove(path);
    }

    /// Accepts logins with this mount, role and JWT, as the methods jwt and kubernetes do. An empty
    /// JWT accepts logins by certificate.
    pub fn accept_jwt(&self, mount: &str, role: &str, jwt: &str) {
        let login = (mount.to_owned(), role.to_owned(), jwt.to_owned());
        self.vault.lock().jwts.insert(login);
    }

    /// Creates a userpass user.
    pub fn add_user(&self, name: &str, password: &str) {
        self.vault.lock().users.insert(name.to_owned(), password.to_owned());
    }

    /// Wraps a secret id; returns a single-use wrapping token.
    pub fn wrap_secret_id(&self, secret_id: &Secret) -> Secret {
        let token = format!("hvs.{SECRET_MARKER}-{}", Uuid::new_v4());
        let content = json!({"secret_id": secret_id.expose(), "secret_id_accessor": "accessor"});
        self.vault.lock().wrapped.insert(token.clone(), content);
        Secret::new(token)
    }

    /// Sets the lifetime of later login tokens, and the maximum including renewals.
    pub fn set_token_lifetimes(&self, ttl: Duration, max: Duration) {
        self.vault.lock().token_lifetimes = TokenLifetimes { ttl, max };
    }

    /// Limits later login tokens to paths with this prefix.
    pub fn restrict(&self, prefix: &str) {
        self.allow(&[(prefix, &["create", "read", "update", "list"])]);
    }

    /// Sets the capabilities of later login tokens by path prefix; the longest matching prefix
    /// applies.
    pub fn allow(&self, rules: &[(&str, &[&str])]) {
        let rule = |(prefix, may): &(&str, &[&str])| {
            ((*prefix).to_owned(), may.iter().map(|&may| may.to_owned()).collect())
        };
        self.vault.lock().policy = Some(rules.iter().map(rule).collect());
    }

    /// Sets the version of the KV engine at `secret`. Version 1 has no versions and other paths.
    pub fn set_kv_version(&self, version: u64) {
        self.vault.lock().kv_version = version;
    }

    /// Omits the newest version from reads, as a lagging standby does.
    pub fn set_stale(&self, stale: bool) {
        self.vault.lock().stale = stale;
    }

    /// Deletes the newest version of a secret; it can be undeleted.
    pub fn delete(&self, path: &str) {
        if let Some(newest) =
            self.vault.lock().secrets.get_mut(path).and_then(|versions| versions.last_mut())
        {
            newest.deleted = true;
        }
    }

    /// Replaces every response by a fault; `None` ends the fault.
    pub fn fail(&self, fault: Option<Fault>) {
        self.vault.lock().fault = fault;
    }

    /// Seals or unseals.
    pub fn set_sealed(&self, sealed: bool) {
        self.vault.lock().sealed = sealed;
    }

    /// Revokes all tokens except the root token, as a restart without a token store does.
    pub fn forget_tokens(&self) {
        let root = self.root.expose();
        self.vault.lock().tokens.retain(|token, _| token == root);
    }

    /// Number of successful logins.
    pub fn logins(&self) -> u64 {
        self.vault.lock().logins
    }
}

async fn serve(State(vault): State<Arc<Mutex<VaultState>>>, request: Request) -> Response {
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
    let fault = vault.lock().fault;
    match fault {
        None => {}
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
            return (status, axum::Json(json!({"errors": ["scripted fault"]}))).into_response();
        }
        Some(Fault::Garbage) => return "<html>nonsense".into_response(),
        Some(Fault::Empty) => return StatusCode::OK.into_response(),
        Some(Fault::Silence) => std::future::pending().await,
    }
    // There are no namespaces; OpenBao responds in this way.
    if parts.headers.contains_key("x-vault-namespace") {
        let is_health = path == "sys/health";
        let status = if is_health { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND };
        let (status, body) = errors(status, &["namespace not found"]);
        return (status, axum::Json(body)).into_response();
    }
    let (status, body) =
        vault.lock().handle(&parts.method, &path, token.unwrap_or_default(), &body, list);
    if status == StatusCode::NO_CONTENT {
        return status.into_response();
    }
    (status, axum::Json(body)).into_response()
}

// === impl VaultState ===

impl VaultState {
    fn handle(
        &mut self,
        method: &Method,
        path: &str,
        token: &str,
        body: &Value,
        list: bool,
    ) -> VaultResponse {
        if path == "sys/health" || path == "sys/seal-status" {
            let status = if self.sealed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            return (status, json!({"sealed": self.sealed, "initialized": true, "standby": false}));
        }
        if self.sealed {
            return errors(StatusCode::SERVICE_UNAVAILABLE, &["Vault is sealed"]);
        }
        if let Some(handle) = self.login(path, body) {
            return handle;
        }
        if let Some(found) = self.secret_id(path, body) {
            return found;
        }
        if path == "sys/wrapping/unwrap" {
            return self.unwrap(token, body);
        }
        let now = Instant::now();
        let valid = |token: &&Token| token.expires.is_none_or(|expires| expires > now);
        let Some(found) = self.tokens.get(token).filter(valid) else {
            return errors(StatusCode::FORBIDDEN, &["permission denied"]);
        };
        // The endpoint of mounts needs no policy.
        let is_mount = path.starts_with("sys/internal/ui/mounts/");
        let own = path.starts_with("auth/token/") || path.starts_with("sys/");
        if own && !is_mount && !found.has_default_policy {
            return errors(StatusCode::FORBIDDEN, &["1 error occurred: permission denied"]);
        }
        let needed = match method.as_str() {
            _ if list => "list",
            "GET" => "read",
            "DELETE" => "delete",
            _ if self.exists(path) => "update",
            _ => "create",
        };
        if !own && !found.may(path, needed) {
            return errors(StatusCode::FORBIDDEN, &["1 error occurred: permission denied"]);
        }
        match path {
            "sys/capabilities-self" => self.capabilities(token, body),
            "sys/internal/ui/mounts/secret" if found.has_mount_access() => {
                let options = json!({"version": self.kv_version.to_string()});
                let engine = json!({"type": "kv", "path": "secret/", "options": options});
                result(engine, Value::Null)
            }
            _ if path.starts_with("sys/internal/ui/mounts/") => {
                errors(StatusCode::FORBIDDEN, &["preflight capability check returned 403"])
            }
            "auth/token/lookup-self" => self.lookup(token),
            "auth/token/renew-self" => self.renew(token),
            "auth/token/revoke-self" => {
                self.tokens.remove(token);
                (StatusCode::NO_CONTENT, Value::Null)
            }
            _ if self.kv_version == 1 => errors(StatusCode::NOT_FOUND, &[]),
            _ => self.kv(method, path, body, list),
        }
    }
}

#[cfg(test)]
mod tests;

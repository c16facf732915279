//! A Vault in memory over real HTTP, for `leadsd dev` and tests.
//!
//! - KV v2 with versions and check-and-set at `secret/`.
//! - Logins by approle, jwt, kubernetes, userpass and cert; tokens that expire.
//! - A policy is a list of path prefixes with capabilities.
//!
//! It shares no code with the client that it tests.
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

use self::auth::{Lives, Token};
use leadsd_base::{
    secret::Secret,
    task::{self, Task},
    time::{SystemClock, Timestamp, WallClock as _},
};

/// Largest request body read.
const MAX_BODY: usize = 1024 * 1024;

/// Life of a token from a login, and of a renewal.
const TOKEN_TTL: Duration = Duration::from_secs(3_600);

/// No token of a login lives longer, as by Vault's default.
const TOKEN_MAX_TTL: Duration = Duration::from_secs(32 * 24 * 3_600);

/// The running fake; it stops when dropped.
#[derive(Debug)]
pub struct FakeVault {
    address: SocketAddr,
    vault: Arc<Mutex<Vault>>,
    root: Secret,
    _server: Task,
}

#[derive(Debug)]
struct Vault {
    sealed: bool,
    fault: Option<Fault>,
    secrets: BTreeMap<String, Vec<Version>>,
    tokens: HashMap<String, Token>,
    /// Role ids with their secret ids.
    roles: HashMap<String, String>,
    /// Users with their passwords.
    users: HashMap<String, String>,
    /// Mount, role and JWT of logins that are accepted.
    jwts: HashSet<(String, String, String)>,
    /// Wrapping tokens with their content.
    wrapped: HashMap<String, Value>,
    lives: Lives,
    /// What tokens of logins may do; none for everything.
    policy: Option<Policy>,
    /// Version of the engine at `secret`.
    kv_version: u64,
    /// Whether reads do not see the newest version.
    stale: bool,
    logins: u64,
}

/// Prefixes of paths with what may be done there; the longest that fits counts.
type Policy = Vec<(String, Vec<String>)>;

/// What every request gets instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status with Vault's error body.
    Status(u16),
    /// A success with a body that is no JSON.
    Garbage,
    /// A success without a body.
    Empty,
    /// An answer that does not come.
    Silence,
}

#[derive(Debug, Clone)]
struct Version {
    data: Value,
    created: Timestamp,
    deleted: bool,
    destroyed: bool,
}

/// Status and body of an answer.
type Answer = (StatusCode, Value);

// === impl Version ===

impl Version {
    fn new(data: Value) -> Self {
        Self { data, created: SystemClock.now(), deleted: false, destroyed: false }
    }
}

// === impl FakeVault ===

impl FakeVault {
    /// Starts on `listen`; port 0 picks a free one.
    pub async fn start(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let root = Secret::new(format!("root-{SECRET_MARKER}-{}", Uuid::new_v4()));
        let mut vault = Vault {
            sealed: false,
            fault: None,
            secrets: BTreeMap::new(),
            tokens: HashMap::new(),
            roles: HashMap::new(),
            users: HashMap::new(),
            jwts: HashSet::new(),
            wrapped: HashMap::new(),
            lives: Lives { ttl: TOKEN_TTL, max: TOKEN_MAX_TTL },
            policy: None,
            kv_version: 2,
            stale: false,
            logins: 0,
        };
        let all = Token { expires: None, last: None, policy: None };
        vault.tokens.insert(root.expose().to_owned(), all);
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
        self.vault.lock().secrets.entry(path.to_owned()).or_default().push(Version::new(data));
    }

    /// Makes the newest version of a secret this much older.
    pub fn age(&self, path: &str, by: Duration) {
        if let Some(newest) =
            self.vault.lock().secrets.get_mut(path).and_then(|versions| versions.last_mut())
        {
            newest.created -= by;
        }
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
        let secret = format!("{SECRET_MARKER}-{}", Uuid::new_v4());
        self.vault.lock().roles.insert(role.clone(), secret.clone());
        (Secret::new(role), Secret::new(secret))
    }

    /// Accepts logins of this mount and role with this JWT, as the methods jwt and kubernetes do;
    /// with an empty one, logins by certificate.
    pub fn accept_jwt(&self, mount: &str, role: &str, jwt: &str) {
        let login = (mount.to_owned(), role.to_owned(), jwt.to_owned());
        self.vault.lock().jwts.insert(login);
    }

    /// Makes a user of userpass.
    pub fn add_user(&self, name: &str, password: &str) {
        self.vault.lock().users.insert(name.to_owned(), password.to_owned());
    }

    /// Wraps a secret id; gives the wrapping token, which works once.
    pub fn wrap_secret_id(&self, secret_id: &Secret) -> Secret {
        let token = format!("hvs.{SECRET_MARKER}-{}", Uuid::new_v4());
        let content = json!({"secret_id": secret_id.expose(), "secret_id_accessor": "accessor"});
        self.vault.lock().wrapped.insert(token.clone(), content);
        Secret::new(token)
    }

    /// How long tokens of later logins live, and how long at most with renewals.
    pub fn set_lives(&self, ttl: Duration, max: Duration) {
        self.vault.lock().lives = Lives { ttl, max };
    }

    /// Tokens of later logins may use only paths that begin like this.
    pub fn restrict(&self, prefix: &str) {
        self.allow(&[(prefix, &["create", "read", "update", "list"])]);
    }

    /// Tokens of later logins may do only this at paths that begin like that; the longest beginning
    /// that fits counts.
    pub fn allow(&self, rules: &[(&str, &[&str])]) {
        let rule = |(prefix, may): &(&str, &[&str])| {
            ((*prefix).to_owned(), may.iter().map(|&may| may.to_owned()).collect())
        };
        self.vault.lock().policy = Some(rules.iter().map(rule).collect());
    }

    /// What kind of KV engine the one at `secret` is; version 1 has no versions and other paths.
    pub fn set_kv_version(&self, version: u64) {
        self.vault.lock().kv_version = version;
    }

    /// Has reads give what was there before the newest version, as from a copy that lags behind.
    pub fn set_stale(&self, stale: bool) {
        self.vault.lock().stale = stale;
    }

    /// Deletes the newest version of a secret, which can be brought back.
    pub fn delete(&self, path: &str) {
        if let Some(newest) =
            self.vault.lock().secrets.get_mut(path).and_then(|versions| versions.last_mut())
        {
            newest.deleted = true;
        }
    }

    /// Has every request end like this, until told otherwise.
    pub fn fail(&self, fault: Option<Fault>) {
        self.vault.lock().fault = fault;
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
    let fault = vault.lock().fault;
    match fault {
        None => {}
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
            return (status, axum::Json(json!({"errors": ["told to fail"]}))).into_response();
        }
        Some(Fault::Garbage) => return "<html>nonsense".into_response(),
        Some(Fault::Empty) => return StatusCode::OK.into_response(),
        Some(Fault::Silence) => std::future::pending().await,
    }
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
        if let Some(answer) = self.login(path, body) {
            return answer;
        }
        if path == "sys/wrapping/unwrap" {
            return self.unwrap(token, body);
        }
        let now = Instant::now();
        let valid = |token: &&Token| token.expires.is_none_or(|expires| expires > now);
        let Some(found) = self.tokens.get(token).filter(valid) else {
            return errors(StatusCode::FORBIDDEN, &["permission denied"]);
        };
        let own = path.starts_with("auth/token/") || path.starts_with("sys/");
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
            "sys/internal/ui/mounts/secret" => {
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

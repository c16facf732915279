//! What the command line asks of Vault: one login, a few looks, one write, and nothing in the
//! background. It logs in, connects and fails as the service's own session does.

use std::{collections::BTreeMap, fmt, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::{
    authority::{Authority as _, Login, Vault},
    connection::Connection,
    error::Error,
};
use crate::config;
use leadsd_base::{secret::Secret, time::Timestamp};
use leadsd_credentials::SecretPath;

/// Longest the end of a login may take: it expires by itself as well.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(2);

/// One login for one errand.
pub struct Errand {
    connection: Connection,
    authority: Vault,
    login: Login,
    since: Instant,
    mount: String,
}

/// How Vault is, whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Active,
    /// Another node serves; this one may pass requests on.
    Standby,
    /// Somebody must unseal it.
    Sealed,
    /// It was never set up.
    Uninitialised,
}

/// What Vault says of our token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFacts {
    /// Life left; none if it does not expire.
    pub expires_in: Option<Duration>,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Names of its policies.
    pub policies: Vec<String>,
}

/// What is mounted where the secrets should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Such as `kv`.
    pub kind: String,
    /// Version of a KV engine; 1 if it does not say.
    pub version: u64,
}

/// A secret as it stands, whatever its keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its newest version; the next write has to be based on it.
    pub version: u64,
    /// When that was written, if Vault says.
    pub written: Option<Timestamp>,
    /// None if that version is deleted or destroyed.
    pub keys: Option<Keys>,
}

/// The keys of a secret with their values. `Debug` shows the names alone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Keys(BTreeMap<String, Value>);

/// How a write went that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// As this version.
    Version(u64),
    /// Not at all: the newest version is another one than it was based on.
    Conflict,
}

// === impl Errand ===

impl Errand {
    /// Logs in, with one attempt.
    pub async fn log_in(config: &config::Vault) -> Result<Self, Error> {
        let connection = Connection::new(config)?;
        let authority = Vault::new(connection.clone(), config.auth.clone());
        let since = Instant::now();
        let login = authority.log_in().await?;
        Ok(Self { connection, authority, login, since, mount: config.mount.clone() })
    }

    /// Logs in again if the login would not last for `need`.
    pub async fn last_for(&mut self, need: Duration) -> Result<(), Error> {
        let ttl = self.login.lease.ttl;
        if ttl.is_zero() || self.since + ttl > Instant::now() + need {
            return Ok(());
        }
        let since = Instant::now();
        self.login = self.authority.log_in().await?;
        self.since = since;
        Ok(())
    }

    /// How Vault is; needs no login.
    pub async fn health(config: &config::Vault) -> Result<Health, Error> {
        let connection = Connection::new(config)?;
        let (status, body) = connection.ask(Method::GET, "sys/health", None, None).await?;
        let says = |key: &str| body.get(key).and_then(Value::as_bool);
        match status {
            _ if says("initialized") == Some(false) => Ok(Health::Uninitialised),
            _ if says("sealed") == Some(true) => Ok(Health::Sealed),
            200 if says("sealed") == Some(false) => Ok(Health::Active),
            429 | 472 | 473 => Ok(Health::Standby),
            200 => Err(Error::Unavailable("answers, but not as a Vault does".to_owned())),
            status => Err(Error::of_status(status)),
        }
    }

    /// What the token is.
    pub async fn token(&self) -> Result<TokenFacts, Error> {
        let data = self.get("auth/token/lookup-self").await?;
        let ttl = data["ttl"].as_u64().unwrap_or(0);
        let names = |key: &str| {
            let list = data[key].as_array().into_iter().flatten();
            list.filter_map(|name| name.as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        Ok(TokenFacts {
            expires_in: (ttl > 0).then(|| Duration::from_secs(ttl)),
            renewable: data["renewable"].as_bool().unwrap_or(false),
            policies: [names("policies"), names("identity_policies")].concat(),
        })
    }

    /// What the token may do at each path, in their order.
    pub async fn capabilities(&self, paths: &[String]) -> Result<Vec<Vec<String>>, Error> {
        let body = json!({ "paths": paths });
        let answer = self.ask(Method::POST, "sys/capabilities-self", Some(&body)).await?;
        let of = |path: &String| {
            let list = answer["data"][path].as_array().or_else(|| answer[path].as_array());
            list.into_iter().flatten().filter_map(|may| may.as_str().map(str::to_owned)).collect()
        };
        Ok(paths.iter().map(of).collect())
    }

    /// What is mounted where the configuration says.
    pub async fn engine(&self) -> Result<Engine, Error> {
        let data = self.get(&format!("sys/internal/ui/mounts/{}", self.mount)).await?;
        let version = &data["options"]["version"];
        let version = version.as_u64().or_else(|| version.as_str()?.parse().ok());
        let kind = data["type"].as_str().unwrap_or_default().to_owned();
        Ok(Engine { kind, version: version.unwrap_or(1) })
    }

    /// Path of a secret's content in Vault's API, as policies name it.
    pub fn data_path(&self, path: &SecretPath) -> String {
        format!("{}/data/{path}", self.mount)
    }

    /// The same of its metadata.
    pub fn metadata_path(&self, path: &SecretPath) -> String {
        format!("{}/metadata/{path}", self.mount)
    }

    /// The secret; none if there never was one.
    pub async fn read(&self, path: &SecretPath) -> Result<Option<Stored>, Error> {
        let (status, body) = self.send(Method::GET, &self.data_path(path), None).await?;
        let metadata = &body["data"]["metadata"];
        let Some(version) = metadata["version"].as_u64() else {
            return match status {
                404 => Ok(None),
                200 => Err(Error::Unavailable("answers without a version".to_owned())),
                status => Err(Error::of_status(status)),
            };
        };
        let keys = match &body["data"]["data"] {
            Value::Object(keys) if status == 200 => {
                Some(Keys(keys.iter().map(|(name, value)| (name.clone(), value.clone())).collect()))
            }
            _ => None,
        };
        let written = metadata["created_time"].as_str().and_then(|time| time.parse().ok());
        Ok(Some(Stored { version, written, keys }))
    }

    /// The metadata of a secret, as the service polls it: whether that is allowed is what matters.
    pub async fn poll(&self, path: &SecretPath) -> Result<(), Error> {
        match self.get(&self.metadata_path(path)).await {
            Ok(_) | Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Names of the secrets directly in a folder.
    pub async fn list(&self, folder: &SecretPath) -> Result<Vec<String>, Error> {
        let path = format!("{}?list=true", self.metadata_path(folder));
        match self.get(&path).await {
            Ok(data) => {
                let names = data["keys"].as_array().into_iter().flatten();
                let names = names.filter_map(|name| name.as_str().map(str::to_owned));
                Ok(names.filter(|name| !name.ends_with('/')).collect())
            }
            Err(Error::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Writes a new version if the newest is still `expected`; 0 stands for none.
    pub async fn write(
        &self,
        path: &SecretPath,
        expected: u64,
        keys: &Keys,
    ) -> Result<Written, Error> {
        let body = json!({"options": {"cas": expected}, "data": keys.0});
        let (status, body) = self.send(Method::POST, &self.data_path(path), Some(&body)).await?;
        match status {
            200 | 204 => Ok(Written::Version(body["data"]["version"].as_u64().unwrap_or(0))),
            // The only thing that tells it from other faults of the request is the text.
            400 if body["errors"].to_string().contains("check-and-set") => Ok(Written::Conflict),
            status => Err(Error::of_status(status)),
        }
    }

    /// Ends the login if it was made for this.
    pub async fn close(self) {
        if self.login.ours {
            let until = Instant::now() + REVOKE_TIMEOUT;
            // It expires by itself as well.
            let _ = timeout_at(until, self.authority.revoke(&self.login.token)).await;
        }
    }

    async fn get(&self, path: &str) -> Result<Value, Error> {
        let mut answer = self.ask(Method::GET, path, None).await?;
        // By key alone it would panic if the answer is a list.
        Ok(answer.get_mut("data").map(Value::take).unwrap_or_default())
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        match self.send(method, path, body).await? {
            (200 | 204, body) => Ok(body),
            (status, _) => Err(Error::of_status(status)),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), Error> {
        self.connection.ask(method, path, Some(&self.login.token), body).await
    }
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand").field("mount", &self.mount).finish_non_exhaustive()
    }
}

// === impl Keys ===

impl Keys {
    /// The value of a key, if that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// The value of a key as a secret without blanks around it; none if there is no such text.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        let text = self.text(name)?.trim();
        (!text.is_empty()).then(|| Secret::new(text))
    }

    /// Names of the keys, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there is such a key, whatever its value.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets a key.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), Value::from(value));
    }

    /// Takes a key out.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

//! The ledger in Redis or Valkey.
//!
//! Each limit has six keys. An exchange is one script, so that it is atomic and reads the server's clock:
//! the clocks of replicas do not matter. Losing the data costs a few seconds of shared use: replicas keep
//! to their own parts until all of them have reported to the new ledger.

mod connection;
mod message;

use std::{fmt, path::PathBuf, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::{ConnectionInfo, IntoConnectionInfo as _, RedisError, Script};
use tokio::time::timeout;

use self::{
    connection::{Connection, connect},
    message::{Message, parse_grant},
};
use crate::ledger::{ExchangeRequest, Grant, Ledger, LimitKey, Unavailable};

/// Timeout for a connection and for a response. The quota waits 250 ms for both together.
const TIMEOUT: Duration = Duration::from_millis(200);

/// Connection settings of the ledger in Redis or Valkey.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Location of the server.
    pub url: RedisUrl,
    /// PEM file with the CAs that may sign the server's certificate. `None` uses the CAs of the
    /// machine.
    pub ca_file: Option<PathBuf>,
    /// Prefix of every key that the ledger writes.
    pub prefix: String,
}

/// Location of Redis or Valkey.
#[derive(Debug, Clone)]
pub enum RedisUrl {
    /// A `redis://` URL, or `rediss://` for TLS, without a password.
    Inline(String),
    /// A file that contains the URL, and the password if there is one. Read before each connection.
    File(PathBuf),
}

/// Redis or Valkey, over one connection that is made with the first exchange.
pub struct RedisLedger {
    url: RedisUrl,
    ca_file: Option<PathBuf>,
    prefix: String,
    script: Script,
    connection: Mutex<Option<Connection>>,
    /// Held while a connection is made, so that only one is.
    connecting: tokio::sync::Mutex<()>,
}

/// Facts about the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Name, and version if it is known.
    pub server: String,
    /// True if it accepts writes. A replica does not.
    pub writable: bool,
}

// === impl RedisLedger ===

impl RedisLedger {
    /// Creates a ledger that connects with the first exchange.
    pub fn new(config: RedisSettings) -> Self {
        let RedisSettings { url, ca_file, prefix } = config;
        Self {
            url,
            ca_file,
            prefix,
            script: Script::new(include_str!("redis_ledger/ledger.lua")),
            connection: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// Checks that the server is reachable and runs scripts, and whether it accepts writes. Writes nothing.
    pub async fn probe(&self) -> Result<ServerInfo, Unavailable> {
        let mut connection = self.connection().await?;
        let clock = Script::new("return redis.call('TIME')");
        let time: Result<Vec<String>, RedisError> = clock.invoke_async(&mut connection.redis).await;
        time.map_err(|error| connection.unavailable(&error))?;
        // A user without permission for INFO can still use the ledger.
        let info = redis::cmd("INFO").query_async::<String>(&mut connection.redis).await;
        let info = info.unwrap_or_default();
        let fact = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        let (name, version) = match fact("valkey_version") {
            Some(version) => ("Valkey", Some(version)),
            None => ("Redis", fact("redis_version")),
        };
        let server = version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}"));
        Ok(ServerInfo { server, writable: fact("role").is_none_or(|role| role == "master") })
    }

    /// Open connection for one exchange; connects if there is none.
    async fn connection(&self) -> Result<Connection, Unavailable> {
        if let Some(connection) = self.connection.lock().clone() {
            connection.allow_exchange();
            return Ok(connection);
        }
        let _only = self.connecting.lock().await;
        if let Some(connection) = self.connection.lock().clone() {
            connection.allow_exchange();
            return Ok(connection);
        }
        let (info, roots) = self.location().await?;
        let connection = timeout(TIMEOUT, connect(&info, roots.as_deref())).await;
        let connection =
            connection.map_err(|_| Unavailable("no connection within 200 ms".to_owned()))??;
        *self.connection.lock() = Some(connection.clone());
        Ok(connection)
    }

    /// Reads the files again: the password or the CA may have been rotated.
    async fn location(&self) -> Result<(ConnectionInfo, Option<Vec<u8>>), Unavailable> {
        let url = match &self.url {
            RedisUrl::Inline(url) => url.clone(),
            RedisUrl::File(file) => {
                let text = tokio::fs::read_to_string(file).await;
                let text =
                    text.map_err(|error| Unavailable(format!("{}: {error}", file.display())))?;
                text.trim().to_owned()
            }
        };
        // The error of an invalid URL can contain it, and a password is part of it.
        let info = url
            .into_connection_info()
            .map_err(|_| Unavailable("the URL is not a Redis URL".to_owned()))?;
        let Some(ca_file) = &self.ca_file else { return Ok((info, None)) };
        let roots = tokio::fs::read(ca_file).await;
        let roots =
            roots.map_err(|error| Unavailable(format!("{}: {error}", ca_file.display())))?;
        Ok((info, Some(roots)))
    }
}

#[async_trait]
impl Ledger for RedisLedger {
    async fn exchange(
        &self,
        limit: &LimitKey,
        request: &ExchangeRequest,
    ) -> Result<Grant, Unavailable> {
        let mut connection = self.connection().await?;
        let message = serde_json::to_string(&Message::new(request))
            .map_err(|error| Unavailable(format!("request cannot be encoded: {error}")))?;
        let (prefix, portal, bucket) = (&self.prefix, &limit.portal, limit.bucket.as_str());
        // The braces keep the keys of one limit in one slot of a cluster.
        let key = |part: &str| format!("{prefix}:{{{portal}:{bucket}}}:{part}");
        let mut script = self.script.prepare_invoke();
        for part in ["meta", "window", "second", "replicas", "detached", "waiting"] {
            script.key(key(part));
        }
        let response: Result<Vec<i64>, RedisError> =
            script.arg(message).invoke_async(&mut connection.redis).await;
        match response {
            Ok(response) => {
                parse_grant(&response).ok_or_else(|| Unavailable("invalid response".to_owned()))
            }
            Err(error) => {
                // The connection may be broken: the next exchange makes a new one.
                *self.connection.lock() = None;
                Err(connection.unavailable(&error))
            }
        }
    }
}

impl fmt::Debug for RedisLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLedger").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

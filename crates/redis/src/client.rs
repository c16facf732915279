//! Client with one connection, which its users share.

use std::{fmt, path::PathBuf};

use parking_lot::Mutex;
use redis::{ConnectionInfo, FromRedisValue, IntoConnectionInfo as _, Script, ScriptInvocation};
use tokio::time::timeout;

use crate::connection::{Connection, RedisUnavailable, TIMEOUT, connect};

/// Connection settings of Redis or Valkey.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Location of the server.
    pub url: RedisUrl,
    /// PEM file with the CAs that may sign the server's certificate. `None` uses the CAs of the
    /// machine.
    pub ca_file: Option<PathBuf>,
    /// Prefix of every key that is written.
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

/// Facts about the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Name, and version if it is known.
    pub server: String,
    /// True if it accepts writes. A replica does not.
    pub writable: bool,
}

/// Redis or Valkey, over one connection that is made with the first script.
pub struct RedisClient {
    settings: RedisSettings,
    connection: Mutex<Option<Connection>>,
    /// Held while a connection is made, so that only one is.
    connecting: tokio::sync::Mutex<()>,
}

// === impl RedisClient ===

impl RedisClient {
    /// Creates a client that connects with the first script.
    pub fn new(settings: RedisSettings) -> Self {
        Self { settings, connection: Mutex::default(), connecting: tokio::sync::Mutex::default() }
    }

    /// Prefix of every key that is written.
    pub fn prefix(&self) -> &str {
        &self.settings.prefix
    }

    /// Runs a script. Its response has at most [`MAX_RESPONSE`](crate::MAX_RESPONSE) bytes.
    pub async fn run<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, RedisUnavailable> {
        let mut connection = self.connection().await?;
        let response = script.invoke_async(&mut connection.redis).await;
        response.map_err(|error| {
            // The connection may be broken: the next script makes a new one.
            *self.connection.lock() = None;
            connection.unavailable(&error)
        })
    }

    /// Checks that the server is reachable and runs scripts, and whether it accepts writes. Writes nothing.
    pub async fn probe(&self) -> Result<ServerInfo, RedisUnavailable> {
        let clock = Script::new("return redis.call('TIME')");
        let _: Vec<String> = self.run(&clock.prepare_invoke()).await?;
        let mut connection = self.connection().await?;
        // A user without permission for INFO can still run scripts.
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

    /// Open connection for one request; connects if there is none.
    async fn connection(&self) -> Result<Connection, RedisUnavailable> {
        if let Some(connection) = self.connection.lock().clone() {
            connection.allow_response();
            return Ok(connection);
        }
        let _only = self.connecting.lock().await;
        if let Some(connection) = self.connection.lock().clone() {
            connection.allow_response();
            return Ok(connection);
        }
        let (info, roots) = self.location().await?;
        let connection = timeout(TIMEOUT, connect(&info, roots.as_deref())).await;
        let connection = connection
            .map_err(|_| RedisUnavailable("no connection within 200 ms".to_owned()))??;
        *self.connection.lock() = Some(connection.clone());
        Ok(connection)
    }

    /// Reads the files again: the password or the CA may have been rotated.
    async fn location(&self) -> Result<(ConnectionInfo, Option<Vec<u8>>), RedisUnavailable> {
        let RedisSettings { url, ca_file, prefix: _ } = &self.settings;
        let url = match url {
            RedisUrl::Inline(url) => url.clone(),
            RedisUrl::File(file) => {
                let text = tokio::fs::read_to_string(file).await;
                let text =
                    text.map_err(|error| RedisUnavailable(format!("{}: {error}", file.display())))?;
                text.trim().to_owned()
            }
        };
        // The error of an invalid URL can contain it, and a password is part of it.
        let info = url
            .into_connection_info()
            .map_err(|_| RedisUnavailable("the URL is not a Redis URL".to_owned()))?;
        let Some(ca_file) = ca_file else { return Ok((info, None)) };
        let roots = tokio::fs::read(ca_file).await;
        let roots =
            roots.map_err(|error| RedisUnavailable(format!("{}: {error}", ca_file.display())))?;
        Ok((info, Some(roots)))
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisClient").field("prefix", &self.prefix()).finish_non_exhaustive()
    }
}

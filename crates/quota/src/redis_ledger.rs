//! The ledger of quotas that replicas share, in Redis or Valkey.
//!
//! Each limit is six keys there. An exchange is one script, so that it is atomic and reads the
//! server's clock: replicas' own clocks never matter. Losing the data costs a few seconds of shared
//! use: replicas keep to their parts until a new ledger has heard of all of them.

use std::{fmt, path::PathBuf, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo as _, RedisError, Script, TlsCertificates,
    aio::MultiplexedConnection,
};
use serde::Serialize;
use tokio::time::timeout;

use crate::{ExchangeRequest, Grant, Ledger, LimitKey, SlotReport, TENTHS, Unavailable};

/// Longest wait for a connection, and for an answer; the quota waits no longer for both together.
const TIMEOUT: Duration = Duration::from_millis(200);

/// Facts that stand in an answer before the permits.
const FACTS: usize = 9;

/// How to reach the ledger in Redis or Valkey.
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

/// Redis or Valkey, over one connection that is made when it is needed.
pub struct RedisLedger {
    url: RedisUrl,
    ca_file: Option<PathBuf>,
    prefix: String,
    script: Script,
    connection: Mutex<Option<MultiplexedConnection>>,
    /// Only one connection is made at a time.
    connecting: tokio::sync::Mutex<()>,
}

/// What answers as the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Name and version, if it tells.
    pub server: String,
    /// Whether it takes writes: a replica does not.
    pub writable: bool,
}

/// An exchange, as the script reads it; times in milliseconds.
#[derive(Debug, Serialize)]
struct Message<'a> {
    replica: &'a str,
    size: u64,
    window: f64,
    paced: bool,
    want: usize,
    spare: usize,
    first: u64,
    ahead: bool,
    spread: bool,
    hold: f64,
    spare_hold: f64,
    reach_window: f64,
    reach_second: f64,
    slots: Vec<Slot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<Told>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<f64>,
    detached: bool,
    leave: bool,
}

#[derive(Debug, Serialize)]
struct Slot {
    /// As text: Lua's numbers would change their form.
    number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    second: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Told {
    size: u64,
    window: f64,
    used: u64,
    oldest: u64,
}

// === impl RedisLedger ===

impl RedisLedger {
    /// A ledger as the configuration says; connects with the first exchange.
    pub fn new(config: RedisSettings) -> Self {
        let RedisSettings { url, ca_file, prefix } = config;
        Self {
            url,
            ca_file,
            prefix,
            script: Script::new(include_str!("ledger.lua")),
            connection: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// Whether it is there, takes writes and runs scripts. Writes nothing.
    pub async fn probe(&self) -> Result<ServerInfo, Unavailable> {
        let mut connection = self.connection().await?;
        let clock = Script::new("return redis.call('TIME')");
        let time: Result<Vec<String>, RedisError> = clock.invoke_async(&mut connection).await;
        time.map_err(|error| away(&error))?;
        // A user who may not ask for this may do the rest all the same.
        let info = redis::cmd("INFO").query_async::<String>(&mut connection).await;
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

    async fn connection(&self) -> Result<MultiplexedConnection, Unavailable> {
        if let Some(connection) = self.connection.lock().clone() {
            return Ok(connection);
        }
        let _only = self.connecting.lock().await;
        if let Some(connection) = self.connection.lock().clone() {
            return Ok(connection);
        }
        let client = self.client().await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        // Names are looked up without a timeout of their own.
        let connection = timeout(TIMEOUT, connection).await;
        let connection = connection.map_err(|_| Unavailable("no connection in time".to_owned()))?;
        let connection = connection.map_err(|error| away(&error))?;
        *self.connection.lock() = Some(connection.clone());
        Ok(connection)
    }

    /// Reads what may have changed since last time: a password that was rotated, a CA.
    async fn client(&self) -> Result<Client, Unavailable> {
        let url = match &self.url {
            RedisUrl::Inline(url) => url.clone(),
            RedisUrl::File(file) => {
                let text = tokio::fs::read_to_string(file).await;
                let text =
                    text.map_err(|error| Unavailable(format!("{}: {error}", file.display())))?;
                text.trim().to_owned()
            }
        };
        // The error of a bad URL may show it, and a password is part of it.
        let info =
            url.into_connection_info().map_err(|_| Unavailable("not a Redis URL".to_owned()))?;
        let Some(ca_file) = &self.ca_file else {
            return Client::open(info).map_err(|error| away(&error));
        };
        let root_cert = tokio::fs::read(ca_file).await;
        let root_cert =
            root_cert.map_err(|error| Unavailable(format!("{}: {error}", ca_file.display())))?;
        let certificates = TlsCertificates { client_tls: None, root_cert: Some(root_cert) };
        Client::build_with_tls(info, certificates).map_err(|error| away(&error))
    }
}

#[async_trait]
impl Ledger for RedisLedger {
    async fn exchange(
        &self,
        limit: &LimitKey,
        ask: &ExchangeRequest,
    ) -> Result<Grant, Unavailable> {
        let mut connection = self.connection().await?;
        let message = serde_json::to_string(&Message::of(ask))
            .map_err(|error| Unavailable(format!("cannot write an exchange: {error}")))?;
        let (prefix, portal, bucket) = (&self.prefix, &limit.portal, limit.bucket.as_str());
        // The braces keep the keys of one limit in one slot of a cluster.
        let key = |part: &str| format!("{prefix}:{{{portal}:{bucket}}}:{part}");
        let mut script = self.script.prepare_invoke();
        for part in ["book", "window", "second", "replicas", "apart", "hungry"] {
            script.key(key(part));
        }
        let answer: Result<Vec<i64>, RedisError> =
            script.arg(message).invoke_async(&mut connection).await;
        match answer {
            Ok(answer) => {
                grant(&answer).ok_or_else(|| Unavailable("an answer of another shape".to_owned()))
            }
            Err(error) => {
                // It may have been the connection: the next exchange makes a new one.
                *self.connection.lock() = None;
                Err(away(&error))
            }
        }
    }
}

impl fmt::Debug for RedisLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLedger").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

// === impl Message ===

impl<'a> Message<'a> {
    fn of(ask: &'a ExchangeRequest) -> Self {
        let ExchangeRequest {
            replica,
            size,
            window,
            paced,
            want,
            spare,
            first,
            ahead,
            spread,
            hold,
            spare_hold,
            reach: [reach_window, reach_second],
            slots,
            observed,
            close,
            detached,
            leave,
        } = ask;
        Self {
            replica,
            size: *size,
            window: ms(*window),
            paced: *paced,
            want: *want,
            spare: *spare,
            first: *first,
            ahead: *ahead,
            spread: *spread,
            hold: ms(*hold),
            spare_hold: ms(*spare_hold),
            reach_window: ms(*reach_window),
            reach_second: ms(*reach_second),
            slots: slots.iter().map(Slot::of).collect(),
            observed: observed.map(|told| Told {
                size: told.size,
                window: ms(told.window),
                used: told.used,
                oldest: told.oldest,
            }),
            close: close.map(ms),
            detached: *detached,
            leave: *leave,
        }
    }
}

// === impl Slot ===

impl Slot {
    fn of(report: &SlotReport) -> Self {
        let SlotReport { number, counted } = report;
        #[expect(clippy::cast_precision_loss, reason = "the clock stays below 2^53 us until 2255")]
        let ms = |micros: i64| micros as f64 / 1e3;
        Self {
            number: number.to_string(),
            window: counted.map(|[window, _]| ms(window)),
            second: counted.map(|[_, second]| ms(second)),
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Reads an answer; `None` if it is not one of the script's.
fn grant(answer: &[i64]) -> Option<Grant> {
    let number = |value: i64| u64::try_from(value).ok();
    let micros = |value: i64| number(value).map(Duration::from_micros);
    let (facts, rest) = answer.split_at_checked(FACTS)?;
    let (leaving, permits) = rest.split_at_checked(TENTHS)?;
    let [now, warming, replicas, used, size, window, closed, oldest, next] =
        facts.try_into().ok()?;
    Some(Grant {
        now,
        leaving: std::array::from_fn(|part| u32::try_from(leaving[part]).unwrap_or_default()),
        permits: permits.to_vec(),
        next,
        used: number(used)?,
        size: number(size)?,
        window: micros(window)?,
        closed: micros(closed)?,
        replicas: u32::try_from(replicas).ok()?,
        oldest: number(oldest)?,
        warming: warming != 0,
    })
}

/// What is said of a failure: its kind and text, never the URL.
fn away(error: &RedisError) -> Unavailable {
    Unavailable(error.to_string())
}

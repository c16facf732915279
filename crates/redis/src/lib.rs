//! The connection to Redis or Valkey: one client for everything that replicas share.
//!
//! # Purpose
//!
//! [`RedisClient`] holds one connection, which is made with the first script and again after a failure.
//! The URL, its password and the CAs are read from their files for each connection, so that they can be
//! rotated. Every wait ends after 200 ms, and no response takes more memory than its bound.
//!
//! # What it must not know
//!
//! Keys, values and what they mean: its users bring their scripts. It retries nothing.
//!
//! # Example
//!
//! ```no_run
//! use leadsd_redis::{RedisClient, RedisSettings, RedisUrl, Script};
//!
//! # async fn example() -> Result<(), leadsd_redis::RedisUnavailable> {
//! let client = RedisClient::new(RedisSettings {
//!     url: RedisUrl::Inline("redis://valkey:6379/0".to_owned()),
//!     ca_file: None,
//!     prefix: "leadsd".to_owned(),
//! });
//! let script = Script::new("return redis.call('INCR', KEYS[1])");
//! let key = format!("{}:starts", client.prefix());
//! let starts: u64 = client.run(script.prepare_invoke().key(key)).await?;
//! # Ok(())
//! # }
//! ```

mod client;
mod connection;

pub use client::{RedisClient, RedisSettings, RedisUrl, ServerInfo};
pub use connection::{MAX_RESPONSE, RedisUnavailable};
pub use redis::{FromRedisValue, Script, ScriptInvocation};

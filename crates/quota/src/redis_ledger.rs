//! The ledger in Redis or Valkey.
//!
//! Each limit has six keys. An exchange is one script, so that it is atomic and reads the server's clock:
//! the clocks of replicas do not matter. Losing the data costs a few seconds of shared use: replicas keep
//! to their own parts until all of them have reported to the new ledger.

mod message;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use leadsd_redis::{RedisClient, RedisUnavailable, Script};

use self::message::{Message, parse_grant};
use crate::ledger::{ExchangeRequest, Grant, Ledger, LimitKey, Unavailable};

/// Ledger in Redis or Valkey. The client waits up to 200 ms for a connection and for a response, and the
/// quota up to 250 ms for both together.
pub struct RedisLedger {
    client: Arc<RedisClient>,
    script: Script,
}

// === impl RedisLedger ===

impl RedisLedger {
    /// Creates a ledger at the server of this client.
    pub fn new(client: Arc<RedisClient>) -> Self {
        Self { client, script: Script::new(include_str!("redis_ledger/ledger.lua")) }
    }
}

impl From<RedisUnavailable> for Unavailable {
    fn from(RedisUnavailable(cause): RedisUnavailable) -> Self {
        Self(cause)
    }
}

#[async_trait]
impl Ledger for RedisLedger {
    async fn exchange(
        &self,
        limit: &LimitKey,
        request: &ExchangeRequest,
    ) -> Result<Grant, Unavailable> {
        let message = serde_json::to_string(&Message::new(request))
            .map_err(|error| Unavailable(format!("request cannot be encoded: {error}")))?;
        let (prefix, portal, bucket) = (self.client.prefix(), &limit.portal, limit.bucket.as_str());
        // The braces keep the keys of one limit in one slot of a cluster.
        let key = |part: &str| format!("{prefix}:{{{portal}:{bucket}}}:{part}");
        let mut script = self.script.prepare_invoke();
        for part in ["meta", "window", "second", "replicas", "detached", "waiting"] {
            script.key(key(part));
        }
        let response: Vec<i64> = self.client.run(script.arg(message)).await?;
        parse_grant(&response).ok_or_else(|| Unavailable("invalid response".to_owned()))
    }
}

impl fmt::Debug for RedisLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisLedger").field(&self.client).finish()
    }
}

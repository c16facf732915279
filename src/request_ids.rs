//! Request ids in Redis or Valkey, which all replicas share.
//!
//! Each id has one key, a hash with the digest of the content, the claim and the result in parts. Every
//! exchange is one script, so that it is atomic and reads the server's clock. The store is the Redis of the
//! quota ledger, over the same connection.
//!
//! # What it must not know
//!
//! Leads, and what a result means: it stores bytes that the domain has encoded. It retries nothing, and
//! decides nothing about a store that does not respond.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use leadsd_redis::{RedisClient, RedisUnavailable, Script, ScriptInvocation};

use crate::leads::idempotency::{
    Claim, ClaimResponse, Ending, INLINE_BYTES, PART_BYTES, RecordKey, RequestIdStore,
    StoreUnavailable, StoredResult, VERSION,
};

/// Store of request ids in Redis or Valkey.
pub struct RedisRequestIds {
    client: Arc<RedisClient>,
    scripts: Scripts,
}

struct Scripts {
    claim: Script,
    read_part: Script,
    renew: Script,
    end: Script,
}

// === impl RedisRequestIds ===

impl RedisRequestIds {
    /// Creates a store at the server of this client.
    pub fn new(client: Arc<RedisClient>) -> Self {
        let scripts = Scripts {
            claim: Script::new(include_str!("request_ids/claim.lua")),
            read_part: Script::new("return redis.call('HGET', KEYS[1], 'part' .. ARGV[1]) or ''"),
            renew: Script::new(include_str!("request_ids/renew.lua")),
            end: Script::new(include_str!("request_ids/end.lua")),
        };
        Self { client, scripts }
    }

    fn invocation<'a>(&self, script: &'a Script, key: &RecordKey) -> ScriptInvocation<'a> {
        let key = format!("{}:request-id:{}", self.client.prefix(), key.to_hex());
        script.key(key)
    }

    /// Runs a script with the fields by which it recognizes the record and the claim.
    fn claim_script<'a>(&self, script: &'a Script, claim: &Claim) -> ScriptInvocation<'a> {
        let mut script = self.invocation(script, &claim.key);
        script.arg(VERSION).arg(claim.content.as_bytes()).arg(claim.token.as_bytes().as_slice());
        script
    }
}

#[async_trait]
impl RequestIdStore for RedisRequestIds {
    async fn claim(&self, claim: &Claim) -> Result<ClaimResponse, StoreUnavailable> {
        let mut script = self.claim_script(&self.scripts.claim, claim);
        script.arg(millis(claim.lease)).arg(millis(claim.time_to_live)).arg(INLINE_BYTES);
        let response: (String, usize, Vec<u8>) = self.client.run(&script).await?;
        parse_claim(response).ok_or_else(|| StoreUnavailable("invalid response".to_owned()))
    }

    async fn read_part(&self, key: &RecordKey, part: usize) -> Result<Vec<u8>, StoreUnavailable> {
        let mut script = self.invocation(&self.scripts.read_part, key);
        Ok(self.client.run(script.arg(part)).await?)
    }

    async fn renew(&self, claim: &Claim) -> Result<bool, StoreUnavailable> {
        let mut script = self.claim_script(&self.scripts.renew, claim);
        Ok(self.client.run(script.arg(millis(claim.lease))).await?)
    }

    async fn end(&self, claim: &Claim, ending: Ending) -> Result<bool, StoreUnavailable> {
        let mut script = self.claim_script(&self.scripts.end, claim);
        script.arg(millis(claim.time_to_live));
        match &ending {
            Ending::Keep { result, is_final } => {
                script.arg(if *is_final { "final" } else { "open" });
                result.chunks(PART_BYTES).for_each(|part| {
                    script.arg(part);
                });
            }
            Ending::Forget => {
                script.arg("forget");
            }
            Ending::Interrupt => {
                script.arg("interrupt");
            }
        }
        Ok(self.client.run(&script).await?)
    }
}

impl fmt::Debug for RedisRequestIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisRequestIds").field(&self.client).finish()
    }
}

impl From<RedisUnavailable> for StoreUnavailable {
    fn from(RedisUnavailable(cause): RedisUnavailable) -> Self {
        Self(cause)
    }
}

/// Decodes the response to a claim: its status, and the result. `None` if it is not one of the script.
fn parse_claim((status, parts, inline): (String, usize, Vec<u8>)) -> Option<ClaimResponse> {
    let result = StoredResult { parts, inline };
    Some(match status.as_str() {
        "new" => ClaimResponse::New,
        "open" => ClaimResponse::Open(result),
        "interrupted" => ClaimResponse::Interrupted(result),
        "final" => ClaimResponse::Final(result),
        "held" => ClaimResponse::Held,
        "content" => ClaimResponse::OtherContent,
        "version" => ClaimResponse::OtherVersion,
        _ => return None,
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

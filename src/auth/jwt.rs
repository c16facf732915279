//! Bearer tokens: signature by a key of the issuer, then the claims, then the name.
//!
//! Only public-key algorithms are ever tried; which one is the key's affair and never the token's.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use jsonwebtoken::{Header, decode, decode_header};
use parking_lot::RwLock;
use serde_json::{Map, Value};
use tokio::{sync::watch, time::Instant};

use super::{
    Refused,
    fresh::{Fresh, SourceStatus},
    identity::{Identity, Proof},
    jwks::{self, Keys},
};
use crate::config;
use leadsd_base::time::WallClock;

/// How far the issuer's clock and ours may be apart, in seconds.
pub(super) const LEEWAY: f64 = 30.0;

/// Most tokens whose check is remembered.
const MAX_KNOWN: usize = 4_096;

/// Most keys that a token without a key id is tried with.
const MAX_TRIED: usize = 8;

const EXPIRED: Refused = Refused::Invalid("the bearer token has expired");
const UNSIGNED: Refused =
    Refused::Invalid("the bearer token is not signed with a key of the issuer");

/// What is expected of tokens.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) caller_claim: String,
}

/// Checks tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    expected: Expected,
    keys: Fresh<Keys>,
    clock: Arc<dyn WallClock>,
    known: RwLock<Known>,
}

/// Tokens whose signature and claims were good: services send the same one for an hour, and to check
/// a signature anew for each call would be work for nothing.
#[derive(Debug, Default)]
struct Known {
    /// The keys that the signatures were checked with: with others everything is checked anew.
    keys: Option<Arc<Keys>>,
    tokens: HashMap<[u8; SHA256_OUTPUT_LEN], Good>,
}

/// A token that is good until it expires.
#[derive(Debug, Clone)]
pub(super) struct Good {
    pub(super) identity: Identity,
    /// In seconds since 1970.
    pub(super) expires: f64,
}

/// What a signature check came to.
enum Signature {
    Good(Map<String, Value>),
    Bad,
    /// None of the keys has the id that the token names.
    UnknownKey,
}

// === impl Tokens ===

impl Tokens {
    pub(super) fn start(
        config: config::Jwt,
        clock: Arc<dyn WallClock>,
        missing: watch::Sender<BTreeSet<&'static str>>,
    ) -> Self {
        let config::Jwt { issuer, audience, jwks, caller_claim } = config;
        let expected = Expected { issuer, audience, caller_claim };
        let keys = jwks::start(jwks, missing);
        Self { expected, keys, clock, known: RwLock::default() }
    }

    pub(super) fn status(&self) -> SourceStatus {
        self.keys.status()
    }

    /// The caller of an `authorization` header. A key id that is not known may belong to a new key:
    /// then the keys are looked at again, once.
    pub(super) async fn identify(
        &self,
        authorization: &[u8],
        until: Instant,
    ) -> Result<Identity, Refused> {
        let token = bearer(authorization)?;
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let keys = match self.keys.get() {
            Some(keys) => keys,
            None => {
                self.keys.look_again(until).await;
                let unavailable = Refused::Unavailable("bearer tokens cannot be checked yet");
                self.keys.get().ok_or(unavailable)?
            }
        };
        if let Some(identity) = self.remembered(&keys, &hash) {
            return identity;
        }
        let header = header(token)?;
        let (keys, claims) = match check_signature(&keys, token, &header) {
            Signature::Good(claims) => (keys, claims),
            Signature::Bad => return Err(UNSIGNED),
            Signature::UnknownKey => {
                self.keys.look_again(until).await;
                let keys = self.keys.get().unwrap_or(keys);
                match check_signature(&keys, token, &header) {
                    Signature::Good(claims) => (keys, claims),
                    Signature::Bad | Signature::UnknownKey => return Err(UNSIGNED),
                }
            }
        };
        let good = self.expected.check(&claims, self.now())?;
        let identity = good.identity.clone();
        self.remember(&keys, hash, good);
        Ok(identity)
    }

    fn now(&self) -> f64 {
        self.clock.now().as_duration().as_secs_f64()
    }

    fn remembered(
        &self,
        keys: &Arc<Keys>,
        hash: &[u8; SHA256_OUTPUT_LEN],
    ) -> Option<Result<Identity, Refused>> {
        let known = self.known.read();
        let current = known.keys.as_ref().is_some_and(|with| Arc::ptr_eq(with, keys));
        let good = known.tokens.get(hash).filter(|_| current)?;
        let expired = self.now() >= good.expires + LEEWAY;
        Some(if expired { Err(EXPIRED) } else { Ok(good.identity.clone()) })
    }

    fn remember(&self, keys: &Arc<Keys>, hash: [u8; SHA256_OUTPUT_LEN], good: Good) {
        let now = self.now();
        let mut known = self.known.write();
        if !known.keys.as_ref().is_some_and(|with| Arc::ptr_eq(with, keys)) {
            known.keys = Some(Arc::clone(keys));
            known.tokens.clear();
        }
        if known.tokens.len() >= MAX_KNOWN {
            known.tokens.retain(|_, good| now < good.expires + LEEWAY);
        }
        if known.tokens.len() >= MAX_KNOWN {
            known.tokens.clear();
        }
        known.tokens.insert(hash, good);
    }
}

// === impl Expected ===

impl Expected {
    /// Checks the claims of a token whose signature is good. `now` is in seconds since 1970.
    pub(super) fn check(&self, claims: &Map<String, Value>, now: f64) -> Result<Good, Refused> {
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
        if text("iss") != Some(&self.issuer) {
            return Err(Refused::Invalid("the bearer token is from another issuer"));
        }
        let for_us = match claims.get("aud") {
            Some(Value::String(audience)) => *audience == self.audience,
            Some(Value::Array(all)) => {
                all.iter().any(|audience| audience.as_str() == Some(&self.audience))
            }
            Some(_) | None => false,
        };
        if !for_us {
            return Err(Refused::Invalid("the bearer token is not for this service"));
        }
        let seconds = |claim: &str| claims.get(claim).map(|value| value.as_f64());
        let Some(Some(expires)) = seconds("exp") else {
            return Err(Refused::Invalid("the bearer token does not say when it expires"));
        };
        if now >= expires + LEEWAY {
            return Err(EXPIRED);
        }
        match seconds("nbf") {
            None => {}
            Some(Some(begins)) if now + LEEWAY >= begins => {}
            Some(_) => return Err(Refused::Invalid("the bearer token is not valid yet")),
        }
        let name = text(&self.caller_claim).and_then(|name| Identity::new(name, Proof::Jwt));
        let identity = name.ok_or(Refused::Invalid("the bearer token names no caller"))?;
        Ok(Good { identity, expires })
    }
}

/// The token of an `authorization` header.
fn bearer(authorization: &[u8]) -> Result<&str, Refused> {
    let text = std::str::from_utf8(authorization).ok();
    let (scheme, token) = text.and_then(|text| text.split_once(' ')).unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() {
        return Ok(token.trim());
    }
    Err(Refused::Invalid("authorization must be `Bearer` and a token"))
}

fn header(token: &str) -> Result<Header, Refused> {
    let nonsense = Refused::Invalid("the bearer token is no JWT with a signature that is accepted");
    let header = decode_header(token).map_err(|_| nonsense)?;
    // Whatever it is that must be understood is not.
    if header.crit.is_some() { Err(nonsense) } else { Ok(header) }
}

fn check_signature(keys: &Keys, token: &str, header: &Header) -> Signature {
    let mut tried = 0;
    for key in &keys.0 {
        if header.kid.is_some() && key.id != header.kid {
            continue;
        }
        tried += 1;
        if tried > MAX_TRIED {
            break;
        }
        if let Ok(token) = decode::<Map<String, Value>>(token, &key.key, &key.validation) {
            return Signature::Good(token.claims);
        }
    }
    if tried == 0 { Signature::UnknownKey } else { Signature::Bad }
}

/// The claims of a token, if its signature is good.
#[cfg(test)]
pub(super) fn believed(keys: &Keys, token: &str) -> Option<Map<String, Value>> {
    match check_signature(keys, token, &header(token).ok()?) {
        Signature::Good(claims) => Some(claims),
        Signature::Bad | Signature::UnknownKey => None,
    }
}

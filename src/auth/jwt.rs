//! Verifies bearer tokens: the signature by a key of the issuer, then the claims, then the name.
//!
//! Only public-key algorithms are accepted, and the key decides which one, never the token.

use std::{collections::BTreeSet, sync::Arc};

use jsonwebtoken::{Header, decode, decode_header};
use serde_json::{Map, Value};
use tokio::{sync::watch, time::Instant};

use super::{
    identity::{AuthMethod, Identity},
    jwks,
    key_set::KeySet,
    presented::AuthError,
    refreshing::{RefreshingValue, SourceStatus},
    token_cache::{TokenHash, VerifiedToken, VerifiedTokenCache},
};
use crate::config;
use leadsd_base::time::WallClock;

/// Maximum difference between the issuer's clock and this one, in seconds.
pub(super) const LEEWAY: f64 = 30.0;

/// Maximum number of keys that are tried for a token without a key id.
const MAX_TRIED: usize = 8;

const EXPIRED: AuthError = AuthError::Invalid("the bearer token has expired");
const UNSIGNED: AuthError =
    AuthError::Invalid("the bearer token is not signed with a key of the issuer");

/// Claims that tokens must have.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) caller_claim: String,
}

/// Verifies tokens.
#[derive(Debug)]
pub(super) struct JwtVerifier {
    expected: Expected,
    keys: RefreshingValue<KeySet>,
    clock: Arc<dyn WallClock>,
    verified: VerifiedTokenCache,
}

/// Result of verifying a signature.
enum Signature {
    Valid(Map<String, Value>),
    Invalid,
    /// No key has the id in the token's header.
    UnknownKey,
}

// === impl JwtVerifier ===

impl JwtVerifier {
    pub(super) fn start(
        config: config::Jwt,
        clock: Arc<dyn WallClock>,
        missing: watch::Sender<BTreeSet<&'static str>>,
    ) -> Self {
        let config::Jwt { issuer, audience, jwks, caller_claim } = config;
        let expected = Expected { issuer, audience, caller_claim };
        let keys = jwks::start(jwks, missing);
        Self { expected, keys, clock, verified: VerifiedTokenCache::default() }
    }

    pub(super) fn status(&self) -> SourceStatus {
        self.keys.status()
    }

    /// Identity of an `authorization` header. An unknown key id may belong to a new key: then the keys are
    /// loaded again, once.
    pub(super) async fn identify(
        &self,
        authorization: &[u8],
        until: Instant,
    ) -> Result<Identity, AuthError> {
        let token = bearer(authorization)?;
        let hash = TokenHash::new(token);
        let keys = match self.keys.get() {
            Some(keys) => keys,
            None => {
                self.keys.refresh_if_stale(until).await;
                let unavailable = AuthError::Unavailable("bearer tokens cannot be checked yet");
                self.keys.get().ok_or(unavailable)?
            }
        };
        if let Some(VerifiedToken { identity, expires }) = self.verified.get(&keys, hash) {
            return if self.now() >= expires + LEEWAY { Err(EXPIRED) } else { Ok(identity) };
        }
        let header = header(token)?;
        let (keys, claims) = match check_signature(&keys, token, &header) {
            Signature::Valid(claims) => (keys, claims),
            Signature::Invalid => return Err(UNSIGNED),
            Signature::UnknownKey => {
                self.keys.refresh_if_stale(until).await;
                let keys = self.keys.get().unwrap_or(keys);
                match check_signature(&keys, token, &header) {
                    Signature::Valid(claims) => (keys, claims),
                    Signature::Invalid | Signature::UnknownKey => return Err(UNSIGNED),
                }
            }
        };
        let token = self.expected.check(&claims, self.now())?;
        let identity = token.identity.clone();
        self.verified.insert(&keys, hash, token);
        Ok(identity)
    }

    fn now(&self) -> f64 {
        self.clock.now().as_duration().as_secs_f64()
    }
}

// === impl Expected ===

impl Expected {
    /// Checks the claims of a token with a valid signature. `now` is in seconds since 1970.
    pub(super) fn check(
        &self,
        claims: &Map<String, Value>,
        now: f64,
    ) -> Result<VerifiedToken, AuthError> {
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
        if text("iss") != Some(&self.issuer) {
            return Err(AuthError::Invalid("the bearer token is from another issuer"));
        }
        let for_us = match claims.get("aud") {
            Some(Value::String(audience)) => *audience == self.audience,
            Some(Value::Array(all)) => {
                all.iter().any(|audience| audience.as_str() == Some(&self.audience))
            }
            Some(_) | None => false,
        };
        if !for_us {
            return Err(AuthError::Invalid("the bearer token is not for this service"));
        }
        let seconds = |claim: &str| claims.get(claim).map(|value| value.as_f64());
        let Some(Some(expires)) = seconds("exp") else {
            return Err(AuthError::Invalid("the bearer token does not say when it expires"));
        };
        if now >= expires + LEEWAY {
            return Err(EXPIRED);
        }
        match seconds("nbf") {
            None => {}
            Some(Some(begins)) if now + LEEWAY >= begins => {}
            Some(_) => return Err(AuthError::Invalid("the bearer token is not valid yet")),
        }
        let name = text(&self.caller_claim).and_then(|name| Identity::new(name, AuthMethod::Jwt));
        let identity = name.ok_or(AuthError::Invalid("the bearer token names no caller"))?;
        Ok(VerifiedToken { identity, expires })
    }
}

/// Token of an `authorization` header.
fn bearer(authorization: &[u8]) -> Result<&str, AuthError> {
    let text = std::str::from_utf8(authorization).ok();
    let (scheme, token) = text.and_then(|text| text.split_once(' ')).unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() {
        return Ok(token.trim());
    }
    Err(AuthError::Invalid("authorization must be `Bearer` and a token"))
}

fn header(token: &str) -> Result<Header, AuthError> {
    let nonsense =
        AuthError::Invalid("the bearer token is no JWT with a signature that is accepted");
    let header = decode_header(token).map_err(|_| nonsense)?;
    // A critical extension is one that must be understood, and none is.
    if header.crit.is_some() { Err(nonsense) } else { Ok(header) }
}

fn check_signature(keys: &KeySet, token: &str, header: &Header) -> Signature {
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
            return Signature::Valid(token.claims);
        }
    }
    if tried == 0 { Signature::UnknownKey } else { Signature::Invalid }
}

/// Claims of a token with a valid signature.
#[cfg(test)]
pub(super) fn verified_claims(keys: &KeySet, token: &str) -> Option<Map<String, Value>> {
    match check_signature(keys, token, &header(token).ok()?) {
        Signature::Valid(claims) => Some(claims),
        Signature::Invalid | Signature::UnknownKey => None,
    }
}

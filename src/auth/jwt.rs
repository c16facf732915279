//! Verifies bearer tokens (JWT): the signature with a key of the issuer, then the claims, then the
//! caller name.
//!
//! Only public-key algorithms are accepted. The key determines the algorithm, not the token.

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

/// Tolerated clock offset between the issuer and this machine, in seconds.
pub(super) const LEEWAY: f64 = 30.0;

/// Maximum number of keys to try for a token without a key id.
const MAX_TRIED: usize = 8;

/// Error of a token after its expiry.
const EXPIRED: AuthError = AuthError::Invalid("the bearer token has expired");

/// Error of a token without a valid signature.
const BAD_SIGNATURE: AuthError =
    AuthError::Invalid("the bearer token is not signed with a key of the issuer");

/// Required claims.
#[derive(Debug, Clone)]
pub(super) struct RequiredClaims {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) caller_claim: String,
}

/// Verifier of bearer tokens.
#[derive(Debug)]
pub(super) struct JwtVerifier {
    required: RequiredClaims,
    keys: RefreshingValue<KeySet>,
    clock: Arc<dyn WallClock>,
    verified: VerifiedTokenCache,
}

/// Result of the signature check.
enum SignatureCheck {
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
        let required = RequiredClaims { issuer, audience, caller_claim };
        let keys = jwks::start(jwks, missing);
        Self { required, keys, clock, verified: VerifiedTokenCache::default() }
    }

    pub(super) fn status(&self) -> SourceStatus {
        self.keys.status()
    }

    /// Verifies an `authorization` header. If the key id is unknown, reloads the keys once, since the
    /// issuer may have rotated them.
    pub(super) async fn verify(
        &self,
        authorization: &[u8],
        deadline: Instant,
    ) -> Result<Identity, AuthError> {
        let token = bearer(authorization)?;
        let hash = TokenHash::new(token);
        let keys = match self.keys.get() {
            Some(keys) => keys,
            None => {
                self.keys.refresh_if_stale(deadline).await;
                let unavailable =
                    AuthError::Unavailable("the keys of the token issuer are not loaded yet");
                self.keys.get().ok_or(unavailable)?
            }
        };
        if let Some(VerifiedToken { identity, expires }) = self.verified.get(&keys, hash) {
            return if self.now() >= expires + LEEWAY { Err(EXPIRED) } else { Ok(identity) };
        }
        let header = header(token)?;
        let (keys, claims) = match check_signature(&keys, token, &header) {
            SignatureCheck::Valid(claims) => (keys, claims),
            SignatureCheck::Invalid => return Err(BAD_SIGNATURE),
            SignatureCheck::UnknownKey => {
                self.keys.refresh_if_stale(deadline).await;
                let keys = self.keys.get().unwrap_or(keys);
                match check_signature(&keys, token, &header) {
                    SignatureCheck::Valid(claims) => (keys, claims),
                    SignatureCheck::Invalid | SignatureCheck::UnknownKey => {
                        return Err(BAD_SIGNATURE);
                    }
                }
            }
        };
        let token = self.required.check(&claims, self.now())?;
        let identity = token.identity.clone();
        self.verified.insert(&keys, hash, token);
        Ok(identity)
    }

    fn now(&self) -> f64 {
        self.clock.now().as_duration().as_secs_f64()
    }
}

// === impl RequiredClaims ===

impl RequiredClaims {
    /// Checks the claims of a token with a valid signature. `now` is in seconds since 1970.
    pub(super) fn check(
        &self,
        claims: &Map<String, Value>,
        now: f64,
    ) -> Result<VerifiedToken, AuthError> {
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
        if text("iss") != Some(&self.issuer) {
            return Err(AuthError::Invalid(
                "the bearer token has another issuer (iss) than [auth.jwt] requires",
            ));
        }
        let has_audience = match claims.get("aud") {
            Some(Value::String(audience)) => *audience == self.audience,
            Some(Value::Array(all)) => {
                all.iter().any(|audience| audience.as_str() == Some(&self.audience))
            }
            Some(_) | None => false,
        };
        if !has_audience {
            return Err(AuthError::Invalid("the bearer token has another audience (aud)"));
        }
        let seconds = |claim: &str| claims.get(claim).map(|value| value.as_f64());
        let Some(Some(expires)) = seconds("exp") else {
            return Err(AuthError::Invalid("the bearer token has no expiry (exp)"));
        };
        if now >= expires + LEEWAY {
            return Err(EXPIRED);
        }
        match seconds("nbf") {
            None => {}
            Some(Some(not_before)) if now + LEEWAY >= not_before => {}
            Some(_) => return Err(AuthError::Invalid("the bearer token is not valid yet (nbf)")),
        }
        let name = text(&self.caller_claim).and_then(|name| Identity::new(name, AuthMethod::Jwt));
        let identity =
            name.ok_or(AuthError::Invalid("the bearer token has no valid caller name"))?;
        Ok(VerifiedToken { identity, expires })
    }
}

/// Extracts the bearer token of an `authorization` header.
fn bearer(authorization: &[u8]) -> Result<&str, AuthError> {
    let text = std::str::from_utf8(authorization).ok();
    let (scheme, token) = text.and_then(|text| text.split_once(' ')).unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() {
        return Ok(token.trim());
    }
    Err(AuthError::Invalid("the authorization header must be `Bearer <token>`"))
}

fn header(token: &str) -> Result<Header, AuthError> {
    let invalid =
        AuthError::Invalid("the bearer token is not a JWT with a supported signature algorithm");
    let header = decode_header(token).map_err(|_| invalid)?;
    // RFC 7515 requires rejection of unsupported critical extensions, and none is supported.
    if header.crit.is_some() { Err(invalid) } else { Ok(header) }
}

fn check_signature(keys: &KeySet, token: &str, header: &Header) -> SignatureCheck {
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
            return SignatureCheck::Valid(token.claims);
        }
    }
    if tried == 0 { SignatureCheck::UnknownKey } else { SignatureCheck::Invalid }
}

/// Claims of a token with a valid signature.
#[cfg(test)]
pub(super) fn verified_claims(keys: &KeySet, token: &str) -> Option<Map<String, Value>> {
    match check_signature(keys, token, &header(token).ok()?) {
        SignatureCheck::Valid(claims) => Some(claims),
        SignatureCheck::Invalid | SignatureCheck::UnknownKey => None,
    }
}

//! Public keys of a token issuer, parsed from a JSON Web Key Set.

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use tracing::warn;

use super::refreshing::LoadError;
use leadsd_base::net::json_size;

/// Maximum number of keys per set.
const MAX_KEYS: usize = 100;

/// Algorithms of an RSA key without `alg`.
const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Public keys of an issuer.
#[derive(Debug, Default)]
pub(super) struct KeySet(pub(super) Vec<VerificationKey>);

/// Public key with its algorithms.
#[derive(Debug)]
pub(super) struct VerificationKey {
    pub(super) id: Option<String>,
    pub(super) key: DecodingKey,
    /// Signature validation with the algorithms of the key. [`super::jwt`] checks the claims.
    pub(super) validation: Validation,
}

// === impl KeySet ===

impl KeySet {
    /// Parses a JSON Web Key Set. Symmetric keys (`oct`) and keys that are not for signatures are
    /// skipped.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        if !json_size::has_at_most(bytes, json_size::MAX_VALUES) {
            let text = format!("the key set has more than {} values", json_size::MAX_VALUES);
            return Err(LoadError(text));
        }
        let set: Set = serde_json::from_slice(bytes)
            .map_err(|_| LoadError("not a JSON Web Key Set".to_owned()))?;
        let all = set.keys.len();
        let usable = set.keys.into_iter().filter_map(VerificationKey::new);
        let keys = Self(usable.take(MAX_KEYS).collect());
        if keys.0.is_empty() {
            // Not an error: the issuer may have revoked all keys, and then no token is valid.
            warn!(
                keys = all,
                "Loaded a key set without usable keys; every bearer token is rejected"
            );
        }
        Ok(keys)
    }
}

// === impl VerificationKey ===

impl VerificationKey {
    #[expect(clippy::wildcard_enum_match_arm, reason = "jsonwebtoken adds kinds of keys")]
    fn new(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let signs = match &jwk.common.public_key_use {
            None | Some(PublicKeyUse::Signature) => true,
            Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)) => false,
        };
        let verifies = jwk
            .common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let fitting: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &RSA,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                &[Algorithm::ES256]
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
                &[Algorithm::ES384]
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            _ => &[],
        };
        let algorithms: Vec<Algorithm> = match jwk.common.key_algorithm {
            None => fitting.to_vec(),
            Some(named) => {
                let named = Algorithm::try_from(named).ok()?;
                fitting.iter().copied().filter(|fits| *fits == named).collect()
            }
        };
        let first = *algorithms.first().filter(|_| signs && verifies)?;
        let mut validation = Validation::new(first);
        validation.algorithms = algorithms;
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, key, validation })
    }
}

//! The public keys of a token issuer (a JSON Web Key Set), from a file or a URL.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tracing::warn;

use super::fresh::{Fresh, Loading, Source, Unusable};
use crate::config::Jwks;
use leadsd_base::{
    net::{
        body::{self, BodyError},
        http::{self, ClientBuilder, InvalidPem},
    },
    secret::Secret,
};

/// Name of the source.
const NAME: &str = "auth:jwks";

/// How often a file is looked at.
const FILE_INTERVAL: Duration = Duration::from_secs(1);

/// Longest one look may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Shortest time between two requests that tokens with unknown keys cause: whoever sends nonsense
/// must not have us ask the issuer all the time.
const PAUSE: Duration = Duration::from_secs(10);

/// Largest key set that is read. Real ones have a few keys.
const MAX_BYTES: usize = 1 << 20;

/// Most keys that are used of one set.
const MAX_KEYS: usize = 100;

/// Algorithms of RSA keys that do not say which one they are for.
const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// The keys of an issuer.
#[derive(Debug, Default)]
pub(super) struct Keys(pub(super) Vec<Key>);

/// One public key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) key: DecodingKey,
    /// Checks the signature with the algorithms that the key is for; claims are our own business.
    pub(super) validation: Validation,
}

/// Keeps the keys fresh.
pub(super) fn start(jwks: Jwks, missing: watch::Sender<BTreeSet<&'static str>>) -> Fresh<Keys> {
    let parse = |bytes: &Vec<u8>| {
        let keys = Keys::parse(bytes)?;
        let entries = keys.0.len();
        Ok((keys, entries))
    };
    let source = match jwks {
        Jwks::File(file) => {
            let from = file.display().to_string();
            let file: Arc<Path> = file.into();
            let load = Box::new(move || -> Loading<Vec<u8>> {
                let file = Arc::clone(&file);
                Box::pin(async move { read(&file).await })
            });
            let (interval, pause) = (FILE_INTERVAL, FILE_INTERVAL);
            Source { name: NAME, from, interval, timeout: TIMEOUT, pause, load, parse }
        }
        Jwks::Url { url, ca_file, token_file, refresh } => {
            let from = url.to_string();
            let endpoint = Arc::new(Endpoint {
                url,
                ca_file: ca_file.map(Into::into),
                token_file: token_file.map(Into::into),
            });
            let load = Box::new(move || -> Loading<Vec<u8>> {
                let endpoint = Arc::clone(&endpoint);
                Box::pin(async move { endpoint.fetch().await })
            });
            Source {
                name: NAME,
                from,
                interval: refresh,
                timeout: TIMEOUT,
                pause: PAUSE,
                load,
                parse,
            }
        }
    };
    Fresh::start(source, missing)
}

/// Gets the keys once; gives how many can be used.
pub(super) async fn look(jwks: &Jwks) -> Result<usize, Unusable> {
    let bytes = match jwks {
        Jwks::File(file) => read(file).await?,
        Jwks::Url { url, ca_file, token_file, refresh: _ } => {
            let endpoint = Endpoint {
                url: url.clone(),
                ca_file: ca_file.as_deref().map(Into::into),
                token_file: token_file.as_deref().map(Into::into),
            };
            endpoint.fetch().await?
        }
    };
    Keys::parse(&bytes).map(|keys| keys.0.len())
}

/// Where keys are fetched.
struct Endpoint {
    url: url::Url,
    ca_file: Option<Box<Path>>,
    token_file: Option<Box<Path>>,
}

// === impl Endpoint ===

impl Endpoint {
    /// CA and token are read every time: both are replaced while we run, and a look is rare.
    async fn fetch(&self) -> Result<Vec<u8>, Unusable> {
        let mut builder = ClientBuilder::new(TIMEOUT);
        if let Some(file) = &self.ca_file {
            let roots = http::certificates(&read(file).await?);
            let invalid =
                |InvalidPem| Unusable(format!("{} holds no certificates", file.display()));
            builder = builder.extra_roots(roots.map_err(invalid)?);
        }
        let client = builder.build().map_err(|error| Unusable(error.to_string()))?;
        let mut request = client.get(self.url.clone());
        if let Some(file) = &self.token_file {
            let token = Secret::new(String::from_utf8_lossy(&read(file).await?));
            request = request.bearer_auth(token.expose().trim());
        }
        let unreachable = |error: reqwest::Error| Unusable(root_cause(&error.without_url()));
        let response = request.send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(Unusable(format!("status {}", response.status().as_u16())));
        }
        body::read(response, MAX_BYTES).await.map_err(|error| match error {
            BodyError::TooLarge { .. } => Unusable("the answer is too large".to_owned()),
            BodyError::Broken(error) => unreachable(error),
        })
    }
}

/// Text of the root cause; the errors around it only say that a request failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

async fn read(file: &Path) -> Result<Vec<u8>, Unusable> {
    let bytes = tokio::fs::read(file).await;
    let bytes = bytes.map_err(|error| Unusable(format!("{}: {}", file.display(), error.kind())))?;
    if bytes.len() > MAX_BYTES {
        return Err(Unusable(format!("{} is too large", file.display())));
    }
    Ok(bytes)
}

// === impl Keys ===

impl Keys {
    /// Reads a key set. Keys that sign nothing, or nothing that we check, are left out; secrets that
    /// both sides know (`oct`) are no public keys and never used.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Unusable> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(bytes)
            .map_err(|_| Unusable("it is no JSON Web Key Set".to_owned()))?;
        let all = set.keys.len();
        let usable = set.keys.into_iter().filter_map(Key::new);
        let keys = Self(usable.take(MAX_KEYS).collect());
        if keys.0.is_empty() {
            // It is what the issuer says: no token is good.
            warn!(
                keys = all,
                "The key set of the token issuer has no usable key: no token is accepted"
            );
        }
        Ok(keys)
    }
}

// === impl Key ===

impl Key {
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

//! API keys. The secret store contains their SHA-256 hashes; a presented key is hashed and compared with
//! all of them in constant time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use tokio::sync::watch;
use tracing::warn;

use super::{
    identity::{AuthMethod, Identity},
    presented::AuthError,
    refreshing::{LoadError, RefreshingValue, Source, SourceStatus},
};
use leadsd_base::secret::Secret;
use leadsd_credentials::{SecretPath, SecretStore, StoreError};

/// Maximum number of hashes: each call with a key compares all of them.
const MAX_HASHES: usize = 2_000;

/// Maximum number of keys per caller: the current and the next one during a rotation.
const MAX_PER_CALLER: usize = 2;

/// Minimum length of an API key in bytes: an unsalted hash protects only a key with high entropy.
const MIN_KEY: usize = 20;

/// Maximum length of an API key in bytes, which bounds the work per call.
const MAX_KEY: usize = 512;

type Hash = [u8; SHA256_OUTPUT_LEN];

/// API keys of all callers. Reloads their hashes periodically.
#[derive(Debug)]
pub struct ApiKeyVerifier {
    hashes: RefreshingValue<Hashes>,
}

/// Hashes of API keys with the identities of their owners.
#[derive(Debug, Default)]
pub(super) struct Hashes(Vec<(Hash, Identity)>);

/// Content of the secret with the hashes.
type Texts = BTreeMap<String, Secret>;

// === impl ApiKeyVerifier ===

impl ApiKeyVerifier {
    /// Starts loading the hashes. `name` is the name of the auth source.
    pub fn start(
        name: &'static str,
        store: Arc<dyn SecretStore>,
        path: SecretPath,
        interval: Duration,
        timeout: Duration,
        missing: watch::Sender<BTreeSet<&'static str>>,
    ) -> Self {
        let source = Source {
            name,
            location: path.to_string(),
            interval,
            timeout,
            min_interval: interval,
            load: Box::new(move || {
                let (store, path) = (Arc::clone(&store), path.clone());
                Box::pin(async move { read(&*store, &path).await })
            }),
            parse: |texts| {
                let hashes = Hashes::parse(texts);
                let entries = hashes.0.len();
                Ok((hashes, entries))
            },
        };
        Self { hashes: RefreshingValue::start(source, missing) }
    }

    /// Verifies an API key.
    pub fn verify(&self, key: &[u8]) -> Result<Identity, AuthError> {
        let hashes = self.hashes.get();
        let hashes = hashes.ok_or(AuthError::Unavailable("API keys are not loaded yet"))?;
        hashes.owner(key).ok_or(AuthError::Invalid("unknown API key"))
    }

    pub(super) fn status(&self) -> SourceStatus {
        self.hashes.status()
    }
}

/// Reads the secret. A missing secret is an empty set: deleting the secret revokes all keys.
async fn read(store: &dyn SecretStore, path: &SecretPath) -> Result<Texts, LoadError> {
    match store.read_strings(path).await {
        Ok(texts) => Ok(texts),
        Err(StoreError::NotFound) => Ok(Texts::new()),
        Err(error) => Err(LoadError(error.to_string())),
    }
}

/// Names of the callers whose entries in the secret are valid.
pub fn api_key_owners(texts: &BTreeMap<String, Secret>) -> BTreeSet<String> {
    Hashes::parse(texts).0.into_iter().map(|(_, identity)| identity.name().to_owned()).collect()
}

// === impl Hashes ===

impl Hashes {
    /// Parses caller names and hashes. Invalid entries are skipped and logged with the caller name.
    pub(super) fn parse(texts: &Texts) -> Self {
        if texts.is_empty() {
            warn!("Loaded no API keys: the secret is missing or empty; every API key is rejected");
        }
        let empty = [hash(b""), hash(b"\n")];
        let mut hashes: Vec<(Hash, Identity)> = Vec::new();
        let mut owners: HashMap<Hash, usize> = HashMap::new();
        for (name, text) in texts {
            let Some(identity) = Identity::new(name, AuthMethod::ApiKey) else {
                warn!(caller = ?name, "Skipped API keys of a caller: the name is not printable ASCII without spaces");
                continue;
            };
            let parsed: Option<BTreeSet<Hash>> = text.expose().split(',').map(from_hex).collect();
            match parsed {
                Some(parsed)
                    if parsed.len() <= MAX_PER_CALLER
                        && !parsed.iter().any(|hash| empty.contains(hash)) =>
                {
                    for hash in parsed {
                        *owners.entry(hash).or_default() += 1;
                        hashes.push((hash, identity.clone()));
                    }
                }
                Some(_) | None => {
                    warn!(
                        caller = name,
                        "Skipped API keys of a caller: the value must be one or two SHA-256 hashes in hex, separated by a comma, and no hash of an empty key"
                    );
                }
            }
        }
        let shared = |hash: &Hash| owners.get(hash).is_some_and(|owners| *owners > 1);
        hashes.retain(|(hash, identity)| {
            if shared(hash) {
                let caller = identity.name();
                warn!(caller, "Skipped an API key: several callers have the same key");
            }
            !shared(hash)
        });
        if hashes.len() > MAX_HASHES {
            warn!(max = MAX_HASHES, "Skipped API keys: the secret contains more than the maximum");
            hashes.truncate(MAX_HASHES);
        }
        Self(hashes)
    }

    /// Owner of a key; `None` if the key is unknown. Takes constant time for all keys.
    pub(super) fn owner(&self, key: &[u8]) -> Option<Identity> {
        if !(MIN_KEY..=MAX_KEY).contains(&key.len()) {
            return None;
        }
        let presented = hash(key);
        // The index past the last means no match.
        let none = u32::try_from(self.0.len()).ok()?;
        let mut found = none;
        for (index, (hash, _)) in (0..none).zip(&self.0) {
            found.conditional_assign(&index, hash.ct_eq(&presented));
        }
        self.0.get(usize::try_from(found).ok()?).map(|(_, identity)| identity.clone())
    }
}

fn hash(text: &[u8]) -> Hash {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest(&SHA256, text).as_ref());
    hash
}

fn from_hex(text: &str) -> Option<Hash> {
    let digits = text.trim().as_bytes();
    if digits.len() != 2 * SHA256_OUTPUT_LEN {
        return None;
    }
    let mut hash = [0; SHA256_OUTPUT_LEN];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(hash)
}

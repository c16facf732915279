//! API keys, stored as SHA-256: hashes are read from the secret store; a presented key is hashed and
//! compared with all of them in constant time.

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

/// Name of the source.
const NAME: &str = "auth:api_keys";

/// Maximum number of hashes: each call with a key compares all of them.
const MAX_HASHES: usize = 2_000;

/// Maximum number of keys of one caller: the old one and the new one.
const MAX_PER_CALLER: usize = 2;

/// Minimum length of an API key: an unsalted hash protects only a key that cannot be guessed.
const MIN_KEY: usize = 20;

/// Maximum length of an API key that is hashed.
const MAX_KEY: usize = 512;

type Hash = [u8; SHA256_OUTPUT_LEN];

/// The API keys of all callers.
#[derive(Debug)]
pub(super) struct ApiKeys {
    hashes: RefreshingValue<Hashes>,
}

/// Hashes of API keys with the identities of their owners.
#[derive(Debug, Default)]
pub(super) struct Hashes(Vec<(Hash, Identity)>);

/// Content of the secret with the hashes.
type Texts = BTreeMap<String, Secret>;

// === impl ApiKeys ===

impl ApiKeys {
    pub(super) fn start(
        store: Arc<dyn SecretStore>,
        path: SecretPath,
        interval: Duration,
        timeout: Duration,
        missing: watch::Sender<BTreeSet<&'static str>>,
    ) -> Self {
        let source = Source {
            name: NAME,
            from: path.to_string(),
            interval,
            timeout,
            pause: interval,
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

    pub(super) fn identify(&self, key: &[u8]) -> Result<Identity, AuthError> {
        let hashes = self.hashes.get();
        let hashes = hashes.ok_or(AuthError::Unavailable("API keys cannot be checked yet"))?;
        hashes.owner(key).ok_or(AuthError::Invalid("the API key is not known"))
    }

    pub(super) fn status(&self) -> SourceStatus {
        self.hashes.status()
    }
}

/// Reads the secret. A secret that does not exist holds no keys: deleting it revokes all.
async fn read(store: &dyn SecretStore, path: &SecretPath) -> Result<Texts, LoadError> {
    match store.read_strings(path).await {
        Ok(texts) => Ok(texts),
        Err(StoreError::NotFound) => Ok(Texts::new()),
        Err(error) => Err(LoadError(error.to_string())),
    }
}

/// Callers whose values in the secret with API keys are valid.
pub fn owners(texts: &BTreeMap<String, Secret>) -> BTreeSet<String> {
    Hashes::parse(texts).0.into_iter().map(|(_, identity)| identity.name().to_owned()).collect()
}

// === impl Hashes ===

impl Hashes {
    /// Parses names and hashes. Invalid entries are skipped and logged by the caller's name.
    pub(super) fn parse(texts: &Texts) -> Self {
        if texts.is_empty() {
            warn!("The secret with API keys is empty or not there: none is accepted");
        }
        let nothing = [hash(b""), hash(b"\n")];
        let mut hashes: Vec<(Hash, Identity)> = Vec::new();
        let mut owners: HashMap<Hash, usize> = HashMap::new();
        for (name, text) in texts {
            let Some(identity) = Identity::new(name, AuthMethod::ApiKey) else {
                warn!(caller = ?name, "API keys of a caller left out: its name has other characters than printable ASCII");
                continue;
            };
            let parsed: Option<BTreeSet<Hash>> = text.expose().split(',').map(from_hex).collect();
            match parsed {
                Some(parsed)
                    if parsed.len() <= MAX_PER_CALLER
                        && !parsed.iter().any(|hash| nothing.contains(hash)) =>
                {
                    for hash in parsed {
                        *owners.entry(hash).or_default() += 1;
                        hashes.push((hash, identity.clone()));
                    }
                }
                Some(_) | None => {
                    warn!(
                        caller = name,
                        "API keys of a caller left out: its value must be one or two SHA-256 in hex, with a comma between, and none of nothing"
                    );
                }
            }
        }
        let shared = |hash: &Hash| owners.get(hash).is_some_and(|owners| *owners > 1);
        hashes.retain(|(hash, identity)| {
            if shared(hash) {
                let caller = identity.name();
                warn!(caller, "API key left out: more than one caller has it");
            }
            !shared(hash)
        });
        if hashes.len() > MAX_HASHES {
            warn!(
                most = MAX_HASHES,
                "More API keys than are looked at; the last ones are left out"
            );
            hashes.truncate(MAX_HASHES);
        }
        Self(hashes)
    }

    /// Owner of a key; `None` if the key is unknown. Takes the same time for every key.
    pub(super) fn owner(&self, key: &[u8]) -> Option<Identity> {
        if !(MIN_KEY..=MAX_KEY).contains(&key.len()) {
            return None;
        }
        let presented = hash(key);
        // One past the last stands for no match.
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

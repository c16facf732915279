//! Authenticates requests and answers what an identity may do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    api_keys::ApiKeys,
    identity::{AuthMethod, Identity},
    jwt::JwtVerifier,
    policy::{Policies, Rights},
    presented::{AuthError, HeaderValue, PresentedCredentials},
    refreshing::SourceStatus,
};
use crate::{config, leads::PortalName};
use leadsd_base::time::WallClock;
use leadsd_credentials::{SecretPath, SecretStore};

/// Settings of authentication and authorization.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bearer tokens; `None` ignores them.
    pub jwt: Option<config::Jwt>,
    /// Path of the secret with the hashes of API keys; `None` ignores them.
    pub api_keys: Option<SecretPath>,
    /// Interval between reads of the API keys.
    pub poll_interval: Duration,
    /// Timeout for one read.
    pub store_timeout: Duration,
    /// Policies.
    pub policy: BTreeMap<String, config::Policy>,
}

/// Authenticates requests.
pub struct Auth {
    tokens: Option<JwtVerifier>,
    api_keys: Option<ApiKeys>,
    policies: Policies,
    /// Sources that have not loaded yet. Held here too, since nothing else does with certificates alone.
    missing: watch::Sender<BTreeSet<&'static str>>,
    counts: Counts,
}

/// Counters of outcomes.
#[derive(Debug, Default)]
struct Counts {
    /// By method, in the order of [`AuthMethod::ALL`].
    identified: [AtomicU64; 3],
    missing: AtomicU64,
    invalid: AtomicU64,
    unavailable: AtomicU64,
    forbidden: AtomicU64,
}

/// Counters since the start, and the state of the auth sources.
#[derive(Debug, Clone)]
pub struct Status {
    /// Authenticated calls, by method.
    pub identified: Vec<(AuthMethod, u64)>,
    /// Rejected calls, by cause.
    pub refused: [(&'static str, u64); 4],
    /// Key sets of token issuers and hashes of API keys.
    pub sources: Vec<SourceStatus>,
}

// === impl Auth ===

impl Auth {
    /// Starts to load key sets and hashes; `store` has the hashes.
    pub fn start(
        settings: Settings,
        store: Arc<dyn SecretStore>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        let Settings { jwt, api_keys, poll_interval, store_timeout, policy } = settings;
        let missing = watch::Sender::new(BTreeSet::new());
        let tokens = jwt.map(|jwt| JwtVerifier::start(jwt, clock, missing.clone()));
        let api_keys = api_keys
            .map(|path| ApiKeys::start(store, path, poll_interval, store_timeout, missing.clone()));
        Self {
            tokens,
            api_keys,
            policies: Policies::new(policy.values()),
            missing,
            counts: Counts::default(),
        }
    }

    /// Sources that have not loaded yet, such as `auth:jwks`: until they have, callers cannot be
    /// authenticated.
    pub fn missing(&self) -> watch::Receiver<BTreeSet<&'static str>> {
        self.missing.subscribe()
    }

    /// Authenticates a request. An invalid credential fails the call even if another one is valid. May
    /// wait for new keys of the issuer, at most until `until`.
    pub async fn identify(
        &self,
        presented: PresentedCredentials<'_>,
        until: Instant,
    ) -> Result<Identity, AuthError> {
        let found = self.authenticate(presented, until).await;
        let counter = match &found {
            Ok(identity) => &self.counts.identified[identity.method() as usize],
            Err(AuthError::Missing) => &self.counts.missing,
            Err(AuthError::Invalid(_)) => &self.counts.invalid,
            Err(AuthError::Unavailable(_)) => &self.counts.unavailable,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    async fn authenticate(
        &self,
        presented: PresentedCredentials<'_>,
        until: Instant,
    ) -> Result<Identity, AuthError> {
        let PresentedCredentials { authorization, api_key, certificate } = presented;
        // A header that is not configured here may be meant for another party, such as a proxy.
        let tokens = self.tokens.as_ref().map(|tokens| (tokens, authorization));
        let keys = self.api_keys.as_ref().map(|keys| (keys, api_key));
        match (tokens, keys) {
            (Some((_, HeaderValue::Multiple)), _) => {
                Err(AuthError::Invalid("authorization is sent more than once"))
            }
            (_, Some((_, HeaderValue::Multiple))) => {
                Err(AuthError::Invalid("x-api-key is sent more than once"))
            }
            (Some((_, HeaderValue::One(_))), Some((_, HeaderValue::One(_)))) => {
                Err(AuthError::Invalid(
                    "authorization and x-api-key are both sent: only one can say who calls",
                ))
            }
            (Some((tokens, HeaderValue::One(value))), _) => tokens.identify(value, until).await,
            (_, Some((keys, HeaderValue::One(value)))) => keys.identify(value),
            (None | Some((_, HeaderValue::Absent)), None | Some((_, HeaderValue::Absent))) => {
                certificate.cloned().ok_or(AuthError::Missing)
            }
        }
    }

    /// Rights of a caller in a portal, whether or not the portal exists.
    pub fn rights(&self, caller: &Identity, portal: &PortalName) -> Rights {
        self.policies.rights(caller.name(), portal)
    }

    /// Whether a caller has any right in any portal.
    pub fn has_rights(&self, caller: &Identity) -> bool {
        self.policies.has_rights(caller.name())
    }

    /// Counts a call whose caller lacks the right.
    pub fn count_forbidden(&self) {
        self.counts.forbidden.fetch_add(1, Ordering::Relaxed);
    }

    /// Counters and state of the sources.
    pub fn status(&self) -> Status {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { identified, missing, invalid, unavailable, forbidden } = &self.counts;
        let by_method = AuthMethod::ALL.into_iter().zip(identified);
        let tokens = self.tokens.as_ref().map(JwtVerifier::status);
        let keys = self.api_keys.as_ref().map(ApiKeys::status);
        Status {
            identified: by_method.map(|(method, counter)| (method, read(counter))).collect(),
            refused: [
                ("missing", read(missing)),
                ("invalid", read(invalid)),
                ("unavailable", read(unavailable)),
                ("forbidden", read(forbidden)),
            ],
            sources: tokens.into_iter().chain(keys).collect(),
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("policies", &self.policies).finish_non_exhaustive()
    }
}

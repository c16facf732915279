//! Authenticates requests and looks up the rights of callers.

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
    api_keys::ApiKeyVerifier,
    identity::{AuthMethod, Identity},
    jwt::JwtVerifier,
    policy::{Policies, Rights},
    presented::{AuthError, HeaderValue, PresentedCredentials},
    refreshing::SourceStatus,
};
use crate::{config, leads::PortalName};
use leadsd_base::time::WallClock;
use leadsd_credentials::{SecretPath, SecretStore};

/// Name of the auth source with the API keys of callers.
const API_KEYS: &str = "auth:api_keys";

/// Settings of authentication and authorization.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Settings of bearer tokens; `None` if they are ignored.
    pub jwt: Option<config::Jwt>,
    /// Path of the secret with API key hashes; `None` if API keys are ignored.
    pub api_keys: Option<SecretPath>,
    /// Interval between reads of the API key hashes.
    pub poll_interval: Duration,
    /// Timeout for one read.
    pub store_timeout: Duration,
    /// Policies by name.
    pub policy: BTreeMap<String, config::Policy>,
}

/// Authenticator and authorizer of requests.
pub struct Authenticator {
    tokens: Option<JwtVerifier>,
    api_keys: Option<ApiKeyVerifier>,
    policies: Policies,
    /// Sources that have not loaded yet. Without sources, this is the only sender.
    missing: watch::Sender<BTreeSet<&'static str>>,
    counters: AuthCounters,
}

/// Counters of outcomes.
#[derive(Debug, Default)]
struct AuthCounters {
    /// Authenticated calls, in the order of [`AuthMethod::ALL`].
    authenticated: [AtomicU64; 3],
    missing: AtomicU64,
    invalid: AtomicU64,
    unavailable: AtomicU64,
    forbidden: AtomicU64,
}

/// Counters since start, and the status of the auth sources.
#[derive(Debug, Clone)]
pub struct AuthStatus {
    /// Authenticated calls by method.
    pub authenticated: Vec<(AuthMethod, u64)>,
    /// Rejected calls by cause.
    pub rejected: [(&'static str, u64); 4],
    /// Status of the token issuer's key set and of the API key hashes.
    pub sources: Vec<SourceStatus>,
}

// === impl Authenticator ===

impl Authenticator {
    /// Starts loading the auth sources; `store` has the API key hashes.
    pub fn start(
        settings: Settings,
        store: Arc<dyn SecretStore>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        let Settings { jwt, api_keys, poll_interval, store_timeout, policy } = settings;
        let missing = watch::Sender::new(BTreeSet::new());
        let tokens = jwt.map(|jwt| JwtVerifier::start(jwt, clock, missing.clone()));
        let api_keys = api_keys.map(|path| {
            let missing = missing.clone();
            ApiKeyVerifier::start(API_KEYS, store, path, poll_interval, store_timeout, missing)
        });
        Self {
            tokens,
            api_keys,
            policies: Policies::new(policy.values()),
            missing,
            counters: AuthCounters::default(),
        }
    }

    /// Auth sources that have not loaded yet, such as `auth:jwks`. Until then, their callers cannot be
    /// authenticated.
    pub fn missing(&self) -> watch::Receiver<BTreeSet<&'static str>> {
        self.missing.subscribe()
    }

    /// Authenticates a request. An invalid credential fails the call even if another one is valid. Waits
    /// for new keys of the issuer, at most until `deadline`.
    pub async fn authenticate(
        &self,
        presented: PresentedCredentials<'_>,
        deadline: Instant,
    ) -> Result<Identity, AuthError> {
        let result = self.verify(presented, deadline).await;
        let counter = match &result {
            Ok(identity) => &self.counters.authenticated[identity.method() as usize],
            Err(AuthError::Missing) => &self.counters.missing,
            Err(AuthError::Invalid(_)) => &self.counters.invalid,
            Err(AuthError::Unavailable(_)) => &self.counters.unavailable,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }

    async fn verify(
        &self,
        presented: PresentedCredentials<'_>,
        deadline: Instant,
    ) -> Result<Identity, AuthError> {
        let PresentedCredentials { authorization, api_key, certificate } = presented;
        // A header of a method that is not configured may be meant for a proxy: ignore it.
        let tokens = self.tokens.as_ref().map(|tokens| (tokens, authorization));
        let keys = self.api_keys.as_ref().map(|keys| (keys, api_key));
        match (tokens, keys) {
            (Some((_, HeaderValue::Multiple)), _) => {
                Err(AuthError::Invalid("several authorization headers; send one"))
            }
            (_, Some((_, HeaderValue::Multiple))) => {
                Err(AuthError::Invalid("several x-api-key headers; send one"))
            }
            (Some((_, HeaderValue::One(_))), Some((_, HeaderValue::One(_)))) => {
                Err(AuthError::Invalid(
                    "both authorization and x-api-key are present; send one of them",
                ))
            }
            (Some((tokens, HeaderValue::One(value))), _) => tokens.verify(value, deadline).await,
            (_, Some((keys, HeaderValue::One(value)))) => keys.verify(value),
            (None | Some((_, HeaderValue::Absent)), None | Some((_, HeaderValue::Absent))) => {
                certificate.cloned().ok_or(AuthError::Missing)
            }
        }
    }

    /// Rights of a caller in a portal. The portal need not exist.
    pub fn rights(&self, caller: &Identity, portal: &PortalName) -> Rights {
        self.policies.rights(caller.name(), portal)
    }

    /// Reports whether a caller has any right in any portal.
    pub fn has_rights(&self, caller: &Identity) -> bool {
        self.policies.has_rights(caller.name())
    }

    /// Counts a call that was denied for lack of rights.
    pub fn count_forbidden(&self) {
        self.counters.forbidden.fetch_add(1, Ordering::Relaxed);
    }

    /// Counters and status of the sources.
    pub fn status(&self) -> AuthStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let AuthCounters { authenticated, missing, invalid, unavailable, forbidden } =
            &self.counters;
        let by_method = AuthMethod::ALL.into_iter().zip(authenticated);
        let tokens = self.tokens.as_ref().map(JwtVerifier::status);
        let keys = self.api_keys.as_ref().map(ApiKeyVerifier::status);
        AuthStatus {
            authenticated: by_method.map(|(method, counter)| (method, read(counter))).collect(),
            rejected: [
                ("missing", read(missing)),
                ("invalid", read(invalid)),
                ("unavailable", read(unavailable)),
                ("forbidden", read(forbidden)),
            ],
            sources: tokens.into_iter().chain(keys).collect(),
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("policies", &self.policies).finish_non_exhaustive()
    }
}

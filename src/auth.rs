//! Who calls, and what they may do.
//!
//! A caller proves a name with a client certificate, a bearer token (JWT) or an API key; policies say
//! what a name may do in which portal, and what no policy allows is denied. Names are all that leaves
//! this module: it knows neither gRPC nor HubSpot.

mod api_keys;
pub mod certificate;
mod fresh;
mod identity;
mod jwks;
mod jwt;
mod policy;

#[cfg(test)]
mod tests;

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

use self::{api_keys::ApiKeys, jwt::Tokens};
pub use self::{
    fresh::{SourceStatus, Unusable},
    identity::{Identity, Proof},
    policy::{Policies, Rights},
};
pub use crate::config::Access;
use crate::{config, leads::PortalName};
use leadsd_base::{secret::Secret, time::WallClock};
use leadsd_credentials::{SecretPath, SecretStore};

/// How callers are known and what they may do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bearer tokens; `None` does not look at them.
    pub jwt: Option<config::Jwt>,
    /// Path of the secret with the hashes of API keys; `None` does not look at any.
    pub api_keys: Option<SecretPath>,
    /// How often to look for new API keys.
    pub poll_interval: Duration,
    /// Longest one look may take.
    pub store_timeout: Duration,
    /// What callers may do.
    pub policy: BTreeMap<String, config::Policy>,
}

/// A header as it was sent.
#[derive(Clone, Copy, Default)]
pub enum Sent<'a> {
    /// Not at all.
    #[default]
    Not,
    /// Once, with this value.
    Once(&'a [u8]),
    /// More than once.
    Often,
}

/// What a caller has sent to prove who it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Presented<'a> {
    /// The header `authorization`.
    pub authorization: Sent<'a>,
    /// The header `x-api-key`.
    pub api_key: Sent<'a>,
    /// Whose certificate the connection was made with.
    pub certificate: Option<&'a Identity>,
}

/// Why it is not known who calls. The texts are for the caller and tell nothing about others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Nothing was sent that could prove it.
    Missing,
    /// What was sent proves nothing.
    Invalid(&'static str),
    /// It cannot be checked at the moment.
    Unavailable(&'static str),
}

/// Knows callers.
pub struct Auth {
    tokens: Option<Tokens>,
    api_keys: Option<ApiKeys>,
    policies: Policies,
    /// Held here as well: with certificates alone nothing else holds it.
    missing: watch::Sender<BTreeSet<&'static str>>,
    counts: Counts,
}

/// How calls came out here.
#[derive(Debug, Default)]
struct Counts {
    /// By proof, in the order of [`Proof::ALL`].
    identified: [AtomicU64; 3],
    missing: AtomicU64,
    invalid: AtomicU64,
    unavailable: AtomicU64,
    forbidden: AtomicU64,
}

/// What has happened since the start, and how the sources of trust are.
#[derive(Debug, Clone)]
pub struct Status {
    /// Calls with a known caller, by its proof.
    pub identified: Vec<(Proof, u64)>,
    /// Calls that were refused, by why.
    pub refused: [(&'static str, u64); 4],
    /// Keys of token issuers and hashes of API keys.
    pub sources: Vec<SourceStatus>,
}

/// Looks once for the keys of an issuer, as the service does; gives how many can be used.
pub async fn look_at_keys(jwks: &config::Jwks) -> Result<usize, Unusable> {
    jwks::look(jwks).await
}

/// The callers of a secret with hashes of API keys whose value can be used.
pub fn owners_of_api_keys(texts: &BTreeMap<String, Secret>) -> BTreeSet<String> {
    api_keys::owners(texts)
}

// === impl Auth ===

impl Auth {
    /// Starts to look after keys and hashes. `store` is where the hashes are.
    pub fn start(
        settings: Settings,
        store: Arc<dyn SecretStore>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        let Settings { jwt, api_keys, poll_interval, store_timeout, policy } = settings;
        let missing = watch::Sender::new(BTreeSet::new());
        let tokens = jwt.map(|jwt| Tokens::start(jwt, clock, missing.clone()));
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

    /// What has to be there before callers can be known, such as `auth:jwks`.
    pub fn missing(&self) -> watch::Receiver<BTreeSet<&'static str>> {
        self.missing.subscribe()
    }

    /// Finds out who calls. What is sent and not valid is never made up for by something else that
    /// is; may wait for new keys of the issuer, at most until `until`.
    pub async fn identify(
        &self,
        presented: Presented<'_>,
        until: Instant,
    ) -> Result<Identity, Refused> {
        let found = self.find(presented, until).await;
        let counter = match &found {
            Ok(identity) => &self.counts.identified[identity.proof() as usize],
            Err(Refused::Missing) => &self.counts.missing,
            Err(Refused::Invalid(_)) => &self.counts.invalid,
            Err(Refused::Unavailable(_)) => &self.counts.unavailable,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    async fn find(&self, presented: Presented<'_>, until: Instant) -> Result<Identity, Refused> {
        let Presented { authorization, api_key, certificate } = presented;
        // What cannot be checked here is somebody else's business, such as a proxy's.
        let tokens = self.tokens.as_ref().map(|tokens| (tokens, authorization));
        let keys = self.api_keys.as_ref().map(|keys| (keys, api_key));
        match (tokens, keys) {
            (Some((_, Sent::Often)), _) => {
                Err(Refused::Invalid("authorization is sent more than once"))
            }
            (_, Some((_, Sent::Often))) => {
                Err(Refused::Invalid("x-api-key is sent more than once"))
            }
            (Some((_, Sent::Once(_))), Some((_, Sent::Once(_)))) => Err(Refused::Invalid(
                "authorization and x-api-key are both sent: only one can say who calls",
            )),
            (Some((tokens, Sent::Once(value))), _) => tokens.identify(value, until).await,
            (_, Some((keys, Sent::Once(value)))) => keys.identify(value),
            (None | Some((_, Sent::Not)), None | Some((_, Sent::Not))) => {
                certificate.cloned().ok_or(Refused::Missing)
            }
        }
    }

    /// What a caller may do in a portal, whether or not there is one of that name.
    pub fn rights(&self, caller: &Identity, portal: &PortalName) -> Rights {
        self.policies.of(caller.name(), portal)
    }

    /// Whether a caller may do anything anywhere.
    pub fn has_rights(&self, caller: &Identity) -> bool {
        self.policies.any(caller.name())
    }

    /// Counts a call of a known caller that may not do what it asks for.
    pub fn count_forbidden(&self) {
        self.counts.forbidden.fetch_add(1, Ordering::Relaxed);
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { identified, missing, invalid, unavailable, forbidden } = &self.counts;
        let by_proof = Proof::ALL.into_iter().zip(identified);
        let tokens = self.tokens.as_ref().map(Tokens::status);
        let keys = self.api_keys.as_ref().map(ApiKeys::status);
        Status {
            identified: by_proof.map(|(proof, counter)| (proof, read(counter))).collect(),
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

// === impl Sent ===

impl<'a> Sent<'a> {
    /// What the values of a header amount to.
    pub fn from_values(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::Not,
            (Some(value), None) => Self::Once(value),
            (Some(_), Some(_)) => Self::Often,
        }
    }
}

impl fmt::Debug for Sent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Not => "Not",
            Self::Once(_) => "Once([redacted])",
            Self::Often => "Often",
        })
    }
}

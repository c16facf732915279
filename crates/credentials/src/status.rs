//! Status of a portal for operators. Contains no secret.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{counters::Counters, failure::FailureClass};

/// State of a portal's credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No token yet, and no known failure.
    Starting,
    /// The token is usable, and its renewal works.
    Fresh,
    /// The token is usable, but its renewal fails or the secret is missing.
    Stale,
    /// There is no usable token; the engine keeps trying.
    Failed,
    /// The credential is rejected permanently; the engine waits for a new secret, for
    /// [`refresh_now`](crate::Credentials::refresh_now) or for the next retry of a suspended
    /// portal. A token that was issued before may still be usable.
    Suspended,
}

/// Kind of a portal's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A token that does not expire by itself.
    Static,
    /// OAuth 2.0 with the refresh grant.
    OAuth,
}

/// Status of one portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalStatus {
    /// Name of the portal.
    pub portal: Arc<str>,
    /// True if the portal was discovered instead of configured.
    pub discovered: bool,
    /// State of the credential.
    pub state: State,
    /// Kind of the secret; `None` before the secret was read.
    pub kind: Option<Kind>,
    /// True if a call could be made now: there is an unexpired token, and HubSpot has not rejected it.
    pub usable: bool,
    /// True if the portal starts with its first call, which has not arrived yet.
    pub unused: bool,
    /// Generation of the token in use, from 1 up; 0 before the first token.
    pub generation: u64,
    /// Age of the token in use.
    pub token_age: Option<Duration>,
    /// Remaining lifetime of the token, zero once expired; `None` for a token that does not expire.
    pub expires_in: Option<Duration>,
    /// Time until the next planned refresh.
    pub next_refresh: Option<Duration>,
    /// Current failure; `None` if there is no failure.
    pub failure: Option<FailureClass>,
    /// The last failure, even if it is over.
    pub last_failure: Option<FailureClass>,
    /// Version of the secret in use; `None` before the secret was read.
    pub secret_version: Option<u64>,
    /// True if the newest version is deleted or destroyed, so that the credential exists in memory
    /// only.
    pub secret_deleted: bool,
    /// True if a rotated refresh token is not saved yet: it is lost if the process ends.
    pub write_back_pending: bool,
    /// Counts since the portal was added.
    pub counters: Counters,
}

/// Rule for which portals must be usable for the service to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadinessRule {
    /// At least one: a broken credential of one portal does not affect the others.
    #[default]
    Any,
    /// Each configured one. Discovered portals never keep the service from being ready as long as one
    /// portal is usable: a secret in a folder must not stop all replicas.
    All,
}

/// Readiness of one portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortalReadiness {
    /// True if the portal was discovered instead of configured.
    pub discovered: bool,
    /// True if HubSpot accepts the credential as far as is known. A portal that starts lazily is assumed
    /// to be usable until its first attempt has failed.
    pub usable: bool,
}

/// Readiness of the portals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// The rule by which the service is ready.
    pub rule: ReadinessRule,
    /// All portals by name.
    pub portals: BTreeMap<Arc<str>, PortalReadiness>,
    /// The discovery folder until it was listed for the first time: before that, the set of portals
    /// is unknown.
    pub not_listed_yet: Option<Arc<str>>,
}

// === impl State ===

impl State {
    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Failed => "failed",
            Self::Suspended => "suspended",
        }
    }
}

// === impl Kind ===

impl Kind {
    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::OAuth => "oauth",
        }
    }
}

// === impl Readiness ===

impl Readiness {
    /// True if the service can serve calls.
    pub fn is_ready(&self) -> bool {
        self.not_listed_yet.is_none() && self.blocking().next().is_none()
    }

    /// Names of the portals that are not usable, in order.
    pub fn unusable(&self) -> impl Iterator<Item = &Arc<str>> {
        self.portals.iter().filter(|(_, portal)| !portal.usable).map(|(name, _)| name)
    }

    /// Names of the portals that keep the service from being ready, in order.
    pub fn blocking(&self) -> impl Iterator<Item = &Arc<str>> {
        let none_usable = self.portals.values().all(|portal| !portal.usable);
        let blocks = move |portal: &PortalReadiness| match self.rule {
            ReadinessRule::Any => none_usable,
            ReadinessRule::All => none_usable || !portal.discovered,
        };
        let blocking =
            self.portals.iter().filter(move |(_, portal)| !portal.usable && blocks(portal));
        blocking.map(|(name, _)| name)
    }

    /// Records whether a portal is usable. Returns whether that is a change.
    pub(crate) fn set_usable(&mut self, name: &str, usable: bool) -> bool {
        let Some(portal) = self.portals.get_mut(name) else { return false };
        std::mem::replace(&mut portal.usable, usable) != usable
    }
}

//! Status of a portal for operators. Contains no secret.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

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
    /// True if a call could be made now.
    pub usable: bool,
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

/// Configured portals that have not had a usable credential since they were added. Portals that
/// start lazily or were discovered do not count: neither may keep the service from becoming ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Names of the portals.
    pub missing: BTreeSet<Arc<str>>,
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
    /// True if nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.missing.is_empty() && self.not_listed_yet.is_none()
    }
}

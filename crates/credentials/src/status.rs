//! What the engine shows of itself: per portal for operators, as counters for metrics, and who still
//! has no credential for readiness. Nothing here holds a secret.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{GrantError, StoreError};

/// How a portal's credential is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No token yet, and nothing is known to be wrong.
    Starting,
    /// The token is usable and so is what renews it.
    Fresh,
    /// The token is usable, but what renews it fails or is in doubt.
    Stale,
    /// There is no usable token; the engine keeps trying.
    Failed,
    /// The credential is refused for good; waits for a new secret, `refresh_now` or the slow heartbeat. A
    /// token that was bought before may still be usable.
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

/// Class of what is wrong with a credential, for metrics and operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The secret store is sealed, throttling, unreachable, slow or answers nonsense.
    StoreUnavailable,
    /// The secret store refuses our login.
    LoginRejected,
    /// The secret store denies access to the path.
    StoreDenied,
    /// There is no secret at the path, or its newest version is deleted.
    SecretMissing,
    /// The secret has neither kind's keys.
    SecretMalformed,
    /// A rotated refresh token could not be saved because somebody else changed the secret.
    StoreConflict,
    /// The token endpoint asks to slow down.
    TokenThrottled,
    /// The token endpoint gives no usable answer.
    TokenUnavailable,
    /// The token endpoint refuses the grant or the client.
    GrantRejected,
    /// HubSpot refuses the access token, and the secret store has no other.
    TokenRejected,
}

/// One portal, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalStatus {
    /// Its name.
    pub portal: Arc<str>,
    /// Whether it was found in the folder instead of configured.
    pub discovered: bool,
    /// How it is doing.
    pub state: State,
    /// What its secret holds; none before the secret was read.
    pub kind: Option<Kind>,
    /// Whether a call could be made now.
    pub usable: bool,
    /// Which token is in use, from 1 up; 0 before the first.
    pub generation: u64,
    /// How old that token is.
    pub token_age: Option<Duration>,
    /// How long it may still be used; none for a token that does not expire, zero once expired.
    pub expires_in: Option<Duration>,
    /// When the next refresh is planned, from now.
    pub next_refresh: Option<Duration>,
    /// What is wrong now; none if nothing is.
    pub failure: Option<FailureClass>,
    /// What last went wrong, even if it is over.
    pub last_failure: Option<FailureClass>,
    /// Version of the secret in use; none before it was read.
    pub secret_version: Option<u64>,
    /// Whether the newest version is deleted or destroyed, so that the credential lives in memory
    /// only.
    pub secret_deleted: bool,
    /// Whether a rotated refresh token is not saved yet: it is lost if the process ends.
    pub write_back_pending: bool,
    /// What was done for this portal since it was added.
    pub counters: Counters,
}

/// Which configured portals have not had a usable credential since they were added. Portals that
/// start lazily or were discovered do not count: neither may keep the service from becoming ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Their names.
    pub missing: BTreeSet<Arc<str>>,
    /// The folder of portals, until it was listed for the first time: before that nobody knows
    /// which portals there are.
    pub not_listed_yet: Option<Arc<str>>,
}

/// What was done, counted from the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Grants that gave a token.
    pub grants_ok: u64,
    /// Grants that failed and may work later.
    pub grants_failed: u64,
    /// Grants that were refused for good.
    pub grants_rejected: u64,
    /// Reads of a secret.
    pub store_reads: u64,
    /// Looks at a secret's version.
    pub store_polls: u64,
    /// Attempts to save a rotated refresh token.
    pub store_writes: u64,
    /// Calls to the secret store that failed, whatever the reason.
    pub store_failures: u64,
    /// Rotated refresh tokens that met somebody else's change.
    pub conflicts: u64,
    /// Versions that were found soft-deleted or destroyed.
    pub secrets_deleted: u64,
    /// Tokens that HubSpot was reported to refuse, each counted once.
    pub rejections: u64,
    /// Panics that were caught.
    pub panics: u64,
}

/// Counts for one portal and for all of them.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    portal: Arc<Cells>,
    total: Arc<Cells>,
}

/// What can be counted; the order is that of the fields of [`Counters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    GrantOk,
    GrantFailed,
    GrantRejected,
    StoreRead,
    StorePoll,
    StoreWrite,
    StoreFailure,
    Conflict,
    SecretGone,
    Rejection,
    Panic,
}

#[derive(Debug, Default)]
pub(super) struct Cells([AtomicU64; 11]);

// === impl State ===

impl State {
    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Failed => "failed",
            Self::Suspended => "parked",
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

// === impl FailureClass ===

impl FailureClass {
    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoreUnavailable => "store_unavailable",
            Self::LoginRejected => "login_refused",
            Self::StoreDenied => "store_denied",
            Self::SecretMissing => "secret_missing",
            Self::SecretMalformed => "secret_malformed",
            Self::StoreConflict => "store_conflict",
            Self::TokenThrottled => "token_throttled",
            Self::TokenUnavailable => "token_unavailable",
            Self::GrantRejected => "grant_refused",
            Self::TokenRejected => "token_rejected",
        }
    }

    /// Whether it goes away without anybody acting on the secret or its policy. A refused login is
    /// counted as such: it stops all portals at once, and the store's session retries it by itself.
    pub(super) fn is_passing(self) -> bool {
        match self {
            Self::StoreUnavailable
            | Self::LoginRejected
            | Self::StoreConflict
            | Self::TokenThrottled
            | Self::TokenUnavailable => true,
            Self::StoreDenied
            | Self::SecretMissing
            | Self::SecretMalformed
            | Self::GrantRejected
            | Self::TokenRejected => false,
        }
    }
}

impl From<&StoreError> for FailureClass {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::SecretMissing,
            StoreError::Denied => Self::StoreDenied,
            StoreError::LoginRejected(_) => Self::LoginRejected,
            StoreError::Conflict => Self::StoreConflict,
            StoreError::Malformed(_) => Self::SecretMalformed,
            StoreError::Unavailable(_) => Self::StoreUnavailable,
        }
    }
}

impl From<&GrantError> for FailureClass {
    fn from(error: &GrantError) -> Self {
        match error {
            GrantError::Rejected { .. } => Self::GrantRejected,
            GrantError::Throttled { .. } => Self::TokenThrottled,
            GrantError::Unavailable(_) => Self::TokenUnavailable,
        }
    }
}

// === impl Readiness ===

impl Readiness {
    /// Whether nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.missing.is_empty() && self.not_listed_yet.is_none()
    }
}

// === impl Meter ===

impl Meter {
    /// A meter for a new portal.
    pub(super) fn new(total: &Arc<Cells>) -> Self {
        Self { portal: Arc::default(), total: Arc::clone(total) }
    }

    pub(super) fn count(&self, what: Count) {
        self.portal.add(what);
        self.total.add(what);
    }

    /// The portal's own counts.
    pub(super) fn read(&self) -> Counters {
        self.portal.read()
    }
}

// === impl Cells ===

impl Cells {
    pub(super) fn add(&self, what: Count) {
        self.0[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Counters {
        let of = |what: Count| self.0[what as usize].load(Ordering::Relaxed);
        Counters {
            grants_ok: of(Count::GrantOk),
            grants_failed: of(Count::GrantFailed),
            grants_rejected: of(Count::GrantRejected),
            store_reads: of(Count::StoreRead),
            store_polls: of(Count::StorePoll),
            store_writes: of(Count::StoreWrite),
            store_failures: of(Count::StoreFailure),
            conflicts: of(Count::Conflict),
            secrets_deleted: of(Count::SecretGone),
            rejections: of(Count::Rejection),
            panics: of(Count::Panic),
        }
    }
}

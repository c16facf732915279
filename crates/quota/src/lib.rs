//! HubSpot rate limits of one portal each: permits, fair queueing and batching of what waits.
//!
//! An [`Account`] holds the limits of one portal. Every HubSpot request needs a [`Permit`] of it. The
//! permit carries the response headers back, which is how the limits are learned. Requests that can be
//! sent as one HubSpot batch wait as members of a [`Group`]; the next permit takes up to
//! [`Group::max_size`] of them.
//!
//! Names of this crate at a glance:
//!
//! - [`Quota::account`] returns the [`Account`] of a portal; whoever serves a portal keeps it.
//! - [`Account::try_acquire`], [`Account::acquire`] and [`Account::enqueue`] take a permit at once,
//!   wait for one, or queue a member of a [`Group`] ([`Group::dispatch`], [`Group::reject`]).
//! - [`Account::check_deadline`] rejects a request whose permit cannot come in time.
//! - [`Permit::mark_sent`] counts the request and its leads; [`Permit::observe`] takes an
//!   [`Observation`]. Dropping a permit releases it on every other path.
//! - [`Rejected`] says which limit rejected a request, its [`Reason`] and when to retry.
//! - [`Requester`] is a [`Caller`] and its [`Priority`].
//! - [`Account::snapshot`] and [`Quota::snapshots`] are the read models; [`Account::write_queue`]
//!   takes the statistics of writes that wait for an earlier write.
//! - [`LedgerConfig`] makes replicas share the limits through a [`Ledger`].

mod account;
mod bucket;
mod daily;
mod lane;
mod lease;
mod ledger;
mod others;
mod permit;
mod queue;
pub mod redis_ledger;
mod share;
mod skew;
mod view;
mod window;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::RwLock;
use tokio::time::{Instant, timeout_at};

pub use account::{Account, QueueEntry};
pub use bucket::ObservedLimit;
pub use ledger::{
    ExchangeRequest, Grant, Ledger, LedgerConfig, LedgerInstant, LedgerObservation, LimitKey,
    SlotReport, TENTHS, Unavailable,
};
pub use permit::{Observation, Permit, RateLimited};
pub use view::{
    AccountSnapshot, BucketCounters, BucketSnapshot, CallerSnapshot, LedgerSnapshot,
    WriteQueueSnapshot, WriteQueueStats,
};

use leadsd_base::time::{WallClock, Zone};

/// One of the limits that HubSpot puts on a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BucketName {
    /// Calls in ten seconds, all but searches; a tenth of them in a second.
    Burst,
    /// Searches in a second.
    Search,
    /// Calls in a day.
    Daily,
}

/// A client of leadsd, which is what quota is divided among: its authenticated identity, else the name
/// that it sends, else its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Caller {
    name: Arc<str>,
    /// Weight of an authenticated caller. `None` if the weight is looked up by name.
    weight: Option<u32>,
}

/// Priority class of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Priority {
    /// A user waits for the response. Served before bulk.
    #[default]
    Interactive,
    /// Background work. Served with what is left, and with a tenth of the permits in any case.
    Bulk,
}

/// The caller and the priority that a permit is acquired for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// The caller.
    pub caller: Caller,
    /// The call's priority.
    pub priority: Priority,
}

/// A request that got no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// The limit that rejected it.
    pub bucket: BucketName,
    /// Why.
    pub reason: Reason,
    /// Estimated time until a permit can be acquired.
    pub retry_after: Duration,
}

/// Why a request got no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The permit would come after the deadline of the request.
    Deadline,
    /// The queue is full.
    QueueFull,
    /// The calls of the day are used up.
    Exhausted,
}

/// Requests that can be sent as one HubSpot batch.
pub trait Group: fmt::Debug + Send + Sync {
    /// Unique identifier of the group.
    fn id(&self) -> u64;
    /// Maximum number of members that one permit takes.
    fn max_size(&self) -> usize;
    /// Minimum number of members of a batch. Fewer are dispatched one by one, because a batch of them
    /// would cost as many HubSpot calls.
    fn min_size(&self) -> usize {
        2
    }
    /// Sends the members with this permit, in this order. Must not block.
    fn dispatch(&self, permit: Permit, members: Vec<u64>);
    /// Rejects a member that was queued.
    fn reject(&self, member: u64, rejected: Rejected);
}

/// Limits until HubSpot's response headers announce others, and bounds of the queues.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Calls in a window.
    pub burst: u64,
    /// Length of the window.
    pub burst_window: Duration,
    /// Searches in a second.
    pub search_per_second: u64,
    /// Calls in a day. `None` for no limit.
    pub daily: Option<u64>,
    /// Maximum number of requests queued for one bucket of one portal.
    pub max_queue: usize,
    /// Weights of unauthenticated callers by name. The default is 1.
    pub weights: BTreeMap<String, u32>,
    /// Time zones of portals, for the end of the day.
    pub zones: BTreeMap<String, Zone>,
    /// Time zone of all other portals.
    pub zone: Zone,
    /// How replicas share the limits. `None` if each replica counts alone.
    pub ledger: Option<LedgerConfig>,
}

/// Accounts of all portals.
pub struct Quota {
    settings: Settings,
    weights: Arc<BTreeMap<String, u32>>,
    clock: Arc<dyn WallClock>,
    accounts: RwLock<HashMap<Arc<str>, Arc<Account>>>,
}

// === impl BucketName ===

impl BucketName {
    /// Name in answers, metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Burst => "burst",
            Self::Search => "search",
            Self::Daily => "daily",
        }
    }
}

// === impl Caller ===

impl Caller {
    /// Maximum length of an unauthenticated name, in bytes: what a client sends is kept in memory and
    /// in metrics.
    const MAX_NAME: usize = 128;

    /// A caller by an unauthenticated name, truncated to 128 bytes.
    pub fn new(name: &str) -> Self {
        let mut end = name.len().min(Self::MAX_NAME);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self { name: name[..end].into(), weight: None }
    }

    /// An authenticated caller with its configured weight.
    pub fn authenticated(name: &str, weight: u32) -> Self {
        Self { name: name.into(), weight: Some(weight) }
    }

    /// Whether the name is authenticated.
    pub fn is_authenticated(&self) -> bool {
        self.weight.is_some()
    }

    /// Name of the caller.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

// === impl Quota ===

impl Quota {
    /// Creates accounts lazily, with the limits in `settings`.
    pub fn new(settings: Settings, clock: Arc<dyn WallClock>) -> Self {
        let weights = Arc::new(settings.weights.clone());
        Self { settings, weights, clock, accounts: RwLock::default() }
    }

    /// The account of a portal, created by the first call. Portal names come from the configuration, so
    /// their number is bounded.
    pub fn account(&self, portal: &str) -> Arc<Account> {
        if let Some(account) = self.accounts.read().get(portal) {
            return Arc::clone(account);
        }
        let mut accounts = self.accounts.write();
        let name: Arc<str> = portal.into();
        let account = accounts.entry(Arc::clone(&name)).or_insert_with(|| {
            let (weights, clock) = (Arc::clone(&self.weights), Arc::clone(&self.clock));
            Account::start(name, &self.settings, weights, clock)
        });
        Arc::clone(account)
    }

    /// Maximum number of requests queued for one bucket of one portal.
    pub fn max_queue(&self) -> usize {
        self.settings.max_queue
    }

    /// Leaves the ledger, so that the other replicas get the part of this one at once. A replica that
    /// does not leave by `deadline` is noticed by its silence.
    pub async fn leave_ledger(&self, deadline: Instant) {
        let accounts: Vec<_> = self.accounts.read().values().cloned().collect();
        let all = accounts.iter().map(|account| account.leave_ledger());
        let _ = timeout_at(deadline, join_all(all)).await;
    }

    /// Snapshots of all accounts, sorted by portal.
    pub fn snapshots(&self) -> Vec<AccountSnapshot> {
        let now = Instant::now();
        let accounts: Vec<_> = self.accounts.read().values().cloned().collect();
        let mut snapshots: Vec<_> = accounts.iter().map(|account| account.snapshot(now)).collect();
        snapshots.sort_by(|a, b| a.portal.cmp(&b.portal));
        snapshots
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota").field("settings", &self.settings).finish_non_exhaustive()
    }
}

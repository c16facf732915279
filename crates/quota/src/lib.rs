//! One quota per portal, used to its last call: who may call HubSpot now, who waits and in which
//! order, and who is told at once that it will not be in time.
//!
//! HubSpot's limits are an [`Account`] per portal. A call takes a [`Permit`] from it for each HTTP
//! call; answers and their headers go back through the permit, which is how the limits are learned.
//! Calls that can share one HubSpot call wait as members of a [`Group`]: the permit that comes next
//! takes up to a hundred of them.

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

pub use account::{Account, Place};
pub use bucket::Told;
pub use ledger::{
    Ask, Away, Grant, Heard as LimitHeard, Ledger, Limit, Report, Sharing, Stamp, TENTHS,
};
pub use permit::{Heard, Permit, Refused};
pub use view::{BucketView, CallerView, Counts, SharingView, Turns, TurnsView, View};

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

/// Who calls: what shares are given to. Taken from the authenticated identity, or what the caller
/// calls itself, or its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Caller {
    name: Arc<str>,
    /// Its shares, if it is known who it is; else they go by its name.
    shares: Option<u32>,
}

/// How much a call's wait matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Priority {
    /// Somebody waits for the answer: goes before bulk.
    #[default]
    Interactive,
    /// Nobody does: takes what is left, and a tenth in any case.
    Bulk,
}

/// On whose behalf a permit is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The caller.
    pub caller: Caller,
    /// The call's priority.
    pub priority: Priority,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Which limit stands in the way.
    pub bucket: BucketName,
    /// What about it.
    pub cause: Cause,
    /// How long until there may be one.
    pub wait: Duration,
}

/// What about a limit stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The permit would come too late for the call.
    Late,
    /// Too many calls wait already.
    Full,
    /// Nothing is left for today.
    UsedUp,
}

/// Calls that can leave together as one HubSpot call.
pub trait Group: fmt::Debug + Send + Sync {
    /// Tells it from all other groups.
    fn id(&self) -> u64;
    /// Most calls that leave together.
    fn most(&self) -> usize;
    /// With fewer than these waiting each leaves alone: together they would take as many HubSpot calls.
    fn least(&self) -> usize {
        2
    }
    /// The members leave with this permit, in this order. Must return soon.
    fn go(&self, permit: Permit, members: Vec<u64>);
    /// The member has waited in vain.
    fn refuse(&self, member: u64, refusal: Refusal);
}

/// What is assumed of HubSpot's limits until its answers tell, and how waiting is bounded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Calls in a window.
    pub burst: u64,
    /// Length of the window.
    pub burst_window: Duration,
    /// Searches in a second.
    pub search_per_second: u64,
    /// Calls in a day; `None` for no limit.
    pub daily: Option<u64>,
    /// Most calls that wait for one bucket of one portal.
    pub max_waiting: usize,
    /// Shares of callers that have more than one and are not known.
    pub shares: BTreeMap<String, u32>,
    /// Time zones of the portals, for the end of the day.
    pub zones: BTreeMap<String, Zone>,
    /// Time zone of all other portals.
    pub zone: Zone,
    /// How replicas share the limits; `None` if they do not.
    pub sharing: Option<Sharing>,
}

/// The quotas of all portals.
pub struct Quota {
    settings: Settings,
    shares: Arc<BTreeMap<String, u32>>,
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
    /// Longest name that is kept, in bytes.
    const MAX: usize = 128;

    /// A caller of this name; what is too long is cut off.
    pub fn new(name: &str) -> Self {
        let mut end = name.len().min(Self::MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self { name: name[..end].into(), shares: None }
    }

    /// A caller that has proven its name, with the shares that are its own.
    pub fn known(name: &str, shares: u32) -> Self {
        Self { name: name.into(), shares: Some(shares) }
    }

    /// Whether it has proven its name.
    pub fn is_known(&self) -> bool {
        self.shares.is_some()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

// === impl Quota ===

impl Quota {
    /// Quotas that start with what `settings` assume.
    pub fn new(settings: Settings, clock: Arc<dyn WallClock>) -> Self {
        let shares = Arc::new(settings.shares.clone());
        Self { settings, shares, clock, accounts: RwLock::default() }
    }

    /// The quota of a portal. Names were checked against those configured, so there are only so
    /// many.
    pub fn of(&self, portal: &str) -> Arc<Account> {
        if let Some(account) = self.accounts.read().get(portal) {
            return Arc::clone(account);
        }
        let mut accounts = self.accounts.write();
        let name: Arc<str> = portal.into();
        let account = accounts.entry(Arc::clone(&name)).or_insert_with(|| {
            let sharing = self.settings.sharing.clone();
            let (shares, clock) = (Arc::clone(&self.shares), Arc::clone(&self.clock));
            Account::start(name, &self.settings, shares, clock, sharing)
        });
        Arc::clone(account)
    }

    /// Most calls that wait for one thing in one portal.
    pub fn max_waiting(&self) -> usize {
        self.settings.max_waiting
    }

    /// Tells the other replicas that this one makes no more calls, so that they need not keep its part.
    pub async fn leave(&self, deadline: Instant) {
        let accounts: Vec<_> = self.accounts.read().values().cloned().collect();
        let all = accounts.iter().map(|account| account.leave());
        // Whoever is not told finds out by itself, after some time.
        let _ = timeout_at(deadline, join_all(all)).await;
    }

    /// How the portals that were called stand now, in order of their names.
    pub fn views(&self) -> Vec<View> {
        let accounts: Vec<_> = self.accounts.read().values().cloned().collect();
        let mut views: Vec<_> =
            accounts.iter().map(|account| account.view(Instant::now())).collect();
        views.sort_by(|a, b| a.portal.cmp(&b.portal));
        views
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota").field("settings", &self.settings).finish_non_exhaustive()
    }
}

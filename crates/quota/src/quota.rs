//! The accounts of all portals.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use futures_util::future::join_all;
use leadsd_base::time::WallClock;
use parking_lot::RwLock;
use tokio::time::{Instant, timeout_at};

use crate::{account::Account, driver, ledger_sync, settings::Settings, snapshot::AccountSnapshot};

/// Accounts of all portals.
pub struct Quota {
    settings: Settings,
    weights: Arc<BTreeMap<String, u32>>,
    clock: Arc<dyn WallClock>,
    accounts: RwLock<HashMap<Arc<str>, Arc<Account>>>,
}

// === impl Quota ===

impl Quota {
    /// Creates accounts lazily, with the limits in `settings`.
    pub fn new(settings: Settings, clock: Arc<dyn WallClock>) -> Self {
        let weights = Arc::new(settings.weights.clone());
        Self { settings, weights, clock, accounts: RwLock::default() }
    }

    /// The account of a portal, created by the first call. It needs a tokio runtime. Portal names come
    /// from the configuration, so their number is bounded.
    pub fn account(&self, portal: &str) -> Arc<Account> {
        if let Some(account) = self.accounts.read().get(portal) {
            return Arc::clone(account);
        }
        let mut accounts = self.accounts.write();
        let name: Arc<str> = portal.into();
        let account = accounts.entry(Arc::clone(&name)).or_insert_with(|| {
            let (weights, clock) = (Arc::clone(&self.weights), Arc::clone(&self.clock));
            let account = Arc::new(Account::new(name, &self.settings, weights, clock));
            driver::start(&account);
            account
        });
        Arc::clone(account)
    }

    /// Maximum number of requests queued for one bucket of one portal.
    pub fn max_queue(&self) -> usize {
        self.settings.max_queue
    }

    /// Leaves the ledger, so that the other replicas get the part of this one at once. If it does
    /// not leave by `deadline`, the ledger detects its silence.
    pub async fn leave_ledger(&self, deadline: Instant) {
        let accounts: Vec<_> = self.accounts.read().values().cloned().collect();
        let all = accounts.iter().map(|account| ledger_sync::leave(account));
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

//! Start-time fair queueing: the position of a caller's next request among those of all callers.
//!
//! Each request gets a tag: the tag of its caller's request before it, plus the cost of that one. The
//! smallest tag is served first. A caller with a long queue has tags far ahead; a caller with a single
//! request gets the tag that is being served now, and is next. The cost of a permit is divided by the
//! weight of the caller.
//!
//! There are two levels. Shares are divided among accounts, and the share of an account among its names.
//! A client without authentication chooses its names, but has one account: its address. The account is
//! charged when a request is served, its names when a request is queued. The request that is served next
//! is the first one of the account with the smallest tag.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use crate::requester::{AccountKey, Caller, Priority};

/// Cost of a permit for a caller of weight 1. Large, so that parts of it for members of batches and for
/// weights up to 1,000 stay exact enough.
const PERMIT_COST: u64 = 1 << 32;

/// Number of priorities.
const PRIORITIES: usize = Priority::ALL.len();

/// Maximum number of callers and of accounts remembered without a queued request. Callers name
/// themselves: with a new name for each request the map would grow without bound.
const MAX_IDLE_CALLERS: usize = 10_000;

/// Charges between two searches for callers that can be forgotten, which visit all of them.
const PRUNE_INTERVAL: u64 = 1_024;

/// Position among the requests of one account. The smallest is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueKey {
    pub(crate) priority: Priority,
    tag: u64,
    order: u64,
}

/// Position among the requests of all accounts. The smallest is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    priority: Priority,
    tag: u64,
    order: u64,
}

/// Positions of all callers.
#[derive(Debug)]
pub(crate) struct FairShares {
    weights: Arc<BTreeMap<String, u32>>,
    accounts: HashMap<AccountKey, AccountState>,
    /// Tag of the account that was served last, for each priority.
    served: [u64; PRIORITIES],
    /// Number of remembered callers.
    remembered: usize,
    /// Number of positions given out.
    orders: u64,
}

#[derive(Debug, Default)]
struct AccountState {
    /// Tag after its served requests, for each priority.
    tags: [u64; PRIORITIES],
    /// Tag of its request that was served last, or with which its queue began, for each priority.
    served: [u64; PRIORITIES],
    /// Queued requests of all its names, with their charges.
    queued: BTreeMap<QueueKey, u64>,
    names: HashMap<Caller, NameState>,
}

#[derive(Debug, Default)]
struct NameState {
    /// Tag after its newest request, for each priority.
    tags: [u64; PRIORITIES],
    queued: BTreeSet<QueueKey>,
}

/// Places of requests of one account, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places([u64; PRIORITIES]);

// === impl QueueKey ===

impl QueueKey {
    /// Smallest position of a request of this priority.
    pub(crate) fn first_of(priority: Priority) -> Self {
        Self { priority, tag: 0, order: 0 }
    }
}

// === impl Places ===

impl Places {
    /// Place of the next request, which has this charge.
    pub(crate) fn next(&mut self, key: QueueKey, charge: u64) -> Place {
        let QueueKey { priority, tag, order } = key;
        let own = &mut self.0[priority as usize];
        let tag = tag.max(*own);
        *own = tag.saturating_add(charge);
        Place { priority, tag, order }
    }
}

// === impl FairShares ===

impl FairShares {
    /// `weights` are those of unauthenticated callers by name.
    pub(crate) fn new(weights: Arc<BTreeMap<String, u32>>) -> Self {
        Self {
            weights,
            accounts: HashMap::new(),
            served: [0; PRIORITIES],
            remembered: 0,
            orders: 0,
        }
    }

    /// Weight of a caller, at least 1.
    pub(crate) fn weight(&self, caller: &Caller) -> u32 {
        let by_name = || self.weights.get(caller.as_str()).copied();
        caller.weight().or_else(by_name).unwrap_or(1).max(1)
    }

    /// Cost of a permit for a caller.
    pub(crate) fn cost(&self, caller: &Caller) -> u64 {
        PERMIT_COST / u64::from(self.weight(caller))
    }

    /// Number of queued requests of a caller.
    pub(crate) fn queued(&self, caller: &Caller) -> usize {
        let account = self.accounts.get(&caller.account());
        account.and_then(|account| account.names.get(caller)).map_or(0, |name| name.queued.len())
    }

    /// Number of queued requests of an account.
    pub(crate) fn queued_of_account(&self, account: &AccountKey) -> usize {
        self.accounts.get(account).map_or(0, |account| account.queued.len())
    }

    /// Callers with queued requests, and their number.
    pub(crate) fn queued_callers(&self) -> impl Iterator<Item = (&Caller, usize)> {
        let names = self.accounts.values().flat_map(|account| &account.names);
        names.map(|(caller, name)| (caller, name.queued.len())).filter(|(_, queued)| *queued > 0)
    }

    /// Request of this priority that is served next.
    pub(crate) fn head(&self, priority: Priority) -> Option<QueueKey> {
        let heads = self.accounts.values().filter_map(|account| {
            let (key, charge) = account.first(priority)?;
            Some((account.places().next(key, charge), key))
        });
        heads.min_by_key(|(place, _)| *place).map(|(_, key)| key)
    }

    /// Newest request of the account with the most queued requests, if these are more than `min`.
    pub(crate) fn newest_of_longest(&self, min: usize) -> Option<QueueKey> {
        let longest = self.accounts.values().max_by_key(|account| account.queued.len())?;
        let newest = longest.queued.last_key_value().map(|(key, _)| *key);
        newest.filter(|_| longest.queued.len() > min)
    }

    /// Newest request of the name with the most queued requests among those of the caller's account, if
    /// these are more than `min`.
    pub(crate) fn newest_of_longest_name(&self, caller: &Caller, min: usize) -> Option<QueueKey> {
        let account = self.accounts.get(&caller.account())?;
        let longest = account.names.values().max_by_key(|name| name.queued.len())?;
        longest.queued.last().filter(|_| longest.queued.len() > min).copied()
    }

    /// Position of the caller's next request.
    pub(crate) fn next_key(&self, caller: &Caller, priority: Priority) -> QueueKey {
        let class = priority as usize;
        let account = self.accounts.get(&caller.account());
        let own = account.and_then(|account| account.names.get(caller));
        let own = own.map_or(0, |name| name.tags[class]);
        // The names of an account with queued requests share its time; else it is that of all accounts.
        let waits = account.filter(|account| account.first(priority).is_some());
        let served = waits.map_or(self.served[class], |account| account.served[class]);
        QueueKey { priority, tag: own.max(served), order: self.orders }
    }

    /// Places of the queued requests of an account.
    pub(crate) fn places(&self, account: &AccountKey) -> Places {
        self.accounts.get(account).map_or(Places([0; PRIORITIES]), AccountState::places)
    }

    /// Place of the request at `key`, and all queued requests before it.
    pub(crate) fn before(&self, key: QueueKey, caller: &Caller) -> (Place, Vec<(Place, QueueKey)>) {
        let own = self.accounts.get(&caller.account());
        let mut places = own.map_or(Places([0; PRIORITIES]), AccountState::places);
        for (other, charge) in own.into_iter().flat_map(|account| account.queued.range(..key)) {
            places.next(*other, *charge);
        }
        let place = places.next(key, 0);
        let before = self.accounts.values().flat_map(|account| {
            let mut places = account.places();
            let queued = account.queued.iter();
            let queued = queued.map(move |(other, charge)| (places.next(*other, *charge), *other));
            queued.take_while(|(other, _)| *other < place)
        });
        (place, before.collect())
    }

    /// Charges a caller and its account for a request that takes a permit without waiting.
    pub(crate) fn serve_now(&mut self, caller: &Caller, priority: Priority) {
        let class = priority as usize;
        let (cost, served) = (self.cost(caller), self.served[class]);
        let account = self.taken(caller);
        let known = account.names.len();
        let name = account.names.entry(caller.clone()).or_default();
        let tag = name.tags[class].max(served);
        name.tags[class] = tag.saturating_add(cost);
        let tag = tag.max(account.tags[class]);
        account.tags[class] = tag.saturating_add(cost);
        let new = account.names.len() - known;
        self.remembered += new;
        self.served[class] = tag;
    }

    /// Queues a request at `key`, and charges its caller.
    pub(crate) fn enqueue(&mut self, key: QueueKey, caller: &Caller, charge: u64) {
        let class = key.priority as usize;
        let served = self.served[class];
        let account = self.taken(caller);
        if account.first(key.priority).is_none() {
            account.served[class] = served;
        }
        account.queued.insert(key, charge);
        let known = account.names.len();
        let name = account.names.entry(caller.clone()).or_default();
        name.tags[class] = key.tag.saturating_add(charge);
        name.queued.insert(key);
        let new = account.names.len() - known;
        self.remembered += new;
    }

    /// Charges the account of a queued request that is served.
    pub(crate) fn serve(&mut self, key: QueueKey, caller: &Caller) {
        let class = key.priority as usize;
        let Some(account) = self.accounts.get_mut(&caller.account()) else { return };
        let Some(charge) = account.queued.get(&key).copied() else { return };
        // A member of a batch may be served before the first request of its account.
        let first = account.first(key.priority).map_or(key, |(first, _)| first);
        let mut places = account.places();
        places.next(first, charge);
        account.tags = places.0;
        account.served[class] = first.tag.max(account.served[class]);
    }

    /// Removes a request that is served, or whose charge is to be refunded.
    pub(crate) fn dequeue(&mut self, key: QueueKey, caller: &Caller) {
        let Some(account) = self.accounts.get_mut(&caller.account()) else { return };
        account.queued.remove(&key);
        if let Some(name) = account.names.get_mut(caller) {
            name.queued.remove(&key);
        }
    }

    /// Refunds the charge of a cancelled request. The caller's next request is still ordered after
    /// its queued requests.
    pub(crate) fn refund(&mut self, key: QueueKey, caller: &Caller, charge: u64) {
        let account = self.accounts.get_mut(&caller.account());
        if let Some(name) = account.and_then(|account| account.names.get_mut(caller)) {
            let same = |other: &&QueueKey| other.priority == key.priority;
            let newest = name.queued.iter().rev().find(same).map_or(0, |newest| newest.tag);
            let tag = &mut name.tags[key.priority as usize];
            *tag = tag.saturating_sub(charge).max(newest);
        }
    }

    /// Charges a caller and its account in addition to the charge of a request that is served.
    pub(crate) fn charge_more(&mut self, caller: &Caller, priority: Priority, charge: u64) {
        let class = priority as usize;
        let Some(account) = self.accounts.get_mut(&caller.account()) else { return };
        account.tags[class] = account.tags[class].saturating_add(charge);
        if let Some(name) = account.names.get_mut(caller) {
            name.tags[class] = name.tags[class].saturating_add(charge);
        }
    }

    /// Records that requests up to the one at `key` are served.
    pub(crate) fn advance(&mut self, key: QueueKey, caller: &Caller) {
        let Place { tag, .. } = self.places(&caller.account()).next(key, 0);
        let served = &mut self.served[key.priority as usize];
        *served = tag.max(*served);
    }

    /// Forgets all callers.
    pub(crate) fn clear(&mut self) {
        self.accounts.clear();
        self.remembered = 0;
    }

    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.remembered
    }

    /// The account of a caller that takes a position.
    fn taken(&mut self, caller: &Caller) -> &mut AccountState {
        self.orders += 1;
        if self.orders.is_multiple_of(PRUNE_INTERVAL) {
            self.prune();
        }
        self.accounts.entry(caller.account()).or_default()
    }

    /// Forgets callers with nothing queued whose tags are served, and all with nothing queued if there
    /// are too many. An account is remembered longer than its names: it owes what they have used.
    fn prune(&mut self) {
        let served = self.served;
        let is_ahead =
            |tags: &[u64; PRIORITIES]| tags.iter().zip(served).any(|(tag, served)| *tag > served);
        let is_crowded = self.remembered > MAX_IDLE_CALLERS;
        let has_many_accounts = self.accounts.len() > MAX_IDLE_CALLERS;
        self.accounts.retain(|_, account| {
            account
                .names
                .retain(|_, name| !name.queued.is_empty() || (!is_crowded && is_ahead(&name.tags)));
            !account.names.is_empty() || (!has_many_accounts && is_ahead(&account.tags))
        });
        self.remembered = self.accounts.values().map(|account| account.names.len()).sum();
    }
}

// === impl AccountState ===

impl AccountState {
    /// First queued request of this priority, with its charge.
    fn first(&self, priority: Priority) -> Option<(QueueKey, u64)> {
        let from = (Bound::Included(QueueKey::first_of(priority)), Bound::Unbounded);
        let (key, charge) = self.queued.range(from).next()?;
        (key.priority == priority).then_some((*key, *charge))
    }

    fn places(&self) -> Places {
        Places(self.tags)
    }
}

#[cfg(test)]
mod tests;

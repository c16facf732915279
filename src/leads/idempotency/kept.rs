//! Results kept for repeats, bounded in bytes for each account and in total.
//!
//! One account may use what others leave free, up to half of the store. If the store is full, the
//! oldest result of the account with the most bytes is evicted. All names that a client without
//! authentication sends belong to one account.

use std::collections::{BTreeMap, HashMap};

use leadsd_quota::AccountKey;
use tokio::time::Instant;

use super::{IdempotencyEntry, IdempotencyKey, TTL};
use crate::leads::charge::MemoryCharge;

/// Maximum memory of all kept results, in bytes.
pub(super) const MAX_BYTES: usize = 32 << 20;

/// Maximum memory of the results of one account, in bytes.
pub(super) const MAX_CALLER_BYTES: usize = MAX_BYTES / 2;

/// Entries by key, and the order in which those with results expire and are evicted.
#[derive(Debug)]
pub(super) struct KeptResults<A> {
    entries: HashMap<IdempotencyKey, Slot<A>>,
    accounts: HashMap<AccountKey, AccountResults>,
    /// Times at which results expire, by number: the first to expire first.
    expiry: BTreeMap<u64, (Instant, IdempotencyKey)>,
    bytes: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Slot<A> {
    entry: IdempotencyEntry<A>,
    /// `None` while the write runs: then it neither expires nor is evicted.
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    account: AccountKey,
    number: u64,
    bytes: usize,
    /// Charged to the caller as long as the result is kept.
    _charge: MemoryCharge,
}

/// Results of one account, by number: the oldest first.
#[derive(Debug, Default)]
struct AccountResults {
    bytes: usize,
    keys: BTreeMap<u64, IdempotencyKey>,
}

// === impl KeptResults ===

impl<A> Default for KeptResults<A> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            accounts: HashMap::new(),
            expiry: BTreeMap::new(),
            bytes: 0,
            next_number: 0,
        }
    }
}

impl<A> KeptResults<A> {
    /// Entry of a key.
    pub(super) fn get(&self, key: &IdempotencyKey) -> Option<&IdempotencyEntry<A>> {
        Some(&self.entries.get(key)?.entry)
    }

    /// Sets the entry of a write that runs, in place of an earlier result.
    pub(super) fn start(&mut self, key: IdempotencyKey, entry: IdempotencyEntry<A>) {
        self.remove(&key);
        self.entries.insert(key, Slot { entry, kept: None });
    }

    /// Keeps the result of a write. Evicts results beyond a bound; a result that exceeds it alone is
    /// not kept.
    pub(super) fn keep(
        &mut self,
        (key, account): (IdempotencyKey, AccountKey),
        entry: IdempotencyEntry<A>,
        bytes: usize,
        mut charge: MemoryCharge,
    ) {
        self.remove(&key);
        if bytes > MAX_CALLER_BYTES {
            return;
        }
        charge.set(bytes);
        self.next_number += 1;
        let number = self.next_number;
        self.bytes += bytes;
        let own = self.accounts.entry(account.clone()).or_default();
        own.bytes += bytes;
        own.keys.insert(number, key.clone());
        self.expiry.insert(number, (Instant::now() + TTL, key.clone()));
        let kept = Kept { account: account.clone(), number, bytes, _charge: charge };
        self.entries.insert(key, Slot { entry, kept: Some(kept) });
        while self.accounts.get(&account).is_some_and(|own| own.bytes > MAX_CALLER_BYTES) {
            self.evict_oldest(&account);
        }
        while self.bytes > MAX_BYTES {
            self.evict_from_largest(&account);
        }
    }

    /// Removes an entry, whether its write runs or not.
    pub(super) fn remove(&mut self, key: &IdempotencyKey) {
        let Some(kept) = self.entries.remove(key).and_then(|slot| slot.kept) else { return };
        self.bytes -= kept.bytes;
        self.expiry.remove(&kept.number);
        if let Some(own) = self.accounts.get_mut(&kept.account) {
            own.bytes -= kept.bytes;
            own.keys.remove(&kept.number);
            if own.keys.is_empty() {
                self.accounts.remove(&kept.account);
            }
        }
    }

    /// Removes results whose time to live has passed.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((_, (at, key))) = self.expiry.first_key_value()
            && *at <= now
        {
            let key = key.clone();
            self.remove(&key);
        }
    }

    /// Evicts a result of `account` if it has more than an equal part, which avoids a search; else of the
    /// account with the most bytes.
    fn evict_from_largest(&mut self, account: &AccountKey) {
        let equal_part = MAX_BYTES / self.accounts.len().max(1);
        let has_more = self.accounts.get(account).is_some_and(|own| own.bytes > equal_part);
        let largest = match has_more {
            true => Some(account.clone()),
            false => {
                let largest = self.accounts.iter().max_by_key(|(_, results)| results.bytes);
                largest.map(|(account, _)| account.clone())
            }
        };
        if let Some(largest) = largest {
            self.evict_oldest(&largest);
        }
    }

    fn evict_oldest(&mut self, account: &AccountKey) {
        let results = self.accounts.get(account);
        let oldest = results.and_then(|own| own.keys.first_key_value()).map(|(_, key)| key.clone());
        if let Some(key) = oldest {
            self.remove(&key);
        }
    }

    /// Number of entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Memory of the kept results, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use leadsd_quota::Caller;
    use tokio::sync::watch;

    use super::*;
    use crate::leads::{
        MemoryAccount, PortalName, RequestId,
        idempotency::{digest::ContentDigest, write::Progress},
        testing::TestAccount,
    };

    const RESULT: usize = MAX_BYTES / 64;

    fn key(caller: &str, id: usize) -> IdempotencyKey {
        IdempotencyKey {
            caller: Caller::new(caller),
            portal: PortalName::parse("default").unwrap(),
            request_id: RequestId::parse(&id.to_string()).unwrap(),
        }
    }

    fn entry(key: &IdempotencyKey) -> IdempotencyEntry<()> {
        let content = ContentDigest::new(key, "test", &String::new());
        let (ended, progress) = (watch::channel(None).1, Progress::ended());
        IdempotencyEntry { content, ended, progress }
    }

    fn keep(results: &mut KeptResults<()>, account: &Arc<TestAccount>, key: IdempotencyKey) {
        let port: Arc<dyn MemoryAccount> = Arc::<TestAccount>::clone(account);
        let entry = entry(&key);
        let owner = key.caller.account();
        results.keep((key, owner), entry, RESULT, MemoryCharge::new(&port));
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_fills_at_most_half_and_its_oldest_results_give_way() {
        let (mut results, account) = (KeptResults::default(), TestAccount::new(0));
        for id in 0..100 {
            keep(&mut results, &account, key("greedy", id));
            assert!(results.bytes() <= MAX_CALLER_BYTES);
        }
        assert_eq!(
            (results.len(), results.expiry.len()),
            (32, 32),
            "nothing is left of the others"
        );
        assert_eq!(account.used(), results.bytes(), "the account has what is kept");
        assert!(results.get(&key("greedy", 99)).is_some());
        assert!(results.get(&key("greedy", 67)).is_none());
        drop(results);
        assert_eq!(account.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_caller_with_the_most_bytes_gives_way_to_others() {
        let (mut results, account) = (KeptResults::default(), TestAccount::new(0));
        (0..32).for_each(|id| keep(&mut results, &account, key("first", id)));
        (0..31).for_each(|id| keep(&mut results, &account, key("second", id)));
        keep(&mut results, &account, key("modest", 0));
        for id in 0..100 {
            keep(&mut results, &account, key("second", 100 + id));
            assert!(results.bytes() <= MAX_BYTES);
        }
        assert!(results.get(&key("modest", 0)).is_some(), "a modest caller keeps its result");
        assert_eq!(
            results.accounts[&Caller::new("first").account()].keys.len(),
            32,
            "and so does the first"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_has_one_share_whatever_names_it_sends() {
        let (mut results, account) = (KeptResults::default(), TestAccount::new(0));
        let port: Arc<dyn MemoryAccount> = Arc::<TestAccount>::clone(&account);
        let mut keep_at = |name: &str, id: usize, host: u8| {
            let owner = AccountKey::from_address([10, 0, 0, host].into());
            let key = key(name, id);
            let entry = entry(&key);
            results.keep((key, owner), entry, RESULT, MemoryCharge::new(&port));
        };
        (0..32).for_each(|id| keep_at("modest", id, 2));
        (0..1_000).for_each(|id| keep_at(&format!("name-{id}"), id, 1));
        assert!((0..32).all(|id| results.get(&key("modest", id)).is_some()));
        assert_eq!(results.len(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_expires_unless_it_was_replaced() {
        let (mut results, account) = (KeptResults::default(), TestAccount::new(0));
        keep(&mut results, &account, key("a", 0));
        keep(&mut results, &account, key("a", 1));
        tokio::time::advance(TTL / 2).await;
        keep(&mut results, &account, key("a", 1));
        tokio::time::advance(TTL / 2).await;
        results.expire(Instant::now());
        assert!(results.get(&key("a", 0)).is_none());
        assert!(results.get(&key("a", 1)).is_some());
        tokio::time::advance(TTL / 2).await;
        results.expire(Instant::now());
        assert_eq!((results.len(), results.bytes(), account.used()), (0, 0, 0));
        assert!(results.accounts.is_empty() && results.expiry.is_empty());
    }
}

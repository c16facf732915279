//! Accounts of callers: how much of each shared limit a caller uses.
//!
//! A caller is an authenticated identity, or else the address of its connection. A name that a client
//! chooses itself is no caller here: a client could choose many.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, Weak, atomic::AtomicUsize},
};

pub(crate) use leadsd_quota::AccountKey;
use parking_lot::Mutex;

use super::{
    limits::{CallerUse, SharedLimit},
    memory_shedding::{LARGE_MESSAGE, MemoryShedding},
};
use crate::leads::{Error, MemoryAccount};

/// Items of the memory limit in errors.
pub(super) const MEMORY_ITEMS: &str = "bytes of requests and responses";

/// Use of the shared limits by one caller. Kept while a connection or a call refers to it.
#[derive(Debug)]
pub(crate) struct CallerAccount {
    key: AccountKey,
    accounts: Weak<CallerAccounts>,
    memory_limit: Arc<SharedLimit>,
    /// Identified connections of the caller.
    pub(crate) connections: CallerUse,
    /// Identified connections from the address, of all callers.
    pub(crate) from_address: AtomicUsize,
    /// Connections of an address with a large receive window.
    pub(crate) receive_windows: CallerUse,
    /// Calls from an address whose caller is not identified.
    pub(crate) identifying: CallerUse,
    /// Calls whose request has not ended.
    pub(crate) waiting: CallerUse,
    /// Calls in flight.
    pub(crate) in_flight: CallerUse,
    /// Exports among them.
    pub(crate) exports: CallerUse,
    /// Imports among them.
    pub(crate) imports: CallerUse,
    /// Bytes charged to the calls of the caller.
    pub(crate) memory: CallerUse,
}

/// Accounts of all callers that have a connection, a call or a kept result.
#[derive(Debug)]
pub(crate) struct CallerAccounts {
    memory_limit: Arc<SharedLimit>,
    /// Load shedding by the memory of the process; unset without a limit.
    shedding: OnceLock<Arc<MemoryShedding>>,
    by_key: Mutex<HashMap<AccountKey, Weak<CallerAccount>>>,
}

// === impl CallerAccount ===

impl CallerAccount {
    /// Key of the account.
    pub(crate) fn key(&self) -> &AccountKey {
        &self.key
    }

    /// Reports whether this is the account of the identity with this name.
    pub(crate) fn is_identity(&self, name: &str) -> bool {
        match &self.key {
            AccountKey::Identity(identity) => **identity == *name,
            AccountKey::Address(_) | AccountKey::User(_) | AccountKey::Name(_) => false,
        }
    }
}

impl Drop for CallerAccount {
    fn drop(&mut self) {
        let Some(accounts) = self.accounts.upgrade() else { return };
        let mut by_key = accounts.by_key.lock();
        // The caller may have a new account by now.
        if by_key.get(&self.key).is_some_and(|account| account.strong_count() == 0) {
            by_key.remove(&self.key);
        }
    }
}

// === impl MemoryAccount ===

impl MemoryAccount for CallerAccount {
    fn check_growth(&self, before: usize, after: usize) -> Result<(), Error> {
        if after > LARGE_MESSAGE
            && let Some(accounts) = self.accounts.upgrade()
            && let Some(shedding) = accounts.shedding.get()
        {
            shedding.admit_bytes(before, after, 0)?;
        }
        self.memory_limit.check_response(after)
    }

    fn try_charge(&self, bytes: usize) -> Result<(), Error> {
        let limit = &self.memory_limit;
        limit
            .try_acquire(&self.memory, bytes)
            .map_err(|exceeded| limit.overloaded(exceeded, MEMORY_ITEMS))
    }

    fn charge(&self, bytes: usize) {
        self.memory_limit.charge(&self.memory, bytes);
    }

    fn release(&self, bytes: usize) {
        self.memory_limit.release(&self.memory, bytes);
    }

    fn shared(self: Arc<Self>) -> Arc<dyn MemoryAccount> {
        match self.accounts.upgrade() {
            Some(accounts) => accounts.shared(),
            None => self,
        }
    }
}

// === impl CallerAccounts ===

impl CallerAccounts {
    /// Creates the accounts of this limit of memory.
    pub(crate) fn new(memory_limit: Arc<SharedLimit>) -> Self {
        Self { memory_limit, shedding: OnceLock::new(), by_key: Mutex::default() }
    }

    /// Rejects large charges under memory pressure. A second call has no effect.
    pub(super) fn shed(&self, shedding: Arc<MemoryShedding>) {
        let _ = self.shedding.set(shedding);
    }

    /// Returns the account of what belongs to no caller alone: what several callers share, and what is
    /// charged before the caller is known. It has the share of one caller.
    pub(crate) fn shared(self: &Arc<Self>) -> Arc<CallerAccount> {
        self.get(AccountKey::Identity("".into()))
    }

    /// Returns the account with this key; creates it if there is none.
    pub(crate) fn get(self: &Arc<Self>, key: AccountKey) -> Arc<CallerAccount> {
        let mut by_key = self.by_key.lock();
        if let Some(account) = by_key.get(&key).and_then(Weak::upgrade) {
            return account;
        }
        let account = Arc::new(CallerAccount {
            key: key.clone(),
            accounts: Arc::downgrade(self),
            memory_limit: Arc::clone(&self.memory_limit),
            connections: CallerUse::default(),
            from_address: AtomicUsize::new(0),
            receive_windows: CallerUse::default(),
            identifying: CallerUse::default(),
            waiting: CallerUse::default(),
            in_flight: CallerUse::default(),
            exports: CallerUse::default(),
            imports: CallerUse::default(),
            memory: CallerUse::default(),
        });
        by_key.insert(key, Arc::downgrade(&account));
        account
    }
}

#[cfg(test)]
mod tests {
    use leadsd_base::memory::MemoryPressure;

    use super::{super::limits::CallerShare, *};

    fn accounts() -> Arc<CallerAccounts> {
        let limit = SharedLimit::new("memory", 1_000, CallerShare(0.5));
        Arc::new(CallerAccounts::new(Arc::new(limit)))
    }

    fn address(text: &str) -> AccountKey {
        AccountKey::from_address(text.parse().expect("an address"))
    }

    fn identity(name: &str) -> AccountKey {
        AccountKey::Identity(name.into())
    }

    #[test]
    fn addresses_of_one_host_have_one_account() {
        for (one, other, is_same) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ] {
            assert_eq!(address(one) == address(other), is_same, "{one} and {other}");
        }
        assert_ne!(identity("10.0.0.1"), address("10.0.0.1"));
    }

    #[test]
    fn an_account_exists_while_it_is_referred_to() {
        let accounts = accounts();
        let first = accounts.get(identity("crm"));
        assert!(first.is_identity("crm") && !first.is_identity("erp"));
        assert!(!accounts.get(address("10.0.0.1")).is_identity("10.0.0.1"));
        assert!(Arc::ptr_eq(&first, &accounts.get(identity("crm"))));
        assert_eq!(accounts.by_key.lock().len(), 1);
        drop(first);
        assert_eq!(accounts.by_key.lock().len(), 0);
    }

    #[test]
    fn concurrent_lookups_leave_no_account() {
        let accounts = accounts();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..10_000 {
                        drop(accounts.get(identity(if number % 3 == 0 { "crm" } else { "erp" })));
                    }
                });
            }
        });
        assert!(accounts.by_key.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn under_memory_pressure_no_charge_becomes_large_and_then_no_large_one_grows() {
        for (percent, starts, grows) in [(79, true, true), (80, false, true), (90, false, false)] {
            let memory = SharedLimit::new("memory", 1 << 20, CallerShare(0.5));
            let accounts = Arc::new(CallerAccounts::new(Arc::new(memory)));
            let (pressure, task) = MemoryPressure::watch(100 << 20, move || Some(percent << 20));
            task.detach();
            accounts.shed(Arc::new(MemoryShedding::new(pressure)));
            let crm = accounts.get(identity("crm"));
            crm.check_growth(0, LARGE_MESSAGE).unwrap();
            let started = crm.check_growth(LARGE_MESSAGE, LARGE_MESSAGE + 1);
            let grown = crm.check_growth(LARGE_MESSAGE + 1, LARGE_MESSAGE + 2);
            assert_eq!((started.is_ok(), grown.is_ok()), (starts, grows), "{percent} %");
            for error in [started, grown].into_iter().filter_map(Result::err) {
                assert_eq!(error.bucket(), Some("process_memory"));
            }
            // With or without pressure, this one never fits.
            assert!(crm.check_growth(0, 1 << 20).is_err());
        }
    }

    #[test]
    fn a_caller_is_charged_up_to_its_share_and_what_callers_share_is_charged_to_none_of_them() {
        let accounts = accounts();
        let [crm, erp] = ["crm", "erp"].map(|name| accounts.get(identity(name)));
        crm.try_charge(400).unwrap();
        let error = crm.try_charge(101).unwrap_err();
        assert!(error.message().contains("share 500"), "{}", error.message());
        erp.try_charge(100).unwrap();
        let [one, other] = [&crm, &erp].map(|account| Arc::clone(account).shared());
        one.try_charge(200).unwrap();
        other.charge(50);
        assert_eq!((crm.memory.used(), erp.memory.used()), (400, 100));
        assert_eq!(accounts.shared().memory.used(), 250);
        crm.release(400);
        one.release(250);
        assert_eq!(accounts.memory_limit.used(), 100);
    }
}

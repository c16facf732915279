//! Limits of calls, and the accounts of their callers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    caller_accounts::{AccountKey, CallerAccount, CallerAccounts},
    conn_info::ConnInfo,
    limits::{CallerShare, SharedLimit},
    memory_shedding::MemoryShedding,
};
use crate::leads::MEMORY_LIMIT;
use leadsd_quota::Caller;

/// Maximum number of calls that wait for the identification of their callers. Each may have metadata and a
/// receive window in memory.
const IDENTIFYING: usize = 1_024;

/// Part of these calls that one address may have.
const IDENTIFYING_SHARE: CallerShare = CallerShare(0.5);

/// Maximum number of exports. Each holds a page of up to 2 MiB of leads, and HubSpot's response while it is
/// decoded.
const EXPORTS: usize = 32;

/// Maximum number of imports. Each has up to [`crate::leads::import::MAX_BYTES`] of rows in memory.
const IMPORTS: usize = 32;

/// Limits of calls.
#[derive(Debug)]
pub(crate) struct CallLimits {
    pub(super) identifying: SharedLimit,
    pub(super) waiting: SharedLimit,
    pub(super) in_flight: SharedLimit,
    pub(super) exports: SharedLimit,
    pub(super) imports: SharedLimit,
    pub(super) memory: Arc<SharedLimit>,
    pub(super) shedding: Arc<MemoryShedding>,
    pub(super) accounts: Arc<CallerAccounts>,
    /// Account of bytes that are charged before the caller is known.
    pub(super) unidentified: Arc<CallerAccount>,
    messages_too_large: AtomicU64,
}

// === impl CallLimits ===

impl CallLimits {
    pub(super) fn new(in_flight: usize, memory: usize, caller_share: CallerShare) -> Self {
        let memory = Arc::new(SharedLimit::new(MEMORY_LIMIT, memory, caller_share));
        let accounts = Arc::new(CallerAccounts::new(Arc::clone(&memory)));
        Self {
            identifying: SharedLimit::new("identifying", IDENTIFYING, IDENTIFYING_SHARE),
            waiting: SharedLimit::new("waiting", in_flight, caller_share),
            in_flight: SharedLimit::new("in_flight", in_flight, caller_share),
            exports: SharedLimit::new("exports", EXPORTS, caller_share),
            imports: SharedLimit::new("imports", IMPORTS, caller_share),
            memory,
            shedding: Arc::default(),
            unidentified: accounts.shared(),
            accounts,
            messages_too_large: AtomicU64::new(0),
        }
    }

    /// Counts a message over the limit.
    pub(crate) fn on_message_too_large(&self) {
        self.messages_too_large.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of messages over the limit.
    pub(super) fn messages_too_large(&self) -> u64 {
        self.messages_too_large.load(Ordering::Relaxed)
    }

    /// Account of the caller of a call: its identity, or else the address of its connection.
    pub(super) fn account(
        &self,
        connection: &ConnInfo,
        caller: Option<&Caller>,
    ) -> Arc<CallerAccount> {
        let identity = caller.filter(|caller| caller.is_authenticated()).map(Caller::as_str);
        let Some(name) = identity else { return Arc::clone(&connection.peer_account) };
        // Most connections have one caller.
        let last = connection.last_identity.load();
        if let Some(account) = last.as_ref().filter(|account| account.is_identity(name)) {
            return Arc::clone(account);
        }
        let account = self.accounts.get(AccountKey::Identity(name.into()));
        connection.last_identity.store(Some(Arc::clone(&account)));
        account
    }
}

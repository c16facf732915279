//! Pool of connections whose caller is not known: during the handshake, and until the first call of an
//! identified caller.
//!
//! These connections cost a stranger nothing, so they take no slot of the connections limit. A new one
//! is always accepted: if the pool is full, the oldest connection of the address with the most is closed.
//! A handshake takes milliseconds, so a client that completes it is not the oldest.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{caller_accounts::AccountKey, limits::LimitSnapshot};

/// Pool of unidentified connections.
#[derive(Debug)]
pub(crate) struct UnidentifiedPool {
    max: usize,
    max_per_address: usize,
    evicted: AtomicU64,
    state: Mutex<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    /// Number of the next connection.
    next: u64,
    len: usize,
    /// Connections by address and number, oldest first. A connection is evicted when its sender is dropped.
    by_address: HashMap<AccountKey, BTreeMap<u64, oneshot::Sender<()>>>,
}

/// Place of a connection in the pool, released on drop.
#[derive(Debug)]
pub(crate) struct UnidentifiedSlot {
    pool: Arc<UnidentifiedPool>,
    address: AccountKey,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

// === impl UnidentifiedPool ===

impl UnidentifiedPool {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Self {
        Self { max, max_per_address, evicted: AtomicU64::new(0), state: Mutex::default() }
    }

    /// Number of connections in the pool.
    pub(crate) fn used(&self) -> usize {
        self.state.lock().len
    }

    /// Current snapshot. Evicted connections count as rejected.
    pub(crate) fn snapshot(&self) -> LimitSnapshot {
        let rejected = self.evicted.load(Ordering::Relaxed);
        LimitSnapshot { name: "unidentified", used: self.used(), max: self.max, rejected }
    }

    /// Adds a connection. If its address or the pool is full, another connection is evicted.
    pub(crate) fn add(self: &Arc<Self>, address: AccountKey) -> UnidentifiedSlot {
        let mut state = self.state.lock();
        let own = state.by_address.get(&address).map_or(0, BTreeMap::len);
        if own >= self.max_per_address {
            self.evicted.fetch_add(1, Ordering::Relaxed);
            state.evict_oldest(&address);
        } else if state.len >= self.max {
            let longest = state.by_address.iter().max_by_key(|(_, connections)| connections.len());
            if let Some(longest) = longest.map(|(address, _)| address.clone()) {
                self.evicted.fetch_add(1, Ordering::Relaxed);
                state.evict_oldest(&longest);
            }
        }
        let number = state.next;
        state.next += 1;
        state.len += 1;
        let (evict, evicted) = oneshot::channel();
        state.by_address.entry(address.clone()).or_default().insert(number, evict);
        drop(state);
        UnidentifiedSlot { pool: Arc::clone(self), address, number, evicted }
    }
}

// === impl PoolState ===

impl PoolState {
    fn evict_oldest(&mut self, address: &AccountKey) {
        let oldest =
            self.by_address.get(address).and_then(|numbers| numbers.keys().next().copied());
        if let Some(number) = oldest {
            self.remove(address, number);
        }
    }

    /// Removes a connection, unless it was evicted before.
    fn remove(&mut self, address: &AccountKey, number: u64) {
        let Some(connections) = self.by_address.get_mut(address) else { return };
        if connections.remove(&number).is_some() {
            self.len -= 1;
        }
        if connections.is_empty() {
            self.by_address.remove(address);
        }
    }
}

// === impl UnidentifiedSlot ===

impl UnidentifiedSlot {
    /// Waits until the connection is evicted.
    pub(crate) async fn evicted(&mut self) {
        // Nothing is sent; the sender is dropped.
        let _ = (&mut self.evicted).await;
    }
}

impl Drop for UnidentifiedSlot {
    fn drop(&mut self) {
        self.pool.state.lock().remove(&self.address, self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn address(host: u8) -> AccountKey {
        AccountKey::from_address([10, 0, 0, host].into())
    }

    fn pool(max: usize, max_per_address: usize) -> Arc<UnidentifiedPool> {
        Arc::new(UnidentifiedPool::new(max, max_per_address))
    }

    fn is_evicted(slot: &mut UnidentifiedSlot) -> bool {
        slot.evicted().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_connection_of_a_full_address_is_evicted() {
        let pool = pool(100, 3);
        let mut other = pool.add(address(2));
        let mut held: Vec<_> = (0..5).map(|_| pool.add(address(1))).collect();
        let evicted: Vec<_> = held.iter_mut().map(is_evicted).collect();
        assert_eq!(evicted, [true, true, false, false, false]);
        assert!(!is_evicted(&mut other));
        assert_eq!(pool.used(), 4);
        drop((held, other));
        assert_eq!(pool.used(), 0);
        assert!(pool.state.lock().by_address.is_empty());
    }

    #[test]
    fn a_full_pool_evicts_from_the_address_with_the_most() {
        let pool = pool(10, 9);
        let mut modest = pool.add(address(1));
        let mut greedy: Vec<_> = (0..9).map(|_| pool.add(address(2))).collect();
        let mut newcomers: Vec<_> = (3..6).map(|host| pool.add(address(host))).collect();
        let evicted: Vec<_> = greedy.iter_mut().map(is_evicted).collect();
        assert_eq!(evicted, [true, true, true, false, false, false, false, false, false]);
        assert!(!is_evicted(&mut modest) && !newcomers.iter_mut().any(is_evicted));
        assert_eq!(pool.used(), 10);
    }

    #[test]
    fn a_client_completes_its_handshake_during_a_flood_from_its_own_address() {
        let pool = pool(1_000, 500);
        let mut flood = Vec::new();
        for _ in 0..50 {
            let mut client = pool.add(address(1));
            flood.extend((0..180).map(|_| pool.add(address(1))));
            assert!(!is_evicted(&mut client));
            assert!(pool.used() <= 500);
        }
        let evicted = flood.iter_mut().filter_map(|slot| is_evicted(slot).then_some(())).count();
        assert_eq!(evicted, flood.len() - pool.used());
    }
}

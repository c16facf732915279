//! Place of a connection in the limits, from accept to close.

use std::sync::Arc;

use super::{
    caller_accounts::CallerAccount,
    connection_limits::ConnectionLimits,
    connection_stage::{ConnectionStage, StageChange},
    unidentified::UnidentifiedSlot,
};

/// Place of a connection in the limits, released on drop.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    /// Stage, shared with the calls of the connection.
    pub(crate) stage: Arc<ConnectionStage>,
    /// Account of the address.
    pub(crate) address: Arc<CallerAccount>,
    /// Place in the pool; `None` once the caller is identified.
    unidentified: Option<UnidentifiedSlot>,
}

// === impl ConnectionGuard ===

impl ConnectionGuard {
    /// Admits a new connection from this address to the pool.
    pub(crate) fn new(limits: &Arc<ConnectionLimits>, address: Arc<CallerAccount>) -> Self {
        Self {
            unidentified: Some(limits.pool().add(address.key().clone())),
            stage: Arc::new(ConnectionStage::new(Arc::clone(limits), Arc::clone(&address))),
            address,
        }
    }

    /// Waits until the connection has to make room for another one.
    pub(crate) async fn evicted(&mut self) {
        match &mut self.unidentified {
            Some(slot) => slot.evicted().await,
            None => std::future::pending().await,
        }
    }

    /// Waits for a change of the stage or for eviction, which is `None`.
    pub(crate) async fn changed(&mut self) -> Option<StageChange> {
        let stage = Arc::clone(&self.stage);
        let change = tokio::select! {
            change = stage.changed() => change,
            () = self.evicted() => return None,
        };
        if change == StageChange::Identified {
            self.unidentified = None;
        }
        Some(change)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.stage.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::grpc::transport::{
        caller_accounts::{AccountKey, CallerAccounts},
        limits::{CallerShare, SharedLimit},
    };

    fn limits(max: usize, max_per_address: usize) -> (Arc<CallerAccounts>, Arc<ConnectionLimits>) {
        let limits = ConnectionLimits::new(max, max_per_address, CallerShare(0.5));
        let memory = Arc::new(SharedLimit::new("memory", 1_000, CallerShare(0.5)));
        (Arc::new(CallerAccounts::new(memory)), Arc::new(limits))
    }

    fn address(accounts: &Arc<CallerAccounts>, host: u8) -> Arc<CallerAccount> {
        accounts.get(AccountKey::from_address([10, 0, 0, host].into()))
    }

    fn identity(accounts: &Arc<CallerAccounts>, name: &str) -> Arc<CallerAccount> {
        accounts.get(AccountKey::Identity(name.into()))
    }

    fn used(limits: &ConnectionLimits) -> [usize; 2] {
        limits.snapshots().map(|limit| limit.used)
    }

    #[tokio::test]
    async fn a_connection_leaves_the_pool_when_its_caller_is_known() {
        let (accounts, limits) = limits(10, 10);
        let mut guard = ConnectionGuard::new(&limits, address(&accounts, 1));
        assert_eq!(used(&limits), [0, 1]);
        let crm = identity(&accounts, "crm");
        guard.stage.identify(&crm).unwrap();
        assert_eq!(guard.changed().await, Some(StageChange::Identified));
        assert_eq!((used(&limits), crm.connections.used()), ([1, 0], 1));
        // The first caller holds the slot.
        guard.stage.identify(&identity(&accounts, "erp")).unwrap();
        assert_eq!(used(&limits), [1, 0]);
        let stage = Arc::clone(&guard.stage);
        drop(guard);
        // A call that ends after its connection takes no slot.
        stage.identify(&crm).unwrap();
        assert_eq!((used(&limits), crm.connections.used()), ([0, 0], 0));
    }

    #[tokio::test]
    async fn strangers_take_no_slot_of_identified_callers() {
        let (accounts, limits) = limits(10, 10);
        let mut silent: Vec<_> =
            (0..9_000).map(|_| ConnectionGuard::new(&limits, address(&accounts, 1))).collect();
        assert_eq!(used(&limits), [0, 32], "half of the pool");
        for host in 1..3 {
            let mut good = ConnectionGuard::new(&limits, address(&accounts, host));
            good.stage.identify(&address(&accounts, host)).expect("a slot");
            assert_eq!(good.changed().await, Some(StageChange::Identified));
        }
        assert_eq!(silent[0].changed().await, None, "evicted");
    }

    #[tokio::test]
    async fn too_many_cancellations_end_a_connection_whatever_its_stage() {
        let (accounts, limits) = limits(10, 10);
        let mut guard = ConnectionGuard::new(&limits, address(&accounts, 1));
        guard.stage.identify(&identity(&accounts, "crm")).unwrap();
        guard.stage.exceed_cancellations();
        assert_eq!(guard.changed().await, Some(StageChange::Cancellations));
        assert!(guard.changed().now_or_never().is_none(), "once");
    }

    #[tokio::test]
    async fn a_caller_and_an_address_have_a_share_of_the_connections() {
        let (accounts, limits) = limits(10, 3);
        let crm = identity(&accounts, "crm");
        let admit = |host: u8| ConnectionGuard::new(&limits, address(&accounts, host));
        // Two addresses of one caller.
        let mut held: Vec<_> = [1, 1, 1, 2, 2].map(admit).into();
        for guard in &held {
            guard.stage.identify(&crm).unwrap();
        }
        let mut over = admit(3);
        let error = over.stage.identify(&crm).unwrap_err();
        assert!(error.message().contains("of this caller (share 5 of the limit 10)"), "{error}");
        assert_eq!(over.changed().await, Some(StageChange::OverLimit));
        // The next call tries again.
        held.pop();
        over.stage.identify(&crm).unwrap();
        let other = identity(&accounts, "erp");
        let error = admit(1).stage.identify(&other).unwrap_err();
        assert!(error.message().contains("from this address (limit 3)"), "{error}");
        admit(4).stage.identify(&other).expect("another caller and address");
        drop((held, over));
        assert_eq!(limits.open(), 0);
        assert_eq!((crm.connections.used(), other.connections.used()), (0, 0));
    }
}

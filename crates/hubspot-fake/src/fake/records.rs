//! Records of the account between two runs.

use tokio::sync::watch;

use super::FakeHubspot;
use crate::{InvalidSnapshot, Snapshot};

// === impl FakeHubspot ===

impl FakeHubspot {
    /// Records of the account.
    pub fn snapshot(&self) -> Snapshot {
        self.account.lock().store.snapshot()
    }

    /// Replaces the records of the account. Errors without an effect if the snapshot is invalid.
    pub fn restore(&self, snapshot: Snapshot) -> Result<(), InvalidSnapshot> {
        snapshot.check()?;
        self.account.lock().store.restore(snapshot);
        Ok(())
    }

    /// Number of requests that may have changed records.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.account.lock().changes.subscribe()
    }
}

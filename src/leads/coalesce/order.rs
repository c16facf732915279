//! Writes to one lead go one after the other, in the order they came.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    sync::{Mutex as Lock, OwnedMutexGuard},
    time::timeout_at,
};

use crate::leads::{Call, Error, LeadId, PortalName, Reason};

type Key = (PortalName, Option<String>, String);
type Locks = Arc<Mutex<HashMap<Key, Arc<Lock<()>>>>>;

/// The leads that are written to.
#[derive(Debug, Default)]
pub(super) struct Order(Locks);

/// The right to write to one lead, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    locks: Locks,
    key: Key,
    lock: Option<OwnedMutexGuard<()>>,
}

// === impl Order ===

impl Order {
    /// Waits until the writes to this lead that came before are through. A lead that is named by its
    /// record id here and by a unique value there counts as two: only HubSpot knows.
    pub(super) async fn turn(
        &self,
        call: &Call,
        id: &LeadId,
        property: Option<&str>,
    ) -> Result<Turn, Error> {
        // HubSpot compares unique values without regard to case.
        let key = (call.portal.clone(), property.map(str::to_owned), id.as_str().to_lowercase());
        let lock = Arc::clone(self.0.lock().entry(key.clone()).or_default());
        let mut turn = Turn { locks: Arc::clone(&self.0), key, lock: None };
        match timeout_at(call.permit_until(), lock.lock_owned()).await {
            Ok(lock) => {
                turn.lock = Some(lock);
                Ok(turn)
            }
            Err(_) => Err(Error::new(
                Reason::DeadlineExceeded,
                "an earlier write to the same lead was not through before the deadline",
            )),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.lock = None;
        let mut locks = self.locks.lock();
        // Whoever waits for it holds it too.
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.key);
        }
    }
}

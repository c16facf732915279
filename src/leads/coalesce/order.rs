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
    /// record id here and by a unique value there counts as two: only HubSpot knows. Those two never
    /// share a batch.
    pub(super) async fn turn(
        &self,
        call: &Call,
        id: &LeadId,
        property: Option<&str>,
    ) -> Result<Turn, Error> {
        let property = property.filter(|name| *name != "hs_object_id");
        let key = (call.portal.clone(), property.map(str::to_owned), name(id, property));
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

/// What all ways to write the same id have in common: HubSpot compares unique values without regard to
/// case, and record ids are numbers.
fn name(id: &LeadId, property: Option<&str>) -> String {
    let id = id.as_str();
    let is_number = property.is_none() && id.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { id.trim_start_matches('0').to_owned() } else { id.to_lowercase() }
}

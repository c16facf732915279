//! State of the schemas of all portals: parts, call budgets, and the memory of the copies.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use leadsd_base::time::WallClock;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use super::{
    budget::{CallBudget, Purpose, Slot},
    part::{PartKey, PartState},
};
use crate::leads::PortalName;

/// Maximum number of object types per portal whose association types are kept.
const MAX_OBJECT_TYPES: usize = 24;

/// Maximum number of reads in progress, of all portals: each response is held while it is decoded.
const MAX_READS: usize = 4;

/// State that all clones share.
pub(super) struct Shared {
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) reads: Semaphore,
    portals: Mutex<HashMap<PortalName, Arc<PortalSchema>>>,
    /// Memory of all copies, in bytes.
    bytes: AtomicUsize,
    max_bytes: usize,
}

/// Schema of one portal.
#[derive(Debug, Default)]
pub(super) struct PortalSchema {
    pub(super) state: Mutex<PortalState>,
}

/// State of the schema of one portal.
#[derive(Debug, Default)]
pub(super) struct PortalState {
    pub(super) parts: HashMap<PartKey, PartState>,
    pub(super) budget: CallBudget,
    /// Memory of the parts that is counted in the total.
    counted: usize,
}

// === impl Shared ===

impl Shared {
    /// Creates the state of no portal.
    pub(super) fn new(clock: Arc<dyn WallClock>, max_bytes: usize) -> Self {
        Self {
            clock,
            reads: Semaphore::new(MAX_READS),
            portals: Mutex::default(),
            bytes: AtomicUsize::new(0),
            max_bytes,
        }
    }

    /// Memory of all copies, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The schema of a portal; `None` if no caller has asked for it yet.
    pub(super) fn get(&self, name: &PortalName) -> Option<Arc<PortalSchema>> {
        self.portals.lock().get(name).map(Arc::clone)
    }

    /// The schema of a portal, created if no caller has asked for it yet.
    pub(super) fn portal(&self, name: &PortalName) -> Arc<PortalSchema> {
        Arc::clone(self.portals.lock().entry(name.clone()).or_default())
    }

    /// Counts the memory of a portal anew, and drops copies of other portals if the total exceeds its
    /// bound.
    pub(super) fn count(&self, changed: &PortalSchema) {
        self.recount(&mut changed.state.lock());
        if self.bytes.load(Ordering::Relaxed) <= self.max_bytes {
            return;
        }
        let mut portals: Vec<_> = self.portals.lock().values().map(Arc::clone).collect();
        portals.sort_by_cached_key(|portal| portal.state.lock().asked());
        for portal in portals {
            if self.bytes.load(Ordering::Relaxed) <= self.max_bytes {
                return;
            }
            let mut state = portal.state.lock();
            state.parts.values_mut().for_each(PartState::evict);
            self.recount(&mut state);
        }
    }

    fn recount(&self, state: &mut PortalState) {
        let bytes = state.parts.values().map(PartState::bytes).sum();
        let before = std::mem::replace(&mut state.counted, bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
    }
}

// === impl PortalState ===

impl PortalState {
    /// Latest time at which a caller asked for a part.
    fn asked(&self) -> Option<Instant> {
        self.parts.values().filter_map(|part| part.asked).max()
    }

    /// Time at which HubSpot was asked for the copy of a part.
    pub(super) fn read_at(&self, key: &PartKey) -> Option<Instant> {
        self.parts.get(key)?.copy.as_ref().map(|(_, at)| *at)
    }

    /// The state of a part. Of too many object types, the one that was not asked for the longest is
    /// forgotten.
    pub(super) fn part(&mut self, key: &PartKey) -> &mut PartState {
        if !self.parts.contains_key(key) && self.parts.len() >= MAX_OBJECT_TYPES {
            let is_object_type = |key: &PartKey| matches!(key, PartKey::AssociationTypes(_));
            let others = self.parts.iter();
            let idle =
                others.filter(|(key, part)| is_object_type(key) && part.in_progress.is_none());
            let oldest = idle.min_by_key(|(_, part)| part.asked).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.parts.remove(&oldest);
            }
        }
        self.parts.entry(key.clone()).or_default()
    }
}

// === impl PortalSchema ===

impl PortalSchema {
    /// Acquires a slot for a further call of a read in progress.
    pub(super) fn acquire_further(&self, key: &PartKey) -> Option<Slot> {
        self.state.lock().budget.acquire(key, Purpose::Further, Instant::now()).ok()
    }
}

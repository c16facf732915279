//! What is found out about HubSpot, per portal: whether it sends trace ids back with the results of a
//! batch, which is not documented and without which some answers could not be told apart; and what
//! single reads call associations.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use parking_lot::Mutex;

use super::names::Names;
use crate::leads::{BatchAnswer, Error, PortalName};

const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

/// What is known of all portals.
#[derive(Debug, Default)]
pub(super) struct Portals(Mutex<HashMap<PortalName, Arc<Learned>>>);

/// What is known of one portal.
#[derive(Debug, Default)]
pub(super) struct Learned {
    pub(super) create: Echo,
    pub(super) update: Echo,
    pub(super) upsert: Echo,
    pub(super) names: Names,
}

/// Whether trace ids come back with one kind of batch.
#[derive(Debug, Default)]
pub(super) struct Echo(AtomicU8);

// === impl Portals ===

impl Portals {
    pub(super) fn of(&self, portal: &PortalName) -> Arc<Learned> {
        let mut all = self.0.lock();
        if let Some(learned) = all.get(portal) {
            return Arc::clone(learned);
        }
        Arc::clone(all.entry(portal.clone()).or_default())
    }
}

// === impl Echo ===

impl Echo {
    /// Whether they are known to come back.
    pub(super) fn is_sure(&self) -> bool {
        self.0.load(Ordering::Relaxed) == YES
    }

    /// Whether they may come back.
    pub(super) fn may_join(&self) -> bool {
        self.0.load(Ordering::Relaxed) != NO
    }

    /// Looks at an answer; one without results says nothing.
    pub(super) fn learn(&self, answer: &Result<BatchAnswer, Error>) {
        let Ok(answer) = answer else { return };
        if answer.results.is_empty() {
            return;
        }
        let all = answer.results.iter().all(|item| item.trace_id.is_some());
        // One answer without is enough: it could not be told apart.
        let known = if all && self.0.load(Ordering::Relaxed) != NO { YES } else { NO };
        self.0.store(known, Ordering::Relaxed);
    }
}

const _: () = assert!(UNKNOWN == 0, "what nothing is known of is the default");

//! What is found out about HubSpot, per portal: whether it sends trace ids back with the results of a
//! batch, which is not documented and without which some answers could not be told apart; and what
//! single reads call associations.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{missing::Missing, names::Names, tell::Shown};
use crate::leads::{BatchAnswer, Error, PortalName};

/// What was not so is looked at again after this time: HubSpot changes.
pub(super) const FORGET: Duration = Duration::from_secs(600);

/// What is known of all portals.
#[derive(Debug, Default)]
pub(super) struct Portals(Mutex<HashMap<PortalName, Arc<Learned>>>);

/// What is known of one portal.
#[derive(Debug, Default)]
pub(super) struct Learned {
    pub(super) create: Echo,
    pub(super) update: Echo,
    pub(super) upsert: Echo,
    pub(super) shown: Shown,
    pub(super) missing: Missing,
    pub(super) names: Names,
}

/// Whether trace ids come back with one kind of batch.
#[derive(Debug, Default)]
pub(super) struct Echo(Mutex<Known>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Known {
    #[default]
    Nothing,
    Yes,
    /// Since then.
    No(Instant),
}

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
    fn known(&self) -> Known {
        match *self.0.lock() {
            Known::No(since) if since.elapsed() >= FORGET => Known::Nothing,
            known => known,
        }
    }

    /// Whether they are known to come back.
    pub(super) fn is_sure(&self) -> bool {
        self.known() == Known::Yes
    }

    /// Whether they may come back.
    pub(super) fn may_be(&self) -> bool {
        !matches!(self.known(), Known::No(_))
    }

    /// Looks at an answer; one without results says nothing.
    pub(super) fn learn(&self, answer: &Result<BatchAnswer, Error>) {
        let Ok(answer) = answer else { return };
        if answer.results.is_empty() {
            return;
        }
        let all = answer.results.iter().all(|item| item.trace_id.is_some());
        let known = match self.known() {
            // One answer without is enough: it could not be told apart.
            _ if !all => Known::No(Instant::now()),
            Known::Nothing | Known::Yes => Known::Yes,
            known @ Known::No(_) => known,
        };
        *self.0.lock() = known;
    }
}

#[cfg(test)]
mod tests;

//! What the client keeps per portal: retry budget, breaker, and counts of what was sent.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;

use super::{breaker::Breaker, endpoints::Operation};
use crate::{leads::PortalName, retry::Budget};

/// How a call that was sent came back, as HubSpot's own rule for apps counts it: answers that are
/// errors must stay under 5 % of a day's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Ok,
    /// 4xx but 429: HubSpot refuses the call.
    Refused,
    /// 429.
    RateLimited,
    /// 5xx, a redirect, or a success that cannot be understood.
    Failed,
    /// No answer.
    Lost,
}

/// Calls of one operation with one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Name of the operation.
    pub operation: &'static str,
    /// How they came back.
    pub outcome: Outcome,
    /// How many.
    pub calls: u64,
}

/// What was sent for one portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// The portal.
    pub portal: PortalName,
    /// Calls by operation and outcome; those that never happened are left out.
    pub sent: Vec<Sent>,
    /// How many of them were retries.
    pub retries: u64,
    /// How often the calls were stopped because HubSpot was down.
    pub stops: u64,
    /// Whether they are stopped now.
    pub stopped: bool,
}

/// One portal.
#[derive(Debug, Default)]
pub(super) struct Portal {
    pub(super) budget: Budget,
    pub(super) breaker: Breaker,
    sent: [[AtomicU64; OUTCOMES.len()]; Operation::ALL.len()],
    pub(super) retries: AtomicU64,
    pub(super) stops: AtomicU64,
}

/// All portals that were called.
#[derive(Debug, Default)]
pub(super) struct Portals(RwLock<HashMap<PortalName, Arc<Portal>>>);

const OUTCOMES: [Outcome; 5] =
    [Outcome::Ok, Outcome::Refused, Outcome::RateLimited, Outcome::Failed, Outcome::Lost];

// === impl Outcome ===

impl Outcome {
    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

// === impl Portal ===

impl Portal {
    pub(super) fn count(&self, operation: Operation, outcome: Outcome) {
        self.sent[operation as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn traffic(&self, portal: PortalName) -> Traffic {
        let sent = Operation::ALL.into_iter().flat_map(|operation| {
            OUTCOMES.map(|outcome| Sent {
                operation: operation.name(),
                outcome,
                calls: self.sent[operation as usize][outcome as usize].load(Ordering::Relaxed),
            })
        });
        Traffic {
            portal,
            sent: sent.filter(|sent| sent.calls > 0).collect(),
            retries: self.retries.load(Ordering::Relaxed),
            stops: self.stops.load(Ordering::Relaxed),
            stopped: self.breaker.is_open(),
        }
    }
}

// === impl Portals ===

impl Portals {
    /// The portal of this name. Names were checked against those configured, so there are only so
    /// many.
    pub(super) fn of(&self, name: &PortalName) -> Arc<Portal> {
        if let Some(portal) = self.0.read().get(name) {
            return Arc::clone(portal);
        }
        Arc::clone(self.0.write().entry(name.clone()).or_default())
    }

    pub(super) fn traffic(&self) -> Vec<Traffic> {
        let portals = self.0.read();
        let mut all: Vec<_> =
            portals.iter().map(|(name, portal)| portal.traffic(name.clone())).collect();
        all.sort_by(|a, b| a.portal.cmp(&b.portal));
        all
    }
}

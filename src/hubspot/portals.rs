//! What the client keeps per portal: retry budget, breaker, and counts of what was sent.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;

use super::{breaker::Breaker, endpoints::Operation};
use crate::{leads::PortalName, retry::Budget, telemetry::histogram::Histogram};

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

/// How long HubSpot took for the calls of one operation, to the headers of its answer.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Name of the operation.
    pub operation: &'static str,
    /// How long it took.
    pub took: Histogram,
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

/// All portals that were called, and how long HubSpot took for them.
#[derive(Debug, Default)]
pub(super) struct Portals {
    all: RwLock<HashMap<PortalName, Arc<Portal>>>,
    took: [OnceLock<Histogram>; Operation::ALL.len()],
}

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
        if let Some(portal) = self.all.read().get(name) {
            return Arc::clone(portal);
        }
        Arc::clone(self.all.write().entry(name.clone()).or_default())
    }

    pub(super) fn took(&self, operation: Operation, took: Duration) {
        self.took[operation as usize].get_or_init(Histogram::default).observe(took);
    }

    /// Operations that never happened are left out.
    pub(super) fn timings(&self) -> Vec<Timing> {
        let timing = |operation: Operation| {
            let took = self.took[operation as usize].get()?.clone();
            Some(Timing { operation: operation.name(), took })
        };
        Operation::ALL.into_iter().filter_map(timing).collect()
    }

    pub(super) fn traffic(&self) -> Vec<Traffic> {
        let portals = self.all.read();
        let mut all: Vec<_> =
            portals.iter().map(|(name, portal)| portal.traffic(name.clone())).collect();
        all.sort_by(|a, b| a.portal.cmp(&b.portal));
        all
    }
}

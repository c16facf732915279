//! Bounds the log of refused calls, which clients can cause at little cost: an unauthenticated call of 17
//! bytes would write 800.
//!
//! - The first refusals of each origin are logged one by one.
//! - Further ones are counted by reason, and one summary per origin and interval is logged.
//! - An origin that is silent for an interval is forgotten.
//! - Numbers of origins, single events and summaries are bounded. Beyond them, refusals are counted for all
//!   further origins together.
//!
//! Metrics count every call.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{Level, event};

use leadsd_base::{supervise::Supervisor, task::Task};
use leadsd_quota::Caller;

/// Interval between summaries.
const INTERVAL: Duration = Duration::from_secs(10);

/// Number of refusals of one origin that are logged one by one.
const DETAILED: u32 = 5;

/// Number of refusals of all origins that are logged one by one in an interval.
const ALL_DETAILED: u32 = 50;

/// Maximum number of origins with separate counts.
const MAX_ORIGINS: usize = 1_024;

/// Maximum number of summaries of single origins in an interval.
const MAX_SUMMARIES: usize = 10;

/// Mask of the network part of an IPv6 address: a client can have a whole /64.
const IPV6_NETWORK: u128 = !0 << 64;

/// Origin of refused calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// IPv4 address, or /64 network of an IPv6 address.
    Address(IpAddr),
    /// Authenticated caller.
    Caller(Caller),
}

/// Log of refused calls.
#[derive(Debug, Clone)]
pub(crate) struct RefusalLog {
    events: RefusalEvents,
    refusals: Arc<Mutex<Refusals>>,
}

/// Events of the refusals in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalEvents {
    /// Access events of refused calls.
    Access,
    /// Audit events of refused writes.
    Audit,
}

/// Refusals since the last summary.
#[derive(Debug, Default)]
struct Refusals {
    origins: HashMap<Origin, OriginRefusals>,
    /// Refusals of further origins.
    others: ReasonCounts,
    /// Number of refusals of all origins that were logged one by one.
    detailed: u32,
}

/// Refusals of one origin.
#[derive(Debug, Default)]
struct OriginRefusals {
    /// Number of refusals that were logged one by one, since the origin is known.
    detailed: u32,
    /// True if the origin was refused in this interval.
    is_active: bool,
    /// Refusals that were not logged one by one.
    counts: ReasonCounts,
}

/// Numbers of refusals by reason.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct ReasonCounts(BTreeMap<&'static str, u64>);

/// Summary of refusals that were not logged one by one.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    /// `None` stands for further origins.
    origin: Option<Origin>,
    counts: ReasonCounts,
}

// === impl Origin ===

impl Origin {
    /// Origin of a call: its authenticated caller, else its address.
    pub(crate) fn new(caller: Option<&Caller>, peer: IpAddr) -> Self {
        match caller.filter(|caller| caller.is_authenticated()) {
            Some(caller) => Self::Caller(caller.clone()),
            None => Self::Address(match peer.to_canonical() {
                IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
                address @ IpAddr::V4(_) => address,
            }),
        }
    }
}

// === impl RefusalLog ===

impl RefusalLog {
    pub(crate) fn new(events: RefusalEvents) -> Self {
        Self { events, refusals: Arc::default() }
    }

    /// Counts a refusal. Returns true if it is logged by itself.
    pub(crate) fn admit(&self, origin: Origin, reason: &'static str) -> bool {
        let mut refusals = self.refusals.lock();
        let Refusals { origins, others, detailed } = &mut *refusals;
        if origins.len() >= MAX_ORIGINS && !origins.contains_key(&origin) {
            others.add(reason, 1);
            return false;
        }
        let refused = origins.entry(origin).or_default();
        refused.is_active = true;
        let is_detailed = refused.detailed < DETAILED && *detailed < ALL_DETAILED;
        if is_detailed {
            refused.detailed += 1;
            *detailed += 1;
        } else {
            refused.counts.add(reason, 1);
        }
        is_detailed
    }

    /// Starts the task that logs the summaries.
    pub(crate) fn start(&self) -> Task {
        let refusals = self.clone();
        Supervisor::new("refusal log", "").spawn(move || {
            let refusals = refusals.clone();
            async move {
                let mut ticks = interval(INTERVAL);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    refusals.log_summaries();
                }
            }
        })
    }

    /// Logs the refusals since the last summary.
    pub(crate) fn log_summaries(&self) {
        // Not logged under the lock.
        let summaries = self.refusals.lock().take_summaries();
        for summary in summaries {
            summary.log(self.events);
        }
    }
}

// === impl Refusals ===

impl Refusals {
    /// Ends an interval.
    fn take_summaries(&mut self) -> Vec<Summary> {
        let Self { origins, others, detailed } = self;
        *detailed = 0;
        origins.retain(|_, refused| std::mem::take(&mut refused.is_active));
        let mut summaries: Vec<Summary> = origins
            .iter_mut()
            .filter(|(_, refused)| refused.counts.total() > 0)
            .map(|(origin, refused)| Summary {
                origin: Some(origin.clone()),
                counts: std::mem::take(&mut refused.counts),
            })
            .collect();
        summaries.sort_unstable_by_key(|summary| Reverse(summary.counts.total()));
        let mut others = std::mem::take(others);
        for further in summaries.drain(MAX_SUMMARIES.min(summaries.len())..) {
            others.merge(&further.counts);
        }
        if others.total() > 0 {
            summaries.push(Summary { origin: None, counts: others });
        }
        summaries
    }
}

// === impl ReasonCounts ===

impl ReasonCounts {
    fn add(&mut self, reason: &'static str, calls: u64) {
        *self.0.entry(reason).or_default() += calls;
    }

    fn merge(&mut self, other: &Self) {
        for (reason, calls) in &other.0 {
            self.add(reason, *calls);
        }
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Formats the counts, such as `OVERLOADED=2 UNAUTHENTICATED=300`.
    fn format(&self) -> String {
        let mut text = String::new();
        for (reason, calls) in &self.0 {
            let space = if text.is_empty() { "" } else { " " };
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{space}{reason}={calls}");
        }
        text
    }
}

// === impl Summary ===

impl Summary {
    fn log(&self, events: RefusalEvents) {
        let (address, caller) = match &self.origin {
            Some(Origin::Address(address)) => (Some(address), None),
            Some(Origin::Caller(caller)) => (None, Some(caller.as_str())),
            None => (None, None),
        };
        let origin = match address {
            Some(IpAddr::V6(network)) => Some(format!("{network}/64")),
            Some(IpAddr::V4(address)) => Some(address.to_string()),
            None => None,
        };
        macro_rules! summary {
            ($target:expr) => {
                event!(
                    target: $target,
                    Level::INFO,
                    net.peer = origin,
                    caller,
                    refused.calls = self.counts.total(),
                    refused.reasons = self.counts.format(),
                    "Refused calls that are not logged one by one"
                )
            };
        }
        match events {
            RefusalEvents::Access => summary!("leadsd::access"),
            RefusalEvents::Audit => summary!("leadsd::audit"),
        }
    }
}

#[cfg(test)]
mod tests;

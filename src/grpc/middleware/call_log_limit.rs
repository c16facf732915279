//! Bounds the events that one origin writes to the log.
//!
//! Refused calls are always bounded, because clients can cause them at little cost: an unauthenticated call
//! of 17 bytes would write 800. Other calls are bounded while the log is behind, so that those of one origin
//! leave room for those of others.
//!
//! - The first calls of each origin are logged one by one.
//! - Further ones are counted by reason or code, and one summary per origin and interval is logged.
//! - An origin that is silent for an interval is forgotten.
//! - Numbers of origins, single events and summaries are bounded. Beyond them, calls are counted for all
//!   further origins together.
//!
//! Metrics count every call.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{Level, event};

use leadsd_base::{supervise::Supervisor, task::Task};
use leadsd_quota::{Caller, RemotePeer};

/// Interval between summaries.
const INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of refused calls that are logged one by one: of one origin, and of all in an interval.
const SINGLE_REFUSALS: [u32; 2] = [5, 50];

/// Maximum number of other calls that are logged one by one in an interval while the log is behind: of one
/// origin, and of all.
const SINGLE_CALLS: [u32; 2] = [100, 1_000];

/// Maximum number of origins with separate counts.
const MAX_ORIGINS: usize = 1_024;

/// Maximum number of summaries of single origins in an interval.
const MAX_SUMMARIES: usize = 10;

/// Origin of calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// IPv4 address, or /64 network of an IPv6 address.
    Address(IpAddr),
    /// User id of a process at a Unix socket.
    User(u32),
    /// Authenticated caller.
    Caller(Caller),
}

/// Limit of the events of calls.
#[derive(Debug, Clone)]
pub(crate) struct CallLogLimit {
    events: LimitedEvents,
    calls: Arc<Mutex<CountedCalls>>,
}

/// Events that are limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitedEvents {
    /// Access events of refused calls.
    RefusedCalls,
    /// Audit events of refused writes.
    RefusedWrites,
    /// Access events of other calls while the log is behind.
    Calls,
}

/// Calls since the last summary.
#[derive(Debug, Default)]
struct CountedCalls {
    origins: HashMap<Origin, OriginCalls>,
    /// Calls of further origins.
    others: ReasonCounts,
    /// Number of calls of all origins that were logged one by one.
    single: u32,
}

/// Calls of one origin.
#[derive(Debug, Default)]
struct OriginCalls {
    /// Number of calls that were logged one by one.
    single: u32,
    /// True if the origin had a call in this interval.
    is_active: bool,
    /// Calls that were not logged one by one.
    counts: ReasonCounts,
}

/// Numbers of calls by reason or code.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct ReasonCounts(BTreeMap<&'static str, u64>);

/// Summary of calls that were not logged one by one.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    /// `None` stands for further origins.
    origin: Option<Origin>,
    counts: ReasonCounts,
}

// === impl Origin ===

impl Origin {
    /// Origin of a call: its authenticated caller, else its peer.
    pub(crate) fn new(caller: Option<&Caller>, peer: RemotePeer) -> Self {
        match (caller.filter(|caller| caller.is_authenticated()), peer.network()) {
            (Some(caller), _) => Self::Caller(caller.clone()),
            (None, RemotePeer::Address(network)) => Self::Address(network),
            (None, RemotePeer::User(uid)) => Self::User(uid),
        }
    }
}

// === impl LimitedEvents ===

impl LimitedEvents {
    /// Maximum number of single events of one origin, and of all origins in an interval.
    fn max_single(self) -> [u32; 2] {
        match self {
            Self::RefusedCalls | Self::RefusedWrites => SINGLE_REFUSALS,
            Self::Calls => SINGLE_CALLS,
        }
    }

    /// True if an origin has single events in each interval, and not only in its first one.
    fn is_per_interval(self) -> bool {
        match self {
            Self::RefusedCalls | Self::RefusedWrites => false,
            Self::Calls => true,
        }
    }
}

// === impl CallLogLimit ===

impl CallLogLimit {
    pub(crate) fn new(events: LimitedEvents) -> Self {
        Self { events, calls: Arc::default() }
    }

    /// Counts a call with this reason or code. Returns true if it is logged by itself.
    pub(crate) fn admit(&self, origin: Origin, reason: &'static str) -> bool {
        let [max_single, max_all] = self.events.max_single();
        let mut calls = self.calls.lock();
        let CountedCalls { origins, others, single } = &mut *calls;
        if origins.len() >= MAX_ORIGINS && !origins.contains_key(&origin) {
            others.add(reason, 1);
            return false;
        }
        let of_origin = origins.entry(origin).or_default();
        of_origin.is_active = true;
        let is_single = of_origin.single < max_single && *single < max_all;
        if is_single {
            of_origin.single += 1;
            *single += 1;
        } else {
            of_origin.counts.add(reason, 1);
        }
        is_single
    }

    /// Starts the task that logs the summaries.
    pub(crate) fn start(&self) -> Task {
        let limit = self.clone();
        Supervisor::new("call log limit", "").spawn(move || {
            let limit = limit.clone();
            async move {
                let mut ticks = interval(INTERVAL);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    limit.log_summaries();
                }
            }
        })
    }

    /// Logs the calls since the last summary.
    pub(crate) fn log_summaries(&self) {
        // Not logged under the lock.
        for summary in self.take_summaries() {
            summary.log(self.events);
        }
    }

    /// Ends an interval.
    fn take_summaries(&self) -> Vec<Summary> {
        let mut calls = self.calls.lock();
        let CountedCalls { origins, others, single } = &mut *calls;
        *single = 0;
        origins.retain(|_, of_origin| std::mem::take(&mut of_origin.is_active));
        if self.events.is_per_interval() {
            origins.values_mut().for_each(|of_origin| of_origin.single = 0);
        }
        let mut summaries: Vec<Summary> = origins
            .iter_mut()
            .filter(|(_, of_origin)| of_origin.counts.total() > 0)
            .map(|(origin, of_origin)| Summary {
                origin: Some(origin.clone()),
                counts: std::mem::take(&mut of_origin.counts),
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
    fn log(&self, events: LimitedEvents) {
        let (origin, caller) = match &self.origin {
            Some(Origin::Address(IpAddr::V6(network))) => (Some(format!("{network}/64")), None),
            Some(Origin::Address(IpAddr::V4(address))) => (Some(address.to_string()), None),
            Some(Origin::User(uid)) => (Some(RemotePeer::User(*uid).to_string()), None),
            Some(Origin::Caller(caller)) => (None, Some(caller.as_str())),
            None => (None, None),
        };
        macro_rules! refused {
            ($target:expr) => {
                event!(
                    target: $target,
                    Level::INFO,
                    net.peer = origin,
                    caller,
                    refused.calls = self.counts.total(),
                    refused.reasons = self.counts.format(),
                    "Refused calls that were not logged one by one"
                )
            };
        }
        match events {
            LimitedEvents::RefusedCalls => refused!("leadsd::access"),
            LimitedEvents::RefusedWrites => refused!("leadsd::audit"),
            LimitedEvents::Calls => event!(
                target: "leadsd::access",
                Level::INFO,
                net.peer = origin,
                caller,
                unlogged.calls = self.counts.total(),
                unlogged.codes = self.counts.format(),
                "Finished calls that were not logged one by one while the log was behind"
            ),
        }
    }
}

#[cfg(test)]
mod tests;

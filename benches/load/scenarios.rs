//! One module per scenario.

mod batching;
mod fairness;
mod footprint;
mod greed;
mod growth;
mod latency;
mod limit_changes;
mod overhead;
mod peers;
mod rejection;
mod replicas;
mod single_caller;

use clap::ValueEnum;

use crate::{
    Plan,
    figures::{self, Figures, count},
    load::CallRecord,
};

/// Scenario that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Leads per second of 500 callers whose single calls are batched.
    Batching,
    /// Latency of a single caller with and without batching.
    SingleCaller,
    /// Use of HubSpot's limits while they change.
    LimitChanges,
    /// Time until a call that cannot meet its deadline is rejected.
    Rejection,
    /// Latency of an occasional caller beside a busy one.
    Fairness,
    /// A greedy caller beside a modest one, in each resource of a replica.
    Greed,
    /// Use of one quota by replicas on one Redis. Needs `redis-server`.
    Replicas,
    /// Latency that the service and the bare forwarders add.
    Latency,
    /// CPU time per call of the service and of the bare forwarders.
    Overhead,
    /// CPU time per call with 5,000 callers and with 100.
    Growth,
    /// Memory, time to start, size of the binary.
    Footprint,
    /// Thin wrappers in other languages; `benches/peers/run` builds and passes them.
    Peers,
}

// === impl Scenario ===

impl Scenario {
    /// Scenarios of the short form.
    pub(crate) const SMOKE: [Self; 4] =
        [Self::Batching, Self::SingleCaller, Self::Rejection, Self::Greed];

    /// Scenarios that run if none is named.
    pub(crate) const DEFAULT: [Self; 11] = [
        Self::Batching,
        Self::SingleCaller,
        Self::LimitChanges,
        Self::Rejection,
        Self::Fairness,
        Self::Greed,
        Self::Replicas,
        Self::Latency,
        Self::Overhead,
        Self::Growth,
        Self::Footprint,
    ];

    /// True if the load is pinned to a core, so that the measured process has another for itself.
    pub(crate) fn is_pinned(self) -> bool {
        match self {
            Self::Overhead | Self::Growth | Self::Peers => true,
            Self::Batching
            | Self::SingleCaller
            | Self::LimitChanges
            | Self::Rejection
            | Self::Fairness
            | Self::Greed
            | Self::Replicas
            | Self::Latency
            | Self::Footprint => false,
        }
    }

    pub(crate) async fn run(self, plan: &Plan, figures: &mut Figures) {
        figures.begin(self.name());
        match self {
            Self::Batching => batching::run(plan, figures).await,
            Self::SingleCaller => single_caller::run(plan, figures).await,
            Self::LimitChanges => limit_changes::run(figures).await,
            Self::Rejection => rejection::run(plan, figures).await,
            Self::Fairness => fairness::run(plan, figures).await,
            Self::Greed => greed::run(plan, figures).await,
            Self::Replicas => replicas::run(plan, figures).await,
            Self::Latency => latency::run(plan, figures).await,
            Self::Overhead => overhead::run(plan, figures).await,
            Self::Growth => growth::run(plan, figures).await,
            Self::Footprint => footprint::run(figures).await,
            Self::Peers => peers::run(plan, figures).await,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Batching => "batching",
            Self::SingleCaller => "single-caller",
            Self::LimitChanges => "limit-changes",
            Self::Rejection => "rejection",
            Self::Fairness => "fairness",
            Self::Greed => "greed",
            Self::Replicas => "replicas",
            Self::Latency => "latency",
            Self::Overhead => "overhead",
            Self::Growth => "growth",
            Self::Footprint => "footprint",
            Self::Peers => "peers",
        }
    }
}

/// Counts failed calls and prints the first failure.
fn count_failures<'a>(records: impl IntoIterator<Item = &'a CallRecord>) -> f64 {
    let failures: Vec<_> =
        records.into_iter().filter_map(|record| record.failure.as_ref()).collect();
    if let Some((code, message)) = failures.first() {
        figures::print(&format!("  first failure: {code:?} {message}"));
    }
    count(failures.len())
}

//! One module per promise.

mod fairness;
mod footprint;
mod group_commit;
mod limits;
mod lone;
mod overhead;
mod refusal;
mod replicas;

use clap::ValueEnum;

use crate::{Plan, callers::Made, figures::Figures};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 500 callers of single calls use nearly all leads that the limit allows.
    GroupCommit,
    /// Whoever calls alone is not slower for it.
    Lone,
    /// Limits that change are used and obeyed within one window.
    Limits,
    /// A call that would be late is refused at once.
    Refusal,
    /// A caller in bulk costs others little.
    Fairness,
    /// Replicas on one Redis use what one would, be it there or not. Needs `redis-server`.
    Replicas,
    /// What the service costs over a bare forwarder, and over no service.
    Overhead,
    /// Memory, time to start, size.
    Footprint,
}

// === impl Scenario ===

impl Scenario {
    /// Those that every change is checked with.
    pub(crate) const SMOKE: [Self; 3] = [Self::GroupCommit, Self::Lone, Self::Refusal];

    pub(crate) async fn run(self, plan: Plan, figures: &mut Figures) {
        figures.begin(self.name());
        match self {
            Self::GroupCommit => group_commit::run(plan, figures).await,
            Self::Lone => lone::run(plan, figures).await,
            Self::Limits => limits::run(figures).await,
            Self::Refusal => refusal::run(plan, figures).await,
            Self::Fairness => fairness::run(plan, figures).await,
            Self::Replicas => replicas::run(plan, figures).await,
            Self::Overhead => overhead::run(plan, figures).await,
            Self::Footprint => footprint::run(figures).await,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::GroupCommit => "group-commit",
            Self::Lone => "lone",
            Self::Limits => "limits",
            Self::Refusal => "refusal",
            Self::Fairness => "fairness",
            Self::Replicas => "replicas",
            Self::Overhead => "overhead",
            Self::Footprint => "footprint",
        }
    }
}

/// How many calls failed; says why the first one did.
fn failures<'a>(made: impl IntoIterator<Item = &'a Made>) -> f64 {
    let failed: Vec<_> = made.into_iter().filter_map(|made| made.failed.as_ref()).collect();
    if let Some((code, message)) = failed.first() {
        crate::figures::say(&format!("  the first failure: {code:?} {message}"));
    }
    count(failed.len())
}

/// As a figure.
#[expect(clippy::cast_precision_loss, reason = "no count comes near 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

/// As a figure.
#[expect(clippy::cast_precision_loss, reason = "no count comes near 2^52")]
fn total(number: u64) -> f64 {
    number as f64
}

//! What a replica uses and holds, by its metrics.

use leadsd_testkit::metrics_page;

use crate::world::Replica;

/// Memory that one round may need and another not: of the allocator, and of kept results.
const MEMORY_GROWTH: f64 = 48.0 * 1024.0 * 1024.0;

/// Files and connections that may be open in one round and not in another.
const FILES_GROWTH: f64 = 32.0;

/// Tasks that may run in one round and not in another: those of calls and connections.
const TASKS_GROWTH: f64 = 64.0;

/// Metrics of what is held for calls: RPCs, slots, memory without kept results, queue positions.
const HELD: [&str; 3] = [
    "leadsd_grpc_in_flight{",
    "leadsd_admission_used{limit=\"in_flight\"",
    "leadsd_quota_waiting{",
];

/// What one replica uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    memory: f64,
    files: f64,
    tasks: f64,
}

// === impl Usage ===

impl Usage {
    /// `None` if the replica does not respond.
    pub(super) async fn read(replica: &Replica) -> Option<Self> {
        let page = metrics_page(&replica.admin).await?;
        let memory = sum(&page, "process_resident_memory_bytes");
        let (files, tasks) = (sum(&page, "process_open_fds"), sum(&page, "leadsd_tasks"));
        Some(Self { memory, files, tasks })
    }

    /// True if the use since `before` may be that of other calls.
    pub(super) fn is_flat(&self, before: &Self) -> bool {
        assert!(before.memory > 0.0 && before.files > 0.0 && before.tasks > 0.0, "{before:?}");
        self.memory <= before.memory + MEMORY_GROWTH
            && self.files <= before.files + FILES_GROWTH
            && self.tasks <= before.tasks + TASKS_GROWTH
    }
}

/// Number of calls, slots and queue positions that are in use. `None` if the replica does not respond.
pub(super) async fn held(replica: &Replica) -> Option<f64> {
    let page = metrics_page(&replica.admin).await?;
    Some(HELD.iter().map(|metric| sum(&page, metric)).sum())
}

/// Sum of the values of a metric.
fn sum(page: &str, metric: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(metric));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

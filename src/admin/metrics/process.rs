//! Metrics of the process, its log and its spans.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};
use tokio::runtime::Handle;

use super::{
    metric::{Metric, SampleWriter, count, counter, gauge},
    usage::ProcessUsage,
};
use crate::telemetry::{
    LogTarget,
    spans::{SpanCounts, SpanSink},
};
use leadsd_base::time::Timestamp;

const SPANS: Metric = counter(
    "leadsd_trace_spans",
    &["outcome"],
    "Spans of sampled traces: sent, dropped (the queue was full) or failed (the collector rejected them or was unavailable); absent without a collector",
);
const LOG_LINES_DROPPED: Metric = counter(
    "leadsd_log_lines_dropped",
    &["target"],
    "Log lines dropped because standard error was blocked or failing and the buffer was full: access, audit or other",
);
const BUILD_INFO: Metric =
    gauge("leadsd_build_info", &["version"], "1; the label is the version of leadsd");
const START_TIME: Metric = gauge(
    "process_start_time_seconds",
    &[],
    "Start time of the process in seconds since the Unix epoch",
);
const CPU_SECONDS: Metric =
    counter("process_cpu_seconds", &[], "User and system CPU time of the process");
const RESIDENT_MEMORY: Metric =
    gauge("process_resident_memory_bytes", &[], "Resident memory; Linux only");
const OPEN_FDS: Metric =
    gauge("process_open_fds", &[], "Open file descriptors, one for each connection; Linux only");
const MAX_FDS: Metric =
    gauge("process_max_fds", &[], "Maximum number of open file descriptors; Linux only");
const TASKS: Metric = gauge(
    "leadsd_tasks",
    &[],
    "Tasks of the asynchronous runtime: of the service, of each connection and of each write in progress",
);

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] = &[
    SPANS,
    LOG_LINES_DROPPED,
    BUILD_INFO,
    START_TIME,
    CPU_SECONDS,
    RESIDENT_MEMORY,
    OPEN_FDS,
    MAX_FDS,
    TASKS,
];

#[derive(Debug)]
struct ProcessCollector {
    started: Timestamp,
    spans: SpanSink,
}

pub(super) fn register(registry: &mut Registry, started: Timestamp, spans: &SpanSink) {
    registry.register_collector(Box::new(ProcessCollector { started, spans: spans.clone() }));
}

// === impl ProcessCollector ===

impl Collector for ProcessCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = SampleWriter(encoder);
        if let Some(SpanCounts { sent, dropped, failed }) = self.spans.counts() {
            let counts = [("sent", sent), ("dropped", dropped), ("failed", failed)];
            writer.samples(SPANS, counts.map(|(outcome, spans)| ([outcome], count(spans))))?;
        }
        let lost = LogTarget::ALL.map(|target| ([target.as_str()], count(target.lost())));
        writer.samples(LOG_LINES_DROPPED, lost)?;
        writer.samples(BUILD_INFO, [([env!("CARGO_PKG_VERSION")], 1.0)])?;
        writer.sample(START_TIME, Some(self.started.as_duration().as_secs_f64()))?;
        let ProcessUsage { cpu_seconds, resident_bytes, open_fds, max_fds } = ProcessUsage::now();
        writer.sample(CPU_SECONDS, cpu_seconds)?;
        writer.sample(RESIDENT_MEMORY, resident_bytes.map(count))?;
        writer.sample(OPEN_FDS, open_fds.map(count))?;
        writer.sample(MAX_FDS, max_fds.map(count))?;
        let tasks = Handle::try_current().ok().map(|runtime| runtime.metrics().num_alive_tasks());
        writer.sample(TASKS, tasks.map(|tasks| count(tasks as u64)))
    }
}

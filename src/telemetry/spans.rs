//! Finished spans of sampled traces, on their way to a trace collector.
//!
//! Batching, the export thread and the protocol are OpenTelemetry's. This file bounds what waits, so
//! that a span is dropped and counted at once instead of delaying a call, and counts what is exported.

use std::{
    borrow::Cow,
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use opentelemetry::{
    InstrumentationScope, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, Status, TraceState},
};
pub use opentelemetry::{KeyValue, trace::SpanKind};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks,
        SpanProcessor as _,
    },
};
use tokio::{task::spawn_blocking, time::Instant};
use tracing::{info, warn};

use super::trace_context::{TraceContext, is_traced};
use leadsd_base::time::{SystemClock, WallClock as _};

/// Maximum number of spans that wait for the collector. A call has two or three; one takes less than
/// 1 KiB.
const MAX_QUEUE: usize = 4_096;

/// Maximum number of spans of one export.
const MAX_BATCH: usize = 512;

/// How long a span waits for others to be exported with.
const BATCH_DELAY: Duration = Duration::from_millis(500);

/// A finished operation.
#[derive(Debug, Clone)]
pub struct FinishedSpan {
    /// Name of the operation: the same for all calls of a method.
    pub name: Cow<'static, str>,
    /// Whether it is an incoming or an outgoing request.
    pub kind: SpanKind,
    /// Its identity.
    pub context: TraceContext,
    /// The span that caused it. None if it is the first of its trace.
    pub parent: Option<TraceContext>,
    /// Its duration; it ended just now.
    pub took: Duration,
    /// Facts about it, with the names of [`super::names`].
    pub attributes: Vec<KeyValue>,
    /// Description of the failure. None if it succeeded.
    pub error: Option<String>,
}

/// Accepts finished spans for export; discards them if there is no collector.
#[derive(Debug, Clone, Default)]
pub struct SpanSink(Option<Arc<Pipeline>>);

/// Number of spans by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// Accepted by the collector.
    pub sent: u64,
    /// Not queued, because the queue was full.
    pub dropped: u64,
    /// Not accepted by the collector.
    pub failed: u64,
}

#[derive(Debug)]
struct Pipeline {
    processor: BatchSpanProcessor,
    sample_ratio: f64,
    counters: Arc<Counters>,
    scope: InstrumentationScope,
}

#[derive(Debug, Default)]
struct Counters {
    /// Spans in the queue of the processor.
    queued: AtomicUsize,
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// Counts what another exporter exports, and logs when it begins to fail and when it recovers.
#[derive(Debug)]
struct CountingExporter<E> {
    exporter: E,
    counters: Arc<Counters>,
    is_failing: AtomicBool,
}

// === impl SpanSink ===

impl SpanSink {
    /// Starts the export of spans; `sample_ratio` of the traces that start here are sampled.
    pub(super) fn start(
        exporter: impl SpanExporter + 'static,
        resource: &Resource,
        sample_ratio: f64,
    ) -> Self {
        let counters = Arc::<Counters>::default();
        let mut exporter = CountingExporter {
            exporter,
            counters: Arc::clone(&counters),
            is_failing: AtomicBool::new(false),
        };
        exporter.set_resource(resource);
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_QUEUE)
            .with_max_export_batch_size(MAX_BATCH)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let processor = BatchSpanProcessor::new(exporter, config);
        Self(Some(Arc::new(Pipeline { processor, sample_ratio, counters, scope })))
    }

    /// A new trace for a request without a caller's span. HubSpot gets it if spans are exported, or
    /// if the request has a `traceparent` that is malformed.
    pub fn root(&self, headers: &HeaderMap) -> TraceContext {
        let root = TraceContext::root(self.0.as_ref().map_or(0.0, |sink| sink.sample_ratio));
        if self.0.is_some() || is_traced(headers) { root.propagated() } else { root }
    }

    /// Whether a span of this trace is exported.
    pub fn is_recording(&self, context: &TraceContext) -> bool {
        context.is_sampled() && self.0.is_some()
    }

    /// Queues a span that has just ended.
    pub fn finish(&self, span: FinishedSpan) {
        let Some(Pipeline { processor, counters, scope, .. }) = self.0.as_deref() else { return };
        // The processor drops spans as well, but tells their number only at its end.
        if counters.queued.fetch_add(1, Ordering::Relaxed) >= MAX_QUEUE {
            counters.queued.fetch_sub(1, Ordering::Relaxed);
            counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        processor.on_end(span.into_data(scope.clone()));
    }

    /// Number of spans by outcome. None if there is no collector.
    pub fn counts(&self) -> Option<SpanCounts> {
        let Counters { queued: _, sent, dropped, failed } = &*self.0.as_ref()?.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(SpanCounts { sent: count(sent), dropped: count(dropped), failed: count(failed) })
    }

    /// Exports the spans in the queue until `deadline`, and ends the export.
    pub async fn shut_down(&self, deadline: Instant) {
        let Some(pipeline) = self.0.clone() else { return };
        let timeout = deadline.saturating_duration_since(Instant::now());
        let work = move || pipeline.processor.shutdown_with_timeout(timeout);
        if !matches!(spawn_blocking(work).await, Ok(Ok(()))) {
            warn!("Lost spans that the collector did not accept before the shutdown deadline");
        }
    }
}

// === impl FinishedSpan ===

impl FinishedSpan {
    fn into_data(self, instrumentation_scope: InstrumentationScope) -> SpanData {
        let Self { name, kind, context, parent, took, attributes, error } = self;
        let since_epoch = Duration::try_from(SystemClock.now().as_duration());
        let end_time = SystemTime::UNIX_EPOCH + since_epoch.unwrap_or_default();
        let parent_span_id = parent.as_ref().map(|parent| SpanId::from_bytes(parent.span_bytes()));
        // The specification allows to drop a malformed one.
        let state = context.state().and_then(|state| TraceState::from_str(state).ok());
        SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(context.trace_bytes()),
                SpanId::from_bytes(context.span_bytes()),
                TraceFlags::SAMPLED,
                false,
                state.unwrap_or_default(),
            ),
            parent_span_id: parent_span_id.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: parent.is_some() && kind == SpanKind::Server,
            span_kind: kind,
            name,
            start_time: end_time - took,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope,
        }
    }
}

// === impl CountingExporter ===

impl<E: SpanExporter> SpanExporter for CountingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let Counters { queued, sent, dropped: _, failed } = &*self.counters;
        let spans = batch.len();
        queued.fetch_sub(spans, Ordering::Relaxed);
        let result = self.exporter.export(batch).await;
        let counter = if result.is_ok() { sent } else { failed };
        counter.fetch_add(u64::try_from(spans).unwrap_or(u64::MAX), Ordering::Relaxed);
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Ok(()) if was_failing => info!("Trace collector accepts spans again"),
            Err(error) if !was_failing => warn!(%error, "Trace collector does not accept spans"),
            Ok(()) | Err(_) => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests;

//! Export of finished spans of sampled traces to a trace collector.
//!
//! Batching, export thread and protocol are OpenTelemetry's. This file bounds the queue, so that a span is
//! dropped instead of delaying a call, and counts exported and dropped spans.

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

/// Maximum number of queued spans. A call has two or three spans of less than 1 KiB.
const MAX_QUEUE: usize = 4_096;

/// Maximum number of spans per export.
const MAX_BATCH: usize = 512;

/// Maximum delay of a span for batching.
const BATCH_DELAY: Duration = Duration::from_millis(500);

/// Finished span.
#[derive(Debug, Clone)]
pub struct FinishedSpan {
    /// Name of the operation, the same for all calls of a method.
    pub name: Cow<'static, str>,
    /// Kind: incoming or outgoing request.
    pub kind: SpanKind,
    /// Trace context of the span.
    pub context: TraceContext,
    /// Parent span; `None` if this is the root of its trace.
    pub parent: Option<TraceContext>,
    /// Duration; the end is the time of [`SpanSink::finish`].
    pub took: Duration,
    /// Attributes, with names from [`super::names`].
    pub attributes: Vec<KeyValue>,
    /// Error description; `None` on success.
    pub error: Option<String>,
}

/// Sink of finished spans; discards them if no collector is configured.
#[derive(Debug, Clone, Default)]
pub struct SpanSink(Option<Arc<SpanExport>>);

/// Number of spans by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// Accepted by the collector.
    pub sent: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Rejected by the collector or not delivered.
    pub failed: u64,
}

/// Running span export.
#[derive(Debug)]
struct SpanExport {
    processor: BatchSpanProcessor,
    sample_ratio: f64,
    counters: Arc<SpanCounters>,
    scope: InstrumentationScope,
}

/// Counters of spans.
#[derive(Debug, Default)]
struct SpanCounters {
    /// Spans in the queue of the processor.
    queued: AtomicUsize,
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// Exporter that counts the spans of an inner exporter, and logs failure and recovery.
#[derive(Debug)]
struct CountingExporter<E> {
    exporter: E,
    counters: Arc<SpanCounters>,
    is_failing: AtomicBool,
}

// === impl SpanSink ===

impl SpanSink {
    /// Starts the span export; `sample_ratio` is the fraction of new traces that is sampled.
    pub(super) fn start(
        exporter: impl SpanExporter + 'static,
        resource: &Resource,
        sample_ratio: f64,
    ) -> Self {
        let counters = Arc::<SpanCounters>::default();
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
        Self(Some(Arc::new(SpanExport { processor, sample_ratio, counters, scope })))
    }

    /// Starts a trace for a request without a valid `traceparent`. It is propagated to HubSpot if spans are
    /// exported or the request has a malformed `traceparent`.
    pub fn root(&self, headers: &HeaderMap) -> TraceContext {
        let root = TraceContext::root(self.0.as_ref().map_or(0.0, |sink| sink.sample_ratio));
        if self.0.is_some() || is_traced(headers) { root.propagated() } else { root }
    }

    /// Reports whether spans of this trace are exported.
    pub fn is_recording(&self, context: &TraceContext) -> bool {
        context.is_sampled() && self.0.is_some()
    }

    /// Queues a span that ends now.
    pub fn finish(&self, span: FinishedSpan) {
        let Some(SpanExport { processor, counters, scope, .. }) = self.0.as_deref() else { return };
        // The processor drops spans as well, but reports their number only at shutdown.
        if counters.queued.fetch_add(1, Ordering::Relaxed) >= MAX_QUEUE {
            counters.queued.fetch_sub(1, Ordering::Relaxed);
            counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        processor.on_end(span.into_data(scope.clone()));
    }

    /// Number of spans by outcome; `None` if no collector is configured.
    pub fn counts(&self) -> Option<SpanCounts> {
        let SpanCounters { queued: _, sent, dropped, failed } = &*self.0.as_ref()?.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(SpanCounts { sent: count(sent), dropped: count(dropped), failed: count(failed) })
    }

    /// Exports the queued spans until `deadline`, and stops the export.
    pub async fn shut_down(&self, deadline: Instant) {
        let Some(export) = self.0.clone() else { return };
        let timeout = deadline.saturating_duration_since(Instant::now());
        let work = move || export.processor.shutdown_with_timeout(timeout);
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
        // A malformed `tracestate` is dropped, which the specification allows.
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
        let SpanCounters { queued, sent, dropped: _, failed } = &*self.counters;
        let spans = batch.len();
        queued.fetch_sub(spans, Ordering::Relaxed);
        let result = self.exporter.export(batch).await;
        let counter = if result.is_ok() { sent } else { failed };
        counter.fetch_add(u64::try_from(spans).unwrap_or(u64::MAX), Ordering::Relaxed);
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Ok(()) if was_failing => info!("Span export recovered"),
            Err(error) if !was_failing => warn!(%error, "Span export failed"),
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

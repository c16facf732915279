//! Bounds, counters and shutdown of the span export.

use std::sync::mpsc;

use parking_lot::Mutex;

use super::*;

/// Exporter that waits for a permission before each batch and reports its size.
#[derive(Debug)]
struct ScriptedExporter {
    permissions: Mutex<mpsc::Receiver<OTelSdkResult>>,
    batches: mpsc::Sender<usize>,
}

// === impl ScriptedExporter ===

impl ScriptedExporter {
    fn new() -> (Self, mpsc::Sender<OTelSdkResult>, mpsc::Receiver<usize>) {
        let (permit, permissions) = mpsc::channel();
        let (batches, exported) = mpsc::channel();
        (Self { permissions: Mutex::new(permissions), batches }, permit, exported)
    }
}

impl SpanExporter for ScriptedExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.batches.send(batch.len()).unwrap();
        self.permissions.lock().recv().unwrap()
    }
}

fn span() -> FinishedSpan {
    FinishedSpan {
        name: "get".into(),
        kind: SpanKind::Server,
        context: TraceContext::root(1.0),
        parent: None,
        took: Duration::from_millis(1),
        attributes: Vec::new(),
        error: None,
    }
}

fn start(exporter: ScriptedExporter) -> SpanSink {
    SpanSink::start(exporter, &Resource::builder_empty().build(), 0.5)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

#[tokio::test]
async fn a_full_batch_is_exported_at_once_and_the_rest_at_shutdown() {
    let (exporter, permit, exported) = ScriptedExporter::new();
    let sink = start(exporter);
    assert!(sink.root(&HeaderMap::new()).is_propagated());
    assert!(sink.is_recording(&TraceContext::root(1.0)));
    assert!(!sink.is_recording(&TraceContext::root(0.0)));
    for _ in 0..MAX_BATCH + 1 {
        sink.finish(span());
        permit.send(Ok(())).unwrap();
    }
    sink.shut_down(soon()).await;
    let batches: Vec<_> = exported.iter().collect();
    assert_eq!(batches.iter().sum::<usize>(), MAX_BATCH + 1);
    assert!(batches.len() >= 2 && batches.iter().all(|batch| *batch <= MAX_BATCH));
    let sent = MAX_BATCH as u64 + 1;
    assert_eq!(sink.counts(), Some(SpanCounts { sent, dropped: 0, failed: 0 }));
}

#[tokio::test]
async fn a_stalled_collector_loses_spans_and_delays_no_call() {
    let (exporter, permit, exported) = ScriptedExporter::new();
    let sink = start(exporter);
    sink.finish(span());
    // From here on the export thread is blocked with the first batch.
    let held = exported.recv().unwrap();
    assert_eq!(held, 1);
    for _ in 0..MAX_QUEUE + 10 {
        sink.finish(span());
    }
    assert_eq!(sink.counts(), Some(SpanCounts { sent: 0, dropped: 10, failed: 0 }));
    for _ in 0..=MAX_QUEUE {
        permit
            .send(OTelSdkResult::Err(opentelemetry_sdk::error::OTelSdkError::AlreadyShutdown))
            .unwrap();
    }
    sink.shut_down(soon()).await;
    let counts = sink.counts().unwrap();
    assert_eq!((counts.sent, counts.failed), (0, 1 + MAX_QUEUE as u64));
}

#[tokio::test]
async fn shutdown_ends_at_its_deadline() {
    let (exporter, permit, exported) = ScriptedExporter::new();
    let sink = start(exporter);
    sink.finish(span());
    exported.recv().unwrap();
    sink.shut_down(Instant::now()).await;
    assert_eq!(sink.counts(), Some(SpanCounts::default()));
    drop(permit);
}

#[tokio::test]
async fn without_a_collector_nothing_is_recorded_or_awaited() {
    let sink = SpanSink::default();
    assert!(!sink.is_recording(&TraceContext::root(1.0)));
    assert!(!sink.root(&HeaderMap::new()).is_propagated());
    sink.finish(span());
    sink.shut_down(Instant::now()).await;
    assert_eq!(sink.counts(), None);
}

#[test]
fn a_span_keeps_its_ids_and_its_parent() {
    let mut headers = HeaderMap::new();
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    headers.insert("traceparent", traceparent.parse().unwrap());
    headers.insert("tracestate", "vendor=1".parse().unwrap());
    let parent = TraceContext::from_headers(&headers).unwrap();
    let context = parent.child();
    let span = FinishedSpan { context, parent: Some(parent), error: Some("down".into()), ..span() };
    let data = span.into_data(InstrumentationScope::default());
    assert_eq!(data.span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(data.parent_span_id.to_string(), "00f067aa0ba902b7");
    assert_ne!(data.span_context.span_id(), data.parent_span_id);
    assert!(data.parent_span_is_remote);
    assert_eq!(data.span_context.trace_state().header(), "vendor=1");
    assert_eq!(data.status, Status::error("down"));
    assert_eq!(data.end_time.duration_since(data.start_time).unwrap(), Duration::from_millis(1));
}

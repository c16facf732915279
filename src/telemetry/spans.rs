//! Spans of sampled traces, on their way to a collector.
//!
//! Each is handed over when it is over, through a queue with a bound. What the collector does not take
//! in time is dropped and counted; no call ever waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

use super::trace_context::{TraceContext, is_traced};
use leadsd_base::{
    task::{self, Task},
    time::{SystemClock, Timestamp, WallClock as _},
};

/// Spans that wait for the collector; a call has two or three.
const QUEUE: usize = 4_096;

/// Most spans of one export.
const BATCH: usize = 512;

/// How long a span waits for others to leave with.
const LINGER: Duration = Duration::from_millis(500);

/// Longest time for one export.
const EXPORT: Duration = Duration::from_secs(10);

/// Who is at which end of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// We answer.
    Server,
    /// We ask.
    Client,
}

/// A value of a span.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Any number.
    Real(f64),
}

/// Something that was done, and is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What it was, in few words: the same for all of its sort.
    pub name: String,
    /// Who is at which end.
    pub kind: Kind,
    /// Its place in the trace.
    pub place: TraceContext,
    /// The span it belongs to; none for the first of a trace.
    pub parent: Option<TraceContext>,
    /// How long it took; it ended just now.
    pub took: Duration,
    /// What it was about.
    pub attributes: Vec<(&'static str, Value)>,
    /// What went wrong.
    pub error: Option<String>,
}

/// A span with the time of its end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) span: Span,
    pub(super) at: Timestamp,
}

/// Where spans are handed over; nowhere, if there is no collector.
#[derive(Debug, Clone, Default)]
pub struct Spans(Option<Arc<Exporting>>);

#[derive(Debug)]
struct Exporting {
    queue: mpsc::Sender<Message>,
    ratio: f64,
    counts: Counts,
}

#[derive(Debug)]
enum Message {
    Ended(Ended),
    /// Sends what there is, and says so.
    Flush(oneshot::Sender<()>),
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// What became of the spans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// Taken by the collector.
    pub sent: u64,
    /// Not queued, because the queue was full.
    pub dropped: u64,
    /// Not taken by the collector.
    pub failed: u64,
}

/// Takes spans to a collector.
pub(super) trait Exporter: Send + 'static {
    /// Sends them; says why they were not taken.
    fn export(&mut self, spans: Vec<Ended>) -> impl Future<Output = Result<(), String>> + Send;
}

// === impl Spans ===

impl Spans {
    /// Hands spans over to `exporter`; `ratio` of the traces that begin here are kept.
    pub(super) fn start(exporter: impl Exporter, ratio: f64) -> (Self, Task) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let exporting = Arc::new(Exporting { queue, ratio, counts: Counts::default() });
        let weak = Arc::downgrade(&exporting);
        let task = task::spawn("spans", "", async move {
            let count = |spans: u64, is_sent: bool| {
                let Some(exporting) = weak.upgrade() else { return };
                let Counts { sent, failed, .. } = &exporting.counts;
                let counter = if is_sent { sent } else { failed };
                counter.fetch_add(spans, Ordering::Relaxed);
            };
            export(exporter, waiting, count).await;
        });
        (Self(Some(exporting)), task)
    }

    /// A new trace for a request without a caller's span. HubSpot gets it if spans are exported, or
    /// if the request has a `traceparent` that is malformed.
    pub fn root(&self, headers: &HeaderMap) -> TraceContext {
        let root = TraceContext::root(self.0.as_ref().map_or(0.0, |exporting| exporting.ratio));
        if self.0.is_some() || is_traced(headers) { root.propagated() } else { root }
    }

    /// Whether a span of this trace is exported.
    pub fn wants(&self, context: &TraceContext) -> bool {
        context.is_sampled() && self.0.is_some()
    }

    /// Hands over a span that has just ended.
    pub fn ended(&self, span: Span) {
        let Some(exporting) = &self.0 else { return };
        let ended = Ended { span, at: SystemClock.now() };
        if exporting.queue.try_send(Message::Ended(ended)).is_err() {
            exporting.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of them so far; nothing if there is no collector.
    pub fn counts(&self) -> Option<SpanCounts> {
        let Counts { sent, dropped, failed } = &self.0.as_ref()?.counts;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(SpanCounts { sent: count(sent), dropped: count(dropped), failed: count(failed) })
    }

    /// Sends what there is, as far as that is possible by `deadline`.
    pub async fn flush(&self, deadline: Instant) {
        let Some(exporting) = &self.0 else { return };
        let (done, flushed) = oneshot::channel();
        let flush = async {
            // If the task is gone there is nothing to wait for.
            if exporting.queue.send(Message::Flush(done)).await.is_ok() {
                let _ = flushed.await;
            }
        };
        if timeout_at(deadline, flush).await.is_err() {
            warn!("Some spans were not taken by the collector in time");
        }
    }
}

/// Sends spans in batches, until nobody hands over any more.
async fn export(
    mut exporter: impl Exporter,
    mut waiting: mpsc::Receiver<Message>,
    count: impl Fn(u64, bool),
) {
    let mut works = true;
    while let Some(first) = waiting.recv().await {
        let mut batch = Vec::new();
        let mut flushed = Vec::new();
        let mut take = |message, batch: &mut Vec<Ended>| match message {
            Message::Ended(ended) => {
                batch.push(ended);
                false
            }
            Message::Flush(done) => {
                flushed.push(done);
                true
            }
        };
        let mut is_due = take(first, &mut batch);
        let until = Instant::now() + LINGER;
        while !is_due && batch.len() < BATCH {
            match timeout_at(until, waiting.recv()).await {
                Ok(Some(message)) => is_due = take(message, &mut batch),
                Ok(None) | Err(_) => break,
            }
        }
        if !batch.is_empty() {
            let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            let sending = timeout_at(Instant::now() + EXPORT, exporter.export(batch)).await;
            let sent = sending.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            count(spans, sent.is_ok());
            match &sent {
                Ok(()) if !works => info!("The trace collector takes spans again"),
                Err(error) if works => warn!(error, "The trace collector takes no spans"),
                Ok(()) | Err(_) => {}
            }
            works = sent.is_ok();
        }
        for done in flushed {
            // Whoever asked may have given up.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps batch sizes; fails while told to.
    struct Kept(mpsc::UnboundedSender<usize>, bool);

    impl Exporter for Kept {
        async fn export(&mut self, spans: Vec<Ended>) -> Result<(), String> {
            self.0.send(spans.len()).unwrap();
            if self.1 { Err("down".to_owned()) } else { Ok(()) }
        }
    }

    fn span() -> Span {
        let place = TraceContext::root(1.0);
        let (name, took) = ("get".to_owned(), Duration::from_millis(1));
        let attributes = Vec::new();
        Span { name, kind: Kind::Server, place, parent: None, took, attributes, error: None }
    }

    #[tokio::test(start_paused = true)]
    async fn spans_leave_together_soon_or_when_asked_to() {
        let (kept, mut batches) = mpsc::unbounded_channel();
        let (spans, _task) = Spans::start(Kept(kept, false), 0.5);
        assert!(spans.root(&HeaderMap::new()).is_propagated());
        for _ in 0..3 {
            spans.ended(span());
        }
        let since = Instant::now();
        assert_eq!(batches.recv().await, Some(3));
        assert!(since.elapsed() <= LINGER);
        for _ in 0..BATCH + 1 {
            spans.ended(span());
        }
        spans.flush(Instant::now() + EXPORT).await;
        assert_eq!(batches.try_recv(), Ok(BATCH));
        assert_eq!(batches.try_recv(), Ok(1));
        let sent = 3 + BATCH as u64 + 1;
        assert_eq!(spans.counts(), Some(SpanCounts { sent, dropped: 0, failed: 0 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_is_down_costs_spans_and_nothing_else() {
        let (kept, _batches) = mpsc::unbounded_channel();
        let (spans, _task) = Spans::start(Kept(kept, true), 1.0);
        // Nothing takes them while this does not wait.
        for _ in 0..QUEUE + 10 {
            spans.ended(span());
        }
        assert_eq!(spans.counts().unwrap().dropped, 10);
        spans.flush(Instant::now() + EXPORT).await;
        let counts = spans.counts().unwrap();
        assert_eq!((counts.sent, counts.failed), (0, QUEUE as u64));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_collector_nothing_is_wanted_or_waited_for() {
        let spans = Spans::default();
        assert!(!spans.wants(&TraceContext::root(1.0)));
        assert!(!spans.root(&HeaderMap::new()).is_propagated());
        spans.ended(span());
        spans.flush(Instant::now()).await;
        assert_eq!(spans.counts(), None);
    }
}

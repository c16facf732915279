//! A call to HubSpot as a span of its caller's trace: it ends with the answer, or when nobody waits
//! for that any more.

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::endpoints::Operation;
use crate::{
    leads::CallContext,
    telemetry::{
        names,
        spans::{FinishedSpan, KeyValue, SpanKind, SpanSink},
        trace_context::TraceContext,
    },
};

/// A call on its way.
#[derive(Debug)]
pub(super) struct Sending<'a> {
    spans: &'a SpanSink,
    call: &'a CallContext,
    operation: Operation,
    since: Instant,
    /// None if the span is neither recorded nor sent to HubSpot.
    context: Option<TraceContext>,
    answer: Option<(StatusCode, Option<String>)>,
}

// === impl Sending ===

impl<'a> Sending<'a> {
    pub(super) fn new(
        spans: &'a SpanSink,
        call: &'a CallContext,
        operation: Operation,
        since: Instant,
    ) -> Self {
        let is_needed = call.trace.is_propagated() || spans.is_recording(&call.trace);
        let context = is_needed.then(|| call.trace.child());
        Self { spans, call, operation, since, context, answer: None }
    }

    /// The headers by which HubSpot can continue the trace; none if nobody follows it.
    pub(super) fn trace_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let context = self.context.as_ref().filter(|context| context.is_propagated());
        if let Some(context) = context {
            context.inject(&mut headers);
        }
        headers
    }

    pub(super) fn answered(&mut self, status: StatusCode, correlation_id: Option<&str>) {
        let id = correlation_id.filter(|_| self.spans.is_recording(&self.call.trace));
        self.answer = Some((status, id.map(str::to_owned)));
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let Self { spans, call, operation, since, context, answer } = self;
        let Some(context) = context.take().filter(|context| spans.is_recording(context)) else {
            return;
        };
        let mut attributes = vec![
            KeyValue::new(names::HUBSPOT_OPERATION, operation.name()),
            KeyValue::new(names::PORTAL, call.portal.as_str().to_owned()),
        ];
        let error = match answer.take() {
            Some((status, correlation_id)) => {
                let number = i64::from(status.as_u16());
                attributes.push(KeyValue::new(names::HTTP_STATUS, number));
                let id = correlation_id.map(|id| KeyValue::new(names::HUBSPOT_CORRELATION_ID, id));
                attributes.extend(id);
                (!status.is_success()).then(|| status.as_u16().to_string())
            }
            None => Some("no answer".to_owned()),
        };
        spans.finish(FinishedSpan {
            name: format!("hubspot {}", operation.name()).into(),
            kind: SpanKind::Client,
            context,
            parent: Some(call.trace.clone()),
            took: since.elapsed(),
            attributes,
            error,
        });
    }
}

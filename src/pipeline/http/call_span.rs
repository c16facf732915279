//! The span of one HTTP request in its caller's trace. It ends with the response, or when the request
//! is cancelled.

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use crate::{
    hubspot::Operation,
    leads::CallContext,
    telemetry::{
        names,
        spans::{FinishedSpan, KeyValue, SpanKind, SpanSink},
        trace_context::TraceContext,
    },
};

/// A request in progress. `None` if its span is neither recorded nor sent to HubSpot, as usual: every
/// request would carry the size of a span.
#[derive(Debug)]
pub(super) struct CallSpan<'a>(Option<Box<OpenSpan<'a>>>);

#[derive(Debug)]
struct OpenSpan<'a> {
    spans: &'a SpanSink,
    ctx: &'a CallContext,
    operation: Operation,
    since: Instant,
    context: TraceContext,
    response: Option<(StatusCode, Option<String>)>,
}

// === impl CallSpan ===

impl<'a> CallSpan<'a> {
    pub(super) fn new(
        spans: &'a SpanSink,
        ctx: &'a CallContext,
        operation: Operation,
        since: Instant,
    ) -> Self {
        let is_needed = ctx.trace.is_propagated() || spans.is_recording(&ctx.trace);
        let open = || {
            let context = ctx.trace.child();
            Box::new(OpenSpan { spans, ctx, operation, since, context, response: None })
        };
        Self(is_needed.then(open))
    }

    /// The headers by which HubSpot can continue the trace. Empty if it is not propagated.
    pub(super) fn trace_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let context = self.0.as_ref().map(|span| &span.context);
        if let Some(context) = context.filter(|context| context.is_propagated()) {
            context.inject(&mut headers);
        }
        headers
    }

    pub(super) fn on_response(&mut self, status: StatusCode, correlation_id: Option<&str>) {
        if let Some(span) = &mut self.0 {
            let id = correlation_id.filter(|_| span.spans.is_recording(&span.ctx.trace));
            span.response = Some((status, id.map(str::to_owned)));
        }
    }
}

// === impl OpenSpan ===

impl Drop for OpenSpan<'_> {
    fn drop(&mut self) {
        let Self { spans, ctx, operation, since, context, response } = self;
        if !spans.is_recording(context) {
            return;
        }
        let mut attributes = vec![
            KeyValue::new(names::HUBSPOT_OPERATION, operation.name()),
            KeyValue::new(names::PORTAL, ctx.portal.name.as_str().to_owned()),
        ];
        let error = match response.take() {
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
            context: context.clone(),
            parent: Some(ctx.trace.clone()),
            took: since.elapsed(),
            attributes,
            error,
        });
    }
}

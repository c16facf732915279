//! HTTP layer, the innermost one. It accounts for permit and cost, counts the request and records
//! its span.
//!
//! It sends once: a write continues to its end, a read until the deadline of its call. Retries and
//! tokens belong to the layers above.

mod call_span;

use std::{future::ready, pin::pin, sync::Arc, time::Duration};

use ::http::StatusCode;
use futures_util::{FutureExt as _, future::Either};
use leadsd_quota::Permit;
use tokio::time::Instant;
use tracing::debug;

use self::call_span::CallSpan;
use super::{
    Dispatch, Layer, OverdueWatch, late, late_to_send,
    stats::{HttpOutcome, Latencies, PortalStats},
};
use crate::{
    hubspot::{HubspotClient, Operation, ResponseHead, timed_out},
    leads::{CallContext, Error, MemoryCharge, Reason, Request, Response},
    telemetry::spans::SpanSink,
};
use leadsd_credentials::Token;

/// Timeout for the body of an error response: it is small and arrives with its headers, which say
/// what matters.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// The HTTP layer of one portal.
#[derive(Debug)]
pub(super) struct Http {
    client: HubspotClient,
    stats: Arc<PortalStats>,
    latencies: Arc<Latencies>,
    spans: SpanSink,
}

/// Time limit of one exchange, from connecting to the last byte of the response.
///
/// A write ends at the request timeout, because its outcome must be known even if its caller has
/// disconnected. A read ends at the deadline of its call, if that is earlier.
struct ExchangeLimit {
    until: Instant,
    /// True if the deadline of the call is the limit, and not the request timeout.
    is_of_caller: bool,
}

// === impl Http ===

impl Http {
    /// Sends requests with `client`.
    pub(super) fn new(
        client: HubspotClient,
        stats: Arc<PortalStats>,
        latencies: Arc<Latencies>,
        spans: SpanSink,
    ) -> Self {
        Self { client, stats, latencies, spans }
    }

    #[expect(clippy::manual_async_fn, reason = "an async function stores its arguments twice")]
    fn exchange(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        token: Token,
        permit: Permit,
        since: Instant,
        mut watch: OverdueWatch<impl FnOnce(Instant) -> bool + Send>,
    ) -> impl Future<Output = (Result<Response, Error>, bool)> + Send {
        async move {
            let operation = Operation::from(&*request);
            let limit = ExchangeLimit::new(ctx, operation, since + self.client.request_timeout());
            let mut span = CallSpan::new(&self.spans, ctx, operation, since);
            // In a block, so that reading the response may use the space of this future.
            let mut head = {
                let headers = span.trace_headers();
                let sent = pin!(self.client.send(&request, &token.secret, headers));
                match watch.wait_until(limit.until, sent).await {
                    Ok(Ok(head)) => head,
                    Ok(Err(error)) => {
                        self.count_no_response(operation);
                        return (Err(error), watch.counted());
                    }
                    Err(_) => {
                        // A caller without time is no fault of HubSpot.
                        if !limit.is_of_caller {
                            self.count_no_response(operation);
                        }
                        return (Err(limit.error(operation)), watch.counted());
                    }
                }
            };
            self.on_response(ctx, operation, since.elapsed(), &head, &mut span);
            let rate_limited = if head.status() == StatusCode::TOO_MANY_REQUESTS {
                // The body names the limit that rejected the request, and the duration. Boxed, because
                // other responses would carry the size.
                Some(Box::new((permit, head.rate_limits())))
            } else {
                permit.observe(head.rate_limits().observation(None));
                None
            };
            let mut charge = MemoryCharge::for_requests(&ctx.memory, merged_requests(&request));
            let result = {
                let read = pin!(head.read(error_body_deadline(ctx, operation), &mut charge));
                watch.wait_until(limit.until, read).await
            };
            let result = result.unwrap_or_else(|_| head.incomplete(limit.error(operation)));
            self.stats.count_unreadable(head.unreadable());
            if result.is_ok() {
                ctx.cost.hold(charge);
            }
            if let Some((permit, limits)) = rate_limited.map(|limited| *limited) {
                let rejection = result.as_ref().err().filter(|_| !operation.spec().has_own_limit());
                permit.observe(limits.observation(rejection));
            }
            (result, watch.counted())
        }
    }

    /// Records a response whose headers have arrived.
    fn on_response(
        &self,
        ctx: &CallContext,
        operation: Operation,
        latency: Duration,
        head: &ResponseHead,
        span: &mut CallSpan<'_>,
    ) {
        self.latencies.observe(operation, latency);
        let status = head.status();
        let correlation_id = head.correlation_id();
        if let Some(id) = correlation_id {
            ctx.cost.set_correlation_id(&id.into());
        }
        span.on_response(status, correlation_id);
        self.stats.count_call(operation, status.into());
        debug!(
            hubspot.operation = operation.name(),
            http.status = status.as_u16(),
            duration_ms = latency.as_secs_f64() * 1e3,
            hubspot.remaining = head.rate_limits().remaining,
            "HubSpot responded"
        );
    }

    fn count_no_response(&self, operation: Operation) {
        self.stats.count_call(operation, HttpOutcome::NoResponse);
    }
}

impl Layer for Http {
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        self.call_watched(ctx, request, dispatch, OverdueWatch::none()).map(|(result, _)| result)
    }

    fn call_watched(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
        watch: OverdueWatch<impl FnOnce(Instant) -> bool + Send>,
    ) -> impl Future<Output = (Result<Response, Error>, bool)> + Send {
        let Dispatch { permit, token, .. } = dispatch;
        let (Some(mut permit), Some(token)) = (permit, token) else {
            let text = "internal error: request without a permit";
            return Either::Left(ready((Err(Error::new(Reason::Internal, text)), false)));
        };
        // The response of the caller says by now that HubSpot was not asked.
        let now = Instant::now();
        if now >= ctx.deadline {
            return Either::Left(ready((Err(late_to_send()), false)));
        }
        permit.mark_sent(request.leads());
        ctx.cost.count();
        Either::Right(self.exchange(ctx, request, token, permit, now, watch))
    }
}

// === impl ExchangeLimit ===

impl ExchangeLimit {
    fn new(ctx: &CallContext, operation: Operation, timeout: Instant) -> Self {
        let is_of_caller = !operation.writes() && ctx.deadline < timeout;
        Self { until: if is_of_caller { ctx.deadline } else { timeout }, is_of_caller }
    }

    /// Builds the error of an exchange that exceeded the limit.
    fn error(&self, operation: Operation) -> Error {
        if self.is_of_caller { late() } else { timed_out(operation) }
    }
}

/// Number of single requests that a request may consist of.
fn merged_requests(request: &Request) -> usize {
    if let Request::ReadAssociations { leads, .. } = request {
        leads.len()
    } else {
        request.leads()
    }
}

/// Deadline for the body of an error response. For a read, the caller needs the error before its deadline.
fn error_body_deadline(ctx: &CallContext, operation: Operation) -> Instant {
    let deadline = Instant::now() + ERROR_BODY_TIMEOUT;
    if operation.writes() { deadline } else { deadline.min(ctx.permit_deadline()) }
}

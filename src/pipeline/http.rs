//! HTTP layer, the innermost one. It accounts for permit and cost, counts the request and records
//! its span.
//!
//! It sends once: a write continues to its end, a read until the deadline of its call. Retries and
//! tokens belong to the layers above.

mod call_span;

use std::{pin::pin, sync::Arc, time::Duration};

use ::http::StatusCode;
use leadsd_quota::Permit;
use tokio::time::Instant;
use tracing::debug;

use self::call_span::CallSpan;
use super::{
    Dispatch, Layer, OverdueWatch, late,
    stats::{HttpOutcome, Latencies, PortalStats},
};
use crate::{
    hubspot::{HubspotClient, Operation, timed_out},
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

    async fn exchange(
        &self,
        ctx: &CallContext,
        request: &Request,
        token: &Token,
        permit: Permit,
        mut watch: OverdueWatch<impl FnOnce()>,
    ) -> Result<Response, Error> {
        let operation = Operation::from(request);
        let since = Instant::now();
        let limit = ExchangeLimit::new(ctx, operation, since + self.client.request_timeout());
        let mut span = CallSpan::new(&self.spans, ctx, operation, since);
        // Pinned for this statement only, so that reading the response may use its space.
        let sent = watch
            .wait_until(
                limit.until,
                pin!(self.client.send(request, &token.secret, span.trace_headers())),
            )
            .await;
        let mut head = match sent {
            Ok(sent) => sent.inspect_err(|_| self.count_no_response(operation))?,
            Err(_) => {
                // A caller without time is no fault of HubSpot.
                if !limit.is_of_caller {
                    self.count_no_response(operation);
                }
                return Err(limit.error(operation));
            }
        };
        let latency = since.elapsed();
        self.latencies.observe(operation, latency);
        let status = head.status();
        let correlation_id = head.correlation_id();
        if let Some(id) = correlation_id {
            ctx.cost.set_correlation_id(&id.into());
        }
        span.on_response(status, correlation_id);
        self.stats.count_call(operation, status.into());
        let limits = head.rate_limits();
        debug!(
            hubspot.operation = operation.name(),
            http.status = status.as_u16(),
            duration_ms = latency.as_secs_f64() * 1e3,
            hubspot.remaining = limits.remaining,
            "HubSpot responded"
        );
        let permit = if status == StatusCode::TOO_MANY_REQUESTS {
            // The body names the limit that rejected the request, and the duration.
            Some(permit)
        } else {
            permit.observe(limits.observation(None));
            None
        };
        let mut charge = MemoryCharge::new(&ctx.memory);
        let read = pin!(head.read(error_body_deadline(ctx, operation), &mut charge));
        let result = watch.wait_until(limit.until, read).await;
        let result = result.unwrap_or_else(|_| Err(limit.error(operation)));
        if let Some(permit) = permit {
            let rejection = result.as_ref().err().filter(|_| !operation.spec().has_own_limit());
            permit.observe(limits.observation(rejection));
        }
        result
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
        self.call_watched(ctx, request, dispatch, OverdueWatch::none())
    }

    fn call_watched(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
        watch: OverdueWatch<impl FnOnce() + Send>,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        let Dispatch { permit, token, .. } = dispatch;
        async move {
            let (Some(mut permit), Some(token)) = (permit, token) else {
                let text = "internal error: request without a permit";
                return Err(Error::new(Reason::Internal, text));
            };
            permit.mark_sent(request.leads());
            ctx.cost.count();
            self.exchange(ctx, &request, &token, permit, watch).await
        }
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

/// Deadline for the body of an error response. For a read, the caller needs the error before its deadline.
fn error_body_deadline(ctx: &CallContext, operation: Operation) -> Instant {
    let deadline = Instant::now() + ERROR_BODY_TIMEOUT;
    if operation.writes() { deadline } else { deadline.min(ctx.permit_deadline()) }
}

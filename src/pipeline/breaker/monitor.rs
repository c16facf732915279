//! Layer above HTTP that measures HubSpot's latency and reports failures to the circuit.
//!
//! A request that is overdue counts at that moment, not when it ends: its caller may leave, or its
//! deadline may be far away. Below this layer nothing waits in a queue of leadsd.

use std::{pin::pin, sync::Arc};

use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::{
    circuit::{Circuit, Health},
    latency_bounds::{BreakerSettings, LatencyBounds, RequestKind},
};
use crate::{
    leads::{CallContext, Error, Reason, Request, Response},
    pipeline::{Dispatch, Layer, stats::PortalStats},
};

/// The monitor of one portal.
#[derive(Debug)]
pub(in crate::pipeline) struct HealthMonitor<L> {
    inner: L,
    circuit: Arc<Circuit>,
    bounds: LatencyBounds,
    stats: Arc<PortalStats>,
}

// === impl HealthMonitor ===

impl<L> HealthMonitor<L> {
    /// Reports the results of `inner` to `circuit`.
    pub(in crate::pipeline) fn new(
        inner: L,
        circuit: Arc<Circuit>,
        settings: BreakerSettings,
        stats: Arc<PortalStats>,
    ) -> Self {
        Self { inner, circuit, bounds: LatencyBounds::new(settings), stats }
    }

    fn record(&self, health: Health, ctx: &CallContext) {
        if self.circuit.record(health, Instant::now(), rand::random) {
            self.stats.count_breaker_opened();
            let portal = &ctx.portal.name;
            warn!(portal = %portal, "Opened circuit breaker: HubSpot is unavailable");
        }
    }
}

impl<L: Layer> Layer for HealthMonitor<L> {
    async fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> Result<Response, Error> {
        let kind = RequestKind::from(&*request);
        let since = Instant::now();
        let overdue = since + self.bounds.max_wait(kind);
        let mut exchange = pin!(self.inner.call(ctx, request, dispatch));
        let (result, was_overdue) = match timeout_at(overdue, &mut exchange).await {
            Ok(result) => (result, false),
            Err(_) => {
                self.record(Health::Overdue, ctx);
                (exchange.await, true)
            }
        };
        match health(&result) {
            Some(Health::Up) => {
                self.bounds.observe(kind, since.elapsed());
                self.record(Health::Up, ctx);
            }
            // Was counted when it became overdue.
            Some(Health::Down | Health::Overdue) if was_overdue => {}
            Some(health) => self.record(health, ctx),
            None => {}
        }
        result
    }
}

/// Verdict of a result on the health of HubSpot; `None` if HubSpot was not called, or had not enough
/// time.
fn health(result: &Result<Response, Error>) -> Option<Health> {
    let error = match result {
        Ok(_) => return Some(Health::Up),
        Err(error) => error,
    };
    match error.reason() {
        Reason::UpstreamUnavailable | Reason::WriteOutcomeUnknown => Some(Health::Down),
        Reason::DeadlineExceeded | Reason::CredentialUnavailable | Reason::Internal => None,
        Reason::RateLimited
        | Reason::DailyLimitReached
        | Reason::Overloaded
        | Reason::InvalidRequest
        | Reason::UnknownPortal
        | Reason::InvalidPageToken
        | Reason::SearchWindowExceeded
        | Reason::RequestIdReused
        | Reason::LeadNotFound
        | Reason::ValidationFailed
        | Reason::AlreadyExists
        | Reason::Conflict
        | Reason::MissingScopes
        | Reason::UpstreamForbidden
        | Reason::CredentialRejected
        | Reason::AccountLocked
        | Reason::AccountMigrating
        | Reason::UpstreamInvalidResponse
        | Reason::ResponseTooLarge
        | Reason::BatchRejected
        | Reason::RequestTooLarge
        | Reason::Unauthenticated
        | Reason::CallerForbidden
        | Reason::AuthenticationUnavailable
        | Reason::Unimplemented => Some(Health::Up),
    }
}

//! Layer above HTTP that measures HubSpot's latency and reports failures to the circuit.
//!
//! A request that is overdue counts at that moment, not when it ends: its caller may leave, or its
//! deadline may be far away. Below this layer nothing waits in a queue of leadsd.
//!
//! A busy replica delays responses as well. An overdue request does not count if its timer fires late, or
//! if HubSpot has just responded to another request.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

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

/// Delay of a timer that shows that the replica is busy.
const BUSY: Duration = Duration::from_millis(100);

/// An overdue request counts if there was no response in this part of its wait.
const SILENT_PART: u32 = 4;

/// The monitor of one portal.
#[derive(Debug)]
pub(in crate::pipeline) struct HealthMonitor<L> {
    inner: L,
    circuit: Arc<Circuit>,
    bounds: LatencyBounds,
    stats: Arc<PortalStats>,
    created: Instant,
    /// Time of the latest response, in milliseconds since `created`.
    last_response: AtomicU64,
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
        let bounds = LatencyBounds::new(settings);
        let (created, last_response) = (Instant::now(), AtomicU64::new(0));
        Self { inner, circuit, bounds, stats, created, last_response }
    }

    /// Records a response.
    fn on_response(&self, ctx: &CallContext) {
        let now = u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_response.store(now, Ordering::Relaxed);
        self.record(Health::Up, ctx);
    }

    /// Reports whether HubSpot is the cause of an overdue request that was waited for until `overdue`.
    fn is_silent(&self, overdue: Instant, wait: Duration) -> bool {
        let last = Duration::from_millis(self.last_response.load(Ordering::Relaxed));
        let silence = self.created.elapsed().saturating_sub(last);
        overdue.elapsed() < BUSY && silence >= wait / SILENT_PART
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
        let wait = self.bounds.max_wait(kind);
        let overdue = since + wait;
        let mut exchange = pin!(self.inner.call(ctx, request, dispatch));
        let (result, was_overdue) = match timeout_at(overdue, &mut exchange).await {
            Ok(result) => (result, false),
            Err(_) => {
                let is_silent = self.is_silent(overdue, wait);
                if is_silent {
                    self.record(Health::Overdue, ctx);
                }
                (exchange.await, is_silent)
            }
        };
        match health(&result) {
            Some(Health::Up) => {
                self.bounds.observe(kind, since.elapsed());
                self.on_response(ctx);
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

//! Layer above HTTP that measures HubSpot's latency and reports failures to the circuit.
//!
//! A request that is overdue counts at that moment, not when it ends: its caller may leave, or its
//! deadline may be far away. Below this layer nothing waits in a queue of leadsd.
//!
//! A busy replica delays responses as well. An overdue request does not count if its timer fires late, or
//! if HubSpot has just responded to another request.

use std::{
    array,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::time::{Instant, error::Elapsed, timeout_at};
use tracing::warn;

use super::{
    circuit::Health,
    circuits::{CircuitScope, Circuits, SCOPES},
    latency_bounds::{BreakerSettings, LatencyBounds, RequestKind},
};
use crate::{
    leads::{CallContext, Error, Reason, Request, Response},
    pipeline::{Dispatch, Layer},
};

/// Delay of a timer that shows that the replica is busy.
const BUSY: Duration = Duration::from_millis(100);

/// An overdue request counts if there was no response in this part of its wait.
const SILENT_PART: u32 = 4;

/// The monitor of one portal.
#[derive(Debug)]
pub(in crate::pipeline) struct HealthMonitor<L> {
    inner: L,
    circuits: Arc<Circuits>,
    bounds: LatencyBounds,
    created: Instant,
    /// For each scope, the time of the latest response, in milliseconds since `created`.
    last_responses: [AtomicU64; SCOPES],
}

/// Watch of one request: reports once if the request takes until a point in time. It shares the timer of
/// the request's time limit, since a second timer for each request would cost time and rarely fire.
pub(crate) struct OverdueWatch<F> {
    /// Time of the report, and the function that makes it and returns whether the request counts. `None`
    /// after the report.
    report: Option<(Instant, F)>,
    /// True if the request was reported and counted.
    counted: bool,
}

// === impl HealthMonitor ===

impl<L> HealthMonitor<L> {
    /// Reports the results of `inner` to `circuits`.
    pub(in crate::pipeline) fn new(
        inner: L,
        circuits: Arc<Circuits>,
        settings: BreakerSettings,
    ) -> Self {
        let bounds = LatencyBounds::new(settings);
        let (created, last_responses) = (Instant::now(), array::from_fn(|_| AtomicU64::new(0)));
        Self { inner, circuits, bounds, created, last_responses }
    }

    /// Records a response.
    fn on_response(&self, kind: RequestKind, ctx: &CallContext) {
        let now = u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX);
        for scope in kind.scopes() {
            self.last_responses[*scope as usize].store(now, Ordering::Relaxed);
        }
        self.record(Health::Up, kind, ctx);
    }

    /// Records a request that is overdue since `overdue` in each scope in which HubSpot is silent. Returns
    /// false if there is none.
    fn on_overdue(
        &self,
        overdue: Instant,
        wait: Duration,
        kind: RequestKind,
        ctx: &CallContext,
    ) -> bool {
        let mut is_counted = false;
        for scope in kind.scopes() {
            if self.is_silent(*scope, overdue, wait) {
                self.record_in(*scope, Health::Overdue, ctx);
                is_counted = true;
            }
        }
        is_counted
    }

    /// Reports whether HubSpot is the cause of an overdue request that was waited for until `overdue`.
    fn is_silent(&self, scope: CircuitScope, overdue: Instant, wait: Duration) -> bool {
        let last = self.last_responses[scope as usize].load(Ordering::Relaxed);
        let last = Duration::from_millis(last);
        let silence = self.created.elapsed().saturating_sub(last);
        overdue.elapsed() < BUSY && silence >= wait / SILENT_PART
    }

    fn record(&self, health: Health, kind: RequestKind, ctx: &CallContext) {
        kind.scopes().iter().for_each(|scope| self.record_in(*scope, health, ctx));
    }

    fn record_in(&self, scope: CircuitScope, health: Health, ctx: &CallContext) {
        if !self.circuits.record(scope, health, Instant::now()) {
            return;
        }
        let portal = &ctx.portal.name;
        match scope {
            CircuitScope::All => {
                warn!(portal = %portal, "Opened circuit breaker: HubSpot is unavailable");
            }
            CircuitScope::Searches => warn!(
                portal = %portal,
                "Opened circuit breaker: HubSpot does not respond to searches, but to other calls"
            ),
            CircuitScope::Reads => warn!(
                portal = %portal,
                "Opened circuit breaker: HubSpot does not respond to reads, but to other calls"
            ),
            CircuitScope::Writes => warn!(
                portal = %portal,
                "Opened circuit breaker: HubSpot does not respond to writes, but to other calls"
            ),
        }
    }
}

impl<L: Layer> Layer for HealthMonitor<L> {
    // Not an async function, which would store its arguments twice.
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        let kind = RequestKind::from(&*request);
        let since = Instant::now();
        let wait = self.bounds.max_wait(kind);
        let usual = self.bounds.usual(kind);
        for scope in kind.scopes() {
            self.circuits.get(*scope).silence().on_sent(usual);
        }
        let watch = OverdueWatch::new(since + wait, move |overdue| {
            self.on_overdue(overdue, wait, kind, ctx)
        });
        let exchange = self.inner.call_watched(ctx, request, dispatch, watch);
        exchange.map(move |(result, was_counted)| {
            match health(&result) {
                Some(Health::Up) => {
                    self.bounds.observe(kind, since.elapsed());
                    self.on_response(kind, ctx);
                }
                // Was counted when it became overdue.
                Some(Health::Down | Health::Overdue) if was_counted => {}
                Some(health) => self.record(health, kind, ctx),
                None => {}
            }
            result
        })
    }
}

// === impl OverdueWatch ===

impl OverdueWatch<fn(Instant) -> bool> {
    /// Creates a watch that reports nothing.
    pub(in crate::pipeline) fn none() -> Self {
        Self { report: None, counted: false }
    }
}

impl<F: FnOnce(Instant) -> bool> OverdueWatch<F> {
    /// Creates a watch that calls `report` when the request takes until `at`.
    fn new(at: Instant, report: F) -> Self {
        Self { report: Some((at, report)), counted: false }
    }

    /// True if the request was reported and counted.
    pub(in crate::pipeline) fn counted(&self) -> bool {
        self.counted
    }

    /// Waits for a step of the request, without a limit.
    pub(in crate::pipeline) async fn wait<T>(
        &mut self,
        mut step: Pin<&mut impl Future<Output = T>>,
    ) -> T {
        if let Some((at, _)) = self.report
            && let Ok(done) = timeout_at(at, step.as_mut()).await
        {
            return done;
        }
        self.report();
        step.await
    }

    /// Waits for a step of the request until `limit`. A request that ends at its limit before it is
    /// overdue is not reported.
    #[expect(clippy::manual_async_fn, reason = "an async function stores its arguments twice")]
    pub(in crate::pipeline) fn wait_until<T>(
        &mut self,
        limit: Instant,
        mut step: Pin<&mut impl Future<Output = T>>,
    ) -> impl Future<Output = Result<T, Elapsed>> {
        async move {
            loop {
                let overdue = self.report.as_ref().map(|(at, _)| *at).filter(|at| *at < limit);
                match timeout_at(overdue.unwrap_or(limit), step.as_mut()).await {
                    Err(_) if overdue.is_some() => self.report(),
                    result => return result,
                }
            }
        }
    }

    fn report(&mut self) {
        if let Some((at, report)) = self.report.take() {
            self.counted = report(at);
        }
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
        | Reason::Unimplemented
        | Reason::WrongDataCenter => Some(Health::Up),
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending, pin::pin, time::Duration};

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A watch of a request that is overdue after two seconds, and its reports: the time of the last one,
    /// and their number.
    fn watch(
        reports: &Cell<(Duration, u32)>,
    ) -> OverdueWatch<impl FnOnce(Instant) -> bool + use<'_>> {
        let since = Instant::now();
        OverdueWatch::new(since + 2 * SECOND, move |at| {
            assert_eq!(at, Instant::now());
            reports.set((since.elapsed(), reports.get().1 + 1));
            true
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_overdue_request_is_reported_once_and_waited_for() {
        let reports = Cell::default();
        let mut watch = watch(&reports);
        watch.wait(pin!(sleep(SECOND))).await;
        assert_eq!((reports.get(), watch.counted()), ((Duration::ZERO, 0), false));
        let limit = Instant::now() + 9 * SECOND;
        let step = watch.wait_until(limit, pin!(sleep(3 * SECOND))).await;
        assert_eq!((step, reports.get(), watch.counted()), (Ok(()), (2 * SECOND, 1), true));
        watch.wait_until(limit, pin!(pending::<()>())).await.unwrap_err();
        assert_eq!((Instant::now(), reports.get().1), (limit, 1));
        watch.wait(pin!(sleep(3 * SECOND))).await;
        assert_eq!(reports.get().1, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_ends_before_it_is_overdue_is_not_reported() {
        let reports = Cell::default();
        let mut watch = watch(&reports);
        let limit = Instant::now() + 2 * SECOND;
        let step = watch.wait_until(limit, pin!(sleep(SECOND))).await;
        assert_eq!((step, reports.get().1), (Ok(()), 0));
        watch.wait_until(limit, pin!(pending::<()>())).await.unwrap_err();
        assert_eq!((Instant::now(), reports.get().1), (limit, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_a_watch_ends_at_its_limit() {
        let limit = Instant::now() + SECOND;
        OverdueWatch::none().wait_until(limit, pin!(pending::<()>())).await.unwrap_err();
        assert_eq!(Instant::now(), limit);
    }
}

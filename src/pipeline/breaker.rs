//! Circuit breaker: rejects requests while HubSpot is unavailable, and probes it until it recovers.
//!
//! `circuit` is the state machine. [`HealthMonitor`], the layer above HTTP, reports to it: failures,
//! responses, and requests that wait for longer than `latency_bounds` has learned. Before that, `silence`
//! holds requests back while a handful of them has no response. [`Breaker`] rejects
//! requests, and `probe` sends leadsd's own requests while the circuit is open. A rejection by the portal's
//! own quota is not a failure of HubSpot. `circuits` has one circuit for all requests, and
//! one for each kind of request that can hang alone.

mod circuit;
mod circuits;
mod latency_bounds;
mod monitor;
mod probe;
mod silence;

use std::{array, future::ready, sync::Arc};

use futures_util::{FutureExt as _, future::Either};
use leadsd_base::task::{self, Task};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::{circuit::Circuit, circuits::SCOPES};
pub(super) use self::{
    circuits::Circuits,
    monitor::{HealthMonitor, OverdueWatch},
};
pub use self::{
    circuits::{BreakerStats, CircuitScope},
    latency_bounds::BreakerSettings,
};
use super::{Dispatch, Layer, late_to_send};
use crate::{
    hubspot::Operation,
    leads::{CallContext, Error, LocalLimit, Reason, Request, Response},
};

/// The breaker layer of one portal.
#[derive(Debug)]
pub(super) struct Breaker<L>(Arc<Gate<L>>);

/// State that requests and probes share.
#[derive(Debug)]
struct Gate<L> {
    inner: L,
    circuits: Arc<Circuits>,
    /// For each scope, sends probes while its circuit is open. Ends with the portal.
    probers: [Mutex<Option<Task>>; SCOPES],
}

// === impl Breaker ===

impl<L: Layer> Breaker<L> {
    /// Rejects requests to `inner` while one of their `circuits` is open.
    pub(super) fn new(inner: L, circuits: Arc<Circuits>) -> Self {
        let probers = array::from_fn(|_| Mutex::default());
        Self(Arc::new(Gate { inner, circuits, probers }))
    }

    /// Starts to probe, unless it goes on.
    fn ensure_prober(&self, ctx: &CallContext, scope: CircuitScope) {
        let mut prober = self.0.probers[scope as usize].lock();
        if prober.as_ref().is_none_or(Task::is_ended) {
            let probes = probe::run(Arc::downgrade(&self.0), Arc::downgrade(&ctx.portal), scope);
            *prober = Some(task::spawn("breaker probe", ctx.portal.name.as_str(), probes));
        }
    }

    /// Sends a request, or rejects it while a circuit is open.
    fn pass(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        let Gate { inner, circuits, .. } = &*self.0;
        let operation = Operation::from(&*request);
        if let Err((scope, pause)) = circuits.admit(operation, Instant::now()) {
            self.ensure_prober(ctx, scope);
            let text = match scope {
                CircuitScope::All => "circuit breaker open: HubSpot is unavailable",
                CircuitScope::Searches => {
                    "circuit breaker open: HubSpot does not respond to searches"
                }
                CircuitScope::Reads => "circuit breaker open: HubSpot does not respond to reads",
                CircuitScope::Writes => "circuit breaker open: HubSpot does not respond to writes",
            };
            return Either::Left(ready(Err(Error::new(Reason::UpstreamUnavailable, text)
                .with_retry_after(pause)
                .with_local_limit(LocalLimit::CircuitBreaker))));
        }
        Either::Right(inner.call(ctx, request, dispatch).inspect(move |result| {
            if result.is_err() {
                let is_open = |scope: &&CircuitScope| circuits.get(**scope).is_open();
                let open = CircuitScope::of(operation).iter().filter(is_open);
                open.for_each(|scope| self.ensure_prober(ctx, *scope));
            }
        }))
    }

    /// Holds a request back until HubSpot has responded, a circuit has opened, or the request is a trial.
    async fn pass_after_silence(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        mut dispatch: Dispatch,
        holding: &Circuit,
    ) -> Result<Response, Error> {
        // Others can use the permit meanwhile, and it may not be valid later.
        dispatch.permit = None;
        let operation = Operation::from(&*request);
        let mut holding = Some(holding);
        while let Some(circuit) = holding
            && !circuit.is_open()
        {
            circuit.silence().wait(ctx.deadline).await;
            if ctx.deadline <= Instant::now() {
                return Err(late_to_send());
            }
            holding = self.0.circuits.holding(operation);
        }
        self.pass(ctx, request, dispatch).await
    }
}

impl<L: Layer> Layer for Breaker<L> {
    // Not an async function, which would store its arguments twice.
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        if let Some(holding) = self.0.circuits.holding(Operation::from(&*request)) {
            // Boxed, because requests that pass at once would carry its size.
            return Either::Left(Box::pin(
                self.pass_after_silence(ctx, request, dispatch, holding),
            ));
        }
        Either::Right(self.pass(ctx, request, dispatch))
    }
}

#[cfg(test)]
mod tests;

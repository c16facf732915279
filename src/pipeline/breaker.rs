//! Circuit breaker: rejects requests while HubSpot is unavailable, and probes it until it recovers.
//!
//! `circuit` is the state machine. [`HealthMonitor`], the layer above HTTP, reports to it: failures,
//! responses, and requests that wait for longer than `latency_bounds` has learned. Before that, `silence`
//! holds requests back while a handful of them has no response. [`Breaker`] rejects
//! requests, and `probe` sends leadsd's own reads while the circuit is open. A rejection by the portal's
//! own quota is not a failure of HubSpot.

mod circuit;
mod latency_bounds;
mod monitor;
mod probe;
mod silence;

use std::{future::ready, sync::Arc};

use futures_util::{FutureExt as _, future::Either};
use leadsd_base::task::{self, Task};
use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::latency_bounds::BreakerSettings;
pub(super) use self::{
    circuit::Circuit,
    monitor::{HealthMonitor, OverdueWatch},
};
use super::{Dispatch, Layer, late_to_send};
use crate::leads::{CallContext, Error, LocalLimit, Reason, Request, Response};

/// The breaker layer of one portal.
#[derive(Debug)]
pub(super) struct Breaker<L>(Arc<Gate<L>>);

/// State that requests and probes share.
#[derive(Debug)]
struct Gate<L> {
    inner: L,
    circuit: Arc<Circuit>,
    /// Sends probes while the circuit is open. Ends with the portal.
    prober: Mutex<Option<Task>>,
}

// === impl Breaker ===

impl<L: Layer> Breaker<L> {
    /// Rejects requests to `inner` while `circuit` is open.
    pub(super) fn new(inner: L, circuit: Arc<Circuit>) -> Self {
        Self(Arc::new(Gate { inner, circuit, prober: Mutex::default() }))
    }

    /// Starts to probe, unless it goes on.
    fn ensure_prober(&self, ctx: &CallContext) {
        let mut prober = self.0.prober.lock();
        if prober.as_ref().is_none_or(Task::is_ended) {
            let probes = probe::run(Arc::downgrade(&self.0), Arc::downgrade(&ctx.portal));
            *prober = Some(task::spawn("breaker probe", ctx.portal.name.as_str(), probes));
        }
    }

    /// Sends a request, or rejects it while the circuit is open.
    fn pass(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        let Gate { inner, circuit, .. } = &*self.0;
        if let Err(pause) = circuit.admit(Instant::now(), rand::random) {
            self.ensure_prober(ctx);
            let text = "circuit breaker open: HubSpot is unavailable";
            return Either::Left(ready(Err(Error::new(Reason::UpstreamUnavailable, text)
                .with_retry_after(pause)
                .with_local_limit(LocalLimit::CircuitBreaker))));
        }
        Either::Right(inner.call(ctx, request, dispatch).inspect(move |result| {
            if result.is_err() && circuit.is_open() {
                self.ensure_prober(ctx);
            }
        }))
    }

    /// Holds a request back until HubSpot has responded, the circuit has opened, or the request is a trial.
    async fn pass_after_silence(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        mut dispatch: Dispatch,
    ) -> Result<Response, Error> {
        // Others can use the permit meanwhile, and it may not be valid later.
        dispatch.permit = None;
        let circuit = &self.0.circuit;
        while !circuit.is_open() {
            circuit.silence().wait(ctx.deadline).await;
            if ctx.deadline <= Instant::now() {
                return Err(late_to_send());
            }
            if !circuit.silence().holds() {
                break;
            }
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
        let circuit = &self.0.circuit;
        if circuit.silence().holds() && !circuit.is_open() {
            // Boxed, because requests that pass at once would carry its size.
            return Either::Left(Box::pin(self.pass_after_silence(ctx, request, dispatch)));
        }
        Either::Right(self.pass(ctx, request, dispatch))
    }
}

#[cfg(test)]
mod tests;

//! Request pipeline between the domain and HubSpot: one stack of layers per portal.
//!
//! ```text
//! SingleFlight ( reads, others )
//! reads  = Batching ( IdentifyCreated ( Retry ( Breaker ( Authenticate ( RateLimit ( HealthMonitor ( Http )))))))
//! others = WriteOrder ( Upsert ( Contacts ( Isolation ( reads ))))
//! ```
//!
//! Every layer implements [`Layer`], is one file, and is tested alone in simulated time against
//! `scripted::ScriptedUpstream`. What a layer has acquired for the layers below it travels in
//! [`Dispatch`], an argument that is moved down the stack: dropping it releases what it holds.
//!
//! The order of the layers:
//! - [`single_flight`] is outermost: identical reads share one place in a batch, and a write ends the
//!   sharing of reads that it may affect. Single reads, lists and searches pass none of the layers
//!   between it and [`batching`], which are for writes and explicit batches.
//! - [`write_order`] is above [`batching`]: writes to one lead never share a batch, and no permit is
//!   held while a write waits for an earlier one.
//! - [`upsert`] is below it: no other write to a lead comes between its lookup and its update or
//!   create. It is above [`isolation`] and [`batching`], which serve each of its requests.
//! - [`contacts`] is below [`upsert`]: the contact of a lead that exists is not looked up. It is above
//!   [`isolation`], which serves lookups of many contacts; those of one have a
//!   separate single flight.
//! - [`isolation`] is below [`write_order`]: a batch that HubSpot rejects keeps its write order while it is sent
//!   again in parts.
//! - [`created_leads`] is below [`batching`] and [`isolation`], so that both get results with trace ids, and above
//!   [`retry`], which repeats its reads.
//! - [`authenticate`] is above [`rate_limit`]: no permit is held while a token is awaited, and a
//!   replay after 401 pays for its own permit.
//! - The breaker's monitor is above [`http`], so that only HubSpot's time counts, not the time in queues.
//!
//! The pipeline knows the domain's types and HubSpot's operations table. It knows neither gRPC nor
//! JSON.

mod authenticate;
mod batching;
mod breaker;
mod contacts;
mod created_leads;
mod http;
mod isolation;
mod long_selection;
mod portals;
mod rate_limit;
mod retry;
#[cfg(test)]
mod scripted;
mod single_flight;
mod stats;
#[cfg(test)]
mod tests;
mod upsert;
mod write_order;

use std::{fmt, pin::pin, sync::Arc};

use leadsd_credentials::Token;
use leadsd_quota::Permit;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::breaker::OverdueWatch;
pub use self::{
    breaker::{BreakerSettings, BreakerStats, CircuitScope},
    portals::{PipelineSettings, Portals, direct_portal},
    stats::{CallCount, CallStats, HttpOutcome, Latency},
};
use crate::leads::{CallContext, Error, Reason, Request, Response, SideEffect};

/// One layer of the stack.
pub(crate) trait Layer: fmt::Debug + Send + Sync + 'static {
    /// Sends the request, or rejects it. Cancel-safe for reads; the domain runs writes in separate
    /// tasks.
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send;

    /// Sends the request as [`call`](Self::call) does, and reports it to `watch` if it is overdue. Also
    /// returns whether that counted. A layer with a timer for each request lets `watch` share it.
    fn call_watched(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
        mut watch: OverdueWatch<impl FnOnce(Instant) -> bool + Send>,
    ) -> impl Future<Output = (Result<Response, Error>, bool)> + Send {
        async move {
            let result = watch.wait(pin!(self.call(ctx, request, dispatch))).await;
            (result, watch.counted())
        }
    }
}

/// Resources and bounds that travel down the stack with a request: permit, token, retry deadline.
/// Dropping it releases the resources.
#[derive(Debug)]
pub(crate) struct Dispatch {
    /// A permit for the first HTTP request. `None` if the request still has to wait for one.
    pub(crate) permit: Option<Permit>,
    /// The token to send. `None` above the layer that authenticates.
    pub(crate) token: Option<Token>,
    /// Time until which attempts may be repeated.
    pub(crate) retry_deadline: RetryDeadline,
    /// Attempts that were made for this call before, in a request that it shared with others.
    pub(crate) prior_attempts: u32,
}

/// The earliest deadline of the calls that share a request.
///
/// Shared requests are retried only within that deadline. Sharers with an earlier deadline receive the
/// error; the others retry without them.
#[derive(Debug, Clone)]
pub(crate) enum RetryDeadline {
    /// The deadline of the only call.
    Fixed(Instant),
    /// The deadline of several calls, which moves forward when another call joins.
    Shared(Arc<Mutex<Instant>>),
}

/// Builds the error of a request whose deadline has passed before it was sent.
fn late_to_send() -> Error {
    let text = "the deadline passed before the request was sent to HubSpot";
    Error::new(Reason::DeadlineExceeded, text)
}

/// Builds the error of a read whose deadline has passed while HubSpot processes its request.
fn late() -> Error {
    Error::new(Reason::DeadlineExceeded, "the deadline passed before HubSpot responded")
        .with_side_effect(SideEffect::None)
}

// === impl Dispatch ===

impl Dispatch {
    /// Creates the dispatch of one call, without resources.
    pub(crate) fn new(ctx: &CallContext) -> Self {
        Self {
            permit: None,
            token: None,
            retry_deadline: RetryDeadline::Fixed(ctx.deadline),
            prior_attempts: 0,
        }
    }
}

// === impl RetryDeadline ===

impl RetryDeadline {
    /// Creates a deadline of several calls; more may [`join`](Self::join).
    pub(crate) fn shared(deadline: Instant) -> Self {
        Self::Shared(Arc::new(Mutex::new(deadline)))
    }

    /// Adds a call with this deadline. Has no effect on a fixed deadline, which no call joins.
    pub(crate) fn join(&self, deadline: Instant) {
        if let Self::Shared(earliest) = self {
            let mut earliest = earliest.lock();
            *earliest = deadline.min(*earliest);
        }
    }

    /// The earliest deadline of the calls so far.
    pub(crate) fn earliest(&self) -> Instant {
        match self {
            Self::Fixed(deadline) => *deadline,
            Self::Shared(earliest) => *earliest.lock(),
        }
    }
}

impl<L: Layer> Layer for Arc<L> {
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        (**self).call(ctx, request, dispatch)
    }
}

//! Context of a batch: the deadlines that bound it, and the callers that pay for it.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use leadsd_quota::{Permit, Requester};
use tokio::time::Instant;

use crate::{
    leads::{CallContext, CostMeter},
    pipeline::{Dispatch, RetryDeadline},
};

/// Context of a batch of several callers, until all of them have left.
pub(super) struct BatchContext {
    ctx: CallContext,
    /// The requesters in input order.
    requesters: Vec<Requester>,
    retry_deadline: RetryDeadline,
    prior_attempts: u32,
    requests: AtomicU32,
}

// === impl BatchContext ===

impl BatchContext {
    /// The context of these calls, each with the time until which it may be retried. `None` without
    /// calls.
    pub(super) fn new(calls: &[(&CallContext, Instant)], prior_attempts: u32) -> Option<Self> {
        let (first, _) = calls.first()?;
        let deadline = calls.iter().map(|(ctx, _)| ctx.deadline).max()?;
        let retry_deadline = RetryDeadline::shared(first.deadline);
        calls.iter().for_each(|(_, retry)| retry_deadline.join(*retry));
        let sharers = calls.iter().map(|(ctx, _)| Arc::clone(&ctx.cost)).collect();
        let cost = CostMeter::shared_by(sharers);
        cost.begin();
        let requesters = calls.iter().map(|(ctx, _)| ctx.requester.clone()).collect();
        // The response belongs to all of them: none has to have room for it.
        let memory = Arc::clone(&first.memory).shared();
        let ctx = CallContext { deadline, cost: Arc::new(cost), memory, ..(*first).clone() };
        Some(Self { ctx, requesters, retry_deadline, prior_attempts, requests: AtomicU32::new(0) })
    }

    /// The context on behalf of the first caller.
    pub(super) fn whole(&self) -> &CallContext {
        &self.ctx
    }

    /// The context for a part of the batch, on behalf of its first caller: no quota is charged for a
    /// part to a caller that has no input in it.
    pub(super) fn part(&self, first: usize) -> CallContext {
        let requester = self.requesters.get(first).unwrap_or(&self.ctx.requester).clone();
        CallContext { requester, ..self.ctx.clone() }
    }

    /// Number of requests of the batch so far, without retries.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Dispatch of a request of the batch.
    pub(super) fn dispatch(&self, permit: Option<Permit>) -> Dispatch {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Dispatch {
            permit,
            token: None,
            retry_deadline: self.retry_deadline.clone(),
            prior_attempts: self.prior_attempts,
        }
    }
}

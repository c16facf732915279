//! Context of a batch: the deadlines that bound it, and the callers that pay for it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use leadsd_quota::{Permit, Priority, Requester};
use tokio::time::Instant;

use super::rejection_scores::RejectionScores;
use crate::{
    leads::{CallContext, CostMeter, Error, LocalLimit, MEMORY_LIMIT, batch::rejects_content},
    pipeline::{Dispatch, RetryDeadline},
};

/// Context of a batch of several callers, until all of them have left.
pub(super) struct BatchContext {
    ctx: CallContext,
    /// The requesters in input order.
    requesters: Vec<Requester>,
    /// For each input the number of the first input of its caller.
    owners: Vec<usize>,
    scores: Arc<RejectionScores>,
    retry_deadline: RetryDeadline,
    prior_attempts: u32,
    requests: AtomicU32,
    has_errors: AtomicBool,
}

// === impl BatchContext ===

impl BatchContext {
    /// The context of these calls, each with the time until which it may be retried. `None` without
    /// calls.
    pub(super) fn new(
        calls: &[(&CallContext, Instant)],
        scores: &Arc<RejectionScores>,
        prior_attempts: u32,
    ) -> Option<Self> {
        let (first, _) = calls.first()?;
        let deadline = calls.iter().map(|(ctx, _)| ctx.deadline).max()?;
        let retry_deadline = RetryDeadline::shared(first.deadline);
        calls.iter().for_each(|(_, retry)| retry_deadline.join(*retry));
        let sharers = calls.iter().map(|(ctx, _)| Arc::clone(&ctx.cost)).collect();
        let cost = CostMeter::shared_by(sharers);
        cost.begin();
        let requesters: Vec<_> = calls.iter().map(|(ctx, _)| ctx.requester.clone()).collect();
        let mut owners = Vec::with_capacity(requesters.len());
        for (index, requester) in requesters.iter().enumerate() {
            let before = owners.last().copied();
            let is_same =
                |owner: &usize| requesters[*owner].caller.account() == requester.caller.account();
            owners.push(before.filter(is_same).unwrap_or(index));
        }
        let memory = match owners.last() {
            // The response belongs to all of them, so it is not charged to the account of one caller.
            Some(owner) if *owner != 0 => Arc::clone(&first.memory).shared(),
            Some(_) | None => Arc::clone(&first.memory),
        };
        let ctx = CallContext { deadline, cost: Arc::new(cost), memory, ..(*first).clone() };
        Some(Self {
            ctx,
            requesters,
            owners,
            scores: Arc::clone(scores),
            retry_deadline,
            prior_attempts,
            requests: AtomicU32::new(0),
            has_errors: AtomicBool::new(false),
        })
    }

    /// The context on behalf of the first caller.
    pub(super) fn whole(&self) -> &CallContext {
        &self.ctx
    }

    /// The context for a part of the batch. A caller pays for the parts of a batch of its inputs alone. A
    /// batch of several callers has waited already: its parts are served first, and the callers whose
    /// inputs are rejected are charged for them once they are known.
    pub(super) fn part(&self, first: usize) -> CallContext {
        let mut requester = self.requesters.get(first).unwrap_or(&self.ctx.requester).clone();
        let is_interactive = |own: &Requester| own.priority == Priority::Interactive;
        if self.is_shared() && self.requesters.iter().any(is_interactive) {
            requester.priority = Priority::Recovery;
        }
        CallContext { requester, ..self.ctx.clone() }
    }

    /// For each input the number of its caller.
    pub(super) fn owners(&self) -> &[usize] {
        &self.owners
    }

    /// True if the batch has inputs of several callers.
    pub(super) fn is_shared(&self) -> bool {
        self.owners.last().is_some_and(|owner| *owner != 0)
    }

    /// True if an input failed because the account that all callers share had no room for the response.
    /// Each of them may have room.
    pub(super) fn lacks_shared_memory(&self, error: &Error) -> bool {
        self.is_shared() && error.local_limit() == Some(LocalLimit::Admission(MEMORY_LIMIT))
    }

    /// Records the result of a request. A rejection of a caller's own inputs counts for its score.
    pub(super) fn observe<T>(&self, result: &Result<T, Error>) {
        let Err(error) = result else { return };
        self.has_errors.store(true, Ordering::Relaxed);
        if rejects_content(error) && !self.is_shared() {
            self.scores.on_rejected(&self.ctx.requester);
        }
    }

    /// True if a request of the batch has failed.
    pub(super) fn has_errors(&self) -> bool {
        self.has_errors.load(Ordering::Relaxed)
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

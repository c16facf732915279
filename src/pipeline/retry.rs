//! Retry layer: repeats failed attempts if that is safe and may help, within the deadline, the
//! maximum number of attempts, and the retry budget of the portal.
//!
//! `policy` decides from plain values; this layer classifies errors and waits. It does not know
//! batches: a shared request is one request.

mod policy;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use self::policy::{Decision, RetryBudget, RetryPolicy, RetryState, Retryable, Stop};
use super::{Dispatch, Layer, stats::PortalStats};
use crate::hubspot::Operation;
use crate::leads::{CallContext, Error, LocalLimit, Reason, Request, Response};

/// Minimum time for an attempt: HubSpot's fastest responses take about as long. With less time left
/// no attempt is started.
pub(super) const ATTEMPT_TIME: Duration = Duration::from_millis(50);

/// Upper bound of the first random backoff, unless HubSpot states a pause.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// Upper bound of the random part of any backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The retry layer of one portal.
#[derive(Debug)]
pub(super) struct Retry<L> {
    inner: L,
    policy: RetryPolicy,
    budget: RetryBudget,
    stats: Arc<PortalStats>,
}

// === impl Retry ===

impl<L> Retry<L> {
    /// Repeats attempts at `inner`, at most `max_attempts` in all.
    pub(super) fn new(inner: L, max_attempts: u32, stats: Arc<PortalStats>) -> Self {
        let policy = RetryPolicy {
            max_attempts,
            first_backoff: FIRST_BACKOFF,
            max_backoff: MAX_BACKOFF,
            attempt_time: ATTEMPT_TIME,
        };
        Self { inner, policy, budget: RetryBudget::default(), stats }
    }
}

impl<L: Layer> Layer for Retry<L> {
    // Not an async function, which would store its arguments twice.
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        let Dispatch { mut permit, token: _, retry_deadline, prior_attempts } = dispatch;
        async move {
            let mut attempt = prior_attempts + 1;
            loop {
                if attempt > 1 {
                    self.stats.count_retry();
                }
                // Only the first attempt has a permit already.
                let dispatch = Dispatch {
                    permit: permit.take(),
                    token: None,
                    retry_deadline: retry_deadline.clone(),
                    prior_attempts: attempt - 1,
                };
                let error = match self.inner.call(ctx, Arc::clone(&request), dispatch).await {
                    Ok(response) => {
                        self.budget.deposit();
                        return Ok(response);
                    }
                    Err(error) => error,
                };
                let remaining = retry_deadline.earliest().saturating_duration_since(Instant::now());
                let state = RetryState { attempt, remaining, random: rand::random() };
                let retryable = classify(Operation::from(&*request), &error);
                match self.policy.decide(retryable, state, &self.budget) {
                    Decision::RetryAfter(pause) => sleep(pause).await,
                    Decision::Stop(stop) => {
                        let error = error.with_attempts(attempt);
                        return Err(if stop == Stop::Deadline {
                            error.deadline_limited()
                        } else {
                            error
                        });
                    }
                }
                attempt += 1;
            }
        }
    }
}

/// Classifies an error. A request that is not idempotent and whose outcome is unknown has
/// [`Reason::WriteOutcomeUnknown`] and is never retried here.
fn classify(operation: Operation, error: &Error) -> Retryable {
    let retryable = |max_attempts| Retryable::After {
        min_backoff: error.retry_after().unwrap_or_default(),
        max_attempts,
    };
    if error.local_limit() == Some(LocalLimit::CircuitBreaker) || operation.reads_schema() {
        return Retryable::Permanent;
    }
    match error.reason() {
        // The caller falls back to individual reads, which have another limit.
        Reason::RateLimited if operation == Operation::ReadAssociations => Retryable::Permanent,
        Reason::RateLimited | Reason::AccountLocked => retryable(u32::MAX),
        // A migration takes up to a day. Without a stated pause there is no use in waiting.
        Reason::AccountMigrating if error.retry_after().is_some() => retryable(u32::MAX),
        Reason::UpstreamUnavailable => match error.upstream().http_status {
            // TLS or TCP between HubSpot's gateway and HubSpot: rarely transient.
            Some(522 | 525 | 526) => retryable(2),
            Some(_) | None => retryable(u32::MAX),
        },
        Reason::AccountMigrating
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
        | Reason::CredentialUnavailable
        | Reason::CredentialRejected
        | Reason::DailyLimitReached
        | Reason::Overloaded
        | Reason::UpstreamInvalidResponse
        | Reason::ResponseTooLarge
        | Reason::DeadlineExceeded
        | Reason::WriteOutcomeUnknown
        | Reason::BatchRejected
        | Reason::Internal
        | Reason::RequestTooLarge
        | Reason::Unauthenticated
        | Reason::CallerForbidden
        | Reason::AuthenticationUnavailable
        | Reason::Unimplemented
        | Reason::WrongDataCenter => Retryable::Permanent,
    }
}

/// True if a call makes a separate attempt although the deadline of another sharer prevented one
/// for all of them.
pub(super) fn may_retry(ctx: &CallContext, error: &Error) -> bool {
    let pause = error.retry_after().unwrap_or_default();
    error.is_deadline_limited() && Instant::now() + pause + ATTEMPT_TIME <= ctx.deadline
}

#[cfg(test)]
mod tests;

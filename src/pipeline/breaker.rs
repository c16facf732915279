//! Circuit breaker: rejects requests while HubSpot is unavailable, and probes with one request at a
//! time whether it has recovered. `circuit` is the state machine; this layer says which results count
//! as a failure of HubSpot. A rejection by the portal's own quota is none.

mod circuit;

use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

pub(super) use self::circuit::Circuit;
use self::circuit::Health;
use super::{Dispatch, Layer, stats::PortalStats};
use crate::leads::{CallContext, Error, LocalLimit, Reason, Request, Response};

/// The breaker layer of one portal.
#[derive(Debug)]
pub(super) struct Breaker<L> {
    inner: L,
    circuit: Arc<Circuit>,
    stats: Arc<PortalStats>,
}

// === impl Breaker ===

impl<L> Breaker<L> {
    /// Rejects requests to `inner` while `circuit` is open.
    pub(super) fn new(inner: L, circuit: Arc<Circuit>, stats: Arc<PortalStats>) -> Self {
        Self { inner, circuit, stats }
    }
}

impl<L: Layer> Layer for Breaker<L> {
    async fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> Result<Response, Error> {
        if let Err(pause) = self.circuit.admit(Instant::now()) {
            let text = "HubSpot is down, and was not asked";
            return Err(Error::new(Reason::UpstreamUnavailable, text)
                .with_retry_after(pause)
                .with_local_limit(LocalLimit::CircuitBreaker));
        }
        let result = self.inner.call(ctx, request, dispatch).await;
        if let Some(health) = health(&result)
            && self.circuit.record(health, Instant::now(), rand::random())
        {
            self.stats.count_breaker_opened();
            let portal = &ctx.portal.name;
            warn!(portal = %portal, "HubSpot seems to be down; calls fail at once until it answers");
        }
        result
    }
}

/// What an attempt says about HubSpot. `None` if HubSpot was not asked, or had not enough time.
fn health(result: &Result<Response, Error>) -> Option<Health> {
    let error = match result {
        Ok(_) => return Some(Health::Up),
        Err(error) => error,
    };
    match error.reason() {
        Reason::UpstreamUnavailable | Reason::WriteOutcomeUnknown => Some(Health::Down),
        Reason::DeadlineExceeded | Reason::CredentialUnavailable => None,
        // Rejected by the portal's own quota: HubSpot was not asked.
        Reason::RateLimited | Reason::DailyLimitReached | Reason::Overloaded
            if error.local_limit().is_some() =>
        {
            None
        }
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
        | Reason::Internal
        | Reason::RequestTooLarge
        | Reason::Unauthenticated
        | Reason::CallerForbidden
        | Reason::AuthenticationUnavailable => Some(Health::Up),
    }
}

#[cfg(test)]
mod tests;

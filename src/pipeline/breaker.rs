//! Circuit breaker: rejects requests while HubSpot is unavailable, and sends single probes to
//! detect its recovery.
//!
//! `circuit` is the state machine; this layer classifies results. A rejection by the portal's own
//! quota is not a failure of HubSpot.

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
            let text = "circuit breaker open: HubSpot is unavailable";
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
            warn!(portal = %portal, "Opened circuit breaker: HubSpot is unavailable");
        }
        result
    }
}

/// Verdict of an attempt on the health of HubSpot; `None` if HubSpot was not called, or had not
/// enough time.
fn health(result: &Result<Response, Error>) -> Option<Health> {
    let error = match result {
        Ok(_) => return Some(Health::Up),
        Err(error) => error,
    };
    match error.reason() {
        Reason::UpstreamUnavailable | Reason::WriteOutcomeUnknown => Some(Health::Down),
        Reason::DeadlineExceeded | Reason::CredentialUnavailable => None,
        // Rejected by the portal's own quota: HubSpot was not called.
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
        | Reason::AuthenticationUnavailable
        | Reason::Unimplemented => Some(Health::Up),
    }
}

#[cfg(test)]
mod tests;

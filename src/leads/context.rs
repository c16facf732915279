//! Context of one call, and the port to HubSpot.
//!
//! The context names the portal, the portal has its upstream, and the upstream takes the context: the
//! three belong together. Everything between the domain and the wire (batching, retries, rate limits,
//! credentials) is behind [`Upstream`].

use std::{any::Any, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
pub use leadsd_base::portal_name::PortalName;

use leadsd_quota::Requester;
use tokio::time::Instant;

use super::{
    charge::MemoryAccount,
    cost::CostMeter,
    error::{Error, Reason},
    rejection_search::RejectionSearch,
    request::{Request, Response},
};
use crate::telemetry::trace_context::TraceContext;

/// Context of one call of a client. Passed as an argument through the domain and the pipeline.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// HubSpot account of the call.
    pub portal: Arc<Portal>,
    /// Deadline of the call; every step ends by then.
    pub deadline: Instant,
    /// Caller and priority, to which the portal's quota is charged.
    pub requester: Requester,
    /// Request id in logs and in the response.
    pub request_id: Arc<str>,
    /// Position in the caller's trace.
    pub trace: TraceContext,
    /// HubSpot requests sent for the call. Shared by all clones of this context.
    pub cost: Arc<CostMeter>,
    /// Search for the inputs for which HubSpot rejects the batches of the call.
    pub search: RejectionSearch,
    /// True for one row of an import. The audit event is that of its stream.
    pub is_row: bool,
    /// True if the caller may create contacts with new leads.
    pub may_create_contacts: bool,
    /// Account to which the call's memory is charged.
    pub memory: Arc<dyn MemoryAccount>,
    /// Resource that is held until the last clone of this context is dropped. A write outlives a
    /// caller that disconnects, and stays counted as in flight.
    pub guard: Guard,
}

/// One HubSpot account, with the pipeline that holds its tokens, limits, breaker, retry budget and
/// write order. Resolved once per call.
#[derive(Debug)]
pub struct Portal {
    /// Configured name.
    pub name: PortalName,
    /// Request pipeline of this account.
    pub upstream: Arc<dyn Upstream>,
    /// Settings of this account.
    pub settings: PortalSettings,
}

/// Settings of one portal.
#[derive(Debug, Clone, Default)]
pub struct PortalSettings {
    /// Property with unique values in which creates store their request id. With it, the outcome of
    /// a create whose response is lost can be looked up. `None` reports such a create as unknown.
    pub request_id_property: Option<String>,
    /// Properties of reads that select none. Empty for those that HubSpot returns by itself.
    pub default_properties: Arc<[String]>,
}

/// Port to HubSpot for one portal.
///
/// A call makes one logical request, counts what it costs in [`CallContext::cost`] and never
/// outlasts [`CallContext::deadline`]. A batch request fails as a whole only if none of its inputs
/// could be sent; errors of single inputs are part of [`Response::Outcomes`].
#[async_trait]
pub trait Upstream: fmt::Debug + Send + Sync + 'static {
    /// Sends the request and returns the response of the variant that [`Request`] documents.
    async fn call(&self, ctx: &CallContext, request: Request) -> Result<Response, Error>;
}

/// A resource that is released when the last clone is dropped, such as an admission slot.
#[derive(Clone, Default)]
pub struct Guard(Option<Arc<dyn Any + Send + Sync>>);

/// Time before the deadline at which waiting for a permit ends: HubSpot cannot respond in less, and
/// the rejection has to reach the caller.
const RESPONSE_MARGIN: Duration = Duration::from_millis(5);

/// Maximum time before its deadline at which a batch is answered with the results so far. Enough to send
/// the largest response to the caller.
const MAX_BATCH_MARGIN: Duration = Duration::from_millis(250);

// === impl CallContext ===

impl CallContext {
    /// Extends the deadline: the outcome is needed even if the caller has disconnected. An earlier
    /// `deadline` has no effect.
    #[must_use]
    pub fn extended_to(&self, deadline: Instant) -> Self {
        Self { deadline: self.deadline.max(deadline), ..self.clone() }
    }

    /// The context of a batch, which ends earlier so that a caller with this deadline receives the results
    /// so far: by a tenth of the time that is left, at most by [`MAX_BATCH_MARGIN`].
    #[must_use]
    pub fn ending_early(&self) -> Self {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let margin = (left / 10).min(MAX_BATCH_MARGIN);
        Self { deadline: self.deadline - margin, ..self.clone() }
    }

    /// Error of a lead whose contact is to be created. `None` if the caller may create contacts.
    pub fn contact_refusal(&self) -> Option<Error> {
        let text = format!(
            "contact.create_if_missing: the caller may not create contacts in portal {} (needs write access \
             and `create_contacts = true`)",
            self.portal.name
        );
        (!self.may_create_contacts).then(|| Error::new(Reason::CallerForbidden, text))
    }

    /// Latest useful time for a permit.
    pub fn permit_deadline(&self) -> Instant {
        self.deadline.checked_sub(RESPONSE_MARGIN).unwrap_or(self.deadline)
    }
}

// === impl Guard ===

impl Guard {
    /// Holds `resource` until the last clone of this guard is dropped.
    pub fn new<T: Any + Send + Sync>(resource: &Arc<T>) -> Self {
        let resource: Arc<T> = Arc::clone(resource);
        Self(Some(resource))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::testing::RecordingUpstream;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_only_extended_and_the_rest_of_the_call_stays_the_same() {
        let upstream = RecordingUpstream::new(|_, _| Ok(Response::Archived));
        let ctx = upstream.context(None);
        let second = Duration::from_secs(1);
        let extended = ctx.extended_to(ctx.deadline + second);
        assert_eq!(extended.deadline, ctx.deadline + second);
        assert!(Arc::ptr_eq(&extended.cost, &ctx.cost));
        assert_eq!(ctx.extended_to(ctx.deadline - second).deadline, ctx.deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_ends_a_tenth_of_its_time_and_at_most_a_quarter_of_a_second_early() {
        let mut ctx = RecordingUpstream::new(|_, _| Ok(Response::Archived)).context(None);
        let start = Instant::now();
        for (millis, margin) in [(60_000, 250), (2_000, 200), (100, 10), (0, 0)] {
            ctx.deadline = start + Duration::from_millis(millis);
            let early = ctx.ending_early();
            assert_eq!(ctx.deadline - early.deadline, Duration::from_millis(margin));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_permit_ends_before_the_deadline() {
        let ctx = RecordingUpstream::new(|_, _| Ok(Response::Archived)).context(None);
        assert_eq!(ctx.permit_deadline(), ctx.deadline - RESPONSE_MARGIN);
    }

    #[test]
    fn a_guard_holds_its_resource_until_its_last_clone_is_dropped() {
        let resource = Arc::new(());
        let guard = Guard::new(&resource);
        let clone = guard.clone();
        drop(guard);
        assert_eq!(Arc::strong_count(&resource), 2);
        drop(clone);
        assert_eq!(Arc::strong_count(&resource), 1);
    }
}

//! Passes an authorized call to its handler.
//!
//! The generated services between layers and handlers pass on only the request. So the call travels in
//! the request extensions, inserted only by [`insert`] and removed only by
//! [`AuthorizedCall::take_from`].

use std::sync::Arc;

use http::{HeaderMap, request::Parts};
use tonic::{Request, Status};

use super::authz::Authorized;
use crate::{
    auth::Rights,
    grpc::{status, transport::call_state::CallState},
    leads::{CallContext, Error, FieldFault, Guard, Portal, PortalName, Reason, RejectionSearch},
};
use leadsd_quota::{Priority, Requester};

/// Metadata key of the priority of a call.
const PRIORITY: &str = "leadsd-priority";

/// Authorized call: its context for the domain, and its state for the response.
#[derive(Debug, Clone)]
pub(crate) struct AuthorizedCall {
    pub(crate) context: CallContext,
    pub(crate) state: Arc<CallState>,
}

/// Inserts an authorized call into the extensions of its request.
pub(crate) fn insert(
    authorized: Authorized,
    state: &Arc<CallState>,
    parts: &mut Parts,
    default_priority: Priority,
) -> Result<(), Error> {
    match authorized {
        Authorized::InPortal { caller, portal, may_create_contacts } => {
            let priority = priority(&parts.headers)?.unwrap_or(default_priority);
            let requester = Requester { caller, priority };
            let mut call = AuthorizedCall::new(state, requester, portal);
            call.context.may_create_contacts = may_create_contacts;
            parts.extensions.insert(call);
        }
        Authorized::Portals { caller: _, granted } => {
            parts.extensions.insert(PortalsCall { state: Arc::clone(state), granted });
        }
    }
    Ok(())
}

/// Authorized call that lists the portals of its caller.
#[derive(Debug, Clone)]
pub(crate) struct PortalsCall {
    pub(crate) state: Arc<CallState>,
    /// Portals in which the caller has any right, sorted by name.
    pub(crate) granted: Vec<(PortalName, Rights)>,
}

// === impl AuthorizedCall ===

impl AuthorizedCall {
    /// Builds the context of an authorized call.
    pub(crate) fn new(state: &Arc<CallState>, requester: Requester, portal: Arc<Portal>) -> Self {
        let context = CallContext {
            portal,
            deadline: state.deadline,
            requester,
            request_id: Arc::clone(&state.request_id),
            trace: state.trace.clone(),
            cost: Arc::clone(&state.cost),
            search: RejectionSearch::default(),
            is_row: false,
            may_create_contacts: false,
            memory: state.guard.account(),
            // The slot is released when no work for the call is left.
            guard: Guard::new(state),
        };
        Self { context, state: Arc::clone(state) }
    }

    /// Removes the call from the request extensions; returns it with the message.
    pub(crate) fn take_from<M>(request: Request<M>) -> Result<(Self, M), Status> {
        take_from(request)
    }
}

// === impl PortalsCall ===

impl PortalsCall {
    /// Removes the call from the request extensions; returns it with the message.
    pub(crate) fn take_from<M>(request: Request<M>) -> Result<(Self, M), Status> {
        take_from(request)
    }
}

fn take_from<C: Clone + Send + Sync + 'static, M>(request: Request<M>) -> Result<(C, M), Status> {
    let (_, mut extensions, message) = request.into_parts();
    let call = extensions.remove::<C>().ok_or_else(|| {
        let error = Error::new(Reason::Internal, "internal error: call context missing");
        status::for_call(&error, "", "")
    })?;
    Ok((call, message))
}

/// Priority that the client has chosen; `None` if it has not.
fn priority(headers: &HeaderMap) -> Result<Option<Priority>, Error> {
    match headers.get(PRIORITY).map(|value| value.as_bytes()) {
        None => Ok(None),
        Some(b"interactive") => Ok(Some(Priority::Interactive)),
        Some(b"bulk") => Ok(Some(Priority::Bulk)),
        Some(_) => {
            let violation = FieldFault::new(PRIORITY, "must be interactive or bulk");
            Err(Error::invalid(vec![violation]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_priority_is_interactive_or_bulk() {
        let parsed = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(value.map(|value| {
                (http::HeaderName::from_static(PRIORITY), http::HeaderValue::from_static(value))
            }));
            priority(&headers)
        };
        assert_eq!(parsed(None), Ok(None));
        assert_eq!(parsed(Some("interactive")), Ok(Some(Priority::Interactive)));
        assert_eq!(parsed(Some("bulk")), Ok(Some(Priority::Bulk)));
        for invalid in ["", "BULK", "urgent"] {
            assert_eq!(parsed(Some(invalid)).unwrap_err().reason(), Reason::InvalidRequest);
        }
    }

    #[test]
    fn a_request_without_a_call_is_an_internal_error() {
        let status = AuthorizedCall::take_from(Request::new(())).unwrap_err();
        assert_eq!(status.code(), tonic::Code::Internal);
    }
}

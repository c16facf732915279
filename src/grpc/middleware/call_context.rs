//! Passes an authorized call to its handler.
//!
//! The generated services between layers and handlers pass on only the request. So the call travels in
//! the request extensions, inserted only by [`AuthorizedCall::insert_into`] and removed only by
//! [`AuthorizedCall::take_from`].

use std::sync::Arc;

use http::HeaderMap;
use tonic::{Request, Status};

use super::authz::Authorized;
use crate::{
    grpc::{status, transport::call_state::CallState},
    leads::{CallContext, Error, FieldFault, Guard, Reason},
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

// === impl AuthorizedCall ===

impl AuthorizedCall {
    /// Builds the context of an authorized call.
    pub(crate) fn new(
        state: &Arc<CallState>,
        headers: &HeaderMap,
        authorized: Authorized,
    ) -> Result<Self, Error> {
        let Authorized { caller, portal } = authorized;
        let context = CallContext {
            portal,
            deadline: state.deadline,
            requester: Requester { caller, priority: priority(headers)? },
            request_id: Arc::clone(&state.request_id),
            trace: state.trace.clone(),
            cost: Arc::clone(&state.cost),
            memory: state.guard.account(),
            // The slot is released when no work for the call is left.
            guard: Guard::new(state),
        };
        Ok(Self { context, state: Arc::clone(state) })
    }

    /// Inserts the call into the request extensions.
    pub(crate) fn insert_into(self, extensions: &mut http::Extensions) {
        extensions.insert(self);
    }

    /// Removes the call from the request extensions; returns it with the message.
    pub(crate) fn take_from<M>(request: Request<M>) -> Result<(Self, M), Status> {
        let (_, mut extensions, message) = request.into_parts();
        let call = extensions.remove::<Self>().ok_or_else(|| {
            let error = Error::new(Reason::Internal, "internal error: call context missing");
            status::for_call(&error, "", "")
        })?;
        Ok((call, message))
    }
}

fn priority(headers: &HeaderMap) -> Result<Priority, Error> {
    match headers.get(PRIORITY).map(|value| value.as_bytes()) {
        None | Some(b"interactive") => Ok(Priority::Interactive),
        Some(b"bulk") => Ok(Priority::Bulk),
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
        assert_eq!(parsed(None), Ok(Priority::Interactive));
        assert_eq!(parsed(Some("interactive")), Ok(Priority::Interactive));
        assert_eq!(parsed(Some("bulk")), Ok(Priority::Bulk));
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

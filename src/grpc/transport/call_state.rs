//! What the edge knows of one call. It is built once, when the headers have arrived, and shared by the
//! layers, the bodies and the access log.
//!
//! Handlers do not read it: they get a [`crate::leads::CallContext`] as an argument, which is built
//! from it once, after authorization.

use std::sync::{Arc, OnceLock};

use tokio::time::Instant;
use tonic::Status;

use super::{admission::CallGuard, conn_info::ConnInfo, send_deadline::SendDeadline};
use crate::{
    grpc::status,
    leads::{CostMeter, Error, PortalName},
    telemetry::trace_context::TraceContext,
};
use leadsd_quota::Caller;

/// State of one call.
#[derive(Debug)]
pub(crate) struct CallState {
    pub(crate) request_id: Arc<str>,
    /// Page that explains the reasons of errors; empty for none.
    pub(crate) error_docs_url: Arc<str>,
    /// When the headers arrived.
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    /// Span of the client; `None` if it sent no trace context.
    pub(crate) parent: Option<TraceContext>,
    /// Span of this call.
    pub(crate) trace: TraceContext,
    /// HubSpot calls made for this call.
    pub(crate) cost: Arc<CostMeter>,
    /// Slot and bytes of this call.
    pub(crate) guard: CallGuard,
    /// The connection that it came on.
    pub(crate) connection: Arc<ConnInfo>,
    /// When the response must have been sent; set once it has begun.
    pub(crate) send_deadline: SendDeadline,
    /// Set by authorization.
    caller: OnceLock<Caller>,
    /// Set by authorization, if the caller may use the portal.
    portal: OnceLock<PortalName>,
    /// Set by the first failure.
    failure: OnceLock<Error>,
}

/// The parts of a [`CallState`] that are known when the headers have arrived.
#[derive(Debug)]
pub(crate) struct NewCall {
    pub(crate) request_id: Arc<str>,
    pub(crate) error_docs_url: Arc<str>,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    pub(crate) parent: Option<TraceContext>,
    pub(crate) trace: TraceContext,
    pub(crate) guard: CallGuard,
    pub(crate) connection: Arc<ConnInfo>,
}

// === impl CallState ===

impl CallState {
    pub(crate) fn new(call: NewCall) -> Self {
        let NewCall {
            request_id,
            error_docs_url,
            started,
            deadline,
            parent,
            trace,
            guard,
            connection,
        } = call;
        Self {
            request_id,
            error_docs_url,
            started,
            deadline,
            parent,
            trace,
            cost: Arc::default(),
            guard,
            connection,
            send_deadline: SendDeadline::default(),
            caller: OnceLock::new(),
            portal: OnceLock::new(),
            failure: OnceLock::new(),
        }
    }

    /// Records a failure and returns its status. The first failure is the one that is logged.
    pub(crate) fn fail(&self, error: Error) -> Status {
        let status = status::for_call(&error, &self.request_id, &self.error_docs_url);
        let _ = self.failure.set(error);
        status
    }

    /// The first failure.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }

    /// Records who calls. The first value is kept.
    pub(crate) fn set_caller(&self, caller: Caller) {
        let _ = self.caller.set(caller);
    }

    /// The caller, once it is known.
    pub(crate) fn caller(&self) -> Option<&Caller> {
        self.caller.get()
    }

    /// Records the portal that the caller may use. The first value is kept.
    pub(crate) fn set_portal(&self, portal: PortalName) {
        let _ = self.portal.set(portal);
    }

    /// The portal, once the caller is authorized for it.
    pub(crate) fn portal(&self) -> Option<&PortalName> {
        self.portal.get()
    }

    /// Charges at least this many bytes of the request to the call.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), Status> {
        self.guard.reserve(bytes).map_err(|error| self.fail(error))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Calls without a connection.

    use std::net::{IpAddr, Ipv4Addr};

    use tokio::sync::watch;

    use super::*;
    use crate::grpc::transport::admission::{Admission, Limits};

    /// Admission control with this many bytes.
    pub(crate) fn admission(memory: usize) -> Arc<Admission> {
        let limits = Limits { connections: 1, in_flight: 10, memory, metadata: 8_192 };
        Arc::new(Admission::new(limits))
    }

    /// A connection of its own.
    pub(crate) fn connection() -> ConnInfo {
        ConnInfo {
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            certificate: None,
            over_limit: false,
            probe_slots: Admission::probe_slots(),
            closing: watch::channel(false).1,
        }
    }

    /// A call that was admitted on a connection of its own.
    pub(crate) fn call(admission: &Arc<Admission>, is_probe: bool, deadline: Instant) -> CallState {
        let connection = Arc::new(connection());
        CallState::new(NewCall {
            request_id: "r-1".into(),
            error_docs_url: "".into(),
            started: Instant::now(),
            deadline,
            parent: None,
            trace: TraceContext::root(0.0),
            guard: admission.admit(&connection, is_probe, 0).expect("a free slot"),
            connection,
        })
    }
}

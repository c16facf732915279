//! State of a call at the gRPC edge, built when the headers have arrived and shared by the layers, the
//! bodies and the access log.
//!
//! Handlers get a [`crate::leads::CallContext`] instead, which is built from it after authorization.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::Instant;
use tonic::Status;

use super::{admission::CallGuard, conn_info::ConnInfo, send_deadline::SendDeadline};
use crate::{
    grpc::status,
    leads::{CostMeter, Error, PortalName},
    telemetry::trace_context::TraceContext,
};
use leadsd_quota::Caller;

/// State of a call.
#[derive(Debug)]
pub(crate) struct CallState {
    pub(crate) request_id: Arc<str>,
    /// URL of the page that documents error reasons; empty if there is none.
    pub(crate) error_docs_url: Arc<str>,
    /// Arrival of the headers.
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    /// Trace span of the client; `None` if it sent no trace context.
    pub(crate) parent: Option<TraceContext>,
    /// Trace span of this call.
    pub(crate) trace: TraceContext,
    /// Number of HubSpot calls for this call.
    pub(crate) cost: Arc<CostMeter>,
    /// Slot and bytes of this call.
    pub(crate) guard: CallGuard,
    /// Connection of the call.
    pub(crate) connection: Arc<ConnInfo>,
    /// Message counts of the method.
    pub(crate) messages: Arc<MessageCounters>,
    /// Deadline for sending the response, set when the response starts.
    pub(crate) send_deadline: SendDeadline,
    /// Set by authorization.
    caller: OnceLock<Caller>,
    /// Set by authorization, if the caller may use the portal.
    portal: OnceLock<PortalName>,
    /// Set by the first error.
    failure: OnceLock<Error>,
}

/// Fields of a [`CallState`] that are known when the headers have arrived.
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
    pub(crate) messages: Arc<MessageCounters>,
}

/// Numbers of complete messages of all calls of one method.
#[derive(Debug, Default)]
pub(crate) struct MessageCounters {
    received: AtomicU64,
    sent: AtomicU64,
}

// === impl MessageCounters ===

impl MessageCounters {
    /// Adds request messages that arrived.
    pub(crate) fn on_received(&self, messages: u64) {
        if messages > 0 {
            self.received.fetch_add(messages, Ordering::Relaxed);
        }
    }

    /// Adds response messages that were passed to HTTP/2.
    pub(crate) fn on_sent(&self, messages: u64) {
        if messages > 0 {
            self.sent.fetch_add(messages, Ordering::Relaxed);
        }
    }

    /// Number of request messages.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Number of response messages.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
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
            messages,
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
            messages,
            send_deadline: SendDeadline::default(),
            caller: OnceLock::new(),
            portal: OnceLock::new(),
            failure: OnceLock::new(),
        }
    }

    /// Records an error and returns its status. Only the first error is logged.
    pub(crate) fn fail(&self, error: Error) -> Status {
        let status = status::for_call(&error, &self.request_id, &self.error_docs_url);
        let _ = self.failure.set(error);
        status
    }

    /// First recorded error.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }

    /// Records the caller. The first value is kept.
    pub(crate) fn set_caller(&self, caller: Caller) {
        let _ = self.caller.set(caller);
    }

    /// Caller; `None` before it is known.
    pub(crate) fn caller(&self) -> Option<&Caller> {
        self.caller.get()
    }

    /// Records the portal. The first value is kept.
    pub(crate) fn set_portal(&self, portal: PortalName) {
        let _ = self.portal.set(portal);
    }

    /// Portal; `None` before the caller is authorized.
    pub(crate) fn portal(&self) -> Option<&PortalName> {
        self.portal.get()
    }

    /// Charges at least this many bytes of the request.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), Status> {
        self.guard.reserve(bytes).map_err(|error| self.fail(error))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Call states without a connection.

    use std::time::Duration;

    use arc_swap::ArcSwapOption;
    use tokio::sync::watch;

    use super::*;
    use crate::grpc::transport::{
        admission::{Admission, AdmissionLimits},
        caller_accounts::{AccountKey, CallerAccounts},
        cancellation_limit::CancellationLimit,
        connection_limits::ConnectionLimits,
        connection_stage::ConnectionStage,
        held_messages::HeldMessages,
        limits::{CallerShare, SharedLimit},
        receive_window::ReceiveWindow,
    };

    /// Creates admission control with this memory limit in bytes.
    pub(crate) fn admission(memory: usize) -> Arc<Admission> {
        Arc::new(Admission::new(AdmissionLimits {
            connections: 1,
            connections_per_address: 1,
            in_flight: 10,
            memory,
            metadata: 8_192,
            caller_share: CallerShare(1.0),
        }))
    }

    /// Creates the info of a new connection.
    pub(crate) fn connection() -> ConnInfo {
        connection_from([127, 0, 0, 1])
    }

    /// Creates the info of a new connection from this address, with an account that it shares with no
    /// other connection.
    pub(crate) fn connection_from(address: [u8; 4]) -> ConnInfo {
        let memory = Arc::new(SharedLimit::new("memory", 1 << 30, CallerShare(1.0)));
        let accounts = Arc::new(CallerAccounts::new(memory));
        let account = accounts.get(AccountKey::from_address(address.into()));
        let limits = Arc::new(ConnectionLimits::new(1, 1, CallerShare(1.0)));
        ConnInfo {
            peer: leadsd_quota::RemotePeer::Address(address.into()),
            certificate: None,
            stage: Arc::new(ConnectionStage::new(limits, Arc::clone(&account))),
            calls: AtomicU64::new(0),
            probe_slots: Admission::probe_slots(),
            peer_account: account,
            last_identity: ArcSwapOption::empty(),
            window: ReceiveWindow::SMALL,
            held: HeldMessages::new(Duration::from_secs(60)),
            cancellations: CancellationLimit::new(1),
            closing: watch::channel(false).1,
        }
    }

    /// Admits a call on a new connection.
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
            messages: Arc::default(),
        })
    }
}

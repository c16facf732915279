//! Records the end of a call in metrics, trace and access log, for any outcome.

use std::{sync::Arc, time::Duration};

use http::request::Parts;
use tonic::Code;
use tracing::{Level, Span, event, info_span};

use super::{call_log_limit::Origin, call_policy::CallPolicy};
use crate::{
    grpc::{
        methods::{Method, code_name},
        transport::{call_state::CallState, response_body::ResponseObserver},
    },
    leads::{Error, LocalLimit, Reason},
    telemetry::{
        self, names,
        spans::{FinishedSpan, KeyValue, SpanKind},
    },
};

/// Maximum length in characters of the path of an unknown method in logs.
const MAX_PATH: usize = 128;

/// Fraction (1/20) of its timeout by which a client's timer may be ahead of this replica's: it starts when
/// the client sends the call. A cancellation in the last twentieth counts as an expired deadline.
const CLIENT_LEAD: u32 = 20;

/// Recorder of the end of a call, which is its drop. A drop without a code means that the client has
/// disconnected or has not read the response in time.
pub(crate) struct AccessLog {
    policy: Arc<CallPolicy>,
    method: usize,
    /// Path of the call; `None` if its method is known.
    path: Option<String>,
    state: Arc<CallState>,
    code: Option<Code>,
}

// === impl AccessLog ===

impl AccessLog {
    pub(crate) fn new(
        policy: Arc<CallPolicy>,
        method: usize,
        parts: &Parts,
        state: Arc<CallState>,
    ) -> Self {
        let known = policy.methods.get(method);
        let path = known.is_unknown().then(|| {
            parts.uri.path().trim_start_matches('/').chars().take(MAX_PATH).collect::<String>()
        });
        Self { policy, method, path, state, code: None }
    }

    /// Opens the log span of the call, for events before its end.
    pub(crate) fn open_span(&self) -> Span {
        info_span!("rpc", rpc.method = self.name(), request.id = &*self.state.request_id)
    }

    /// State of the call.
    pub(crate) fn state(&self) -> &Arc<CallState> {
        &self.state
    }

    /// Method of the call.
    pub(crate) fn method(&self) -> &Method {
        self.policy.methods.get(self.method)
    }

    /// Name of the method; the path if the method is unknown.
    fn name(&self) -> &str {
        self.path.as_deref().unwrap_or(&self.method().name)
    }

    /// Code of the call: the code that was sent, else the code for the reason why none was.
    fn code(&self, took: Duration) -> Code {
        self.code.unwrap_or_else(|| {
            let allowed = self.state.deadline.saturating_duration_since(self.state.started);
            if took + allowed / CLIENT_LEAD >= allowed {
                Code::DeadlineExceeded
            } else {
                Code::Cancelled
            }
        })
    }

    /// Builds the trace span of the call.
    fn finished(&self, code: Code, took: Duration) -> FinishedSpan {
        let Method { name, service, method, .. } = self.method();
        let text = |name, text: &str| KeyValue::new(name, text.to_owned());
        let mut attributes = vec![
            KeyValue::new(names::RPC_SYSTEM, "grpc"),
            text(names::RPC_SERVICE, service),
            text(names::RPC_METHOD, method),
            KeyValue::new(names::RPC_STATUS_CODE, i64::from(i32::from(code))),
            text(names::REQUEST_ID, &self.state.request_id),
            KeyValue::new(names::HUBSPOT_CALLS_SPENT, self.state.cost.requests()),
        ];
        let portal = self.state.portal();
        attributes.extend(portal.map(|portal| text(names::PORTAL, portal.as_str())));
        let failure = self.state.failure();
        attributes
            .extend(failure.map(|error| KeyValue::new(names::ERROR_TYPE, error.reason().as_str())));
        FinishedSpan {
            name: name.clone().into(),
            kind: SpanKind::Server,
            context: self.state.trace.clone(),
            parent: self.state.parent.clone(),
            took,
            attributes,
            error: is_server_error(code).then(|| code_name(code).to_owned()),
        }
    }

    /// Reason of a refused call: one that failed before its caller was known, that this replica rejected by a
    /// policy or a limit, or that failed through its client and cost no HubSpot call. `None` for other
    /// calls.
    fn refusal(&self, code: Code) -> Option<&'static str> {
        if code == Code::Ok {
            return None;
        }
        let failure = self.state.failure();
        let is_rejected = failure.is_some_and(|error| {
            let is_limited = match error.local_limit() {
                Some(LocalLimit::Quota(_) | LocalLimit::Admission(_) | LocalLimit::WriteQueue) => {
                    true
                }
                Some(LocalLimit::CircuitBreaker) | None => false,
            };
            is_limited
                || [Reason::CallerForbidden, Reason::UnknownPortal, Reason::RequestTooLarge]
                    .contains(&error.reason())
        });
        // HubSpot's quota bounds the calls that cost something.
        let is_client_error = code == Code::Unimplemented || !is_server_error(code);
        let is_free = is_client_error && self.state.cost.millionths() == 0;
        let is_refused =
            is_rejected || is_free || self.path.is_some() || self.state.caller().is_none();
        is_refused.then(|| failure.map_or_else(|| code_name(code), |error| error.reason().as_str()))
    }

    /// Reports whether the access event is written. Repeated refusals of one origin are summarised, and
    /// other calls of one origin while the log is behind.
    fn is_logged(&self, code: Code) -> bool {
        let Self { state, policy, .. } = self;
        let origin = || Origin::new(state.caller(), state.connection.peer);
        match self.refusal(code) {
            Some(reason) => policy.log_limits.refused.admit(origin(), reason),
            None if telemetry::is_log_behind() => {
                policy.log_limits.others.admit(origin(), code_name(code))
            }
            None => true,
        }
    }

    fn log(&self, code: Code, took: Duration) {
        let Self { state, path, .. } = self;
        let method = self.method();
        let name = self.name();
        let failure = state.failure();
        macro_rules! access {
            ($level:expr) => {
                // Without the span of the call: the event has its fields.
                event!(
                    target: "leadsd::access",
                    parent: None,
                    $level,
                    rpc.method = name,
                    rpc.code = code_name(code),
                    portal = state.portal().map(|portal| portal.as_str()),
                    caller = state.caller().map(|caller| caller.as_str()),
                    duration_ms = took.as_secs_f64() * 1e3,
                    hubspot.calls = state.cost.requests(),
                    hubspot.correlation_id = state.cost.correlation_id().as_deref(),
                    request.id = &*state.request_id,
                    trace.id = %state.trace.trace_id(),
                    error.reason = failure.map(|error| error.reason().as_str()),
                    error.internal = failure.and_then(Error::internal),
                    "Call finished"
                )
            };
        }
        // Health probes and reflection are frequent and concern no portal.
        if method.is_public_api || path.is_some() {
            if self.is_logged(code) {
                access!(Level::INFO);
            }
        } else {
            access!(Level::DEBUG);
        }
    }
}

impl ResponseObserver for AccessLog {
    fn on_end(mut self, code: Code) {
        self.code = Some(code);
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let took = self.state.started.elapsed();
        let code = self.code(took);
        if self.code.is_none() && code == Code::Cancelled {
            self.state.connection.on_cancelled();
        }
        let method = self.method();
        method.on_finished(code, took);
        if method.is_public_api && self.policy.spans.is_recording(&self.state.trace) {
            self.policy.spans.finish(self.finished(code, took));
        }
        self.log(code, took);
    }
}

/// Reports whether a code is an error of this service or its upstreams, not of the client.
fn is_server_error(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}

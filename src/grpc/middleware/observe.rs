//! The outermost layer: gives every call its id, deadline and span, refuses it if there is too much to
//! do, ends it when its time is up, survives its panics, and writes one access event when it is over,
//! however it ends.

use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use futures_util::{FutureExt as _, future::ready};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request::Parts};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, body::Body, service::Routes};
use tower::Service as _;
use tracing::{Instrument as _, Level, Span, event, info_span};
use uuid::Uuid;

use super::authz::Authorizer;
use crate::grpc::{
    codec::CALL,
    methods::{CallKind, Method, code_name},
    status,
    transport::{
        admission::{Admission, CallGuard},
        call_state::{CallState, CallStateInner, ConnInfo},
        request_body::MeteredBody,
        response_body::{ResponseBody, grpc_code},
    },
};
use crate::{
    leads::{Error, Reason},
    telemetry::{
        names,
        spans::{FinishedSpan, KeyValue, SpanKind, SpanSink},
        trace_context::TraceContext,
    },
};

/// Caller's or our own id of a call, in and out.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// HubSpot calls that the answer took, out; a part of one, if it was shared.
const QUOTA_COST: HeaderName = HeaderName::from_static("leadsd-quota-cost");

/// The caller's deadline, as gRPC sends it.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How a call ended: among the headers of an answer without a body, else in its trailers.
pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Longest request id taken from a caller.
const MAX_REQUEST_ID: usize = 128;

/// Longest path of a method that does not exist, as it is logged.
const MAX_PATH: usize = 128;

/// What HTTP/2 adds to the size of each header.
const HEADER_OVERHEAD: usize = 32;

/// Ceiling of the deadline of calls that watch: as long as the caller wants.
const ENDLESS: Duration = Duration::from_secs(365 * 86_400);

/// Ceiling of the deadline of health probes, and of the time until one that watches has begun.
const PROBE: Duration = Duration::from_secs(5);

/// How long after the deadline the layer itself steps in, in case the handler did not: it knows
/// less about the call than the handler does.
const BACKSTOP: Duration = Duration::from_millis(20);

/// Part of its deadline by which a caller may be ahead of this replica: its timer starts when it sends
/// the call. A caller that cancels in the last twentieth has let its deadline pass.
const CALLER_AHEAD: u32 = 20;

/// What holds for all calls.
#[derive(Debug)]
pub(crate) struct CallPolicy {
    /// Ceiling of the deadline of calls for one lead or one page.
    pub(crate) max_deadline: Duration,
    /// Ceiling of the deadline of batches.
    pub(crate) max_batch_deadline: Duration,
    /// Largest message, in bytes.
    pub(crate) max_message: usize,
    /// Largest metadata, in bytes.
    pub(crate) max_metadata: usize,
    /// Where the reasons of errors are explained.
    pub(crate) catalogue: Arc<str>,
    /// Where spans are handed over.
    pub(crate) spans: SpanSink,
}

/// The layer around all services, as one connection sees it.
#[derive(Debug, Clone)]
pub(crate) struct CallLayer {
    pub(crate) inner: Routes,
    pub(crate) gate: Arc<Authorizer>,
    pub(crate) rules: Arc<CallPolicy>,
    pub(crate) load: Arc<Admission>,
    pub(crate) line: Arc<ConnInfo>,
}

/// Writes the access event, at the latest when it is dropped: then the caller has gone away, or has
/// not taken the answer in its time.
pub(crate) struct AccessLog {
    load: Arc<Admission>,
    method: usize,
    /// The path that was called, if there is no such method.
    path: Option<String>,
    rules: Arc<CallPolicy>,
    facts: CallState,
    start: Start,
    code: Option<Code>,
    /// Ends with the call.
    span: Span,
}

/// When a call began, and from where.
#[derive(Debug, Clone)]
struct Start {
    at: Instant,
    /// The span that called, in another service.
    parent: Option<TraceContext>,
}

type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

// === impl CallLayer ===

impl hyper::service::Service<Request<Incoming>> for CallLayer {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        let (mut parts, body) = request.into_parts();
        let number = self.load.methods.find(parts.uri.path());
        let method = self.load.methods.get(number);
        method.started();
        let admitted = self.admit(method, &parts);
        let (slot, refusal) = match admitted {
            Ok(slot) => (slot, None),
            Err(error) => (self.load.refused(), Some(error)),
        };
        let start =
            Start { at: Instant::now(), parent: TraceContext::from_headers(&parts.headers) };
        let facts = self.facts(&mut parts, method, slot, &start);
        let access = self.access(number, &parts, facts.clone(), start.clone());
        if let Some(error) = refusal {
            let refused = access.failed(error);
            return Box::pin(ready(Ok(access.answered(refused))));
        }
        let answer_by = match method.kind {
            // What is watched has to begin, at least.
            CallKind::Streaming => {
                let most = self.rules.max_deadline;
                let most = if method.is_probe { most.min(PROBE) } else { most };
                facts.deadline.min(start.at + most)
            }
            CallKind::Unary | CallKind::Batch => facts.deadline,
        };
        parts.extensions.insert(facts.clone());
        let body = Body::new(MeteredBody::new(body, facts.clone(), self.rules.max_message));
        let mut request = Request::from_parts(parts, body);
        let (mut inner, gate, known) = (self.inner.clone(), Arc::clone(&self.gate), facts.clone());
        let span = access.span.clone();
        let work = async move {
            let handled = AssertUnwindSafe(async {
                match gate.admit(&known, &mut request).await {
                    Ok(()) => inner.call(request).await,
                    Err(error) => Ok(known.failed(error).into_http()),
                }
            });
            let handled = handled.catch_unwind();
            let response = match timeout_at(answer_by + BACKSTOP, handled).await {
                Ok(Ok(Ok(response))) => response,
                Ok(Err(_panic)) => access.failed(
                    Error::new(Reason::Internal, "the service failed on this call")
                        .with_internal("handler panicked"),
                ),
                Err(_) => {
                    access.failed(Error::new(Reason::DeadlineExceeded, "the deadline passed"))
                }
            };
            Ok(access.answered(response))
        };
        Box::pin(CALL.scope(facts, work).instrument(span))
    }
}

impl CallLayer {
    /// Whether there is room for the call.
    fn admit(&self, method: &Method, parts: &Parts) -> Result<CallGuard, Error> {
        if self.line.over_limit && !method.is_probe {
            return Err(self.load.connections.full("connections"));
        }
        let size: usize = parts
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD)
            .sum();
        if size > self.rules.max_metadata {
            self.load.metadata_too_large.fetch_add(1, Ordering::Relaxed);
            let most = self.rules.max_metadata;
            let text = format!("the metadata has {size} bytes, and at most {most} are read");
            return Err(Error::new(Reason::RequestTooLarge, text));
        }
        if method.is_probe {
            return self.load.admit_probe(&self.line.probes);
        }
        self.load.admit()
    }

    fn facts(
        &self,
        parts: &mut Parts,
        method: &Method,
        slot: CallGuard,
        start: &Start,
    ) -> CallState {
        let timeout = parts.headers.remove(GRPC_TIMEOUT);
        let ceiling = match method.kind {
            CallKind::Batch => self.rules.max_batch_deadline,
            CallKind::Streaming => ENDLESS,
            CallKind::Unary if method.is_probe => self.rules.max_deadline.min(PROBE),
            CallKind::Unary => self.rules.max_deadline,
        };
        let timeout = timeout.as_ref().and_then(parse_timeout).unwrap_or(ceiling);
        CallState::new(CallStateInner {
            request_id: request_id(&parts.headers),
            catalogue: Arc::clone(&self.rules.catalogue),
            deadline: start.at + timeout.min(ceiling),
            trace: match &start.parent {
                Some(parent) => parent.child(),
                None => self.rules.spans.root(&parts.headers),
            },
            cost: Arc::default(),
            portal: OnceLock::new(),
            failure: OnceLock::new(),
            caller: OnceLock::new(),
            slot: Arc::new(slot),
            line: Arc::clone(&self.line),
        })
    }

    fn access(&self, number: usize, parts: &Parts, facts: CallState, start: Start) -> AccessLog {
        let method = self.load.methods.get(number);
        let path = method.name.is_empty().then(|| {
            parts.uri.path().trim_start_matches('/').chars().take(MAX_PATH).collect::<String>()
        });
        let name = path.as_deref().unwrap_or(&method.name);
        let span = info_span!("rpc", rpc.method = name, request.id = &*facts.request_id);
        AccessLog {
            load: Arc::clone(&self.load),
            method: number,
            path,
            rules: Arc::clone(&self.rules),
            facts,
            start,
            code: None,
            span,
        }
    }
}

// === impl AccessLog ===

impl AccessLog {
    pub(crate) fn deadline(&self) -> Instant {
        self.facts.deadline
    }

    /// Holds this many bytes of the answer.
    pub(crate) fn holds(&self, bytes: usize) {
        self.facts.slot.reserve_response(bytes);
    }

    pub(crate) fn ended(&mut self, code: Code) {
        self.code = Some(code);
    }

    /// The call as a span of its trace.
    fn finished(&self, method: &Method, code: Code, took: Duration) -> FinishedSpan {
        let Method { name, service, method, .. } = method;
        let text = |name, text: &str| KeyValue::new(name, text.to_owned());
        let mut attributes = vec![
            KeyValue::new(names::RPC_SYSTEM, "grpc"),
            text(names::RPC_SERVICE, service),
            text(names::RPC_METHOD, method),
            KeyValue::new(names::RPC_STATUS_CODE, i64::from(i32::from(code))),
            text(names::REQUEST_ID, &self.facts.request_id),
            KeyValue::new(names::HUBSPOT_CALLS_SPENT, self.facts.cost.calls()),
        ];
        let portal = self.facts.portal.get();
        attributes.extend(portal.map(|portal| text(names::PORTAL, portal.as_str())));
        let failure = self.facts.failure.get();
        attributes
            .extend(failure.map(|error| KeyValue::new(names::ERROR_TYPE, error.reason().as_str())));
        // What is the caller's own fault is no error of the server.
        let is_error = matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        );
        FinishedSpan {
            name: name.clone().into(),
            kind: SpanKind::Server,
            context: self.facts.trace.clone(),
            parent: self.start.parent.clone(),
            took,
            attributes,
            error: is_error.then(|| code_name(code).to_owned()),
        }
    }

    fn failed(&self, error: Error) -> Response<Body> {
        self.facts.failed(error).into_http()
    }

    /// What the decoder refuses, it refuses without a reason of ours; and what it calls a fault of the
    /// server is one of the caller, who sent what is no message.
    fn map_decode_error(&self, code: Option<Code>, headers: &HeaderMap) -> Option<Error> {
        if self.facts.failure.get().is_some() {
            return None;
        }
        if code == Some(Code::ResourceExhausted) {
            self.load.messages_too_large.fetch_add(1, Ordering::Relaxed);
            let text = "the message is larger than it may be after decompression";
            return Some(Error::new(Reason::RequestTooLarge, text));
        }
        let said = status::from_headers(headers).filter(|_| code == Some(Code::Internal))?;
        let text =
            format!("what was sent cannot be read as the method's message: {}", said.message());
        Some(Error::new(Reason::InvalidRequest, text))
    }

    /// The answer as it goes out; what becomes of it is followed to its end.
    fn answered(mut self, mut response: Response<Body>) -> Response<ResponseBody> {
        let mut code = grpc_code(response.headers());
        if let Some(error) = self.map_decode_error(code, response.headers()) {
            response = self.failed(error);
            code = grpc_code(response.headers());
        }
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&self.facts.request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if self.facts.portal.get().is_some() {
            // A whole number has no point, a part has at most six digits after it.
            if let Ok(cost) = HeaderValue::from_str(&self.facts.cost.calls().to_string()) {
                headers.insert(QUOTA_COST, cost);
            }
        }
        let Some(code) = code else {
            let is_public_api = self.load.methods.get(self.method).is_public_api;
            let closing = (!is_public_api).then(|| self.facts.line.closing.clone());
            return response.map(|body| match (ResponseBody::new(body, Some(self)), closing) {
                (answer, Some(closing)) => answer.until(closing),
                (answer, None) => answer,
            });
        };
        self.ended(code);
        drop(self);
        response.map(|body| ResponseBody::new(body, None))
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let took = self.start.at.elapsed();
        let code = self.code.unwrap_or_else(|| {
            // Nobody took the answer to its end: it was cut off in its time, or the caller left.
            let allowed = self.facts.deadline.saturating_duration_since(self.start.at);
            if took + allowed / CALLER_AHEAD >= allowed {
                Code::DeadlineExceeded
            } else {
                Code::Cancelled
            }
        });
        let method = self.load.methods.get(self.method);
        method.handled(code, took);
        let name = self.path.as_deref().unwrap_or(&method.name);
        let failure = self.facts.failure.get();
        let portal = self.facts.portal.get().map(|portal| portal.as_str());
        let caller = self.facts.caller.get().map(|caller| caller.as_str());
        // Health probes and reflection touch no portal and come by the second.
        macro_rules! access {
            ($level:expr) => {
                event!(
                    target: "leadsd::access",
                    parent: &self.span,
                    $level,
                    rpc.method = name,
                    rpc.code = code_name(code),
                    portal,
                    caller,
                    duration_ms = took.as_secs_f64() * 1e3,
                    hubspot.calls = self.facts.cost.calls(),
                    hubspot.correlation_id = self.facts.cost.correlation_id().as_deref(),
                    request.id = &*self.facts.request_id,
                    trace.id = %self.facts.trace.trace_id(),
                    error.reason = failure.map(|error| error.reason().as_str()),
                    error.internal = failure.and_then(Error::internal),
                    "Call finished"
                )
            };
        }
        if method.is_public_api && self.rules.spans.is_recording(&self.facts.trace) {
            self.rules.spans.finish(self.finished(method, code, took));
        }
        if method.is_public_api || self.path.is_some() {
            access!(Level::INFO);
        } else {
            access!(Level::DEBUG);
        }
    }
}

/// The caller's id if it can be logged and sent back, else a new one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let fits = |id: &&str| (1..=MAX_REQUEST_ID).contains(&id.len());
    given.filter(fits).map_or_else(|| Uuid::new_v4().to_string().into(), Into::into)
}

/// At most eight digits and a unit, as the gRPC protocol has it.
fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let parsed = |text: &'static str| parse_timeout(&HeaderValue::from_static(text));
        assert_eq!(parsed("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parsed("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(parsed("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parsed("99999999m"), Some(Duration::from_millis(99_999_999)));
        assert_eq!(parsed("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parsed("9n"), Some(Duration::from_nanos(9)));
        for bad in ["", "S", "5", "5s", "-5S", "123456789S", "1.5S", "5SS"] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_callers_request_id_is_kept_if_it_can_be() {
        let with = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(id).unwrap());
            request_id(&headers)
        };
        assert_eq!(&*with("abc-1"), "abc-1");
        assert_eq!(with(&"x".repeat(129)).len(), 36);
        assert_eq!(with("").len(), 36);
        assert_eq!(request_id(&HeaderMap::new()).len(), 36);
    }
}

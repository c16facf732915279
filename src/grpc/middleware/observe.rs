//! Outermost layer of a call: assigns request id, deadline and trace span, applies admission control,
//! enforces the deadline, catches panics, and records the end for any outcome.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, ready},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request::Parts};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::{Code, body::Body, codegen::BoxFuture};
use tracing::Instrument as _;

use super::{
    access_log::AccessLog,
    authz::{Authorized, Authorizer},
    call_context,
    call_policy::CallPolicy,
    protocol::{ACCEPTED_ENCODINGS, GRPC_ACCEPT_ENCODING, GrpcHeaders, NotGrpc},
    request_id::{REQUEST_ID, request_id},
};
use crate::{
    grpc::{
        methods::{Method, Methods, ServiceKind},
        status,
        transport::{
            admission::{Admission, CallGuard},
            call_state::{CallState, NewCall},
            conn_info::ConnInfo,
            connection::NewService,
            identification::identified,
            prefetched_body::PrefetchedBody,
            request_body::MeteredBody,
            response_body::{ResponseBody, ResponseObserver as _, grpc_code},
            stream_executor::StreamHandover,
        },
    },
    leads::{CostMeter, Error, Reason},
    telemetry::trace_context::TraceContext,
};
use leadsd_quota::Caller;

/// Response metadata key with the number of HubSpot calls; a fraction if calls were shared.
const QUOTA_COST: HeaderName = HeaderName::from_static("leadsd-quota-cost");

/// Response metadata key with the replicas that recognize a repeat of a write with a request id.
const REQUEST_ID_SCOPE: HeaderName = HeaderName::from_static("leadsd-request-id-scope");

/// Overhead per header in the size of a header list, by RFC 9113.
const HEADER_OVERHEAD: usize = 32;

/// Methods that are served at any memory pressure: their requests and responses are small.
const SMALL_READS: [(ServiceKind, &str); 2] =
    [(ServiceKind::Leads, "GetLead"), (ServiceKind::Quota, "GetQuota")];

/// Maximum size in bytes of a reflection request: a name. The response repeats it.
const MAX_REFLECTION_MESSAGE: usize = 4 * 1024;

/// Body of the requests that the services get. Boxed, because the generated code of a service moves the
/// request through several futures, each of which reserves space for it.
pub(crate) type RequestBody = Box<PrefetchedBody<MeteredBody<Incoming>>>;

/// Services behind the layers.
pub(crate) trait Services: fmt::Debug + Send + Sync + 'static {
    /// Dispatches a call to a service.
    fn call(
        &self,
        service: ServiceKind,
        request: Request<RequestBody>,
    ) -> BoxFuture<Response<Body>, Infallible>;
}

/// Factory of the layer of each connection.
#[derive(Debug)]
pub(crate) struct CallServer {
    pub(crate) shared: Arc<SharedLayers>,
}

/// State shared by the layers of all connections.
#[derive(Debug)]
pub(crate) struct SharedLayers {
    pub(crate) services: Box<dyn Services>,
    pub(crate) authorizer: Authorizer,
    pub(crate) policy: Arc<CallPolicy>,
    pub(crate) admission: Arc<Admission>,
}

/// Request after the checks that need nothing but its headers.
struct CheckedRequest {
    /// Index of the method.
    method: usize,
    guard: CallGuard,
    headers: GrpcHeaders,
    /// `None` if the request is a call that is admitted.
    rejection: Option<Rejection>,
}

/// Reason to reject a request by its headers.
enum Rejection {
    /// The request is not a call: the response is not one of gRPC.
    NotGrpc(NotGrpc),
    /// The call is invalid or exceeds a limit.
    Call(Error),
}

/// Call that passed admission control.
struct AdmittedCall {
    /// Index of the method.
    method: usize,
    state: Arc<CallState>,
    peer: Caller,
}

/// Layer around all services, one per connection.
#[derive(Debug)]
pub(crate) struct CallLayer {
    shared: Arc<SharedLayers>,
    connection: Arc<ConnInfo>,
    /// Caller of calls without identity and name: the address of the peer.
    peer: Caller,
    handover: StreamHandover,
}

type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<ResponseBody<AccessLog>>, Infallible>> + Send>>;

// === impl CallServer ===

impl NewService for CallServer {
    type Service = CallLayer;
    type Body = ResponseBody<AccessLog>;

    fn new_service(&self, connection: Arc<ConnInfo>, handover: StreamHandover) -> CallLayer {
        let peer = Caller::new(&connection.peer.to_string()).with_peer(connection.peer);
        CallLayer { shared: Arc::clone(&self.shared), connection, peer, handover }
    }
}

// === impl CallLayer ===

impl CallLayer {
    /// Checks the headers of a request and admits the call.
    fn check(&self, parts: &mut Parts) -> CheckedRequest {
        let SharedLayers { policy, admission, .. } = &*self.shared;
        if let Some(not_grpc) = NotGrpc::check(parts) {
            return CheckedRequest {
                method: Methods::UNKNOWN,
                guard: admission.rejected(),
                headers: GrpcHeaders::default(),
                rejection: Some(Rejection::NotGrpc(not_grpc)),
            };
        }
        let number = policy.methods.find(parts.uri.path());
        let method = policy.methods.get(number);
        let size = metadata_size(&parts.headers);
        let admitted = match method.is_probe {
            true => Ok(()),
            false => admission
                .shedding()
                .admit_call(|| SMALL_READS.contains(&(method.service_kind, &*method.method))),
        };
        let admitted =
            admitted.and_then(|()| admission.admit(&self.connection, method.is_probe, size));
        let checked = admitted.and_then(|guard| {
            GrpcHeaders::take(&mut parts.headers).map(|headers| (guard, headers))
        });
        match checked {
            Ok((guard, headers)) => {
                CheckedRequest { method: number, guard, headers, rejection: None }
            }
            Err(error) => CheckedRequest {
                method: number,
                guard: admission.rejected(),
                headers: GrpcHeaders::default(),
                rejection: Some(Rejection::Call(error)),
            },
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for CallLayer {
    type Response = Response<ResponseBody<AccessLog>>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        let start = Instant::now();
        let (mut parts, body) = request.into_parts();
        let SharedLayers { policy, .. } = &*self.shared;
        let CheckedRequest { method: number, guard, headers, rejection } = self.check(&mut parts);
        let method = policy.methods.get(number);
        method.on_started();
        let deadlines =
            policy.deadlines.deadlines(method.kind, method.is_probe, headers.timeout, start);
        let parent = TraceContext::from_headers(&parts.headers);
        let state = Arc::new(CallState::new(NewCall {
            request_id: request_id(&parts.headers),
            error_docs_url: Arc::clone(&policy.error_docs_url),
            started: start,
            deadline: deadlines.call,
            trace: match &parent {
                Some(parent) => parent.child(),
                None => policy.spans.root(&parts.headers),
            },
            parent,
            guard,
            connection: Arc::clone(&self.connection),
            messages: Arc::clone(&method.messages),
        }));
        self.handover.put(Arc::clone(&state));
        let log = AccessLog::new(Arc::clone(policy), number, &parts, Arc::clone(&state));
        if let Some(rejection) = rejection {
            return Box::pin(ready(Ok(rejection.respond(log))));
        }
        let max_message = match method.has_request_stream() && !method.is_public_api {
            true => policy.max_message.min(MAX_REFLECTION_MESSAGE),
            false => policy.max_message,
        };
        let format = method.request.clone();
        let body =
            MeteredBody::new(body, headers.encoding, Arc::clone(&state), format, max_message);
        let body = Box::new(PrefetchedBody::new(body));
        let call =
            AdmittedCall { method: number, state: Arc::clone(&state), peer: self.peer.clone() };
        let shared = Arc::clone(&self.shared);
        let span = log.open_span();
        let handled = AssertUnwindSafe(handle(shared, call, parts, body)).catch_unwind();
        // Not an async block, which would reserve space for the future of the handler twice.
        let work = deadlines.enforce(handled).map(move |handled| {
            let response = match handled {
                Ok(Ok(response)) => response,
                Ok(Err(_panic)) => {
                    let error = Error::new(Reason::Internal, "internal error: the handler failed")
                        .with_internal("handler panicked");
                    state.fail(error).into_http()
                }
                Err(_elapsed) => {
                    let error =
                        Error::new(Reason::DeadlineExceeded, "the deadline of the call has passed");
                    state.fail(error).into_http()
                }
            };
            Ok(respond(log, response))
        });
        Box::pin(work.instrument(span))
    }
}

// === impl Rejection ===

impl Rejection {
    /// Builds the response, and records the end of the call.
    fn respond(self, log: AccessLog) -> Response<ResponseBody<AccessLog>> {
        let state = Arc::clone(log.state());
        match self {
            Self::Call(error) => {
                let response = state.fail(error).into_http();
                respond(log, response)
            }
            Self::NotGrpc(not_grpc) => {
                let code = state.fail(not_grpc.error()).code();
                log.on_end(code);
                let mut response = not_grpc.response();
                add_request_id(response.headers_mut(), &state);
                response.map(|body| ResponseBody::ended(body, state))
            }
        }
    }
}

/// Authorizes a call and dispatches it.
#[expect(clippy::manual_async_fn, reason = "an async function stores its arguments twice")]
fn handle(
    shared: Arc<SharedLayers>,
    call: AdmittedCall,
    mut parts: Parts,
    mut body: RequestBody,
) -> impl Future<Output = Response<Body>> + Send {
    async move {
        let AdmittedCall { method, state, peer } = &call;
        let method = shared.policy.methods.get(*method);
        let (path, headers) = (parts.uri.path(), &parts.headers);
        let authorization = shared.authorizer.authorize(state, peer, method, path, headers);
        let authorized = identified(&state.guard, &state.connection, authorization).await;
        let attached = attach(&shared, method, state, &mut parts, authorized);
        if let Err(error) = attached {
            return state.fail(error).into_http();
        }
        let started = match method.has_request_stream() {
            true => state.guard.start_stream(state.connection.window),
            false => body.prefetch(&state.guard).await,
        };
        if let Err(error) = started {
            return state.fail(error).into_http();
        }
        let request = Request::from_parts(parts, body);
        let Ok(response) = shared.services.call(method.service_kind, request).await;
        response
    }
}

/// Attaches an authorized call to the account of its caller, and passes it on to its handler.
fn attach(
    shared: &SharedLayers,
    method: &Method,
    state: &Arc<CallState>,
    parts: &mut Parts,
    authorized: Result<Option<Authorized>, Error>,
) -> Result<(), Error> {
    let authorized = authorized?;
    if method.is_unknown() {
        return Err(shared.policy.methods.not_found(parts.uri.path()));
    }
    // First: the context refers to the account.
    state.guard.attach(&state.connection, state.caller())?;
    match authorized {
        Some(authorized) => {
            call_context::insert(authorized, state, parts, method.default_priority())
        }
        None => Ok(()),
    }
}

/// Adds metadata to the response and wraps its body, so that its end is recorded.
fn respond(log: AccessLog, mut response: Response<Body>) -> Response<ResponseBody<AccessLog>> {
    let state = Arc::clone(log.state());
    // What the response needs is charged to the call by now; an error needs nothing of it.
    state.cost.release_memory();
    let mut code = grpc_code(response.headers());
    if let Some(error) = map_decode_error(&state, code, response.headers()) {
        response = state.fail(error).into_http();
        code = grpc_code(response.headers());
    }
    let headers = response.headers_mut();
    add_request_id(headers, &state);
    if code == Some(Code::Unimplemented) {
        headers.insert(GRPC_ACCEPT_ENCODING, ACCEPTED_ENCODINGS);
    }
    if state.portal().is_some() {
        headers.extend(cost_value(&state.cost).map(|cost| (QUOTA_COST, cost)));
        let scope = state.cost.request_id_scope();
        let scope = scope.map(|scope| HeaderValue::from_static(scope.as_str()));
        headers.extend(scope.map(|scope| (REQUEST_ID_SCOPE, scope)));
    }
    if let Some(code) = code {
        log.on_end(code);
        return response.map(|body| ResponseBody::ended(body, state));
    }
    state.send_deadline.start(state.deadline);
    // Streams of this API end by themselves when their connection closes.
    let ends_with_connection = !log.method().is_public_api;
    response.map(|body| {
        let closing = ends_with_connection.then(|| state.connection.closing.clone());
        let body = ResponseBody::new(body, state, log);
        match closing {
            Some(closing) => body.until(closing),
            None => body,
        }
    })
}

fn add_request_id(headers: &mut HeaderMap, state: &CallState) {
    if let Ok(id) = HeaderValue::from_str(&state.request_id) {
        headers.insert(REQUEST_ID, id);
    }
}

/// Maps a decode error: tonic reports undecodable requests as INTERNAL without details, but they are
/// errors of the client.
fn map_decode_error(state: &CallState, code: Option<Code>, headers: &HeaderMap) -> Option<Error> {
    if state.failure().is_some() || code != Some(Code::Internal) {
        return None;
    }
    let status = status::from_headers(headers)?;
    let text = format!("the request bytes are not a valid message: {}", status.message());
    Some(Error::new(Reason::InvalidRequest, text))
}

/// Formats the cost of a call: a whole number without a decimal point, or at most six decimals.
fn cost_value(cost: &CostMeter) -> Option<HeaderValue> {
    match cost.millionths() {
        0 => Some(HeaderValue::from_static("0")),
        1_000_000 => Some(HeaderValue::from_static("1")),
        _ => HeaderValue::from_str(&cost.requests().to_string()).ok(),
    }
}

fn metadata_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Maximum size in bytes of the future of a call up to its handler. Thousands of them wait at a time.
    const MAX_CALL_SIZE: usize = 256;

    #[test]
    fn the_future_of_a_call_holds_little_besides_its_request() {
        fn size_of_output<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        let own = size_of_output(handle) - size_of::<Parts>();
        assert!(own <= MAX_CALL_SIZE, "{own}");
    }

    #[test]
    fn the_cost_is_a_number_of_calls_or_a_fraction() {
        for (millionths, expected) in
            [(0, "0"), (1_000_000, "1"), (2_000_000, "2"), (10_000, "0.01"), (333_334, "0.333334")]
        {
            let cost = CostMeter::default();
            cost.add(millionths);
            assert_eq!(cost_value(&cost).unwrap(), expected);
        }
    }
}

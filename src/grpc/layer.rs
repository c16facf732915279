//! The outermost layer: gives every call its id, deadline and span, ends it when its time is up,
//! survives its panics, and writes one access event when it is over, however it ends.

use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, body::Body};
use tower::Service;
use tracing::{Instrument as _, Level, event, info_span};
use uuid::Uuid;

use super::{call::CallFacts, status};
use crate::leads::{Error, Reason};

/// Caller's or our own id of a call, in and out.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// HubSpot calls that the answer took, out; a part of one, if it was shared.
const QUOTA_COST: HeaderName = HeaderName::from_static("leadsd-quota-cost");

/// The caller's deadline, as gRPC sends it.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Status of an answer without a body; one with a body is counted as a success, as what is watched
/// has begun well.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Longest request id taken from a caller.
const MAX_REQUEST_ID: usize = 128;

/// Ceiling of the deadline of calls that watch: as long as the caller wants.
const ENDLESS: Duration = Duration::from_secs(365 * 86_400);

/// How long after the deadline the layer itself steps in, in case the handler did not: it knows
/// less about the call than the handler does.
const BACKSTOP: Duration = Duration::from_millis(20);

/// The layer around `inner`.
#[derive(Debug, Clone)]
pub(super) struct Observe<S> {
    pub(super) inner: S,
    /// Ceiling of the deadline of calls for one lead or one page.
    pub(super) max_deadline: Duration,
    /// Ceiling of the deadline of batches.
    pub(super) max_batch_deadline: Duration,
    /// Where the reasons of errors are explained.
    pub(super) catalogue: Arc<str>,
}

/// Writes the access event, at the latest when it is dropped: then the caller has gone away.
struct Access {
    method: String,
    facts: CallFacts,
    since: Instant,
    code: Option<Code>,
}

// === impl Observe ===

impl<S> Service<Request<Body>> for Observe<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let since = Instant::now();
        let timeout = request.headers_mut().remove(GRPC_TIMEOUT);
        let path = request.uri().path();
        let ceiling = match () {
            () if path.contains("/Batch") => self.max_batch_deadline,
            () if path.contains("/Watch") => ENDLESS,
            () => self.max_deadline,
        };
        let timeout = timeout.as_ref().and_then(parse_timeout).unwrap_or(ceiling);
        let facts = CallFacts {
            request_id: request_id(request.headers()),
            catalogue: Arc::clone(&self.catalogue),
            deadline: since + timeout.min(ceiling),
            spent: Arc::default(),
            portal: Arc::default(),
            failure: Arc::default(),
        };
        request.extensions_mut().insert(facts.clone());
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let span = info_span!("rpc", rpc.method = method, request.id = &*facts.request_id);
        let mut access = Access { method, facts, since, code: None };

        // The clone has not been asked whether it is ready; the original has.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let work = async move {
            let handled = AssertUnwindSafe(inner.call(request)).catch_unwind();
            let deadline = access.facts.deadline;
            let mut response = match timeout_at(deadline + BACKSTOP, handled).await {
                Ok(Ok(Ok(response))) => response,
                Ok(Err(_panic)) => access.failed(
                    Error::new(Reason::Internal, "the service failed on this call")
                        .with_internal("handler panicked"),
                ),
                Err(_) => {
                    access.failed(Error::new(Reason::DeadlineExceeded, "the deadline passed"))
                }
            };
            access.finish(&mut response);
            Ok(response)
        };
        Box::pin(work.instrument(span))
    }
}

// === impl Access ===

impl Access {
    fn failed(&self, error: Error) -> Response<Body> {
        let status = status::of_call(&error, &self.facts.request_id, &self.facts.catalogue);
        // The handler may have failed before; then its reason is the better one.
        let _ = self.facts.failure.set(error);
        status.into_http()
    }

    fn finish(&mut self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        let status = headers.get(GRPC_STATUS).map(|status| Code::from_bytes(status.as_bytes()));
        self.code = Some(status.unwrap_or(Code::Ok));
        if let Ok(id) = HeaderValue::from_str(&self.facts.request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if self.facts.portal.get().is_some() {
            // A whole number has no point, a part has at most six digits after it.
            if let Ok(cost) = HeaderValue::from_str(&self.facts.spent.calls().to_string()) {
                headers.insert(QUOTA_COST, cost);
            }
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        let failure = self.facts.failure.get();
        let portal = self.facts.portal.get().map(|portal| portal.as_str());
        // Health probes and reflection touch no portal and come by the second.
        macro_rules! access {
            ($level:expr) => {
                event!(
                    target: "leadsd::access",
                    $level,
                    rpc.method = self.method,
                    rpc.code = ?code,
                    portal,
                    duration_ms = self.since.elapsed().as_secs_f64() * 1e3,
                    hubspot.calls = self.facts.spent.calls(),
                    hubspot.correlation_id = self.facts.spent.correlation_id(),
                    request.id = &*self.facts.request_id,
                    error.reason = failure.map(|error| error.reason().as_str()),
                    error.internal = failure.and_then(Error::internal),
                    "Call finished"
                )
            };
        }
        if self.method.starts_with("grpc.") {
            access!(Level::DEBUG);
        } else {
            access!(Level::INFO);
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

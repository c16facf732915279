//! The pipeline every HubSpot call goes through: breaker, deadline, token, send, read, classify; one
//! replay when HubSpot answers 401, which never means that anything was done; and retries where
//! they are safe.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt as _;
use http::HeaderMap;
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};
use url::Url;

use super::{
    answer::{self, Body, Unauthorized},
    breaker::Health,
    endpoints::{self, Operation},
    http_client,
    limits::RateLimits,
    portals::{Outcome, Portal, Portals, Timing, Traffic},
    sending::Sending,
};
use crate::{
    config,
    leads::{ATTEMPT_TIME, CallContext, Error, PortalName, Reason, SideEffect},
    retry::{self, Course, Failure, Policy, Stop, Stopped},
    telemetry::spans::SpanSink,
};
use leadsd_base::net::{
    body::{self, BodyError},
    http::BuildError,
};
use leadsd_credentials::{Handle, Rejection, Token, TokenUnavailable};
use leadsd_quota::{self, BucketName, Permit, Quota};

/// Finds the credential of a portal.
pub type Resolve = Arc<dyn Fn(&PortalName) -> Option<Handle> + Send + Sync>;

/// HubSpot over HTTP, for all portals: one pool of connections.
#[derive(Clone)]
pub struct Client {
    pub(super) http: reqwest::Client,
    pub(super) collection: Url,
    pub(super) associations: Url,
    resolve: Resolve,
    quota: Arc<Quota>,
    max_answer_bytes: usize,
    policy: Policy,
    portals: Arc<Portals>,
    spans: SpanSink,
}

/// The first pause between attempts is random up to this, unless HubSpot says how long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The random part of a pause between attempts ends here.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Longest wait for the body of an answer that is no success: it is small and comes with its head, which
/// says what matters.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// What a HubSpot call is to do, and how many leads it is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Errand {
    pub(super) operation: Operation,
    pub(super) leads: usize,
}

/// A success: the bytes of a JSON object, or nothing if the body was empty.
pub(super) type Answer = Option<Vec<u8>>;

/// What one attempt came to.
enum Attempt {
    Done(Answer),
    Unauthorized(Unauthorized),
    Failed(Error),
}

// === impl Client ===

impl Client {
    /// A client for the API that the configuration names.
    pub fn new(
        config: &config::Hubspot,
        resolve: Resolve,
        quota: Arc<Quota>,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            http: http_client::build(config)?,
            collection: endpoints::url(
                &config.base_url,
                &endpoints::collection(config.api_version),
            ),
            associations: endpoints::url(
                &config.base_url,
                &endpoints::associations(config.api_version),
            ),
            resolve,
            quota,
            max_answer_bytes: config.max_answer_bytes,
            policy: Policy {
                max_attempts: config.max_attempts,
                first_pause: FIRST_PAUSE,
                max_pause: MAX_PAUSE,
                attempt_time: ATTEMPT_TIME,
            },
            portals: Arc::default(),
            spans: SpanSink::default(),
        })
    }

    /// The same client, which hands over a span for every call.
    #[must_use]
    pub fn with_spans(self, spans: SpanSink) -> Self {
        Self { spans, ..self }
    }

    /// What was sent so far, for every portal that was called, in order of their names.
    pub fn traffic(&self) -> Vec<Traffic> {
        self.portals.traffic()
    }

    /// How long HubSpot took so far, for every operation that was called.
    pub fn timings(&self) -> Vec<Timing> {
        self.portals.timings()
    }

    /// Makes the call and reads its JSON into `T`; an empty success is an empty `T`.
    pub(super) async fn json<T: DeserializeOwned + Default>(
        &self,
        call: &CallContext,
        errand: impl Into<Errand> + Send,
        request: impl Fn() -> RequestBuilder + Send + Sync,
    ) -> Result<T, Error> {
        let errand = errand.into();
        let answer = self.execute(call, errand, request).await?;
        let Some(bytes) = answer else { return Ok(T::default()) };
        // What the type does not take may still be told in a looser way, such as one name twice.
        let loosely = |_| serde_json::from_slice::<Value>(&bytes).and_then(serde_json::from_value);
        serde_json::from_slice(&bytes).or_else(loosely).map_err(|error| {
            let what = "HubSpot's answer does not have the expected shape";
            unintelligible(errand.operation, what).with_internal(error.to_string())
        })
    }

    /// Makes the call, and again where that is safe and may help.
    pub(super) async fn execute(
        &self,
        call: &CallContext,
        errand: impl Into<Errand> + Send,
        request: impl Fn() -> RequestBuilder + Send + Sync,
    ) -> Result<Answer, Error> {
        let errand = errand.into();
        let handle = (self.resolve)(&call.portal).ok_or_else(|| {
            Error::new(Reason::CredentialUnavailable, "the portal has no credential engine")
        })?;
        let portal = self.portals.of(&call.portal);
        let mut made = 0;
        let attempt = |number| {
            made = number;
            if number > 1 {
                portal.retries.fetch_add(1, Ordering::Relaxed);
            }
            self.try_once(call, errand, &handle, &portal, &request)
        };
        let judge = |failed: &Failed| failed.judge();
        let course = Course { made: call.made, deadline: || call.patience.until() };
        let (policy, budget) = (&self.policy, &portal.budget);
        let done = retry::run(policy, budget, course, attempt, judge, sleep, rand::random).await;
        done.map_err(|Stopped { failure, why }| {
            let error = failure.error.with_attempts(made);
            if why == Stop::Deadline { error.deadline_limited() } else { error }
        })
    }

    /// One attempt, unless HubSpot is known to be down.
    async fn try_once(
        &self,
        call: &CallContext,
        errand: Errand,
        handle: &Handle,
        portal: &Portal,
        request: &(impl Fn() -> RequestBuilder + Send + Sync),
    ) -> Result<Answer, Failed> {
        if let Err(wait) = portal.breaker.admit(Instant::now()) {
            let text = "HubSpot is down, and was not asked";
            let error = Error::new(Reason::UpstreamUnavailable, text).with_retry_after(wait);
            return Err(Failed { error, stands: true });
        }
        let answer = self.with_token(call, errand, handle, portal, request).await;
        if let Some(health) = health(&answer)
            && portal.breaker.record(health, Instant::now(), rand::random())
        {
            portal.stops.fetch_add(1, Ordering::Relaxed);
            warn!(portal = %call.portal, "HubSpot seems to be down; calls fail at once until it answers");
        }
        // Those who ask know another way.
        let has_own = errand.operation.has_limits_of_its_own();
        answer.map_err(|error| {
            let stands = has_own && error.reason() == Reason::RateLimited;
            Failed { error, stands }
        })
    }

    /// Sends the call, at most twice: again only with another token after a 401.
    async fn with_token(
        &self,
        call: &CallContext,
        errand: Errand,
        handle: &Handle,
        portal: &Portal,
        request: &(impl Fn() -> RequestBuilder + Send + Sync),
    ) -> Result<Answer, Error> {
        let token = self.token(call, handle).await?;
        let unauthorized = match self.attempt(call, errand, portal, request(), &token).await {
            Attempt::Done(answer) => return Ok(answer),
            Attempt::Failed(error) => return Err(error),
            Attempt::Unauthorized(unauthorized) => unauthorized,
        };
        let rejection = match unauthorized {
            Unauthorized::Expired => Rejection::Expired,
            Unauthorized::Refused => Rejection::Invalid,
        };
        let token =
            handle.replacement_for(&token, rejection, call.deadline).await.map_err(unusable)?;
        match self.attempt(call, errand, portal, request(), &token).await {
            Attempt::Done(answer) => Ok(answer),
            Attempt::Failed(error) => Err(error),
            Attempt::Unauthorized(_) => Err(Error::new(
                Reason::CredentialRejected,
                "HubSpot does not accept the portal's credential",
            )),
        }
    }

    /// The token, at once if there is one. While it is waited for, the permit that the call may have
    /// already is for others. Where several share the call, that ends when the first of them must
    /// know.
    async fn token(&self, call: &CallContext, handle: &Handle) -> Result<Token, Error> {
        let until = call.patience.until().min(call.deadline);
        let mut token = pin!(handle.token(until));
        if let Some(token) = token.as_mut().now_or_never() {
            return token.map_err(unusable);
        }
        drop(call.prepaid.take());
        token.await.map_err(|error| {
            let in_time =
                matches!(error, TokenUnavailable::DeadlineExceeded(_)) && until < call.deadline;
            let error = unusable(error);
            if in_time { error.deadline_limited() } else { error }
        })
    }

    async fn attempt(
        &self,
        call: &CallContext,
        errand: Errand,
        portal: &Portal,
        request: RequestBuilder,
        token: &Token,
    ) -> Attempt {
        let Errand { operation, leads } = errand;
        if call.deadline <= Instant::now() {
            let text = "the deadline passed before HubSpot was asked";
            return Attempt::Failed(Error::new(Reason::DeadlineExceeded, text));
        }
        let mut permit = match self.permit(call, operation).await {
            Ok(permit) => permit,
            Err(refusal) => return Attempt::Failed(refusal.into()),
        };
        let request = request.bearer_auth(token.secret.expose());
        permit.mark_sent(leads);
        call.cost.count();
        let exchange = self.exchange(call, operation, portal, request, permit);
        if operation.writes() {
            // Once sent, a write is followed to its end, bounded by the client's own timeout: its
            // caller may have gone, its outcome must be known all the same.
            return exchange.await;
        }
        match timeout_at(call.deadline, exchange).await {
            Ok(attempt) => attempt,
            Err(_) => Attempt::Failed(Error::new(
                Reason::DeadlineExceeded,
                "the deadline passed before HubSpot answered",
            )),
        }
    }

    /// The right to make one more call: the one the call came with, or the next one there is.
    async fn permit(
        &self,
        call: &CallContext,
        operation: Operation,
    ) -> Result<Permit, leadsd_quota::Rejected> {
        if let Some(permit) = call.prepaid.take() {
            return Ok(permit);
        }
        let bucket = match operation {
            Operation::Search => BucketName::Search,
            _ => BucketName::Burst,
        };
        self.quota
            .account(call.portal.as_str())
            .acquire(bucket, &call.who, call.permit_until())
            .await
    }

    async fn exchange(
        &self,
        call: &CallContext,
        operation: Operation,
        portal: &Portal,
        request: RequestBuilder,
        permit: Permit,
    ) -> Attempt {
        let since = Instant::now();
        let mut sending = Sending::new(&self.spans, call, operation, since);
        let request = request.headers(sending.trace_headers());
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                portal.count(operation, Outcome::Lost);
                return Attempt::Failed(not_answered(operation, &error));
            }
        };
        let took = since.elapsed();
        self.portals.took(operation, took);
        let (status, headers) = (response.status(), response.headers());
        let correlation_id = answer::correlation_id(headers);
        if let Some(id) = correlation_id {
            call.cost.set_correlation_id(&id.into());
        }
        sending.answered(status, correlation_id);
        portal.count(operation, outcome(status));
        let has_own = operation.has_limits_of_its_own();
        let limits = if has_own { RateLimits::default() } else { RateLimits::of(headers) };
        // Only failures look at them again, once the body is read.
        let headers = if status.is_success() { HeaderMap::new() } else { headers.clone() };
        debug!(
            hubspot.operation = operation.name(),
            http.status = status.as_u16(),
            duration_ms = took.as_secs_f64() * 1e3,
            hubspot.remaining = limits.remaining,
            "HubSpot answered"
        );
        // What a refusal for the limits means for them is in its body; other answers tell at once.
        let mut permit = Some(permit);
        if status != http::StatusCode::TOO_MANY_REQUESTS
            && let Some(permit) = permit.take()
        {
            permit.observe(limits.heard(None));
        }
        if !status.is_success() {
            let until = refusal_until(call, operation);
            let body = body::read_error(response, self.max_answer_bytes, until).await;
            if status == http::StatusCode::UNAUTHORIZED {
                return Attempt::Unauthorized(Body::parse(&body).unauthorized());
            }
            let error = answer::error(operation, status, &headers, &body);
            if let Some(permit) = permit {
                permit.observe(limits.heard(Some(&error).filter(|_| !has_own)));
            }
            return Attempt::Failed(error);
        }
        let body = match body::read(response, self.max_answer_bytes).await {
            Ok(body) => body,
            Err(BodyError::TooLarge { .. }) => return Attempt::Failed(too_large(operation)),
            Err(BodyError::Broken(_)) => {
                let text = "the connection broke while HubSpot answered";
                return Attempt::Failed(answer::interrupted(operation, text));
            }
        };
        if body.is_empty() {
            return Attempt::Done(None);
        }
        if is_object(&body) {
            return Attempt::Done(Some(body));
        }
        let text = "HubSpot's answer is no JSON object";
        Attempt::Failed(unintelligible(operation, text))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("collection", &self.collection.as_str())
            .finish_non_exhaustive()
    }
}

impl From<Operation> for Errand {
    /// A call about one lead; where associations are read, the read of the leads counts them.
    fn from(operation: Operation) -> Self {
        let leads = usize::from(operation != Operation::ReadAssociations);
        Self { operation, leads }
    }
}

/// A failed attempt.
struct Failed {
    error: Error,
    /// Whether there is no point in trying again, whatever the error is.
    stands: bool,
}

// === impl Failed ===

impl Failed {
    /// The table of what may be tried again. An error that leaves open whether HubSpot has acted has
    /// a reason of its own where doing it twice would matter.
    fn judge(&self) -> Failure {
        let passing = |most| Failure::Passing {
            at_least: self.error.retry_after().unwrap_or_default(),
            most,
        };
        match self.error.reason() {
            _ if self.stands => Failure::Final,
            Reason::RateLimited | Reason::AccountLocked => passing(u32::MAX),
            // Moving takes up to a day; without a word on how long there is no use in waiting.
            Reason::AccountMigrating if self.error.retry_after().is_some() => passing(u32::MAX),
            Reason::UpstreamUnavailable => match self.error.upstream().http_status {
                // TLS or TCP between HubSpot's gateway and HubSpot: rarely passes by itself.
                Some(522 | 525 | 526) => passing(2),
                Some(_) | None => passing(u32::MAX),
            },
            _ => Failure::Final,
        }
    }
}

/// What an attempt says about HubSpot's health; nothing if it was not asked, or not given the time.
fn health(answer: &Result<Answer, Error>) -> Option<Health> {
    match answer.as_ref().map_err(Error::reason) {
        Err(Reason::UpstreamUnavailable | Reason::WriteOutcomeUnknown) => Some(Health::Down),
        Err(Reason::DeadlineExceeded | Reason::CredentialUnavailable) => None,
        // Of our own quota: HubSpot was not asked.
        Err(_) if answer.as_ref().is_err_and(|error| error.bucket().is_some()) => None,
        Ok(_) | Err(_) => Some(Health::Up),
    }
}

/// How long to read the body of an answer that is no success: of a read until its caller has to be told.
fn refusal_until(call: &CallContext, operation: Operation) -> Instant {
    let until = Instant::now() + REFUSAL_TIME;
    if operation.writes() { until } else { until.min(call.permit_until()) }
}

/// Whether it looks like one JSON object, from beginning to end. What is between, whoever reads it
/// will see.
fn is_object(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii(), [b'{', .., b'}'])
}

fn outcome(status: http::StatusCode) -> Outcome {
    match status.as_u16() {
        200..=299 => Outcome::Ok,
        429 => Outcome::RateLimited,
        400..=499 => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// No answer: whether HubSpot may have seen the call depends on how far it got.
fn not_answered(operation: Operation, error: &reqwest::Error) -> Error {
    // The URL is ours; the chain below it says what really happened.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let cause = cause.to_string();
    if error.is_connect() || error.is_builder() {
        return Error::new(Reason::UpstreamUnavailable, "HubSpot cannot be reached")
            .with_internal(cause);
    }
    let text = if error.is_timeout() {
        "HubSpot did not answer in time"
    } else {
        "the connection to HubSpot broke"
    };
    answer::interrupted(operation, text).with_internal(cause)
}

fn too_large(operation: Operation) -> Error {
    let side_effect = if operation.writes() { SideEffect::Possible } else { SideEffect::None };
    let text = "HubSpot's answer is larger than this service reads; ask for fewer leads or \
                properties at a time";
    Error::new(Reason::AnswerTooLarge, text).with_side_effect(side_effect)
}

/// A success that says nothing: for a create, what it created is not known.
pub(super) fn unintelligible(operation: Operation, text: &str) -> Error {
    let error = answer::interrupted(operation, text);
    if error.reason() == Reason::WriteOutcomeUnknown {
        return error;
    }
    Error::new(Reason::UpstreamUnintelligible, text).with_side_effect(error.side_effect())
}

fn unusable(error: TokenUnavailable) -> Error {
    match error {
        TokenUnavailable::DeadlineExceeded(waiting_for) => Error::new(
            Reason::CredentialUnavailable,
            "the service has no usable HubSpot credential for this portal yet",
        )
        .with_internal(waiting_for),
        TokenUnavailable::Suspended(why) => Error::new(
            Reason::CredentialUnavailable,
            "the portal's HubSpot credential does not work; its operator must act",
        )
        .with_internal(why),
        TokenUnavailable::Rejected => Error::new(
            Reason::CredentialRejected,
            "HubSpot does not accept the portal's credential",
        ),
    }
}

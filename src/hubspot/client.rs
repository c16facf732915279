//! The pipeline every HubSpot call goes through: deadline, token, send, read, classify; and one
//! replay when HubSpot answers 401, which never means that anything was done.

use std::{fmt, sync::Arc};

use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use url::Url;

use super::{
    answer::{self, Body, Unauthorized},
    endpoints::{self, Operation},
    limits::RateLimits,
    transport::{self, BodyError, BuildError},
};
use crate::{
    config,
    credentials::{Handle, Rejection, Token, Unusable},
    leads::{Call, Error, PortalName, Processed, Reason},
};

/// Finds the credential of a portal.
pub type Resolve = Arc<dyn Fn(&PortalName) -> Option<Handle> + Send + Sync>;

/// HubSpot over HTTP, for all portals: one pool of connections.
#[derive(Clone)]
pub struct Client {
    pub(super) http: reqwest::Client,
    pub(super) collection: Url,
    resolve: Resolve,
    max_answer_bytes: usize,
}

/// A success: its JSON, or nothing if the body was empty.
pub(super) type Answer = Option<Value>;

/// What one attempt came to.
enum Attempt {
    Done(Answer),
    Unauthorized(Unauthorized),
    Failed(Error),
}

// === impl Client ===

impl Client {
    /// A client for the API that the configuration names.
    pub fn new(config: &config::Hubspot, resolve: Resolve) -> Result<Self, BuildError> {
        Ok(Self {
            http: transport::client(config)?,
            collection: endpoints::url(
                &config.base_url,
                &endpoints::collection(config.api_version),
            ),
            resolve,
            max_answer_bytes: config.max_answer_bytes,
        })
    }

    /// Makes the call and reads its JSON into `T`; an empty success is an empty `T`.
    pub(super) async fn json<T: DeserializeOwned + Default>(
        &self,
        call: &Call,
        operation: Operation,
        request: impl Fn() -> RequestBuilder + Send + Sync,
    ) -> Result<T, Error> {
        let answer = self.execute(call, operation, request).await?;
        let Some(value) = answer else { return Ok(T::default()) };
        serde_json::from_value(value).map_err(|error| {
            let what = "HubSpot's answer does not have the expected shape";
            unintelligible(operation, what).with_internal(error.to_string())
        })
    }

    /// Makes the call, at most twice: again only with another token after a 401.
    pub(super) async fn execute(
        &self,
        call: &Call,
        operation: Operation,
        request: impl Fn() -> RequestBuilder + Send + Sync,
    ) -> Result<Answer, Error> {
        let handle = (self.resolve)(&call.portal).ok_or_else(|| {
            Error::new(Reason::CredentialUnavailable, "the portal has no credential engine")
        })?;
        let token = handle.token(call.deadline).await.map_err(unusable)?;
        let unauthorized = match self.attempt(call, operation, request(), &token).await {
            Attempt::Done(answer) => return Ok(answer),
            Attempt::Failed(error) => return Err(error),
            Attempt::Unauthorized(unauthorized) => unauthorized,
        };
        let rejection = match unauthorized {
            Unauthorized::Expired => Rejection::Expired,
            Unauthorized::Refused => Rejection::Refused,
        };
        let token = handle.instead_of(&token, rejection, call.deadline).await.map_err(unusable)?;
        match self.attempt(call, operation, request(), &token).await {
            Attempt::Done(answer) => Ok(answer),
            Attempt::Failed(error) => Err(error),
            Attempt::Unauthorized(_) => Err(Error::new(
                Reason::CredentialRejected,
                "HubSpot does not accept the portal's credential",
            )),
        }
    }

    async fn attempt(
        &self,
        call: &Call,
        operation: Operation,
        request: RequestBuilder,
        token: &Token,
    ) -> Attempt {
        if call.deadline <= Instant::now() {
            let text = "the deadline passed before HubSpot was asked";
            return Attempt::Failed(Error::new(Reason::DeadlineExceeded, text));
        }
        let request = request.bearer_auth(token.secret.expose());
        call.spent.count();
        if operation.writes() {
            // Once sent, a write is followed to its end, bounded by the client's own timeout: its
            // caller may have gone, its outcome must be known all the same.
            return self.exchange(call, operation, request).await;
        }
        match timeout_at(call.deadline, self.exchange(call, operation, request)).await {
            Ok(attempt) => attempt,
            Err(_) => Attempt::Failed(Error::new(
                Reason::DeadlineExceeded,
                "the deadline passed before HubSpot answered",
            )),
        }
    }

    async fn exchange(
        &self,
        call: &Call,
        operation: Operation,
        request: RequestBuilder,
    ) -> Attempt {
        let since = Instant::now();
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Attempt::Failed(not_answered(operation, &error)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        if let Some(id) = answer::correlation_id(&headers) {
            call.spent.set_correlation_id(&id);
        }
        let limits = RateLimits::of(&headers);
        debug!(
            hubspot.operation = operation.name(),
            http.status = status.as_u16(),
            duration_ms = since.elapsed().as_secs_f64() * 1e3,
            hubspot.remaining = limits.remaining,
            "HubSpot answered"
        );
        let body = match transport::read(response, self.max_answer_bytes).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => return Attempt::Failed(too_large(operation)),
            Err(BodyError::Broken) => {
                let text = "the connection broke while HubSpot answered";
                return Attempt::Failed(answer::interrupted(operation, text));
            }
        };
        if status == http::StatusCode::UNAUTHORIZED {
            return Attempt::Unauthorized(Body::parse(&body).unauthorized());
        }
        if !status.is_success() {
            return Attempt::Failed(answer::error(operation, status, &headers, &body));
        }
        if body.is_empty() {
            return Attempt::Done(None);
        }
        match serde_json::from_slice(&body) {
            Ok(value @ Value::Object(_)) => Attempt::Done(Some(value)),
            Ok(_) | Err(_) => {
                let text = "HubSpot's answer is no JSON object";
                Attempt::Failed(unintelligible(operation, text))
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("collection", &self.collection.as_str())
            .finish_non_exhaustive()
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
    let processed = if operation.writes() { Processed::Maybe } else { Processed::No };
    let text = "HubSpot's answer is larger than this service reads; ask for fewer leads or \
                properties at a time";
    Error::new(Reason::AnswerTooLarge, text).with_processed(processed)
}

/// A success that says nothing: for a create, what it created is not known.
fn unintelligible(operation: Operation, text: &str) -> Error {
    let error = answer::interrupted(operation, text);
    if error.reason() == Reason::WriteOutcomeUnknown {
        return error;
    }
    Error::new(Reason::UpstreamUnintelligible, text).with_processed(error.processed())
}

fn unusable(error: Unusable) -> Error {
    match error {
        Unusable::NotInTime(waiting_for) => Error::new(
            Reason::CredentialUnavailable,
            "the service has no usable HubSpot credential for this portal yet",
        )
        .with_internal(waiting_for),
        Unusable::Broken(why) => Error::new(
            Reason::CredentialUnavailable,
            "the portal's HubSpot credential does not work; its operator must act",
        )
        .with_internal(why),
        Unusable::Rejected => Error::new(
            Reason::CredentialRejected,
            "HubSpot does not accept the portal's credential",
        ),
    }
}

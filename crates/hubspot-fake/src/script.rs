//! Scripted responses: faults and delays for the next requests to an endpoint.

use std::{pin::Pin, time::Duration};

use axum::{body::Body, response::Response};
use futures_util::{StreamExt as _, future, stream};
use tokio::{select, time::sleep};

use super::{errors::Failure, gate::Gate, http::to_response};

/// Time for written bytes to reach the client. A connection that breaks earlier may lose them.
const SENT: Duration = Duration::from_millis(50);

/// Response that replaces the real one. Unless stated otherwise, the request has no effect.
#[derive(Debug, Clone)]
pub enum ScriptedResponse {
    /// Responds with this status, content type and body.
    Reply(u16, &'static str, String),
    /// Responds with this status, these headers and this body.
    Exact(u16, Vec<(String, String)>, String),
    /// Executes the request after this delay.
    Delayed(Duration),
    /// Responds by that script after this delay.
    DelayedThen(Duration, Box<Self>),
    /// Executes the request once the gate is open.
    Held(Gate),
    /// Responds by that script once the gate is open.
    HeldThen(Gate, Box<Self>),
    /// Executes the request, but responds with this status.
    ExecutedWithStatus(u16),
    /// Closes the connection.
    DropBefore,
    /// Executes the request, then closes the connection without a response.
    DropAfter,
    /// Executes the request, then closes the connection in the middle of the response.
    Truncated,
    /// Rejects the request with an error of HubSpot.
    Reject(ApiError),
    /// Responds by that script, but the body ends early.
    Partial(Box<Self>, BodyEnd),
}

/// Truncation of a response body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// The connection breaks.
    Broken,
    /// The connection stays open and idle.
    Silent,
}

/// Error of HubSpot that does not depend on the request.
#[derive(Debug, Clone, Copy)]
pub enum ApiError {
    /// 423: a bulk operation locks the account.
    Locked {
        /// True if the response has a JSON body.
        body: bool,
    },
    /// 477: the account moves to another data centre and is available after this time.
    Migrating(Duration),
    /// 429 of this policy.
    RateLimited {
        /// `TEN_SECONDLY_ROLLING`, `SECONDLY` or `DAILY`.
        policy: &'static str,
        /// Value of `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 429 of a gateway, without a policy.
    GatewayLimited,
    /// 401: unknown token.
    Unauthenticated,
    /// 401: expired token.
    Expired,
    /// 403 with the category `FORBIDDEN`.
    Forbidden,
}

/// A scripted response and the requests that it applies to.
#[derive(Debug)]
pub(super) struct ScriptEntry {
    /// Applies only to requests with this token.
    pub(super) token: Option<String>,
    pub(super) method: String,
    pub(super) path_end: String,
    pub(super) script: ScriptedResponse,
    pub(super) times: usize,
}

// === impl ScriptedResponse ===

impl ScriptedResponse {
    /// HTML page of a gateway with this status.
    pub fn html(status: u16) -> Self {
        Self::Reply(status, "text/html", format!("<html><body>{status}</body></html>"))
    }

    /// Waits for the delay or the gate of the script, or until `hurry` is open. `None` if the real
    /// response follows.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only four of some twenty responses wait")]
    pub(super) async fn waited(mut self, hurry: &Gate) -> Option<Self> {
        loop {
            let (wait, then): (Pin<Box<dyn Future<Output = ()> + Send>>, _) = match self {
                Self::DelayedThen(wait, then) => (Box::pin(sleep(wait)), Some(then)),
                Self::Delayed(wait) => (Box::pin(sleep(wait)), None),
                Self::Held(gate) => (Box::pin(async move { gate.passed().await }), None),
                Self::HeldThen(gate, then) => {
                    (Box::pin(async move { gate.passed().await }), Some(then))
                }
                ready => return Some(ready),
            };
            select! {
                () = wait => {}
                () = hurry.passed() => {}
            }
            self = *then?;
        }
    }

    /// Response with this status and no body.
    pub fn empty(status: u16) -> Self {
        Self::Reply(status, "text/plain", String::new())
    }
}

// === impl ApiError ===

impl ApiError {
    pub(super) fn respond(self) -> Response {
        let (failure, wait) = match self {
            Self::Locked { body: true } => (Failure::locked(), None),
            Self::Locked { body: false } => (Failure::bare(423), None),
            Self::Migrating(wait) => (Failure::bare(477), Some(wait)),
            Self::RateLimited { policy, retry_after } => {
                (Failure::rate_limited(policy), retry_after)
            }
            Self::GatewayLimited => (Failure::gateway_limited(), None),
            Self::Unauthenticated => (Failure::unauthenticated(), None),
            Self::Expired => (Failure::expired(5), None),
            Self::Forbidden => (Failure::forbidden(), None),
        };
        to_response(Err(failure), None, wait)
    }
}

// === impl ScriptEntry ===

impl ScriptEntry {
    pub(super) fn fits(&self, method: &str, path: &str, token: &str) -> bool {
        self.token.as_ref().is_none_or(|own| own == token)
            && (self.method.is_empty() || self.method == method)
            && path.ends_with(&self.path_end)
    }
}

/// Truncates a response after half of its body.
pub(super) async fn cut(response: Response, end: BodyEnd) -> Response {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let half = body.slice(..body.len() / 2);
    let end = stream::once(async move {
        match end {
            BodyEnd::Silent => future::pending().await,
            BodyEnd::Broken => sleep(SENT).await,
        }
        Err(std::io::Error::other("the fake drops this connection"))
    });
    let body = stream::iter([Ok(half)]).chain(end);
    // The length header keeps its value, so that a client detects the truncation.
    Response::from_parts(parts, Body::from_stream(body))
}

/// Response that breaks the connection before its first byte.
pub(super) fn broken() -> Response {
    let broken = std::io::Error::other("the fake drops this connection");
    let body = Body::from_stream(stream::iter([Err::<Vec<u8>, _>(broken)]));
    Response::new(body)
}

//! Faults on demand: what the next requests to an endpoint get in place of the real answer.

use std::{pin::Pin, time::Duration};

use axum::{body::Body, response::Response};
use futures_util::{StreamExt as _, future, stream};
use tokio::{select, time::sleep};

use super::{errors::Failure, gate::Gate, http::to_response};

/// By then what there is of an answer is on its way; what breaks before is never sent.
const SENT: Duration = Duration::from_millis(50);

/// An answer given in place of the real one.
#[derive(Debug, Clone)]
pub enum Script {
    /// This status, content type and body; nothing is done.
    Answer(u16, &'static str, String),
    /// This status, these headers and this body; nothing is done.
    Exact(u16, Vec<(String, String)>, String),
    /// Does what was asked after this time.
    Late(Duration),
    /// After this time what that script says.
    After(Duration, Box<Self>),
    /// Responds once the gate is open.
    Held(Gate),
    /// Responds by that script once the gate is open.
    HeldThen(Gate, Box<Self>),
    /// Does what was asked and gives this status instead of the answer.
    DoneBut(u16),
    /// Closes the connection; nothing is done.
    DropBefore,
    /// Does what was asked and closes the connection instead of answering.
    DropAfter,
    /// Does what was asked and breaks the connection in the middle of the answer.
    Cut,
    /// Refuses in HubSpot's own words; nothing is done.
    Refuse(Refusal),
    /// Answers what that script says, but not to the end of its body.
    Partly(Box<Self>, End),
}

/// How the body of an answer ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The connection breaks.
    Broken,
    /// Nothing more comes, and the connection stays.
    Silent,
}

/// A refusal that has nothing to do with what was asked.
#[derive(Debug, Clone, Copy)]
pub enum Refusal {
    /// 423: a bulk operation locks the account; with a body or without one.
    Locked {
        /// Whether the answer has a JSON body.
        body: bool,
    },
    /// 477: the account moves to another data centre and is back after this time.
    Migrating(Duration),
    /// 429 of this policy.
    RateLimited {
        /// `TEN_SECONDLY_ROLLING`, `SECONDLY` or `DAILY`.
        policy: &'static str,
        /// Sent as `Retry-After`, if any.
        retry_after: Option<Duration>,
    },
    /// 429 of a gateway, which names no policy.
    GatewayLimited,
    /// 401: no such token.
    Unauthenticated,
    /// 401: the token has expired.
    Expired,
    /// 403 with the category `FORBIDDEN`.
    Forbidden,
}

/// A script and the requests it is for.
#[derive(Debug)]
pub(super) struct Entry {
    /// Only requests that come with this token.
    pub(super) token: Option<String>,
    pub(super) method: String,
    pub(super) path_end: String,
    pub(super) script: Script,
    pub(super) times: usize,
}

// === impl Script ===

impl Script {
    /// The HTML page of a gateway with this status.
    pub fn html(status: u16) -> Self {
        Self::Answer(status, "text/html", format!("<html><body>{status}</body></html>"))
    }

    /// Waits as long as the script says, or until `hurry` is open. `None` if the real response
    /// follows.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only four of some twenty responses wait")]
    pub(super) async fn waited(mut self, hurry: &Gate) -> Option<Self> {
        loop {
            let (wait, then): (Pin<Box<dyn Future<Output = ()> + Send>>, _) = match self {
                Self::After(wait, then) => (Box::pin(sleep(wait)), Some(then)),
                Self::Late(wait) => (Box::pin(sleep(wait)), None),
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

    /// This status and nothing else.
    pub fn empty(status: u16) -> Self {
        Self::Answer(status, "text/plain", String::new())
    }
}

// === impl Refusal ===

impl Refusal {
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

// === impl Entry ===

impl Entry {
    pub(super) fn fits(&self, method: &str, path: &str, token: &str) -> bool {
        self.token.as_ref().is_none_or(|own| own == token)
            && (self.method.is_empty() || self.method == method)
            && path.ends_with(&self.path_end)
    }
}

/// An answer of which nothing comes after half of its body.
pub(super) async fn cut(response: Response, end: End) -> Response {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let half = body.slice(..body.len() / 2);
    let end = stream::once(async move {
        match end {
            End::Silent => future::pending().await,
            End::Broken => sleep(SENT).await,
        }
        Err(std::io::Error::other("the fake drops this connection"))
    });
    let body = stream::iter([Ok(half)]).chain(end);
    // Its length is what it would have been, so that it cannot be taken for all of it.
    Response::from_parts(parts, Body::from_stream(body))
}

/// An answer that breaks the connection before its first byte is sent.
pub(super) fn broken() -> Response {
    let broken = std::io::Error::other("the fake drops this connection");
    let body = Body::from_stream(stream::iter([Err::<Vec<u8>, _>(broken)]));
    Response::new(body)
}

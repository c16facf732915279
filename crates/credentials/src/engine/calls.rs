//! The calls of one portal to the ports. Each runs in a separate task with a timeout, so that a
//! port that hangs or panics costs one attempt.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    machine::{Event, PortCall},
    secret_path::SecretPath,
    source::{GrantError, RefreshRequest, TokenCheck, TokenResponse, TokenSource},
    store::{SecretStore, StoreError, VersionState, VersionedSecret},
    token::Token,
};
use leadsd_base::{
    secret::Secret,
    task::{self, Task},
    time::Timestamp,
};

/// At most one call to the store, one token request and one token check are in flight. Dropping this
/// ends them.
pub(super) struct PortCalls {
    pub(super) portal: Arc<str>,
    pub(super) path: SecretPath,
    pub(super) store: Arc<dyn SecretStore>,
    pub(super) source: Arc<dyn TokenSource>,
    pub(super) store_timeout: Duration,
    pub(super) grant_timeout: Duration,
    pub(super) store_call: Option<CallsInFlight>,
    pub(super) source_call: Option<CallsInFlight>,
    pub(super) check_call: Option<CallsInFlight>,
}

#[derive(Debug)]
pub(super) struct CallsInFlight {
    answer: oneshot::Receiver<CallResult>,
    /// Stands in if the call panics.
    if_panicked: CallResult,
    /// Dropping it ends the call.
    _task: Task,
}

/// The response of a port.
#[derive(Debug)]
pub(super) enum CallResult {
    Read(Result<VersionedSecret, StoreError>),
    Version(Result<VersionState, StoreError>),
    Written(Secret, Result<u64, StoreError>),
    Token(RefreshRequest, Instant, Result<TokenResponse, GrantError>),
    Checked(u64, TokenCheck),
}

/// A call that has ended.
#[derive(Debug)]
pub(super) struct EndedCall {
    pub(super) answer: CallResult,
    pub(super) panicked: bool,
}

// === impl PortCalls ===

impl PortCalls {
    pub(super) fn start(&mut self, call: PortCall, now: Instant) {
        let (store, path) = (Arc::clone(&self.store), self.path.clone());
        let limit = self.store_timeout;
        match call {
            PortCall::ReadSecret => {
                let work = async move {
                    let read = timeout(limit, store.read(&path)).await;
                    CallResult::Read(read.unwrap_or_else(|_| Err(late(limit))))
                };
                self.store_call = Some(self.in_flight(work, CallResult::Read(Err(panicked()))));
            }
            PortCall::PollVersion => {
                let work = async move {
                    let version = timeout(limit, store.version(&path)).await;
                    CallResult::Version(version.unwrap_or_else(|_| Err(late(limit))))
                };
                self.store_call = Some(self.in_flight(work, CallResult::Version(Err(panicked()))));
            }
            PortCall::WriteRefreshToken { expected, refresh_token } => {
                let if_panicked = CallResult::Written(refresh_token.clone(), Err(panicked()));
                let work = async move {
                    let write = store.replace_refresh_token(&path, expected, &refresh_token);
                    let written = timeout(limit, write).await;
                    CallResult::Written(refresh_token, written.unwrap_or_else(|_| Err(late(limit))))
                };
                self.store_call = Some(self.in_flight(work, if_panicked));
            }
            PortCall::RequestToken(request) => self.start_request(request, now),
            PortCall::CheckToken(token) => self.start_check(token),
        }
    }

    /// Waits for the next call that ends; never returns if none is in flight. Cancel safe.
    pub(super) async fn ended(&mut self) -> EndedCall {
        tokio::select! {
            biased;
            ended = ended(&mut self.store_call) => ended,
            ended = ended(&mut self.source_call) => ended,
            ended = ended(&mut self.check_call) => ended,
        }
    }

    fn start_request(&mut self, request: RefreshRequest, sent: Instant) {
        let (source, limit) = (Arc::clone(&self.source), self.grant_timeout);
        let unavailable = |text: String| Err(GrantError::Unavailable(text));
        let if_panicked =
            CallResult::Token(request.clone(), sent, unavailable("the call panicked".to_owned()));
        let portal = Arc::clone(&self.portal);
        let work = async move {
            let response = timeout(limit, source.refresh(&portal, &request)).await;
            let response = response.unwrap_or_else(|_| unavailable(no_answer(limit)));
            CallResult::Token(request, sent, response)
        };
        self.source_call = Some(self.in_flight(work, if_panicked));
    }

    fn start_check(&mut self, token: Token) {
        let (source, limit) = (Arc::clone(&self.source), self.grant_timeout);
        let inconclusive = TokenCheck::Inconclusive;
        let generation = token.generation;
        let if_panicked =
            CallResult::Checked(generation, inconclusive("the call panicked".to_owned()));
        let portal = Arc::clone(&self.portal);
        let work = async move {
            let result = timeout(limit, source.check(&portal, &token.secret)).await;
            let result = result.unwrap_or_else(|_| inconclusive(no_answer(limit)));
            CallResult::Checked(generation, result)
        };
        self.check_call = Some(self.in_flight(work, if_panicked));
    }

    fn in_flight(
        &self,
        work: impl Future<Output = CallResult> + Send + 'static,
        if_panicked: CallResult,
    ) -> CallsInFlight {
        let (sender, answer) = oneshot::channel();
        let task = task::spawn(if_panicked.call_name(), &self.portal, async move {
            // The receiver is gone once the portal has ended.
            let _ = sender.send(work.await);
        });
        CallsInFlight { answer, if_panicked, _task: task }
    }
}

// === impl CallResult ===

impl CallResult {
    /// Name of the port, for logs.
    pub(super) fn port(&self) -> &'static str {
        match self {
            Self::Read(_) | Self::Version(_) | Self::Written(..) => "secret store",
            Self::Token(..) => "token endpoint",
            Self::Checked(..) => "HubSpot",
        }
    }

    /// The event of the response for the machines. Reads the clock only if the event has a
    /// wall-clock time.
    pub(super) fn into_event(self, wall: impl FnOnce() -> Timestamp) -> Event {
        match self {
            Self::Read(result) => Event::SecretRead(result),
            Self::Version(result) => Event::VersionPolled(result),
            Self::Written(refresh_token, result) => {
                Event::RefreshTokenWritten { refresh_token, result }
            }
            Self::Token(request, sent, result) => {
                Event::TokenAnswered { request, sent, wall: wall(), result }
            }
            Self::Checked(generation, result) => Event::TokenChecked { generation, result },
        }
    }

    fn call_name(&self) -> &'static str {
        match self {
            Self::Read(_) | Self::Version(_) | Self::Written(..) => "credential store call",
            Self::Token(..) => "credential grant",
            Self::Checked(..) => "credential check",
        }
    }
}

async fn ended(call: &mut Option<CallsInFlight>) -> EndedCall {
    let answer = match call {
        Some(call) => (&mut call.answer).await.ok(),
        None => std::future::pending().await,
    };
    match (answer, call.take()) {
        (Some(answer), _) => EndedCall { answer, panicked: false },
        (None, Some(call)) => EndedCall { answer: call.if_panicked, panicked: true },
        (None, None) => std::future::pending().await,
    }
}

fn late(limit: Duration) -> StoreError {
    StoreError::Unavailable(no_answer(limit))
}

fn no_answer(limit: Duration) -> String {
    format!("no answer in {} s", limit.as_secs_f32())
}

fn panicked() -> StoreError {
    StoreError::Unavailable("the call panicked".to_owned())
}

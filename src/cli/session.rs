//! Calls of one command to a service: address, metadata, deadline, and failures in words.

use std::time::Duration;

use http::Uri;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Request, Status, metadata::MetadataMap};

use super::{
    call::{CONNECT_TIMEOUT, Failure, unreachable_service},
    client::{ConnectArgs, Connection, DialError, InvalidTarget, Target},
    error::Error,
    hardening::deny_debugging,
};

/// Time after the deadline that the service has to end a stream by itself.
const DEADLINE_GRACE: Duration = Duration::from_millis(500);

/// Service to call, and the caller.
#[derive(Debug)]
pub(super) struct Session {
    target: Target,
    pub(super) origin: Uri,
    pub(super) metadata: MetadataMap,
    /// Maximum size of a response message in bytes.
    pub(super) max_response: usize,
    /// Point in time and length of the deadline of the command; `None` for no deadline.
    pub(super) deadline: Option<(Instant, Duration)>,
}

/// Error of the command line or a profile; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidSession {
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    #[error(transparent)]
    Process(#[from] Error),
}

/// Error of a call.
#[derive(Debug)]
pub(super) enum SessionError {
    /// A file of the command line is invalid.
    Usage(DialError),
    Failed(Box<Failure>),
}

// === impl Session ===

impl Session {
    /// Reads flags, profile and the token of the caller. A process with a token cannot be debugged.
    pub(super) async fn new(
        args: ConnectArgs,
        max_response: usize,
    ) -> Result<Self, InvalidSession> {
        let target = Target::new(args)?;
        if target.has_token() {
            deny_debugging()?;
        }
        let started = Instant::now();
        let metadata = target.metadata().await?;
        let origin = target.origin()?;
        let deadline = target.deadline.map(|length| (started + length, length));
        Ok(Self { target, origin, metadata, max_response, deadline })
    }

    /// Connects before the deadline.
    pub(super) async fn connect(&self) -> Result<Connection, SessionError> {
        let connecting = Instant::now() + CONNECT_TIMEOUT;
        let until = self.deadline.map_or(connecting, |(until, _)| until.min(connecting));
        let opened = Connection::open(&self.target, until).await;
        opened.map_err(|error| match error.is_usage() {
            true => SessionError::Usage(error),
            false => SessionError::Failed(unreachable_service(&error, self.deadline).into()),
        })
    }

    /// Request with the metadata of the caller and the time to the deadline.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        if let Some((until, _)) = self.deadline {
            let left = until.saturating_duration_since(Instant::now());
            request.set_timeout(left.max(Duration::from_millis(1)));
        }
        request
    }

    /// Waits for a response or message of the service, until shortly after the deadline.
    pub(super) async fn response<T>(
        &self,
        response: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, SessionError> {
        let response = match self.deadline {
            None => response.await,
            Some((until, length)) => match timeout_at(until + DEADLINE_GRACE, response).await {
                Ok(response) => response,
                Err(_) => return Err(SessionError::Failed(Failure::deadline(length).into())),
            },
        };
        response.map_err(|status| self.failure(&status))
    }

    /// Errors after the deadline. The service ends a stream shortly before it. `what` names the command.
    pub(super) fn check_deadline(&self, what: &str) -> Result<(), SessionError> {
        match self.deadline {
            Some((until, length)) if until <= Instant::now() + DEADLINE_GRACE => {
                let message = format!("the {what} did not end within {length:?}");
                let failure = Failure::local(Code::DeadlineExceeded, message, "resume it");
                Err(SessionError::Failed(failure.into()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Failure of a call.
    pub(super) fn failure(&self, status: &Status) -> SessionError {
        SessionError::Failed(Failure::from_status(status, self.max_response).into())
    }
}

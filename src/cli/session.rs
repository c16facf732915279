//! Calls of one command to a service: address, metadata, deadline, and failures in words.

use std::time::Duration;

use http::Uri;
use tokio::time::Instant;
use tonic::{Request, Status, metadata::MetadataMap};

use super::{
    call::{CONNECT_TIMEOUT, Failure, unreachable_service},
    client::{Connection, DialError, InvalidTarget, Target},
};

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

/// Error of a call.
#[derive(Debug)]
pub(super) enum SessionError {
    /// A file of the command line is invalid.
    Usage(DialError),
    Failed(Box<Failure>),
}

// === impl Session ===

impl Session {
    /// Reads the token of the caller.
    pub(super) async fn new(target: Target, max_response: usize) -> Result<Self, InvalidTarget> {
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

    /// Request with the metadata of the caller.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request
    }

    /// Failure of a call.
    pub(super) fn failure(&self, status: &Status) -> SessionError {
        SessionError::Failed(Failure::from_status(status, self.max_response).into())
    }
}

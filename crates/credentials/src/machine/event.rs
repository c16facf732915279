//! Events that the machines react to, and commands that they return.

use tokio::time::Instant;

use crate::{
    failure::FailureClass,
    signals::PendingSignals,
    source::{GrantError, RefreshRequest, TokenCheck, TokenResponse},
    store::{StoreError, VersionState, VersionedSecret},
    token::Token,
};
use leadsd_base::{secret::Secret, time::Timestamp};

/// Something that happened. The coordinator hands every event to all three machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    // From the engine.
    /// Time has passed, and calls that are due may start.
    Tick { wall: Timestamp },
    /// Callers or operators sent signals.
    Signalled(PendingSignals),
    /// The store responded to [`PortCall::ReadSecret`].
    SecretRead(Result<VersionedSecret, StoreError>),
    /// The store responded to [`PortCall::PollVersion`].
    VersionPolled(Result<VersionState, StoreError>),
    /// The store responded to [`PortCall::WriteRefreshToken`].
    RefreshTokenWritten { refresh_token: Secret, result: Result<u64, StoreError> },
    /// The token endpoint responded to [`PortCall::RequestToken`].
    TokenAnswered {
        request: RefreshRequest,
        sent: Instant,
        /// Wall-clock time of the response.
        wall: Timestamp,
        result: Result<TokenResponse, GrantError>,
    },
    /// HubSpot responded to [`PortCall::CheckToken`].
    TokenChecked { generation: u64, result: TokenCheck },
    /// The engine's loop panicked and dropped all calls in flight.
    CallsLost,

    // From the coordinator.
    /// This call may start now, if it is due.
    Start(CallKind),

    // From the secret watch.
    /// The secret that was read is in use now; it may be the version that was in memory before.
    SecretAdopted {
        secret: VersionedSecret,
        /// The secret that it replaces; `None` for the first.
        previous: Option<VersionedSecret>,
        /// The token request that the credential in memory made before.
        previous_request: Option<RefreshRequest>,
    },
    /// A poll found that the secret in memory is the newest version.
    SecretConfirmed,
    /// A read found the newest version of the secret, or that it is deleted; it is in memory.
    SecretChecked,
    /// A poll failed: the newest version is unknown.
    PollFailed,
    /// A read failed and may succeed later.
    ReadFailed,
    /// A read failed permanently; the secret in memory stays in use.
    ReadRejected,
    /// A read failed permanently, and there is no secret in memory.
    NoSecret { class: FailureClass, why: String },

    // From the token cycle.
    /// The secret has to be read now. With `afresh`, earlier failures to read it do not count.
    SecretWanted { afresh: bool },
    /// The store has to be checked at this time at the latest.
    CheckWanted(Instant),
    /// The token endpoint rejected the refresh token in use.
    RefreshTokenRejected,
    /// The fallback refresh token has to be tried.
    FallbackWanted,

    // From the write-back.
    /// A refresh token that another replica saved has to prove itself at this time at the latest.
    ProofWanted(Instant),
}

/// Command of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MachineCommand {
    /// Starts this call.
    Call(PortCall),
    /// Hands this event to all machines.
    Raise(Event),
}

/// A call to a port. The response is an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortCall {
    /// Reads the secret.
    ReadSecret,
    /// Reads the version metadata of the secret.
    PollVersion,
    /// Replaces the refresh token in the store if the version of the secret still is `expected`.
    WriteRefreshToken { expected: u64, refresh_token: Secret },
    /// Sends a token request.
    RequestToken(RefreshRequest),
    /// Checks a token at HubSpot.
    CheckToken(Token),
}

/// A kind of call to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    Request,
    Check,
    Read,
    Write,
    Poll,
}

// === impl Event ===

impl Event {
    /// True if the call to the store in flight has ended.
    pub(super) fn ends_store_call(&self) -> bool {
        match self {
            Self::SecretRead(_)
            | Self::VersionPolled(_)
            | Self::RefreshTokenWritten { .. }
            | Self::CallsLost => true,
            Self::Tick { .. }
            | Self::Signalled(_)
            | Self::TokenAnswered { .. }
            | Self::TokenChecked { .. }
            | Self::Start(_)
            | Self::SecretAdopted { .. }
            | Self::SecretConfirmed
            | Self::SecretChecked
            | Self::PollFailed
            | Self::ReadFailed
            | Self::ReadRejected
            | Self::NoSecret { .. }
            | Self::SecretWanted { .. }
            | Self::CheckWanted(_)
            | Self::RefreshTokenRejected
            | Self::FallbackWanted
            | Self::ProofWanted(_) => false,
        }
    }
}

// === impl CallKind ===

impl CallKind {
    /// The order in which due calls start. Of the calls to the store, reads come first, since
    /// everything depends on the secret; a refresh token that exists only in memory is more urgent
    /// than a poll.
    pub(super) const START_ORDER: [Self; 5] =
        [Self::Request, Self::Check, Self::Read, Self::Write, Self::Poll];

    pub(super) fn is_to_store(self) -> bool {
        match self {
            Self::Request | Self::Check => false,
            Self::Read | Self::Write | Self::Poll => true,
        }
    }
}

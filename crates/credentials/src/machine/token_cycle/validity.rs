//! Validity of the credential, according to the token endpoint.

use std::sync::Arc;

use tokio::time::Instant;

use crate::failure::FailureClass;

#[derive(Debug, Default)]
pub(in crate::machine) enum Validity {
    #[default]
    Valid,
    /// The token endpoint rejected the credential; the store is checked a few times for another, and
    /// the grant is tried again a few times.
    Suspect { since: Instant, checks: u32, retries: u32 },
    /// Rejected again and again by the token endpoint. The suspension ends with a new secret, a
    /// refresh by an operator, or a successful retry at `retry_at`.
    Suspended { why: Arc<str>, class: FailureClass, since: Instant, retry_at: Instant },
}

// === impl Validity ===

impl Validity {
    pub(in crate::machine) fn is_valid(&self) -> bool {
        match self {
            Self::Valid => true,
            Self::Suspect { .. } | Self::Suspended { .. } => false,
        }
    }

    /// Time of the rejection, and numbers of checks of the store and of planned retries since then;
    /// `None` if the credential is not suspect.
    pub(in crate::machine) fn suspect(&self) -> Option<(Instant, u32, u32)> {
        match self {
            Self::Suspect { since, checks, retries } => Some((*since, *checks, *retries)),
            Self::Valid | Self::Suspended { .. } => None,
        }
    }

    /// Reason for the suspension; `None` if the credential is not suspended.
    pub(in crate::machine) fn suspended(&self) -> Option<(&Arc<str>, FailureClass)> {
        match self {
            Self::Suspended { why, class, .. } => Some((why, *class)),
            Self::Valid | Self::Suspect { .. } => None,
        }
    }

    /// Time of the next retry of a suspended credential; `None` if it is not suspended.
    pub(in crate::machine) fn retry_at(&self) -> Option<Instant> {
        match self {
            Self::Suspended { retry_at, .. } => Some(*retry_at),
            Self::Valid | Self::Suspect { .. } => None,
        }
    }

    /// Plans the next retry of a suspended credential.
    pub(in crate::machine) fn retry_again_at(&mut self, at: Instant) {
        match self {
            Self::Suspended { retry_at, .. } => *retry_at = at,
            Self::Valid | Self::Suspect { .. } => {}
        }
    }
}

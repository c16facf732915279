//! Request ids, and the scope in which a repeat is recognized.

use std::sync::Arc;

use uuid::Uuid;

/// Idempotency key of a write: printable ASCII, 1 to 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

/// Replicas that recognize a repeat of a write by its request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestIdScope {
    /// The replica that received the call.
    Replica,
    /// All replicas, through the store that they share.
    Shared,
}

// === impl RequestId ===

impl RequestId {
    /// Parses an id. The error completes the sentence "the id ...".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > 128 {
            return Err("must not be longer than 128 characters");
        }
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err("must be printable ASCII without spaces");
        }
        Ok(Self(text.into()))
    }

    /// Creates an id from a UUID.
    pub(super) fn from_uuid(id: Uuid) -> Self {
        Self(id.to_string().into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl RequestIdScope ===

impl RequestIdScope {
    /// All scopes.
    pub const ALL: [Self; 2] = [Self::Replica, Self::Shared];

    /// Public name, as in response metadata and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replica => "replica",
            Self::Shared => "shared",
        }
    }
}

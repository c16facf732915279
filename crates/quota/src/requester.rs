//! The caller and the priority of a request.

use std::sync::Arc;

/// A client of leadsd, among which quota is divided: its authenticated identity, else the name
/// that it sends, else its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Caller {
    name: Arc<str>,
    /// Weight of an authenticated caller. `None` if the weight is looked up by name.
    weight: Option<u32>,
}

/// Priority class of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Priority {
    /// A user waits for the response. Served before bulk.
    #[default]
    Interactive,
    /// Background work. Served with what is left, and with a tenth of the permits in any case.
    Bulk,
}

/// The caller and the priority that a permit is acquired for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// The caller.
    pub caller: Caller,
    /// Priority of the request.
    pub priority: Priority,
}

// === impl Caller ===

impl Caller {
    /// Maximum length of an unauthenticated name, in bytes: what a client sends is kept in memory and
    /// shown in snapshots.
    const MAX_NAME: usize = 128;

    /// A caller by an unauthenticated name, truncated to 128 bytes.
    pub fn new(name: &str) -> Self {
        let mut end = name.len().min(Self::MAX_NAME);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self { name: name[..end].into(), weight: None }
    }

    /// An authenticated caller with its configured weight.
    pub fn authenticated(name: &str, weight: u32) -> Self {
        Self { name: name.into(), weight: Some(weight) }
    }

    /// True if the name is authenticated.
    pub fn is_authenticated(&self) -> bool {
        self.weight.is_some()
    }

    /// Name of the caller.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Weight of an authenticated caller.
    pub(crate) fn weight(&self) -> Option<u32> {
        self.weight
    }
}

#[cfg(test)]
mod tests;

//! A caller whose name is proven.

use std::sync::Arc;

/// Longest name, in bytes: a service account's is at most 339, a SPIFFE id is rarely longer.
const MAX_NAME: usize = 512;

/// How a caller has proven its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proof {
    /// A client certificate.
    Certificate,
    /// A bearer token.
    Jwt,
    /// An API key.
    ApiKey,
}

/// A caller whose name is proven.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    name: Arc<str>,
    proof: Proof,
}

// === impl Proof ===

impl Proof {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Certificate, Self::Jwt, Self::ApiKey];

    /// Name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
        }
    }
}

// === impl Identity ===

impl Identity {
    /// A caller of this name; `None` for what cannot be a name: it ends up in logs and is compared
    /// with the configuration.
    pub fn new(name: &str, proof: Proof) -> Option<Self> {
        is_name(name).then(|| Self { name: name.into(), proof })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it was proven.
    pub fn proof(&self) -> Proof {
        self.proof
    }
}

/// Whether a caller can have this name: 1 to 512 printable ASCII characters without spaces.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic())
}

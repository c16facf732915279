//! Identity of an authenticated caller.

use std::sync::Arc;

/// Maximum length of a name, in bytes: a service account's is at most 339, a SPIFFE id is rarely longer.
const MAX_NAME: usize = 512;

/// Method by which a caller was authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuthMethod {
    /// A client certificate.
    Certificate,
    /// A bearer token.
    Jwt,
    /// An API key.
    ApiKey,
}

/// Identity of an authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    name: Arc<str>,
    method: AuthMethod,
}

// === impl AuthMethod ===

impl AuthMethod {
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
    /// An identity; `None` if the text cannot be a name. Names are logged and compared with the
    /// configuration.
    pub fn new(name: &str, method: AuthMethod) -> Option<Self> {
        is_name(name).then(|| Self { name: name.into(), method })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The method that proved it.
    pub fn method(&self) -> AuthMethod {
        self.method
    }
}

/// Whether a caller can have this name: 1 to 512 printable ASCII characters without spaces.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic())
}

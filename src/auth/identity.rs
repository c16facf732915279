//! Identity of an authenticated caller.

use std::sync::Arc;

/// Maximum length of a caller name in bytes. Names of service accounts have at most 339, SPIFFE ids are
/// rarely longer.
const MAX_NAME: usize = 512;

/// Method by which a caller was authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuthMethod {
    /// Client certificate.
    Certificate,
    /// Bearer token (JWT).
    Jwt,
    /// API key.
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
    /// All methods.
    pub const ALL: [Self; 3] = [Self::Certificate, Self::Jwt, Self::ApiKey];

    /// Name of the method in logs and metrics.
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
    /// Creates an identity; `None` if the name is invalid. Names are logged and matched by policies.
    pub fn new(name: &str, method: AuthMethod) -> Option<Self> {
        is_name(name).then(|| Self { name: name.into(), method })
    }

    /// Caller name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Method of authentication.
    pub fn method(&self) -> AuthMethod {
        self.method
    }
}

/// Reports whether a caller name is valid: 1 to 512 printable ASCII characters without spaces.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic())
}

//! Credentials as a request presents them, and how authentication fails.

use std::fmt;

use super::identity::Identity;

/// Values of one request header.
#[derive(Clone, Copy, Default)]
pub enum HeaderValue<'a> {
    /// The request has no such header.
    #[default]
    Absent,
    /// It has one, with this value.
    One(&'a [u8]),
    /// It has more than one, which is ambiguous.
    Multiple,
}

/// Credentials of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct PresentedCredentials<'a> {
    /// The header `authorization`.
    pub authorization: HeaderValue<'a>,
    /// The header `x-api-key`.
    pub api_key: HeaderValue<'a>,
    /// Identity of the client certificate of the connection.
    pub certificate: Option<&'a Identity>,
}

/// Reason why a request is not authenticated. The texts are for the caller and say nothing about other
/// callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthError {
    /// The request has no credential.
    Missing,
    /// A credential is invalid.
    Invalid(&'static str),
    /// The credential cannot be checked now.
    Unavailable(&'static str),
}

// === impl HeaderValue ===

impl<'a> HeaderValue<'a> {
    /// Reads the values of a header.
    pub fn from_values(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::One(value),
            (Some(_), Some(_)) => Self::Multiple,
        }
    }
}

impl fmt::Debug for HeaderValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::One(_) => "One([redacted])",
            Self::Multiple => "Multiple",
        })
    }
}

//! Credentials of a request, and errors of authentication.

use std::fmt;

use super::identity::Identity;

/// Values of one request header.
#[derive(Clone, Copy, Default)]
pub enum HeaderValue<'a> {
    /// The header is absent.
    #[default]
    Absent,
    /// The header has one value.
    One(&'a [u8]),
    /// The header has several values, which is ambiguous.
    Multiple,
}

/// Credentials of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct PresentedCredentials<'a> {
    /// Header `authorization`.
    pub authorization: HeaderValue<'a>,
    /// Header `x-api-key`.
    pub api_key: HeaderValue<'a>,
    /// Identity of the connection's client certificate.
    pub certificate: Option<&'a Identity>,
}

/// Error of authentication. The texts are sent to the caller and contain nothing about other callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthError {
    /// The request has no credential.
    Missing,
    /// A credential is invalid.
    Invalid(&'static str),
    /// The auth source needed to verify the credential is not loaded.
    Unavailable(&'static str),
}

// === impl HeaderValue ===

impl<'a> HeaderValue<'a> {
    /// Classifies the values of a header.
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

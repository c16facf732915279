//! Credentials for the proxy.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderValue;
use url::Url;

use crate::secret::Secret;

/// User name and password for Basic authentication. `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyCredentials {
    username: Secret,
    password: Secret,
}

/// Reason why credentials are rejected. Contains no part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidCredentials(&'static str);

// === impl ProxyCredentials ===

impl ProxyCredentials {
    /// Errors if the credentials cannot be sent by Basic authentication (RFC 7617).
    pub fn new(username: Secret, password: Secret) -> Result<Self, InvalidCredentials> {
        let has_control = |text: &Secret| text.expose().chars().any(char::is_control);
        if username.is_empty() || username.expose().contains(':') || has_control(&username) {
            return Err(InvalidCredentials(
                "username must not be empty and must not contain a colon or control characters",
            ));
        }
        if has_control(&password) {
            return Err(InvalidCredentials("password must not contain control characters"));
        }
        Ok(Self { username, password })
    }

    /// Value of the header `Proxy-Authorization`.
    pub(in crate::net) fn header(&self) -> HeaderValue {
        let pair = Secret::new(format!("{}:{}", self.username.expose(), self.password.expose()));
        let text = Secret::new(format!("Basic {}", BASE64_STANDARD.encode(pair.expose())));
        // Base64 is valid in a header.
        let value = HeaderValue::from_str(text.expose());
        let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    /// Sets them as user information of a URL, percent-encoded.
    pub(super) fn write_to(&self, url: &mut Url) {
        // The setters encode everything else.
        let [username, password] = [&self.username, &self.password]
            .map(|text| Secret::new(text.expose().replace('%', "%25")));
        // Errors only without a host, which an http URL has.
        let _ = url.set_username(username.expose());
        let _ = url.set_password(Some(password.expose()));
    }
}

impl fmt::Debug for ProxyCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyCredentials").finish_non_exhaustive()
    }
}

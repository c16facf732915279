//! What the credential engine needs from outside, and the types that cross these borders.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;

use leadsd_base::secret::Secret;

/// Path of a secret under the KV mount, such as `hubspot/default`: one or more segments of letters,
/// digits, `.`, `_`, `-` joined by `/`, none of them `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretPath(String);

/// What a portal's secret holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortalSecret {
    /// A token that does not expire by itself: private app, service key, or platform app with
    /// static auth. Key `access_token`.
    Static {
        /// Sent as `Authorization: Bearer`.
        access_token: Secret,
    },
    /// OAuth 2.0 with the refresh grant. Keys `client_id`, `client_secret`, `refresh_token`.
    OAuth {
        /// Public name of the app.
        client_id: String,
        /// Proves that we are the app.
        client_secret: Secret,
        /// Buys access tokens. HubSpot may answer with another one, which then replaces it.
        refresh_token: Secret,
    },
}

/// A secret and the KV version it was read at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedSecret {
    /// KV v2 version, from 1 up.
    pub version: u64,
    /// The content.
    pub secret: PortalSecret,
}

/// What the KV metadata says of a secret's newest version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// It can be read.
    Live(u64),
    /// It is soft-deleted or destroyed.
    Deleted(u64),
}

impl VersionState {
    /// The newest version's number.
    pub fn number(self) -> u64 {
        match self {
            Self::Live(number) | Self::Deleted(number) => number,
        }
    }
}

/// Why a secret could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No secret at this path, or its newest version is deleted.
    #[error("no secret at this path")]
    NotFound,
    /// The policy of our Vault token does not allow it.
    #[error("vault denies access to this path")]
    Denied,
    /// The login itself is refused.
    #[error("vault refuses the login: {0}")]
    LoginRejected(String),
    /// A write found another version than the one it was based on.
    #[error("the secret was changed by somebody else")]
    Conflict,
    /// The secret has neither kind's keys, or a value of the wrong type. Names keys, never values.
    #[error("the secret is malformed: {0}")]
    Malformed(String),
    /// Vault is sealed, in standby, throttling, unreachable, slow or answers nonsense. Says which.
    #[error("vault is unavailable: {0}")]
    Unavailable(String),
}

/// Where the credential secrets are kept. The real one is Vault.
#[async_trait]
pub trait SecretStore: fmt::Debug + Send + Sync + 'static {
    /// Reads the newest version.
    async fn read(&self, path: &SecretPath) -> Result<VersionedSecret, StoreError>;

    /// Asks for the newest version's number and state without reading the secret.
    async fn version(&self, path: &SecretPath) -> Result<VersionState, StoreError>;

    /// Replaces the refresh token if the newest version is still `expected`, keeping all other
    /// keys. Answers with the new version, or [`StoreError::Conflict`].
    async fn replace_refresh_token(
        &self,
        path: &SecretPath,
        expected: u64,
        refresh_token: &Secret,
    ) -> Result<u64, StoreError>;

    /// Reads the newest version of a secret that holds nothing but texts, by their keys.
    async fn read_strings(&self, path: &SecretPath)
    -> Result<BTreeMap<String, Secret>, StoreError>;

    /// Names of the secrets directly in a folder; sub-folders are left out.
    async fn list(&self, folder: &SecretPath) -> Result<Vec<String>, StoreError>;
}

/// What buys an access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshRequest {
    /// Public name of the app.
    pub client_id: String,
    /// Proves that we are the app.
    pub client_secret: Secret,
    /// The grant itself.
    pub refresh_token: Secret,
}

/// What the token endpoint gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenResponse {
    /// The new access token.
    pub access_token: Secret,
    /// How long it lives, from the moment of the answer.
    pub expires_in: Duration,
    /// A refresh token, if the answer had one; may be the one that was sent.
    pub refresh_token: Option<Secret>,
}

/// Why the token endpoint gave no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The grant or the client is refused for good (`invalid_grant`, `invalid_client`,
    /// `access_denied`). Carries the OAuth error code, never the body.
    #[error("the token endpoint refuses the credential: {code}")]
    Rejected {
        /// OAuth error code, such as `invalid_grant`.
        code: String,
    },
    /// Too many requests.
    #[error("the token endpoint asks to slow down")]
    Throttled {
        /// How long it asks to wait, if it says so.
        retry_after: Option<Duration>,
    },
    /// No usable answer: unreachable, timed out, a server error, or an answer that is no token.
    #[error("the token endpoint is unavailable: {0}")]
    Unavailable(String),
}

/// Where access tokens come from. The real one is HubSpot's token endpoint.
#[async_trait]
pub trait TokenSource: fmt::Debug + Send + Sync + 'static {
    /// Trades a refresh token for an access token.
    async fn refresh(&self, grant: &RefreshRequest) -> Result<TokenResponse, GrantError>;
}

// === impl SecretPath ===

impl SecretPath {
    /// Checks a path; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path is empty".to_owned());
        }
        for segment in text.split('/') {
            if segment.is_empty() || segment == "." || segment == ".." {
                return Err(format!("`{segment}` is no path segment"));
            }
            if !segment.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
                return Err("only letters, digits, `.`, `_`, `-` and `/` are allowed".to_owned());
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// A path one segment deeper.
    pub fn join(&self, segment: &str) -> Result<Self, String> {
        if segment.contains('/') {
            return Err("a name must not contain `/`".to_owned());
        }
        Self::parse(&format!("{}/{segment}", self.0))
    }

    /// The path as text, without leading or trailing `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::SecretPath;

    #[test]
    fn a_path_cannot_leave_its_mount() {
        for bad in ["", "/", "a//b", "../x", "a/../b", "a/./b", "a b", "a%2fb", "a\n", "/a", "a/"] {
            assert!(SecretPath::parse(bad).is_err(), "{bad:?}");
        }
        let path = SecretPath::parse("hubspot/eu-1").unwrap();
        assert_eq!(path.join("x").unwrap().as_str(), "hubspot/eu-1/x");
        assert!(path.join("../x").is_err());
    }
}

//! Port to the secret store, with its messages.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;

use crate::secret_path::SecretPath;
use leadsd_base::secret::Secret;

/// Content of a portal's secret.
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
        /// Client identifier of the app.
        client_id: String,
        /// Authenticates the app at the token endpoint.
        client_secret: Secret,
        /// Exchanged for access tokens. The token endpoint may rotate it; the new one replaces it.
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

/// State of a secret's newest version in the KV metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// The version with this number can be read.
    Live(u64),
    /// The version with this number is soft-deleted or destroyed.
    Deleted(u64),
}

/// Reason why a secret could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No secret at this path, or its newest version is deleted.
    #[error("no secret at this path")]
    NotFound,
    /// The policy of the Vault token does not allow the access.
    #[error("vault denies access to this path")]
    Denied,
    /// Vault rejects the login itself.
    #[error("vault rejects the login: {0}")]
    LoginRejected(String),
    /// A write found another version than the one it was based on.
    #[error("the secret was changed concurrently")]
    Conflict,
    /// The secret has neither kind's keys, or a value of the wrong type. Names keys, never values.
    #[error("the secret is malformed: {0}")]
    Malformed(String),
    /// Vault is sealed, in standby, throttling, unreachable, slow, or sent an invalid response.
    /// Says which.
    #[error("vault is unavailable: {0}")]
    Unavailable(String),
}

/// Stores the secrets of the portals. Production uses Vault; tests use `testing::MemoryStore`.
#[async_trait]
pub trait SecretStore: fmt::Debug + Send + Sync + 'static {
    /// Reads the newest version.
    async fn read(&self, path: &SecretPath) -> Result<VersionedSecret, StoreError>;

    /// Returns number and state of the newest version without reading the secret.
    async fn version(&self, path: &SecretPath) -> Result<VersionState, StoreError>;

    /// Replaces the refresh token if the newest version is still `expected`, keeping all other
    /// keys. Returns the new version, or [`StoreError::Conflict`].
    async fn replace_refresh_token(
        &self,
        path: &SecretPath,
        expected: u64,
        refresh_token: &Secret,
    ) -> Result<u64, StoreError>;

    /// Reads the newest version of a secret all of whose values are strings, by key.
    async fn read_strings(&self, path: &SecretPath)
    -> Result<BTreeMap<String, Secret>, StoreError>;

    /// Lists the secrets directly in a folder; sub-folders are left out.
    async fn list(&self, folder: &SecretPath) -> Result<Vec<String>, StoreError>;
}

//! State of a Vault server, a token and a mount, for the command line.

use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;

use crate::vault::{error::Error, response::VaultResponse, token_details::TokenDetails};

/// State of a Vault server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultHealth {
    /// The node serves requests.
    Active,
    /// Another node is active; this one may forward requests.
    Standby,
    /// The node must be unsealed.
    Sealed,
    /// The server was never initialized.
    Uninitialized,
}

/// Properties of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenLookup {
    /// Time until the token expires; `None` if it does not expire.
    pub expires_in: Option<Duration>,
    /// True if the token can be renewed.
    pub renewable: bool,
    /// True if the token is renewed without an end, or does not expire.
    pub is_endless: bool,
    /// Names of the token's policies.
    pub policies: Vec<String>,
}

/// Secrets engine at a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Type of the engine, such as `kv`.
    pub kind: String,
    /// Version of a KV engine; 1 if Vault reports none.
    pub version: u64,
}

// === impl VaultHealth ===

impl VaultHealth {
    /// Parses the response of `sys/health`, whose HTTP status also encodes the state.
    pub(super) fn from_response(response: VaultResponse) -> Result<Self, Error> {
        let (status, body) = (response.status(), response.json());
        let flag = |key: &str| body.get(key).and_then(Value::as_bool);
        match status {
            _ if flag("initialized") == Some(false) => Ok(Self::Uninitialized),
            _ if flag("sealed") == Some(true) => Ok(Self::Sealed),
            200 if flag("sealed") == Some(false) => Ok(Self::Active),
            429 | 472 | 473 => Ok(Self::Standby),
            200 => Err(Error::Unavailable("the response is not that of a Vault server".to_owned())),
            status => Err(Error::from_response(status, &body)),
        }
    }
}

// === impl TokenLookup ===

impl TokenLookup {
    pub(super) fn from_data(data: &Value) -> Self {
        let details = TokenDetails::deserialize(data).unwrap_or_default();
        let names = |key: &str| {
            let list = data[key].as_array().into_iter().flatten();
            list.filter_map(|name| name.as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        Self {
            expires_in: details.expires_in(),
            renewable: details.is_renewable(),
            is_endless: details.is_endless(),
            policies: [names("policies"), names("identity_policies")].concat(),
        }
    }
}

// === impl MountInfo ===

impl MountInfo {
    pub(super) fn from_data(data: &Value) -> Self {
        let version = &data["options"]["version"];
        let version = version.as_u64().or_else(|| version.as_str()?.parse().ok());
        let kind = data["type"].as_str().unwrap_or_default().to_owned();
        Self { kind, version: version.unwrap_or(1) }
    }
}

//! Response of Vault, parsed alike for the service and the command line.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use vaultrs::api::AuthInfo;

use super::error::Error;

/// Status and body of a response. It has no `Debug`, since the body may contain secrets.
pub(super) struct VaultResponse {
    status: u16,
    body: Vec<u8>,
}

/// Envelope of Vault's responses.
#[derive(Deserialize)]
struct Envelope<T> {
    data: Option<T>,
    auth: Option<AuthInfo>,
}

// === impl VaultResponse ===

impl VaultResponse {
    pub(super) fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, body }
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Body as JSON; `null` if it is not JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Returns the response if its status is 2xx; otherwise errors by its status.
    pub(super) fn success(self) -> Result<Self, Error> {
        match self.status {
            200..=299 => Ok(self),
            status => Err(Error::from_response(status, &self.json())),
        }
    }

    /// Like [`VaultResponse::success`], for a login request: 400, 403 and 404 mean a rejected login, which
    /// is permanent until the configuration changes.
    pub(super) fn login(self) -> Result<Self, Error> {
        match self.status {
            status @ (400 | 403 | 404) => Err(Error::LoginRejected(status)),
            _ => self.success(),
        }
    }

    /// Parses the `data` of a successful response.
    pub(super) fn data<T: DeserializeOwned>(self) -> Result<T, Error> {
        self.envelope()?
            .data
            .ok_or_else(|| Error::Unavailable("the response has no data".to_owned()))
    }

    /// Parses the `auth` of a successful response.
    pub(super) fn auth(self) -> Result<AuthInfo, Error> {
        let auth = self.envelope::<Value>()?.auth;
        auth.ok_or_else(|| Error::Unavailable("the response has no auth".to_owned()))
    }

    fn envelope<T: DeserializeOwned>(self) -> Result<Envelope<T>, Error> {
        let body = self.success()?.body;
        // The parser's error could quote the body, which may contain secrets.
        let invalid = |_| Error::Unavailable("the response is not the expected JSON".to_owned());
        serde_json::from_slice(&body).map_err(invalid)
    }
}

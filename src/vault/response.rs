//! Response of Vault: status and body, read the same way for the service and the command line.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use vaultrs::api::AuthInfo;

use super::error::Error;

/// Response to one request. Its body may hold secrets, so there is no `Debug`.
pub(super) struct Response {
    status: u16,
    body: Vec<u8>,
}

/// The parts of a response that Vault wraps content in.
#[derive(Deserialize)]
struct Envelope<T> {
    data: Option<T>,
    auth: Option<AuthInfo>,
}

// === impl Response ===

impl Response {
    pub(super) fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, body }
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// The body as JSON; `null` if it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The response if it is a success; errors with the class of its status otherwise.
    pub(super) fn success(self) -> Result<Self, Error> {
        match self.status {
            200..=299 => Ok(self),
            status => Err(Error::from_response(status, &self.json())),
        }
    }

    /// As [`Response::success`], for a request that is itself a login: a refusal is final until the
    /// configuration changes, anything else is an outage.
    pub(super) fn login(self) -> Result<Self, Error> {
        match self.status {
            status @ (400 | 403 | 404) => Err(Error::LoginRejected(status)),
            _ => self.success(),
        }
    }

    /// The `data` of a success.
    pub(super) fn data<T: DeserializeOwned>(self) -> Result<T, Error> {
        self.envelope()?
            .data
            .ok_or_else(|| Error::Unavailable("answers without content".to_owned()))
    }

    /// The `auth` of a success.
    pub(super) fn auth(self) -> Result<AuthInfo, Error> {
        let auth = self.envelope::<Value>()?.auth;
        auth.ok_or_else(|| Error::Unavailable("answers without content".to_owned()))
    }

    fn envelope<T: DeserializeOwned>(self) -> Result<Envelope<T>, Error> {
        let body = self.success()?.body;
        // The text of the parser's error could quote the body.
        serde_json::from_slice(&body).map_err(|_| Error::Unavailable("answers nonsense".to_owned()))
    }
}

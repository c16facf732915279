//! [`SecretStore`] over KV v2 and the session, for the credential engine.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    client::VaultClient,
    error::Error,
    kv2::{self, CasOutcome, Mount, SecretData, SecretVersion},
    response::VaultResponse,
    session::Session,
};
use leadsd_base::{
    secret::Secret,
    time::{SystemClock, WallClock as _},
};
use leadsd_credentials::{
    PortalSecret, SecretPath, SecretStore, StoreError, VersionState, VersionedSecret,
};

/// Secrets of one KV v2 mount.
#[derive(Clone)]
pub struct KvStore {
    session: Session,
    mount: Mount,
    /// Maximum wait for a login.
    login_timeout: Duration,
}

// === impl KvStore ===

impl KvStore {
    /// Creates a store for the mount with the tokens of `session`. `login_timeout` is the maximum wait
    /// for a login.
    pub fn new(session: Session, mount: impl Into<String>, login_timeout: Duration) -> Self {
        Self { session, mount: Mount::new(mount), login_timeout }
    }

    /// Sends a request with the session's token.
    async fn request<F>(
        &self,
        send: impl Fn(VaultClient, Secret) -> F,
    ) -> Result<VaultResponse, Error>
    where
        F: Future<Output = Result<VaultResponse, Error>>,
    {
        let client = self.session.client();
        let deadline = Instant::now() + self.login_timeout;
        let look_up =
            async |token: Secret| super::session::look_up(client, &token, &self.mount).await;
        self.session.request(deadline, |token| send(client.clone(), token), look_up).await
    }

    /// Reads the newest version: data and version number.
    async fn fetch(&self, path: &SecretPath) -> Result<(SecretData, u64), Error> {
        let response = self
            .request(|client, token| async move {
                client.call(Some(&token), &self.mount.read(path)).await
            })
            .await?;
        let found = SecretVersion::from_response(response)?.ok_or(Error::NotFound)?;
        Ok((found.data.ok_or(Error::NotFound)?, found.version))
    }
}

impl fmt::Debug for KvStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvStore").field("mount", &self.mount.name()).finish_non_exhaustive()
    }
}

#[async_trait]
impl SecretStore for KvStore {
    async fn read(&self, path: &SecretPath) -> Result<VersionedSecret, StoreError> {
        let (data, version) = self.fetch(path).await?;
        Ok(VersionedSecret { version, secret: portal_secret(data)? })
    }

    async fn version(&self, path: &SecretPath) -> Result<VersionState, StoreError> {
        let response = self
            .request(|client, token| async move {
                client.call(Some(&token), &self.mount.metadata(path)).await
            })
            .await?;
        Ok(kv2::version_state(response, SystemClock.now())?)
    }

    async fn replace_refresh_token(
        &self,
        path: &SecretPath,
        expected: u64,
        refresh_token: &Secret,
    ) -> Result<u64, StoreError> {
        let (mut data, version) = self.fetch(path).await?;
        if version != expected {
            return Err(StoreError::Conflict);
        }
        data.set("refresh_token", refresh_token.expose());
        let (path, body) = (self.mount.data_path(path), data.write_body(expected));
        let (path, body) = (path.as_str(), body.as_slice());
        let response = self
            .request(|client, token| async move {
                client.send(Some(&token), Method::POST, path, Some(body.to_vec())).await
            })
            .await?;
        match CasOutcome::from_response(response)? {
            CasOutcome::Written(version) => Ok(version),
            CasOutcome::Conflict => Err(StoreError::Conflict),
        }
    }

    async fn read_strings(
        &self,
        path: &SecretPath,
    ) -> Result<BTreeMap<String, Secret>, StoreError> {
        let (data, _) = self.fetch(path).await?;
        let text = |(key, value)| match value {
            Value::String(text) => Ok((key, Secret::new(text))),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => Err(StoreError::Malformed(format!("{key} is not a string"))),
        };
        data.into_inner().into_iter().map(text).collect()
    }

    async fn list(&self, folder: &SecretPath) -> Result<Vec<String>, StoreError> {
        let response = self
            .request(|client, token| async move {
                client.call(Some(&token), &self.mount.list(folder)).await
            })
            .await?;
        Ok(kv2::names(response)?)
    }
}

/// Parses a static token or an OAuth credential. Errors name keys, never values.
fn portal_secret(data: SecretData) -> Result<PortalSecret, StoreError> {
    let mut keys = data.into_inner();
    let mut text = |key: &str| match keys.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(Secret::new(text.trim()))),
        Some(_) => Err(StoreError::Malformed(format!("{key} is empty or not a string"))),
    };
    let access_token = text("access_token")?;
    let (client_id, client_secret, refresh_token) =
        (text("client_id")?, text("client_secret")?, text("refresh_token")?);
    match (access_token, client_id, client_secret, refresh_token) {
        (Some(access_token), None, None, None) => Ok(PortalSecret::Static { access_token }),
        (None, Some(client_id), Some(client_secret), Some(refresh_token)) => {
            let client_id = client_id.expose().to_owned();
            Ok(PortalSecret::OAuth { client_id, client_secret, refresh_token })
        }
        _ => Err(StoreError::Malformed(
            "expected either access_token, or client_id, client_secret and refresh_token"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(value: &Value) -> Result<PortalSecret, StoreError> {
        let keys: BTreeMap<String, Value> = serde_json::from_value(value.clone()).unwrap();
        portal_secret(keys.into())
    }

    #[test]
    fn a_secret_is_either_a_static_token_or_an_oauth_credential() {
        let fixed = secret(&json!({"access_token": "pat-1\n", "note": "x"})).unwrap();
        assert_eq!(fixed, PortalSecret::Static { access_token: Secret::new("pat-1") });
        let oauth = json!({"client_id": "c", "client_secret": "s", "refresh_token": "r"});
        assert!(matches!(secret(&oauth).unwrap(), PortalSecret::OAuth { .. }));
        for bad in [
            json!({}),
            json!({"access_token": ""}),
            json!({"access_token": 3}),
            json!({"client_id": "c", "client_secret": "s"}),
            json!({"access_token": "a", "client_id": "c"}),
        ] {
            assert!(matches!(secret(&bad), Err(StoreError::Malformed(_))), "{bad}");
        }
        let error = secret(&json!({"access_token": {"hunter2": 1}})).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}

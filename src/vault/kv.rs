//! KV v2: reads that keep the version, metadata polls, and writes with check-and-set.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;
use vaultrs::{
    api::{
        self,
        kv2::{
            requests::{ReadSecretRequest, SetSecretRequestOptions},
            responses::ReadSecretResponse,
        },
    },
    client::VaultClient,
    error::ClientError,
    kv2,
};

use super::{error::Error, session::Session};
use leadsd_base::secret::Secret;
use leadsd_credentials::{
    PortalSecret, SecretPath, SecretStore, StoreError, VersionState, VersionedSecret,
};

/// The secrets of one KV v2 mount.
#[derive(Clone)]
pub struct KvStore {
    session: Session,
    mount: String,
    /// Longest wait for a login.
    patience: Duration,
}

/// The keys of a secret, unknown ones included.
type Keys = BTreeMap<String, Value>;

// === impl KvStore ===

impl KvStore {
    /// The mount `mount` as the session sees it; `patience` bounds the wait for a login.
    pub fn new(session: Session, mount: impl Into<String>, patience: Duration) -> Self {
        Self { session, mount: mount.into(), patience }
    }

    /// Makes a request; on a 403 once more with another token, for a restarted Vault has forgotten
    /// the old one.
    async fn ask<T, F>(
        &self,
        request: impl Fn(std::sync::Arc<VaultClient>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let deadline = Instant::now() + self.patience;
        let (client, generation) = self.session.client(deadline).await?;
        match request(std::sync::Arc::clone(&client)).await.map_err(|error| Error::of(&error)) {
            Err(Error::Denied) => {}
            answer => return answer,
        }
        // A token that still stands is just not allowed to do this; one that cannot be looked up is
        // kept, for it may be good.
        match vaultrs::token::lookup_self(&*client).await.map_err(|error| Error::of(&error)) {
            Ok(_) => return Err(Error::Denied),
            Err(Error::Denied) => {}
            Err(error) => return Err(error),
        }
        self.session.doubt(generation);
        let (client, _) = self.session.client(deadline).await?;
        request(client).await.map_err(|error| Error::of(&error))
    }

    async fn fetch(&self, path: &SecretPath) -> Result<(Keys, u64), StoreError> {
        let answer: ReadSecretResponse = self
            .ask(|client| async move {
                // kv2::read would drop the version.
                let request = ReadSecretRequest::builder()
                    .mount(self.mount.as_str())
                    .path(path.as_str())
                    .build()
                    .map_err(|_| ClientError::InvalidUpdateParameter)?;
                api::exec_with_result(&*client, request).await
            })
            .await?;
        let version = answer.metadata.version;
        match answer.data {
            Value::Object(keys) => Ok((keys.into_iter().collect(), version)),
            _ => Err(StoreError::Malformed("it is no object".to_owned())),
        }
    }
}

impl fmt::Debug for KvStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvStore").field("mount", &self.mount).finish_non_exhaustive()
    }
}

#[async_trait]
impl SecretStore for KvStore {
    async fn read(&self, path: &SecretPath) -> Result<VersionedSecret, StoreError> {
        let (keys, version) = self.fetch(path).await?;
        Ok(VersionedSecret { version, secret: portal_secret(keys)? })
    }

    async fn version(&self, path: &SecretPath) -> Result<VersionState, StoreError> {
        let metadata =
            self.ask(|client| async move {
                kv2::read_metadata(&*client, &self.mount, path.as_str()).await
            })
            .await?;
        let number = metadata.current_version;
        let newest = metadata.versions.get(&number.to_string());
        let gone = newest.is_none_or(|newest| newest.destroyed || !newest.deletion_time.is_empty());
        Ok(if gone { VersionState::Deleted(number) } else { VersionState::Live(number) })
    }

    async fn replace_refresh_token(
        &self,
        path: &SecretPath,
        expected: u64,
        refresh_token: &Secret,
    ) -> Result<u64, StoreError> {
        let (mut keys, version) = self.fetch(path).await?;
        if version != expected {
            return Err(StoreError::Conflict);
        }
        keys.insert("refresh_token".to_owned(), Value::from(refresh_token.expose()));
        let cas = u32::try_from(expected).map_err(|_| StoreError::Conflict)?;
        let keys = &keys;
        let written = self
            .ask(|client| async move {
                let options = SetSecretRequestOptions { cas };
                kv2::set_with_options(&*client, &self.mount, path.as_str(), keys, options).await
            })
            .await;
        match written {
            Ok(metadata) => Ok(metadata.version),
            // Vault answers 400 when check-and-set fails.
            Err(Error::Invalid) => Err(StoreError::Conflict),
            Err(error) => Err(error.into()),
        }
    }

    async fn read_strings(
        &self,
        path: &SecretPath,
    ) -> Result<BTreeMap<String, Secret>, StoreError> {
        let (keys, _) = self.fetch(path).await?;
        let text = |(key, value)| match value {
            Value::String(text) => Ok((key, Secret::new(text))),
            _ => Err(StoreError::Malformed(format!("{key} is not a text"))),
        };
        keys.into_iter().map(text).collect()
    }

    async fn list(&self, folder: &SecretPath) -> Result<Vec<String>, StoreError> {
        let listed = self
            .ask(|client| async move { kv2::list(&*client, &self.mount, folder.as_str()).await })
            .await;
        match listed {
            Ok(names) => Ok(names.into_iter().filter(|name| !name.ends_with('/')).collect()),
            // An empty folder does not exist.
            Err(Error::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// One kind or the other; the error names keys, never values.
fn portal_secret(mut keys: Keys) -> Result<PortalSecret, StoreError> {
    let mut text = |key: &str| match keys.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(Secret::new(text.trim()))),
        Some(_) => Err(StoreError::Malformed(format!("{key} is not a text or empty"))),
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
            "it needs either access_token, or client_id, client_secret and refresh_token"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(value: &Value) -> Result<PortalSecret, StoreError> {
        portal_secret(serde_json::from_value(value.clone()).unwrap())
    }

    #[test]
    fn both_kinds_are_read_and_nothing_in_between() {
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

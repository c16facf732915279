//! Vault client for the command line: one login and individual requests, without background tasks.
//!
//! It shares requests, logins and error classification with the service.

mod types;

use std::{fmt, time::Duration};

use reqwest::Method;
use rustify::endpoint::Endpoint;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use vaultrs::api::token::requests::LookupTokenSelfRequest;

pub use self::types::{MountInfo, TokenLookup, VaultHealth};
use super::{
    auth_method::{ConfiguredAuth, IssuedToken, LoginMethod as _},
    client::HEALTH_PATH,
    client::VaultClient,
    error::Error,
    kv2::{self, CasOutcome, Mount, SecretData, SecretVersion},
    response::VaultResponse,
    session::{self, Denial, UNKNOWN_TOKEN_PATIENCE, UNKNOWN_TOKEN_PAUSE},
};
use crate::config;
use leadsd_base::{secret::Secret, time::Timestamp};
use leadsd_credentials::SecretPath;

/// Timeout for the final revocation. A token that is not revoked expires.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Vault client with the token of one login.
pub struct AdminClient {
    client: VaultClient,
    auth: ConfiguredAuth,
    token: IssuedToken,
    issued_at: Instant,
    mount: Mount,
}

// === impl AdminClient ===

impl AdminClient {
    /// Logs in without retries.
    pub async fn log_in(config: &config::Vault) -> Result<Self, Error> {
        let client = VaultClient::new(config)?;
        let auth = ConfiguredAuth::new(client.clone(), config.auth.clone());
        let issued_at = Instant::now();
        let token = auth.log_in().await?;
        Ok(Self { client, auth, token, issued_at, mount: Mount::new(&config.mount) })
    }

    /// Logs in again unless the token is valid for at least `need`.
    pub async fn ensure_ttl(&mut self, need: Duration) -> Result<(), Error> {
        if self.token.lasts(self.issued_at, Instant::now(), need) {
            return Ok(());
        }
        let issued_at = Instant::now();
        self.token = self.auth.log_in().await?;
        self.issued_at = issued_at;
        Ok(())
    }

    /// Requests the state of the server; needs no login.
    pub async fn health(config: &config::Vault) -> Result<VaultHealth, Error> {
        let client = VaultClient::new(config)?;
        VaultHealth::from_response(client.send(None, Method::GET, HEALTH_PATH, None).await?)
    }

    /// Expiry of the configured client certificate; `None` without one.
    pub fn certificate_expires(config: &config::Vault) -> Result<Option<Timestamp>, Error> {
        Ok(VaultClient::new(config)?.certificate_expires())
    }

    /// Sends a request with the token of this login. Right after the login a node may not know the token
    /// yet: then it is sent again, as the service does.
    async fn request(
        &self,
        send: impl AsyncFn(&Secret) -> Result<VaultResponse, Error>,
    ) -> Result<VaultResponse, Error> {
        let token = &self.token.token;
        loop {
            let response = send(token).await?;
            if response.status() != 403 {
                return Ok(response);
            }
            let lookup = session::look_up(&self.client, token, &self.mount).await;
            match Denial::classify(lookup, self.young_until())? {
                Denial::ByPolicy | Denial::UnknownToken => return Ok(response),
                Denial::NotKnownYet => sleep(UNKNOWN_TOKEN_PAUSE).await,
            }
        }
    }

    /// Time until which a node may not know the token.
    fn young_until(&self) -> Instant {
        self.issued_at + UNKNOWN_TOKEN_PATIENCE.saturating_sub(self.token.age)
    }

    /// Calls an endpoint that `vaultrs` defines.
    async fn call(&self, endpoint: &impl Endpoint) -> Result<VaultResponse, Error> {
        self.request(async |token| self.client.call(Some(token), endpoint).await).await
    }

    /// Sends a request to a path below `/v1/`. A body is JSON.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<VaultResponse, Error> {
        let send = async |token: &Secret| {
            self.client.send(Some(token), method.clone(), path, body.clone()).await
        };
        self.request(send).await
    }

    /// Number of further requests that Vault allows with the token; `None` if it has no use limit.
    pub fn uses_left(&self) -> Option<u64> {
        self.token.uses_left
    }

    /// Looks up the token of this login.
    pub async fn look_up_token(&self) -> Result<TokenLookup, Error> {
        let response = self.call(&LookupTokenSelfRequest {}).await?;
        Ok(TokenLookup::from_data(&response.data()?))
    }

    /// Time until the secret id of the login expires; `None` with other methods, if it does not expire, or
    /// if the policy does not allow the lookup.
    pub async fn secret_id_left(&self) -> Option<Duration> {
        self.auth.secret_id_left(&self.token.token).await
    }

    /// Requests the capabilities of the token on each path, in the order of the paths.
    pub async fn capabilities(&self, paths: &[String]) -> Result<Vec<Vec<String>>, Error> {
        let body = json!({ "paths": paths }).to_string().into_bytes();
        let response = self.send(Method::POST, "sys/capabilities-self", Some(body)).await?;
        let body = response.success()?.json();
        let at = |path: &String| {
            let list = body["data"][path].as_array().or_else(|| body[path].as_array());
            list.into_iter().flatten().filter_map(|may| may.as_str().map(str::to_owned)).collect()
        };
        Ok(paths.iter().map(at).collect())
    }

    /// Requests the type and version of the engine at the configured mount.
    pub async fn mount_info(&self) -> Result<MountInfo, Error> {
        let response = self.send(Method::GET, &self.mount.info_path(), None).await?;
        Ok(MountInfo::from_data(&response.data::<Value>()?))
    }

    /// Path of a secret's data, as policies name it.
    pub fn data_path(&self, path: &SecretPath) -> String {
        self.mount.data_path(path)
    }

    /// Path of a secret's metadata, as policies name it.
    pub fn metadata_path(&self, path: &SecretPath) -> String {
        self.mount.metadata_path(path)
    }

    /// Reads the newest version of a secret; `None` if the secret never existed.
    pub async fn read(&self, path: &SecretPath) -> Result<Option<SecretVersion>, Error> {
        SecretVersion::from_response(self.call(&self.mount.read(path)).await?)
    }

    /// Names of the secrets directly in a folder.
    pub async fn list(&self, folder: &SecretPath) -> Result<Vec<String>, Error> {
        let request = self.mount.list(folder);
        kv2::names(self.call(&request).await?)
    }

    /// Writes a new version if the newest version is `expected`; 0 means that the secret does not exist.
    pub async fn write(
        &self,
        path: &SecretPath,
        expected: u64,
        data: &SecretData,
    ) -> Result<CasOutcome, Error> {
        let (path, body) = (self.mount.data_path(path), data.write_body(expected));
        CasOutcome::from_response(self.send(Method::POST, &path, Some(body)).await?)
    }

    /// Revokes the token if the login created it.
    pub async fn close(self) {
        if self.token.owned {
            let deadline = Instant::now() + REVOKE_TIMEOUT;
            // A token that is not revoked expires.
            let _ = timeout_at(deadline, self.auth.revoke(&self.token.token)).await;
        }
    }
}

impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminClient").field("mount", &self.mount.name()).finish_non_exhaustive()
    }
}

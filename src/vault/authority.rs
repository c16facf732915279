//! Where tokens come from: the port between the session, which decides when, and Vault's auth
//! methods, which say how.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use vaultrs::{
    api::AuthInfo,
    auth::{approle, kubernetes, oidc, userpass},
    error::ClientError,
    sys::wrapping,
    token,
};

use super::{
    connection::{Connection, read_secret},
    error::Error,
};
use crate::config::VaultAuth;
use leadsd_base::secret::Secret;

/// What the session needs of Vault.
#[async_trait]
pub(super) trait Authority: Send + Sync + 'static {
    /// Gets a token: by logging in, or by looking at the one that was given.
    async fn log_in(&self) -> Result<Login, Error>;

    /// Renews a token.
    async fn renew(&self, token: &Secret) -> Result<Lease, Error>;

    /// Revokes a token that [`Authority::log_in`] created.
    async fn revoke(&self, token: &Secret) -> Result<(), Error>;

    /// The token that somebody else keeps fresh, as it is now; none with other methods.
    async fn given(&self) -> Option<Secret>;
}

/// How long a token lives from now, and whether that can be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    /// Zero for ever.
    pub(super) ttl: Duration,
    pub(super) renewable: bool,
}

/// A token.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) token: Secret,
    pub(super) lease: Lease,
    /// Whether the session created it, and so revokes it at the end.
    pub(super) ours: bool,
}

/// Vault itself.
pub(super) struct Vault {
    connection: Connection,
    auth: VaultAuth,
    unwrapped: Mutex<Option<Unwrapped>>,
    /// The token that was handed over: standard input can be read only once.
    handed_over: Mutex<Option<Secret>>,
}

/// A secret id and the wrapping token that it came in: that one works only once.
struct Unwrapped {
    wrapping_token: Secret,
    secret_id: Secret,
}

/// The content of a wrapped secret id.
#[derive(Deserialize)]
struct SecretId {
    secret_id: String,
}

/// Longest life that is believed: far beyond any, and safe to add to a point in time.
const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

// === impl Lease ===

impl Lease {
    fn new(seconds: u64, renewable: bool) -> Self {
        Self { ttl: Duration::from_secs(seconds).min(MAX_TTL), renewable }
    }
}

// === impl Vault ===

impl Vault {
    pub(super) fn new(connection: Connection, auth: VaultAuth) -> Self {
        Self { connection, auth, unwrapped: Mutex::default(), handed_over: Mutex::default() }
    }

    async fn look_up(&self, file: &Path, renewed_by_us: bool) -> Result<Login, Error> {
        let token = match read_secret(file).await {
            Ok(token) => token,
            Err(error) => self.handed_over.lock().clone().ok_or(error)?,
        };
        *self.handed_over.lock() = Some(token.clone());
        let client = self.connection.with_token(&token);
        let found = token::lookup_self(&client).await.map_err(|error| refused(&error))?;
        let renewable = renewed_by_us && found.renewable.unwrap_or(false);
        Ok(Login { token, lease: Lease::new(found.ttl, renewable), ours: false })
    }

    /// The secret id; a wrapped one is unwrapped the first time its wrapping token is seen.
    async fn secret_id(&self, file: Option<&PathBuf>, wrapped: bool) -> Result<Secret, Error> {
        let Some(file) = file else { return Ok(Secret::default()) };
        let text = read_secret(file).await?;
        if !wrapped {
            return Ok(text);
        }
        if let Some(known) = &*self.unwrapped.lock()
            && known.wrapping_token == text
        {
            return Ok(known.secret_id.clone());
        }
        let client = self.connection.with_token(&text);
        let SecretId { secret_id } =
            wrapping::unwrap(&client, None).await.map_err(|error| match Error::of(&error) {
                Error::Invalid | Error::Denied => Error::Unwrap(file.display().to_string()),
                other => other,
            })?;
        let secret_id = Secret::new(secret_id);
        let unwrapped = Unwrapped { wrapping_token: text, secret_id: secret_id.clone() };
        *self.unwrapped.lock() = Some(unwrapped);
        Ok(secret_id)
    }
}

#[async_trait]
impl Authority for Vault {
    async fn log_in(&self) -> Result<Login, Error> {
        // Files are read at each login: a projected token or a secret id may have been replaced.
        let nobody = self.connection.with_token(&Secret::default());
        let done = match &self.auth {
            VaultAuth::Token { file } => return self.look_up(file, true).await,
            VaultAuth::TokenFile { file } => return self.look_up(file, false).await,
            VaultAuth::AppRole { mount, role_id_file, secret_id_file, secret_id_wrapped } => {
                let role_id = read_secret(role_id_file).await?;
                let secret_id = self.secret_id(secret_id_file.as_ref(), *secret_id_wrapped).await?;
                approle::login(&nobody, mount, role_id.expose(), secret_id.expose()).await
            }
            VaultAuth::Kubernetes { mount, role, jwt_file } => {
                let jwt = read_secret(jwt_file).await?;
                kubernetes::login(&nobody, mount, role, jwt.expose()).await
            }
            VaultAuth::Jwt { mount, role, jwt_file } => {
                let jwt = read_secret(jwt_file).await?;
                oidc::login(&nobody, mount, jwt.expose(), role.clone()).await
            }
            VaultAuth::UserPass { mount, username, password_file } => {
                let password = read_secret(password_file).await?;
                userpass::login(&nobody, mount, username, password.expose()).await
            }
            VaultAuth::Cert { mount, role } => {
                // vaultrs sends the role under a name that Vault does not know.
                let body = json!({ "name": role.as_deref().unwrap_or_default() });
                return Ok(Login::of(self.connection.log_in(mount, &body).await?));
            }
        };
        Ok(Login::of(done.map_err(|error| refused(&error))?))
    }

    async fn renew(&self, token: &Secret) -> Result<Lease, Error> {
        let client = self.connection.with_token(token);
        let renewed = token::renew_self(&client, None).await.map_err(|error| Error::of(&error))?;
        Ok(Lease::new(renewed.lease_duration, renewed.renewable))
    }

    async fn revoke(&self, token: &Secret) -> Result<(), Error> {
        let client = self.connection.with_token(token);
        token::revoke_self(&client).await.map_err(|error| Error::of(&error))
    }

    async fn given(&self) -> Option<Secret> {
        match &self.auth {
            VaultAuth::TokenFile { file } => read_secret(file).await.ok(),
            VaultAuth::Token { .. }
            | VaultAuth::AppRole { .. }
            | VaultAuth::Kubernetes { .. }
            | VaultAuth::Jwt { .. }
            | VaultAuth::UserPass { .. }
            | VaultAuth::Cert { .. } => None,
        }
    }
}

// === impl Login ===

impl Login {
    fn of(auth: AuthInfo) -> Self {
        let lease = Lease::new(auth.lease_duration, auth.renewable);
        Self { token: Secret::new(auth.client_token), lease, ours: true }
    }
}

/// A login that fails for good says so; anything else is an outage.
fn refused(error: &ClientError) -> Error {
    match Error::of(error) {
        Error::Invalid => Error::LoginRefused(400),
        Error::Denied => Error::LoginRefused(403),
        Error::NotFound => Error::LoginRefused(404),
        other => other,
    }
}

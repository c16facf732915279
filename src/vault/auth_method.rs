//! Auth methods: issue, renew and revoke tokens. The session decides when.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use vaultrs::api::{
    AuthInfo,
    auth::{
        approle::requests::LoginWithApproleRequest,
        kubernetes::requests::LoginWithKubernetesRequest, oidc::requests::JWTLoginRequest,
        userpass::requests::LoginRequest,
    },
    sys::requests::UnwrapRequest,
    token::requests::{LookupTokenSelfRequest, RenewTokenSelfRequest, RevokeTokenSelfRequest},
};

use super::{
    client::VaultClient,
    error::Error,
    lease::Lease,
    secret_file,
    token_details::{self, TokenDetails},
};
use crate::config::VaultAuth;
use leadsd_base::{
    secret::Secret,
    time::{SystemClock, Timestamp, WallClock as _},
};

/// Port of the session to an auth method.
#[async_trait]
pub(super) trait LoginMethod: Send + Sync + 'static {
    /// Obtains a token: by logging in, or by looking up the token in the configured file.
    async fn log_in(&self) -> Result<IssuedToken, Error>;

    /// Renews a token.
    async fn renew(&self, token: &Secret) -> Result<Lease, Error>;

    /// Revokes a token that [`LoginMethod::log_in`] created.
    async fn revoke(&self, token: &Secret) -> Result<(), Error>;

    /// Token in the configured file, which another process or an operator writes; `None` with other
    /// methods, and if the file is no regular file.
    async fn external_token(&self) -> Option<Secret>;

    /// Time until the secret id of an AppRole expires, as Vault reports to the holder of `token`. `None` with
    /// other methods, if it does not expire, or if the policy does not allow the lookup.
    async fn secret_id_left(&self, token: &Secret) -> Option<Duration>;
}

/// Token and its lease.
#[derive(Debug)]
pub(super) struct IssuedToken {
    pub(super) token: Secret,
    pub(super) lease: Lease,
    /// True if the login created the token and Vault can revoke it.
    pub(super) owned: bool,
    pub(super) replacement: Replacement,
    /// Time since the token was issued.
    pub(super) age: Duration,
    /// True if Vault has accepted a request with the token.
    pub(super) is_known: bool,
    /// Number of further requests that Vault allows with the token; `None` if it has no use limit.
    pub(super) uses_left: Option<u64>,
}

/// Replacement of a token before it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replacement {
    /// Another login, the agent that wrote the token, or renewals without an end.
    Automatic,
    /// Renewals, as long as they grant this time to live: Vault does not report the maximum of the mount.
    WhileRenewed(Duration),
    /// An operator.
    Operator,
}

/// Auth method of the configuration.
pub(super) struct ConfiguredAuth {
    client: VaultClient,
    config: VaultAuth,
    unwrapped: Mutex<Option<Unwrapped>>,
    /// Last token read from the file. Standard input (`/dev/stdin`) can be read only once.
    last_read: Mutex<Option<Secret>>,
    /// Name of the AppRole, as the last login returned it.
    role_name: Mutex<Option<String>>,
}

/// Secret id, and the single-use wrapping token that it was unwrapped from.
struct Unwrapped {
    wrapping_token: Secret,
    secret_id: Secret,
}

/// Content of a wrapped secret id.
#[derive(Deserialize)]
struct WrappedSecretId {
    secret_id: String,
}

/// Fields of the response to a login that `vaultrs` does not define.
#[derive(Default, Deserialize)]
struct LoginDetails {
    #[serde(default)]
    num_uses: i64,
}

/// Field of the response to the lookup of a secret id.
#[derive(Deserialize)]
struct SecretIdLookup {
    expiration_time: String,
}

// === impl ConfiguredAuth ===

impl ConfiguredAuth {
    pub(super) fn new(client: VaultClient, config: VaultAuth) -> Self {
        Self {
            client,
            config,
            unwrapped: Mutex::default(),
            last_read: Mutex::default(),
            role_name: Mutex::default(),
        }
    }

    /// Looks up the token in a file.
    async fn look_up(&self, file: &Path, is_renewed_here: bool) -> Result<IssuedToken, Error> {
        let token = match secret_file::read(file).await {
            Ok(token) => token,
            Err(error) => self.last_read.lock().clone().ok_or(error)?,
        };
        *self.last_read.lock() = Some(token.clone());
        let response = self.client.call(Some(&token), &LookupTokenSelfRequest {}).await?;
        let details: TokenDetails = response.login()?.data()?;
        let renewable = is_renewed_here && details.is_renewable();
        let replacement = if !is_renewed_here || details.is_endless() {
            Replacement::Automatic
        } else if renewable && !details.has_explicit_max_ttl() {
            Replacement::WhileRenewed(details.full_ttl())
        } else {
            Replacement::Operator
        };
        Ok(IssuedToken {
            token,
            lease: Lease::new(details.ttl(), renewable),
            owned: false,
            replacement,
            age: details.age(SystemClock.now()),
            is_known: true,
            uses_left: details.uses_left(),
        })
    }

    /// Reads the secret id. A wrapped secret id is unwrapped once per wrapping token.
    async fn secret_id(&self, file: Option<&PathBuf>, is_wrapped: bool) -> Result<Secret, Error> {
        let Some(file) = file else { return Ok(Secret::default()) };
        let text = secret_file::read(file).await?;
        if !is_wrapped {
            return Ok(text);
        }
        if let Some(known) = &*self.unwrapped.lock()
            && known.wrapping_token == text
        {
            return Ok(known.secret_id.clone());
        }
        let response = self.client.call(Some(&text), &UnwrapRequest { token: None }).await?;
        let WrappedSecretId { secret_id } = response.data().map_err(|error| match error {
            Error::Invalid | Error::Denied => Error::Unwrap(file.display().to_string()),
            Error::File { .. }
            | Error::Setup(_)
            | Error::LoginRejected(_)
            | Error::Unwrap(_)
            | Error::NotFound
            | Error::CasConflict
            | Error::Connect(_)
            | Error::Unavailable(_) => error,
        })?;
        let secret_id = Secret::new(secret_id);
        let unwrapped = Unwrapped { wrapping_token: text, secret_id: secret_id.clone() };
        *self.unwrapped.lock() = Some(unwrapped);
        Ok(secret_id)
    }
}

#[async_trait]
impl LoginMethod for ConfiguredAuth {
    async fn log_in(&self) -> Result<IssuedToken, Error> {
        // Files are read at each login: projected tokens and secret ids are rotated.
        let response = match &self.config {
            VaultAuth::Token { file } => return self.look_up(file, true).await,
            VaultAuth::TokenFile { file } => return self.look_up(file, false).await,
            VaultAuth::AppRole { mount, role_id_file, secret_id_file, secret_id_wrapped } => {
                let role_id = secret_file::read(role_id_file).await?;
                let secret_id = self.secret_id(secret_id_file.as_ref(), *secret_id_wrapped).await?;
                let login = LoginWithApproleRequest {
                    mount: mount.clone(),
                    role_id: role_id.expose().to_owned(),
                    secret_id: secret_id.expose().to_owned(),
                };
                self.client.call(None, &login).await?
            }
            VaultAuth::Kubernetes { mount, role, jwt_file } => {
                let jwt = secret_file::read(jwt_file).await?.expose().to_owned();
                let (mount, role) = (mount.clone(), role.clone());
                self.client.call(None, &LoginWithKubernetesRequest { mount, role, jwt }).await?
            }
            VaultAuth::Jwt { mount, role, jwt_file } => {
                let jwt = secret_file::read(jwt_file).await?.expose().to_owned();
                let (mount, role) = (mount.clone(), role.clone());
                self.client.call(None, &JWTLoginRequest { mount, jwt, role }).await?
            }
            VaultAuth::UserPass { mount, username, password_file } => {
                let password = secret_file::read(password_file).await?.expose().to_owned();
                let (mount, username) = (mount.clone(), username.clone());
                self.client.call(None, &LoginRequest { mount, username, password }).await?
            }
            VaultAuth::Cert { mount, role } => {
                // vaultrs sends the role in a field that Vault does not know.
                let body = json!({ "name": role.as_deref().unwrap_or_default() }).to_string();
                let path = format!("auth/{mount}/login");
                self.client.send(None, Method::POST, &path, Some(body.into_bytes())).await?
            }
        };
        let response = response.login()?;
        let details = LoginDetails::deserialize(&response.json()["auth"]).unwrap_or_default();
        let auth = response.auth()?;
        *self.role_name.lock() =
            auth.metadata.as_ref().and_then(|metadata| metadata.get("role_name")).cloned();
        Ok(IssuedToken::from_auth(auth, details.num_uses))
    }

    async fn renew(&self, token: &Secret) -> Result<Lease, Error> {
        let renewal = RenewTokenSelfRequest { increment: None };
        let renewed = self.client.call(Some(token), &renewal).await?.auth()?;
        Ok(Lease::new(renewed.lease_duration, renewed.renewable))
    }

    async fn revoke(&self, token: &Secret) -> Result<(), Error> {
        self.client.call(Some(token), &RevokeTokenSelfRequest {}).await?.success()?;
        Ok(())
    }

    async fn external_token(&self) -> Option<Secret> {
        match &self.config {
            VaultAuth::Token { file } | VaultAuth::TokenFile { file } => {
                // A read of a pipe or a terminal could wait without end.
                let found = tokio::fs::metadata(file).await.ok()?;
                if !found.is_file() {
                    return None;
                }
                secret_file::read(file).await.ok()
            }
            VaultAuth::AppRole { .. }
            | VaultAuth::Kubernetes { .. }
            | VaultAuth::Jwt { .. }
            | VaultAuth::UserPass { .. }
            | VaultAuth::Cert { .. } => None,
        }
    }

    async fn secret_id_left(&self, token: &Secret) -> Option<Duration> {
        let VaultAuth::AppRole { mount, secret_id_file, secret_id_wrapped, .. } = &self.config
        else {
            return None;
        };
        let role = self.role_name.lock().clone()?;
        let secret_id = self.secret_id(secret_id_file.as_ref(), *secret_id_wrapped).await.ok()?;
        if secret_id.is_empty() {
            return None;
        }
        let path = format!("auth/{mount}/role/{role}/secret-id/lookup");
        let body = json!({ "secret_id": secret_id.expose() }).to_string().into_bytes();
        let response = self.client.send(Some(token), Method::POST, &path, Some(body)).await;
        let found: SecretIdLookup = response.ok()?.data().ok()?;
        // Year 1 stands for a secret id that does not expire.
        let expires: Timestamp = found.expiration_time.parse().ok()?;
        let now = SystemClock.now();
        let never = expires < Timestamp::UNIX_EPOCH;
        let left = Duration::try_from(expires.duration_since(now)).unwrap_or_default();
        (!never).then_some(left)
    }
}

// === impl IssuedToken ===

impl IssuedToken {
    fn from_auth(auth: AuthInfo, num_uses: i64) -> Self {
        Self {
            lease: Lease::new(auth.lease_duration, auth.renewable),
            // Vault cannot revoke a batch token.
            owned: auth.token_type != "batch",
            token: Secret::new(auth.client_token),
            replacement: Replacement::Automatic,
            age: Duration::ZERO,
            is_known: false,
            uses_left: token_details::uses_left(num_uses),
        }
    }

    /// Reports whether a token issued at `since` is valid for `need` from `now`.
    pub(super) fn lasts(
        &self,
        since: tokio::time::Instant,
        now: tokio::time::Instant,
        need: Duration,
    ) -> bool {
        let ttl = self.lease.ttl;
        ttl.is_zero() || since + ttl > now + need
    }
}

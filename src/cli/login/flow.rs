//! Steps of a login:
//! 1. Read the stored secret and check the Vault policy.
//! 2. Obtain a credential from HubSpot, or read and verify a static token.
//! 3. Write the secret with check-and-set, and read it back.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    browser::Browser,
    credential::{CredentialKind, ObtainedCredential, stored_app},
    error::Error,
    options::{Options, ReplacePolicy},
    page::{PageKind, ResultPage},
};
use crate::{
    cli::{
        output::{print_line, print_progress},
        prompt::Terminal,
        remediation::{self, PortalApi, Remediation},
    },
    config::Config,
    hubspot::{AccountInfo, DiagnosticsClient, DiagnosticsError, OAuthApp, TokenInfo},
    leads::{PortalName, Reason},
    vault::{self, AdminClient, CasOutcome, SecretData, SecretVersion},
};
use leadsd_base::secret::Secret;
use leadsd_credentials::SecretPath;

/// Timeout for one request to HubSpot.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Minimum time to live of the Vault token for the write: consent may take minutes.
const WRITE_TTL: Duration = Duration::from_secs(30);

/// Login in progress.
pub(super) struct LoginFlow<'a> {
    pub(super) config: &'a Config,
    pub(super) portal: PortalName,
    pub(super) path: SecretPath,
    pub(super) options: &'a Options,
    pub(super) policy: &'a ReplacePolicy,
    pub(super) hubspot_client: DiagnosticsClient,
    pub(super) terminal: &'a mut Terminal,
}

// === impl LoginFlow ===

impl LoginFlow<'_> {
    /// Obtains a credential and stores it. Returns the account of the credential.
    pub(super) async fn run(
        &mut self,
        vault_client: &mut AdminClient,
    ) -> Result<AccountInfo, Error> {
        let stored = self.read_secret(vault_client).await?;
        self.check_policy(vault_client, stored.is_some()).await?;
        if self.options.static_token {
            let credential = self.verify_static_token().await?;
            return self.store(vault_client, stored, credential).await;
        }
        let app = self.app(stored.as_ref()).await?;
        let mut browser = Browser::new(self.options).await?;
        let code = self.authorize(&mut browser, &app).await;
        let done = match code {
            Ok(code) => self.exchange(vault_client, stored, app, &browser.redirect, &code).await,
            Err(error) => Err(error),
        };
        browser.finish(self.final_page(&done)).await;
        done
    }

    /// Opens the consent page and waits for the authorization code.
    async fn authorize(&mut self, browser: &mut Browser, app: &OAuthApp) -> Result<Secret, Error> {
        let base = &self.config.hubspot.authorize_url;
        browser.obtain_code(base, app, self.options, self.terminal).await
    }

    /// Exchanges the authorization code for tokens and stores the credential.
    async fn exchange(
        &self,
        vault_client: &mut AdminClient,
        stored: Option<SecretVersion>,
        app: OAuthApp,
        redirect: &str,
        code: &Secret,
    ) -> Result<AccountInfo, Error> {
        let response =
            self.hubspot_client.exchange_code(&app, code, redirect, call_deadline()).await;
        let response = response.map_err(|error| self.exchange_error(&error, redirect))?;
        let refresh_token = response.refresh_token.ok_or_else(|| {
            let fix = "check that the app uses OAuth, and run leadsd login again";
            Remediation::new("HubSpot's token response has no refresh token", fix)
        })?;
        let token = &response.access_token;
        let info = self.hubspot_client.introspect(&app, token, call_deadline()).await;
        let info = info.unwrap_or_default();
        let account = self.hubspot_client.account(token, call_deadline()).await.unwrap_or_default();
        let credential = ObtainedCredential {
            kind: CredentialKind::OAuth(app, refresh_token),
            hub_id: response.hub_id.or(info.hub_id).or(account.hub_id),
            hub_domain: info.hub_domain,
            account,
            scopes: info.scopes.or(response.scopes),
        };
        self.store(vault_client, stored, credential).await
    }

    /// Reads a static token and verifies it with HubSpot.
    async fn verify_static_token(&mut self) -> Result<ObtainedCredential, Error> {
        let token = self.terminal.secret("access token").await?;
        if token.expose().chars().any(|c| !c.is_ascii_graphic()) {
            let cause = "the access token contains whitespace or special characters";
            let fix = "copy it again as one piece, without the word Bearer";
            return Err(Remediation::new(cause, fix).into());
        }
        let api = PortalApi::new(self.config, &self.portal);
        let remediation = |error: &DiagnosticsError| remediation::hubspot(error, &api);
        // HubSpot does not document whether this endpoint knows service keys: ignore errors.
        let info = self.hubspot_client.static_token(&token, call_deadline()).await;
        let info = info.unwrap_or_default();
        let account = self
            .hubspot_client
            .account(&token, call_deadline())
            .await
            .map_err(|error| remediation(&error))?;
        match self.hubspot_client.leads(&token, call_deadline()).await {
            Ok(_) => print_progress("HubSpot accepts the token, and it can read leads."),
            Err(error @ DiagnosticsError::Api(_)) => {
                let Remediation { cause, fix } = remediation(&error);
                print_progress(&format!(
                    "HubSpot accepts the token, but it cannot read leads: {cause}."
                ));
                print_progress(&format!("  Remedy: {fix}"));
            }
            Err(error) => return Err(remediation(&error).into()),
        }
        let TokenInfo { active: _, hub_id, hub_domain, scopes } = info;
        let hub_id = hub_id.or(account.hub_id);
        let kind = CredentialKind::Static(token);
        Ok(ObtainedCredential { kind, hub_id, hub_domain, account, scopes })
    }

    /// OAuth app: from the stored secret, or from the terminal.
    async fn app(&mut self, stored: Option<&SecretVersion>) -> Result<OAuthApp, Error> {
        let known = stored.and_then(|stored| stored.data.as_ref()).and_then(stored_app);
        if let Some(app) = known.filter(|_| !self.policy.new_app) {
            print_progress("Using client id and client secret from Vault.");
            return Ok(app);
        }
        let client_id = self.terminal.text("client id of the app").await?;
        let client_secret = self.terminal.secret("client secret of the app").await?;
        Ok(OAuthApp { client_id, client_secret })
    }

    async fn read_secret(
        &self,
        vault_client: &AdminClient,
    ) -> Result<Option<SecretVersion>, Error> {
        let path = vault_client.data_path(&self.path);
        let read = vault_client.read(&self.path).await;
        Ok(read.map_err(|error| remediation::vault(&error, &self.config.vault, &path))?)
    }

    /// Checks the Vault policy before the user is asked for consent.
    async fn check_policy(&self, vault_client: &AdminClient, exists: bool) -> Result<(), Error> {
        let path = vault_client.data_path(&self.path);
        let needed = if exists { "update" } else { "create" };
        // A policy may deny this request as well; then the write reports the error.
        let Ok(may) = vault_client.capabilities(std::slice::from_ref(&path)).await else {
            return Ok(());
        };
        let allowed = may.iter().flatten().any(|may| may == needed || may == "root");
        if allowed || may.iter().all(Vec::is_empty) {
            return Ok(());
        }
        Err(remediation::policy(&path, &["read", "create", "update"]).into())
    }

    /// Writes the secret with check-and-set and reads it back. Errors if the stored credential is of
    /// another account.
    async fn store(
        &self,
        vault_client: &mut AdminClient,
        stored: Option<SecretVersion>,
        credential: ObtainedCredential,
    ) -> Result<AccountInfo, Error> {
        self.print_account(&credential);
        let location = vault_client.data_path(&self.path);
        if let Some(keys) = stored.as_ref().and_then(|stored| stored.data.as_ref()) {
            self.check_account(keys, &credential, &location).await?;
        }
        let expected = stored.as_ref().map_or(0, |stored| stored.version);
        let account = credential.account.clone();
        let keys = credential.into_data(stored.and_then(|stored| stored.data));
        let vault = &self.config.vault;
        vault_client
            .ensure_ttl(WRITE_TTL)
            .await
            .map_err(|error| remediation::vault_login(&error, vault))?;
        let version = match vault_client.write(&self.path, expected, &keys).await {
            Ok(CasOutcome::Written(version)) => version,
            Ok(CasOutcome::Conflict) => {
                let cause =
                    format!("{location} was changed concurrently; the credential was not stored");
                return Err(Remediation::new(cause, "run leadsd login again").into());
            }
            Err(vault::Error::Denied) => {
                return Err(remediation::policy(&location, &["read", "create", "update"]).into());
            }
            Err(error) => return Err(remediation::vault(&error, vault, &location).into()),
        };
        let back = vault_client.read(&self.path).await;
        let back = back.map_err(|error| remediation::vault(&error, vault, &location))?;
        let same = back.is_some_and(|back| back.version == version && back.data == Some(keys));
        if !same {
            let cause = format!("{location} does not contain the secret that was just written");
            let fix = "check which other clients write to it, and run leadsd login again";
            return Err(Remediation::new(cause, fix).into());
        }
        if self.policy.in_memory {
            print_line("Stored    in memory only");
        } else {
            print_line(&format!("Stored    {location}, version {version}"));
        }
        Ok(account)
    }

    /// Errors if the secret contains a credential of another or of an unknown account.
    async fn check_account(
        &self,
        keys: &SecretData,
        new: &ObtainedCredential,
        location: &str,
    ) -> Result<(), Error> {
        let has_one = keys.has("access_token") || keys.has("refresh_token");
        if self.policy.replace || !has_one {
            return Ok(());
        }
        let old = self.stored_account(keys).await;
        let cause = match (old, new.hub_id) {
            (Some(old), Some(new)) if old == new => return Ok(()),
            (Some(old), Some(new)) => format!(
                "{location} contains a credential of account {old}; the new one is of account \
                 {new}; nothing was stored"
            ),
            _ => format!(
                "{location} contains a credential whose account cannot be compared with the new \
                 one; nothing was stored"
            ),
        };
        let portal = &self.portal;
        let fix = format!(
            "name another portal with --portal, or replace the credential of {portal} with --replace"
        );
        Err(Remediation::new(cause, fix).into())
    }

    /// Account of a stored credential: from HubSpot, else from the secret.
    async fn stored_account(&self, keys: &SecretData) -> Option<u64> {
        let stored = keys.text("hub_id").and_then(|id| id.trim().parse().ok());
        let app = stored_app(keys);
        let current = match (keys.secret("access_token"), app, keys.secret("refresh_token")) {
            (Some(token), ..) => match self.hubspot_client.account(&token, call_deadline()).await {
                Ok(account) => account.hub_id,
                Err(_) => None,
            },
            (None, Some(app), Some(token)) => {
                let info = self.hubspot_client.introspect(&app, &token, call_deadline()).await;
                info.ok().filter(|info| info.active).and_then(|info| info.hub_id)
            }
            _ => None,
        };
        current.or(stored)
    }

    fn print_account(&self, credential: &ObtainedCredential) {
        let ObtainedCredential { kind: _, hub_id, hub_domain, account, scopes } = credential;
        let id = hub_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        let facts = [hub_domain, &account.kind, &account.time_zone, &account.ui_domain];
        let facts: Vec<&str> = facts.into_iter().flatten().map(String::as_str).collect();
        print_line(&format!("Account   {id} ({})", facts.join(", ")));
        let Some(scopes) = scopes else {
            print_line("Scopes    unknown: HubSpot does not report them");
            return;
        };
        print_line(&format!("Scopes    {}", scopes.join(", ")));
        let missing: Vec<&str> = self
            .options
            .scopes
            .iter()
            .filter(|scope| !scopes.contains(scope))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            print_line(&format!("Missing   {}", missing.join(", ")));
            print_progress(
                "Calls that need a missing scope will fail. Add it to the app, then log in again.",
            );
        }
    }

    /// Final page in the browser.
    fn final_page(&self, done: &Result<AccountInfo, Error>) -> ResultPage {
        match done {
            Ok(_) => {
                let text = if self.policy.in_memory {
                    "The credential is in the memory of leadsd dev until it stops.".to_owned()
                } else {
                    format!("The credential of portal {} is stored in Vault.", self.portal)
                };
                ResultPage::new(PageKind::Success, "Logged in", text)
            }
            Err(Error::Failed(Remediation { cause, fix })) => ResultPage::new(
                PageKind::Error,
                "Not logged in",
                format!("{cause}.\nRemedy: {fix}."),
            ),
            Err(error) => ResultPage::new(PageKind::Error, "Not logged in", error.to_string()),
        }
    }

    fn exchange_error(&self, error: &DiagnosticsError, redirect: &str) -> Remediation {
        let api = PortalApi::new(self.config, &self.portal);
        match error {
            DiagnosticsError::Rejected(code) => match code.as_str() {
                "BAD_REDIRECT_URI" => Remediation::new(
                    format!("HubSpot rejected the redirect URL {redirect} ({code})"),
                    "register exactly this URL with the app (Auth, redirect URLs), or use a \
                     registered one: --redirect-port, or --no-browser with --redirect-url",
                ),
                "EXPIRED_AUTH_CODE" => Remediation::new(
                    format!("the code has expired ({code})"),
                    "run leadsd login again, and complete the consent page without a long pause",
                ),
                "BAD_AUTH_CODE" | "invalid_grant" => Remediation::new(
                    format!("HubSpot rejected the code: used before or expired ({code})"),
                    "run leadsd login again, and complete the consent page without a long pause",
                ),
                "BAD_CLIENT_ID" | "BAD_CLIENT_SECRET" | "invalid_client" => Remediation::new(
                    format!("HubSpot rejected the client id or the client secret ({code})"),
                    remediation::hubspot(error, &api).fix,
                ),
                _ => remediation::hubspot(error, &api),
            },
            DiagnosticsError::Api(api) if api.reason() == Reason::LeadNotFound => Remediation::new(
                "HubSpot has no token endpoint for the configured API version",
                "correct hubspot.api_version or hubspot.base_url",
            ),
            DiagnosticsError::Connect(_)
            | DiagnosticsError::TokenExpired
            | DiagnosticsError::Unauthorized
            | DiagnosticsError::Api(_)
            | DiagnosticsError::InvalidResponse => remediation::hubspot(error, &api),
        }
    }
}

/// Computes the deadline of a HubSpot call that starts now.
fn call_deadline() -> Instant {
    Instant::now() + CALL_TIMEOUT
}

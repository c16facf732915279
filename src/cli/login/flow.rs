//! The steps of one login: from the stored secret over HubSpot to the new secret.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    browser::Browser,
    credential::{Credential, CredentialKind, app_of},
    error::Error,
    options::{Options, ReplacePolicy},
    page::{Kind, Page},
};
use crate::{
    cli::{
        output::{print_line, say},
        prompt::Terminal,
        remediation::{self, Peer, Remediation},
    },
    config::Config,
    hubspot::{DiagnosticsClient, DiagnosticsError, OAuthApp, TokenInfo},
    leads::{PortalName, Reason},
    vault::{self, AdminClient, CasOutcome, SecretData, SecretVersion},
};
use leadsd_base::secret::Secret;
use leadsd_credentials::SecretPath;

/// Timeout for one request to HubSpot.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Minimum time to live of the Vault token when the credential is written.
const WRITE_TTL: Duration = Duration::from_secs(30);

/// One login.
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
    /// Gets a credential and stores it.
    pub(super) async fn run(&mut self, vault_client: &mut AdminClient) -> Result<(), Error> {
        let stored = self.stored(vault_client).await?;
        self.may_write(vault_client, stored.is_some()).await?;
        if self.options.fixed {
            let credential = self.fixed().await?;
            return self.store(vault_client, stored, credential).await;
        }
        let app = self.app(stored.as_ref()).await?;
        let mut browser = Browser::new(self.options).await?;
        let consented = self.consented(&mut browser, &app).await;
        let done = match consented {
            Ok(code) => self.traded(vault_client, stored, app, &browser.redirect, &code).await,
            Err(error) => Err(error),
        };
        browser.show(self.last_page(&done)).await;
        done
    }

    /// Opens the consent page, and waits for the code.
    async fn consented(&mut self, browser: &mut Browser, app: &OAuthApp) -> Result<Secret, Error> {
        let base = &self.config.hubspot.authorize_url;
        browser.ask(base, app, self.options, self.terminal).await
    }

    /// Exchanges the code and stores the credential.
    async fn traded(
        &self,
        vault_client: &mut AdminClient,
        stored: Option<SecretVersion>,
        app: OAuthApp,
        redirect: &str,
        code: &Secret,
    ) -> Result<(), Error> {
        let traded = self.hubspot_client.exchange_code(&app, code, redirect, soon()).await;
        let traded = traded.map_err(|error| self.exchange_error(&error, redirect))?;
        let refresh_token = traded.refresh_token.ok_or_else(|| {
            let fix = "see that the app is one with OAuth, and run leadsd login once more";
            Remediation::new("HubSpot's answer has no refresh token", fix)
        })?;
        let token = &traded.access_token;
        let facts = self.hubspot_client.introspect(&app, token, soon()).await.unwrap_or_default();
        let account = self.hubspot_client.account(token, soon()).await.unwrap_or_default();
        let credential = Credential {
            kind: CredentialKind::OAuth(app, refresh_token),
            hub_id: traded.hub_id.or(facts.hub_id).or(account.hub_id),
            hub_domain: facts.hub_domain,
            account,
            scopes: facts.scopes.or(traded.scopes),
        };
        self.store(vault_client, stored, credential).await
    }

    /// Reads a static token and presents it to HubSpot.
    async fn fixed(&mut self) -> Result<Credential, Error> {
        let token = self.terminal.secret("access token").await?;
        if token.expose().chars().any(|c| !c.is_ascii_graphic()) {
            let fix = "copy it once more, in one piece, without the word Bearer";
            return Err(Remediation::new(
                "an access token has no blanks or special characters",
                fix,
            )
            .into());
        }
        let remediation =
            |error: &DiagnosticsError| remediation::hubspot(error, &self.config.hubspot.base_url);
        // It is not established whether HubSpot knows service keys here: a failure proves nothing.
        let facts = self.hubspot_client.static_token(&token, soon()).await.unwrap_or_default();
        let account = self
            .hubspot_client
            .account(&token, soon())
            .await
            .map_err(|error| remediation(&error))?;
        match self.hubspot_client.leads(&token, soon()).await {
            Ok(_) => say("HubSpot accepts the token, and leads can be read with it."),
            Err(error @ DiagnosticsError::Api(_)) => {
                let Remediation { cause, fix } = remediation(&error);
                say(&format!(
                    "HubSpot accepts the token, but leads cannot be read with it: {cause}."
                ));
                say(&format!("  What to do: {fix}"));
            }
            Err(error) => return Err(remediation(&error).into()),
        }
        let TokenInfo { active: _, hub_id, hub_domain, scopes } = facts;
        let hub_id = hub_id.or(account.hub_id);
        Ok(Credential { kind: CredentialKind::Static(token), hub_id, hub_domain, account, scopes })
    }

    /// The app that asks for consent: from Vault, or from the person at the terminal.
    async fn app(&mut self, stored: Option<&SecretVersion>) -> Result<OAuthApp, Error> {
        let known = stored.and_then(|stored| stored.data.as_ref()).and_then(app_of);
        if let Some(app) = known.filter(|_| !self.policy.new_app) {
            say("Taking client id and client secret from Vault.");
            return Ok(app);
        }
        let client_id = self.terminal.text("client id of the app").await?;
        let client_secret = self.terminal.secret("client secret of the app").await?;
        Ok(OAuthApp { client_id, client_secret })
    }

    async fn stored(&self, vault_client: &AdminClient) -> Result<Option<SecretVersion>, Error> {
        let path = vault_client.data_path(&self.path);
        let read = vault_client.read(&self.path).await;
        Ok(read.map_err(|error| remediation::vault(&error, &self.config.vault, &path))?)
    }

    /// Checks the policy before the consent page is opened.
    async fn may_write(&self, vault_client: &AdminClient, exists: bool) -> Result<(), Error> {
        let path = vault_client.data_path(&self.path);
        let needed = if exists { "update" } else { "create" };
        // A policy may forbid this request as well; then the write itself shows.
        let Ok(may) = vault_client.capabilities(std::slice::from_ref(&path)).await else {
            return Ok(());
        };
        let allowed = may.iter().flatten().any(|may| may == needed || may == "root");
        if allowed || may.iter().all(Vec::is_empty) {
            return Ok(());
        }
        Err(remediation::policy(&path, &["read", "create", "update"]).into())
    }

    /// Replaces the secret that was read, unless it belongs to another account, and reads it back.
    async fn store(
        &self,
        vault_client: &mut AdminClient,
        stored: Option<SecretVersion>,
        credential: Credential,
    ) -> Result<(), Error> {
        self.report(&credential);
        let place = vault_client.data_path(&self.path);
        if let Some(keys) = stored.as_ref().and_then(|stored| stored.data.as_ref()) {
            self.same_account(keys, &credential, &place).await?;
        }
        let expected = stored.as_ref().map_or(0, |stored| stored.version);
        let keys = credential.into_data(stored.and_then(|stored| stored.data));
        let vault = &self.config.vault;
        vault_client
            .ensure_ttl(WRITE_TTL)
            .await
            .map_err(|error| remediation::vault_login(&error, vault))?;
        let version = match vault_client.write(&self.path, expected, &keys).await {
            Ok(CasOutcome::Written(version)) => version,
            Ok(CasOutcome::Conflict) => {
                let cause = format!("somebody else changed {place} meanwhile; nothing was stored");
                return Err(Remediation::new(cause, "run leadsd login once more").into());
            }
            Err(vault::Error::Denied) => {
                return Err(remediation::policy(&place, &["read", "create", "update"]).into());
            }
            Err(error) => return Err(remediation::vault(&error, vault, &place).into()),
        };
        let back = vault_client.read(&self.path).await;
        let back = back.map_err(|error| remediation::vault(&error, vault, &place))?;
        let same = back.is_some_and(|back| back.version == version && back.data == Some(keys));
        if !same {
            let cause = format!("Vault gives something else at {place} than was written there");
            let fix = "see who else writes there, and run leadsd login once more";
            return Err(Remediation::new(cause, fix).into());
        }
        if self.policy.in_memory {
            print_line("Stored    in memory alone");
        } else {
            print_line(&format!("Stored    {place}, version {version}"));
        }
        Ok(())
    }

    /// Errors if the secret holds a credential of another account, or of one that cannot be identified.
    async fn same_account(
        &self,
        keys: &SecretData,
        new: &Credential,
        place: &str,
    ) -> Result<(), Error> {
        let has_one = keys.has("access_token") || keys.has("refresh_token");
        if self.policy.replace || !has_one {
            return Ok(());
        }
        let old = self.hub_of(keys).await;
        let cause = match (old, new.hub_id) {
            (Some(old), Some(new)) if old == new => return Ok(()),
            (Some(old), Some(new)) => format!(
                "{place} holds a credential of account {old}, and the new one is of account {new}; \
                 nothing was stored"
            ),
            _ => format!(
                "{place} holds a credential, and HubSpot does not tell whether it is of the same \
                 account; nothing was stored"
            ),
        };
        let portal = &self.portal;
        let fix = format!(
            "name another portal with --portal, or overwrite that of {portal} with --replace"
        );
        Err(Remediation::new(cause, fix).into())
    }

    /// Account of a stored credential: from HubSpot, else from the secret.
    async fn hub_of(&self, keys: &SecretData) -> Option<u64> {
        let noted = keys.text("hub_id").and_then(|id| id.trim().parse().ok());
        let told = match (keys.secret("access_token"), app_of(keys), keys.secret("refresh_token")) {
            (Some(token), ..) => match self.hubspot_client.account(&token, soon()).await {
                Ok(account) => account.hub_id,
                Err(_) => None,
            },
            (None, Some(app), Some(token)) => {
                let facts = self.hubspot_client.introspect(&app, &token, soon()).await;
                facts.ok().filter(|facts| facts.active).and_then(|facts| facts.hub_id)
            }
            _ => None,
        };
        told.or(noted)
    }

    fn report(&self, credential: &Credential) {
        let Credential { kind: _, hub_id, hub_domain, account, scopes } = credential;
        let id = hub_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        let facts = [hub_domain, &account.kind, &account.time_zone, &account.ui_domain];
        let facts: Vec<&str> = facts.into_iter().flatten().map(String::as_str).collect();
        print_line(&format!("Account   {id} ({})", facts.join(", ")));
        let Some(scopes) = scopes else {
            print_line("Scopes    not told by HubSpot");
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
            say("Calls that need a missing scope will fail. Add it to the app, then log in again.");
        }
    }

    /// Last page in the browser.
    fn last_page(&self, done: &Result<(), Error>) -> Page {
        match done {
            Ok(()) => {
                let text = if self.policy.in_memory {
                    "The credential is in the memory of leadsd dev, and gone at its end.".to_owned()
                } else {
                    format!("The credential of portal {} is stored in Vault.", self.portal)
                };
                Page::new(Kind::Success, "LoggedRequest in", text)
            }
            Err(Error::Failed(Remediation { cause, fix })) => {
                Page::new(Kind::Error, "Not logged in", format!("{cause}.\nWhat to do: {fix}."))
            }
            Err(error) => Page::new(Kind::Error, "Not logged in", error.to_string()),
        }
    }

    fn exchange_error(&self, error: &DiagnosticsError, redirect: &str) -> Remediation {
        let address = &self.config.hubspot.base_url;
        match error {
            DiagnosticsError::Rejected(code @ "BAD_REDIRECT_URI") => Remediation::new(
                format!("HubSpot refuses the redirect URL {redirect} ({code})"),
                "register exactly this URL with the app (Auth, redirect URLs), or name one that it \
                 has: --redirect-port, or --no-browser with --redirect-url",
            ),
            DiagnosticsError::Rejected(code @ ("BAD_AUTH_CODE" | "invalid_grant")) => {
                Remediation::new(
                    format!("HubSpot refuses the code: it was used before or has expired ({code})"),
                    "run leadsd login once more, and go through the consent page without a long pause",
                )
            }
            DiagnosticsError::Rejected(
                code @ ("BAD_CLIENT_ID" | "BAD_CLIENT_SECRET" | "invalid_client"),
            ) => Remediation::new(
                format!("HubSpot refuses the client id or the client secret ({code})"),
                remediation::hubspot(error, address).fix,
            ),
            DiagnosticsError::Connect(why) => remediation::unreached(Peer::Hubspot, address, why),
            DiagnosticsError::Api(api) if api.reason() == Reason::LeadNotFound => Remediation::new(
                "HubSpot has no token endpoint for this version of its API",
                "correct hubspot.api_version or hubspot.base_url",
            ),
            DiagnosticsError::TokenExpired
            | DiagnosticsError::Unauthorized
            | DiagnosticsError::Rejected(_)
            | DiagnosticsError::Api(_)
            | DiagnosticsError::InvalidResponse => remediation::hubspot(error, address),
        }
    }
}

fn soon() -> Instant {
    Instant::now() + CALL_TIMEOUT
}

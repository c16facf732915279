//! `leadsd login`: gets a credential from HubSpot, or takes a static token, and stores it in Vault
//! where the service looks for it.
//!
//! What is secret is typed hidden or comes from standard input, and leaves the process in two ways
//! alone: to HubSpot, and into Vault. An existing credential is replaced only if it is of the same
//! account, or on request.

mod browser;
mod listener;
mod page;
mod redirect;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::Args as ClapArgs;
use tokio::time::Instant;

use self::{
    browser::Browser,
    page::{Kind, Page},
};
use super::{
    advice::{self, Advice, Peer},
    environment,
    terminal::{self, Terminal, interrupted},
};
use crate::{
    config::{self, Config, Loaded},
    hubspot::{AccountFacts, App, Fault, Inquiry, TokenFacts},
    leads::{PortalName, Reason},
    vault::{self, Errand, Keys, Stored, Written},
};
use leadsd_base::secret::Secret;
use leadsd_credentials::SecretPath;

/// Longest wait for one answer of HubSpot.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Life that a login to Vault must still have when the credential is written.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// Keys of an OAuth credential.
const OAUTH_KEYS: [&str; 3] = ["client_id", "client_secret", "refresh_token"];

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Portal whose credential it is. Default: the one called default, or the only one.
    #[arg(long, value_name = "NAME")]
    portal: Option<String>,
    /// Configuration file; the environment (LEADSD_...) goes over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    known: Known,
}

/// What to make of a secret that is there already.
#[derive(Debug, ClapArgs, Default)]
pub(super) struct Known {
    /// Asks for client id and client secret even if Vault has them.
    #[arg(long)]
    new_app: bool,
    /// Overwrites a credential of another account.
    #[arg(long)]
    replace: bool,
    /// Whether that Vault is one in this process.
    #[arg(skip)]
    in_memory: bool,
}

/// What `login` and `dev --upstream` have in common.
#[derive(Debug, ClapArgs)]
pub(super) struct Options {
    /// Stores a static access token (private app, service key, platform app with static auth)
    /// instead of asking for consent. It is asked for, hidden, or read from standard input.
    #[arg(long = "static")]
    fixed: bool,
    /// Port on 127.0.0.1 that the browser comes back to. The app must have the redirect URL
    /// http://localhost:PORT/oauth-callback.
    #[arg(long, value_name = "PORT", default_value_t = 8976)]
    redirect_port: u16,
    /// Opens no browser and listens on no port: asks for the URL that the browser ended up at, or
    /// for the code in it.
    #[arg(long)]
    no_browser: bool,
    /// A redirect URL that the app has, in place of the one on this machine.
    #[arg(long, value_name = "URL", requires = "no_browser")]
    redirect_url: Option<url::Url>,
    /// Scopes to ask for.
    #[arg(
        long,
        value_name = "SCOPE,...",
        value_delimiter = ',',
        default_value = "crm.objects.leads.read,crm.objects.leads.write"
    )]
    scopes: Vec<String>,
    /// How long to wait for consent, such as 90s or 5m.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    wait: Duration,
}

/// Why there is no new credential.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The command line asks for what the configuration does not have.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Advice(Advice),
    #[error(transparent)]
    Terminal(#[from] terminal::Error),
    #[error("interrupted; nothing was stored")]
    Interrupted,
}

/// A credential that HubSpot has just accepted.
struct Credential {
    form: Form,
    hub_id: Option<u64>,
    hub_domain: Option<String>,
    account: AccountFacts,
    /// None if HubSpot does not say.
    scopes: Option<Vec<String>>,
}

enum Form {
    Static(Secret),
    OAuth(App, Secret),
}

/// One login.
struct Login<'a> {
    config: &'a Config,
    portal: PortalName,
    path: SecretPath,
    options: &'a Options,
    known: &'a Known,
    inquiry: Inquiry,
    terminal: &'a mut Terminal,
}

pub(super) async fn run(args: Args) -> Result<(), super::Error> {
    let Args { portal, config, options, known } = args;
    let config = Loaded::new(config.as_deref(), environment())?.config;
    let portal = match portal {
        Some(name) => name,
        None => only_portal(&config)?,
    };
    let mut terminal = Terminal::new();
    tokio::select! {
        done = log_in(&config, &portal, &options, &known, &mut terminal) => done?,
        _ = interrupted() => return Err(Error::Interrupted.into()),
    }
    let interval = config.vault.poll_interval;
    say(&format!("A running leadsd takes it over within {interval:?}; leadsd doctor checks it."));
    Ok(())
}

/// The portal that is meant if none is named.
fn only_portal(config: &Config) -> Result<String, Error> {
    let mut names = config.portals.keys();
    let first = names.next();
    match (first, names.next()) {
        _ if config.portals.keys().any(|name| name.as_str() == "default") => {
            Ok("default".to_owned())
        }
        (Some(only), None) if config.portals_from.is_none() => Ok(only.to_string()),
        _ => {
            let names: Vec<_> = config.portals.keys().map(PortalName::as_str).collect();
            Err(Error::Usage(format!(
                "say which portal with --portal; configured are: {}",
                names.join(", ")
            )))
        }
    }
}

/// Where a portal's secret is.
pub(super) fn secret_path(
    config: &Config,
    portal: &str,
) -> Result<(PortalName, SecretPath), Error> {
    let name = PortalName::parse(portal).ok_or_else(|| {
        Error::Usage("a portal's name has 1 to 64 letters, digits, `_` or `-`".to_owned())
    })?;
    if let Some(known) = config.portals.get(&name) {
        return Ok((name, known.secret.clone()));
    }
    if let Some(from) = &config.portals_from {
        let path = from.folder.join(name.as_str()).map_err(Error::Usage)?;
        return Ok((name, path));
    }
    let names: Vec<_> = config.portals.keys().map(PortalName::as_str).collect();
    Err(Error::Usage(format!(
        "there is no portal {name} in the configuration; add a table [portals.{name}]. Configured \
         are: {}",
        names.join(", ")
    )))
}

/// Gets a credential and stores it.
pub(super) async fn log_in(
    config: &Config,
    portal: &str,
    options: &Options,
    known: &Known,
    terminal: &mut Terminal,
) -> Result<(), Error> {
    let (portal, path) = secret_path(config, portal)?;
    let inquiry = Inquiry::new(&config.hubspot)
        .map_err(|error| Advice::new(error.to_string(), "check [hubspot] in the configuration"))?;
    let mut errand = Errand::log_in(&config.vault)
        .await
        .map_err(|error| advice::vault_login(&error, &config.vault))?;
    let mut login = Login { config, portal, path, options, known, inquiry, terminal };
    let done = login.run(&mut errand).await;
    errand.close().await;
    done
}

// === impl Known ===

impl Known {
    /// There is nothing yet, and what comes is gone at the end.
    pub(super) fn nothing() -> Self {
        Self { in_memory: true, ..Self::default() }
    }
}

// === impl Options ===

impl Options {
    /// Whether somebody said how to log in.
    pub(super) fn is_asked_for(&self) -> bool {
        self.fixed || self.no_browser
    }
}

// === impl Login ===

impl Login<'_> {
    async fn run(&mut self, errand: &mut Errand) -> Result<(), Error> {
        let stored = self.stored(errand).await?;
        self.may_write(errand, stored.is_some()).await?;
        if self.options.fixed {
            let credential = self.fixed().await?;
            return self.store(errand, stored, credential).await;
        }
        let app = self.app(stored.as_ref()).await?;
        let mut browser = Browser::new(self.options).await?;
        let consented = self.consented(&mut browser, &app).await;
        let done = match consented {
            Ok(code) => self.traded(errand, stored, app, &browser.redirect, &code).await,
            Err(error) => Err(error),
        };
        browser.show(self.last_page(&done)).await;
        done
    }

    /// Sends somebody to the consent page, and waits for the code.
    async fn consented(&mut self, browser: &mut Browser, app: &App) -> Result<Secret, Error> {
        let base = &self.config.hubspot.authorize_url;
        browser.ask(base, app, self.options, self.terminal).await
    }

    /// From the code to the stored credential.
    async fn traded(
        &self,
        errand: &mut Errand,
        stored: Option<Stored>,
        app: App,
        redirect: &str,
        code: &Secret,
    ) -> Result<(), Error> {
        let traded = self.inquiry.trade_code(&app, code, redirect, soon()).await;
        let traded = traded.map_err(|fault| self.trade_advice(&fault, redirect))?;
        let refresh_token = traded.refresh_token.ok_or_else(|| {
            let fix = "see that the app is one with OAuth, and run leadsd login once more";
            Advice::new("HubSpot's answer has no refresh token", fix)
        })?;
        let token = &traded.access_token;
        let facts = self.inquiry.introspect(&app, token, soon()).await.unwrap_or_default();
        let account = self.inquiry.account(token, soon()).await.unwrap_or_default();
        let credential = Credential {
            form: Form::OAuth(app, refresh_token),
            hub_id: traded.hub_id.or(facts.hub_id).or(account.hub_id),
            hub_domain: facts.hub_domain,
            account,
            scopes: facts.scopes.or(traded.scopes),
        };
        self.store(errand, stored, credential).await
    }

    /// A static token, once HubSpot has accepted it.
    async fn fixed(&mut self) -> Result<Credential, Error> {
        let token = self.terminal.secret("access token").await?;
        if token.expose().chars().any(|c| !c.is_ascii_graphic()) {
            let fix = "copy it once more, in one piece, without the word Bearer";
            return Err(
                Advice::new("an access token has no blanks or special characters", fix).into()
            );
        }
        let advice = |fault: &Fault| advice::hubspot(fault, &self.config.hubspot.base_url);
        // Whether HubSpot tells of service keys here is not established: any failure is no answer.
        let facts = self.inquiry.static_token(&token, soon()).await.unwrap_or_default();
        let account = self.inquiry.account(&token, soon()).await.map_err(|fault| advice(&fault))?;
        match self.inquiry.leads(&token, soon()).await {
            Ok(_) => say("HubSpot accepts the token, and leads can be read with it."),
            Err(fault @ Fault::Failed(_)) => {
                let Advice { cause, fix } = advice(&fault);
                say(&format!(
                    "HubSpot accepts the token, but leads cannot be read with it: {cause}."
                ));
                say(&format!("  What to do: {fix}"));
            }
            Err(fault) => return Err(advice(&fault).into()),
        }
        let TokenFacts { active: _, hub_id, hub_domain, scopes } = facts;
        let hub_id = hub_id.or(account.hub_id);
        Ok(Credential { form: Form::Static(token), hub_id, hub_domain, account, scopes })
    }

    /// The app that asks for consent: as Vault has it, or as somebody says.
    async fn app(&mut self, stored: Option<&Stored>) -> Result<App, Error> {
        let known = stored.and_then(|stored| stored.keys.as_ref()).and_then(app_of);
        if let Some(app) = known.filter(|_| !self.known.new_app) {
            say("Taking client id and client secret from Vault.");
            return Ok(app);
        }
        let client_id = self.terminal.text("client id of the app").await?;
        let client_secret = self.terminal.secret("client secret of the app").await?;
        Ok(App { client_id, client_secret })
    }

    async fn stored(&self, errand: &Errand) -> Result<Option<Stored>, Error> {
        let path = errand.data_path(&self.path);
        let read = errand.read(&self.path).await;
        Ok(read.map_err(|error| advice::vault(&error, &self.config.vault, &path))?)
    }

    /// Finds out before anybody is sent to HubSpot.
    async fn may_write(&self, errand: &Errand, exists: bool) -> Result<(), Error> {
        let path = errand.data_path(&self.path);
        let needed = if exists { "update" } else { "create" };
        // A policy may forbid the question as well; then the write itself tells.
        let Ok(may) = errand.capabilities(std::slice::from_ref(&path)).await else { return Ok(()) };
        let allowed = may.iter().flatten().any(|may| may == needed || may == "root");
        if allowed || may.iter().all(Vec::is_empty) {
            return Ok(());
        }
        Err(advice::policy(&path, &["read", "create", "update"]).into())
    }

    /// Writes the credential over what was read, unless that is somebody else's, and reads it back.
    async fn store(
        &self,
        errand: &mut Errand,
        stored: Option<Stored>,
        credential: Credential,
    ) -> Result<(), Error> {
        self.report(&credential);
        let place = errand.data_path(&self.path);
        if let Some(keys) = stored.as_ref().and_then(|stored| stored.keys.as_ref()) {
            self.same_account(keys, &credential, &place).await?;
        }
        let expected = stored.as_ref().map_or(0, |stored| stored.version);
        let keys = credential.into_keys(stored.and_then(|stored| stored.keys));
        let vault = &self.config.vault;
        errand.last_for(WRITE_TIME).await.map_err(|error| advice::vault_login(&error, vault))?;
        let version = match errand.write(&self.path, expected, &keys).await {
            Ok(Written::Version(version)) => version,
            Ok(Written::Conflict) => {
                let cause = format!("somebody else changed {place} meanwhile; nothing was stored");
                return Err(Advice::new(cause, "run leadsd login once more").into());
            }
            Err(vault::Error::Denied) => {
                return Err(advice::policy(&place, &["read", "create", "update"]).into());
            }
            Err(error) => return Err(advice::vault(&error, vault, &place).into()),
        };
        let back = errand.read(&self.path).await;
        let back = back.map_err(|error| advice::vault(&error, vault, &place))?;
        let same = back.is_some_and(|back| back.version == version && back.keys == Some(keys));
        if !same {
            let cause = format!("Vault gives something else at {place} than was written there");
            let fix = "see who else writes there, and run leadsd login once more";
            return Err(Advice::new(cause, fix).into());
        }
        if self.known.in_memory {
            print("Stored    in memory alone");
        } else {
            print(&format!("Stored    {place}, version {version}"));
        }
        Ok(())
    }

    /// Refuses to overwrite a credential of another account, or of one that cannot be told.
    async fn same_account(&self, keys: &Keys, new: &Credential, place: &str) -> Result<(), Error> {
        let has_one = keys.has("access_token") || keys.has("refresh_token");
        if self.known.replace || !has_one {
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
        Err(Advice::new(cause, fix).into())
    }

    /// The account of a stored credential: HubSpot's word first, then what was noted with it.
    async fn hub_of(&self, keys: &Keys) -> Option<u64> {
        let noted = keys.text("hub_id").and_then(|id| id.trim().parse().ok());
        let told = match (keys.secret("access_token"), app_of(keys), keys.secret("refresh_token")) {
            (Some(token), ..) => match self.inquiry.account(&token, soon()).await {
                Ok(account) => account.hub_id,
                Err(_) => None,
            },
            (None, Some(app), Some(token)) => {
                let facts = self.inquiry.introspect(&app, &token, soon()).await;
                facts.ok().filter(|facts| facts.active).and_then(|facts| facts.hub_id)
            }
            _ => None,
        };
        told.or(noted)
    }

    fn report(&self, credential: &Credential) {
        let Credential { form: _, hub_id, hub_domain, account, scopes } = credential;
        let id = hub_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        let facts = [hub_domain, &account.kind, &account.time_zone, &account.ui_domain];
        let facts: Vec<&str> = facts.into_iter().flatten().map(String::as_str).collect();
        print(&format!("Account   {id} ({})", facts.join(", ")));
        let Some(scopes) = scopes else {
            print("Scopes    not told by HubSpot");
            return;
        };
        print(&format!("Scopes    {}", scopes.join(", ")));
        let missing: Vec<&str> = self
            .options
            .scopes
            .iter()
            .filter(|scope| !scopes.contains(scope))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            print(&format!("Missing   {}", missing.join(", ")));
            say("Calls that need a missing scope will fail. Add it to the app, then log in again.");
        }
    }

    /// What the browser shows at the end.
    fn last_page(&self, done: &Result<(), Error>) -> Page {
        match done {
            Ok(()) => {
                let text = if self.known.in_memory {
                    "The credential is in the memory of leadsd dev, and gone at its end.".to_owned()
                } else {
                    format!("The credential of portal {} is stored in Vault.", self.portal)
                };
                Page::new(Kind::Success, "Logged in", text)
            }
            Err(Error::Advice(Advice { cause, fix })) => {
                Page::new(Kind::Error, "Not logged in", format!("{cause}.\nWhat to do: {fix}."))
            }
            Err(error) => Page::new(Kind::Error, "Not logged in", error.to_string()),
        }
    }

    fn trade_advice(&self, fault: &Fault, redirect: &str) -> Advice {
        let address = &self.config.hubspot.base_url;
        match fault {
            Fault::Refused(code @ "BAD_REDIRECT_URI") => Advice::new(
                format!("HubSpot refuses the redirect URL {redirect} ({code})"),
                "register exactly this URL with the app (Auth, redirect URLs), or name one that it \
                 has: --redirect-port, or --no-browser with --redirect-url",
            ),
            Fault::Refused(code @ ("BAD_AUTH_CODE" | "invalid_grant")) => Advice::new(
                format!("HubSpot refuses the code: it was used before or has expired ({code})"),
                "run leadsd login once more, and go through the consent page without a long pause",
            ),
            Fault::Refused(code @ ("BAD_CLIENT_ID" | "BAD_CLIENT_SECRET" | "invalid_client")) => {
                Advice::new(
                    format!("HubSpot refuses the client id or the client secret ({code})"),
                    advice::hubspot(fault, address).fix,
                )
            }
            Fault::Connect(why) => advice::unreached(Peer::Hubspot, address, why),
            Fault::Failed(error) if error.reason() == Reason::LeadNotFound => Advice::new(
                "HubSpot has no token endpoint for this version of its API",
                "correct hubspot.api_version or hubspot.base_url",
            ),
            other => advice::hubspot(other, address),
        }
    }
}

// === impl Credential ===

impl Credential {
    /// The keys to write: those of this kind, none of the other, and whatever else was there.
    fn into_keys(self, old: Option<Keys>) -> Keys {
        let mut keys = old.unwrap_or_default();
        for name in OAUTH_KEYS.into_iter().chain(["access_token", "hub_id"]) {
            keys.remove(name);
        }
        match &self.form {
            Form::Static(token) => keys.set("access_token", token.expose()),
            Form::OAuth(App { client_id, client_secret }, refresh_token) => {
                keys.set("client_id", client_id);
                keys.set("client_secret", client_secret.expose());
                keys.set("refresh_token", refresh_token.expose());
            }
        }
        if let Some(id) = self.hub_id {
            keys.set("hub_id", &id.to_string());
        }
        keys
    }
}

impl From<Advice> for Error {
    fn from(advice: Advice) -> Self {
        Self::Advice(advice)
    }
}

/// The app of a stored credential, if both its keys are there.
fn app_of(keys: &Keys) -> Option<App> {
    let client_id = keys.text("client_id")?.trim().to_owned();
    let client_secret = keys.secret("client_secret")?;
    (!client_id.is_empty()).then_some(App { client_id, client_secret })
}

fn soon() -> Instant {
    Instant::now() + CALL_TIMEOUT
}

fn duration(text: &str) -> Result<Duration, String> {
    let known = config::duration(text).filter(|wait| !wait.is_zero());
    known.ok_or_else(|| "must be a whole number with a unit: ms, s, m or h".to_owned())
}

/// What came of it: for scripts as well. That nobody reads it must not keep a credential from being
/// stored.
fn print(line: &str) {
    let _ = super::print(&format!("{line}\n"));
}

/// What is going on: for whoever watches.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

//! Options of a login.

use std::time::Duration;

use clap::Args as ClapArgs;

use crate::config;

/// Options that `login` and `dev --upstream` have in common.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Options {
    /// Stores a static access token instead of an OAuth credential.
    ///
    /// Static tokens are those of private apps, service keys and platform apps with static auth. The
    /// token is prompted for with echo off, or read from standard input.
    #[arg(long = "static")]
    pub(super) static_token: bool,
    /// Port on 127.0.0.1 for the OAuth redirect.
    ///
    /// The app must have the redirect URL http://localhost:PORT/oauth-callback.
    #[arg(long, value_name = "PORT", default_value_t = 8976)]
    pub(super) redirect_port: u16,
    /// Opens no browser and listens on no port; prompts for the redirect URL, or the code in it.
    #[arg(long)]
    pub(super) no_browser: bool,
    /// Registered redirect URL of the app to use instead of the one on localhost.
    #[arg(long, value_name = "URL", requires = "no_browser")]
    pub(super) redirect_url: Option<url::Url>,
    /// Scopes to request.
    #[arg(
        long,
        value_name = "SCOPE,...",
        value_delimiter = ',',
        default_value = "crm.objects.leads.read,crm.objects.leads.write"
    )]
    pub(super) scopes: Vec<String>,
    /// Timeout for consent, such as 90s or 5m.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(super) wait: Duration,
}

/// Policy for an existing secret: reuse its app, replace its credential.
#[derive(Debug, ClapArgs, Default)]
pub(in crate::cli) struct ReplacePolicy {
    /// Prompts for client id and client secret even if they are stored in Vault.
    #[arg(long)]
    pub(super) new_app: bool,
    /// Replaces a credential of another account.
    #[arg(long)]
    pub(super) replace: bool,
    /// True if Vault is the fake of `leadsd dev`.
    #[arg(skip)]
    pub(super) in_memory: bool,
}

// === impl Options ===

impl Options {
    /// Reports whether an option selects a login method.
    pub(in crate::cli) fn chooses_method(&self) -> bool {
        self.static_token || self.no_browser
    }
}

// === impl ReplacePolicy ===

impl ReplacePolicy {
    /// Policy for the empty fake Vault of `leadsd dev`.
    pub(in crate::cli) fn in_memory() -> Self {
        Self { in_memory: true, ..Self::default() }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let known = config::duration(text).filter(|wait| !wait.is_zero());
    known.ok_or_else(|| "must be a whole number above 0 with a unit: ms, s, m or h".to_owned())
}

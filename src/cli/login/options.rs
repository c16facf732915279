//! Options of a login.

use std::time::Duration;

use clap::Args as ClapArgs;

use crate::config;

/// Options that `login` and `dev --upstream` have in common.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Options {
    /// Stores a static access token (private app, service key, platform app with static auth)
    /// instead of asking for consent. It is asked for, hidden, or read from standard input.
    #[arg(long = "static")]
    pub(super) fixed: bool,
    /// Port on 127.0.0.1 that the browser comes back to. The app must have the redirect URL
    /// http://localhost:PORT/oauth-callback.
    #[arg(long, value_name = "PORT", default_value_t = 8976)]
    pub(super) redirect_port: u16,
    /// Opens no browser and listens on no port: asks for the URL that the browser ended up at, or
    /// for the code in it.
    #[arg(long)]
    pub(super) no_browser: bool,
    /// A redirect URL that the app has, in place of the one on this machine.
    #[arg(long, value_name = "URL", requires = "no_browser")]
    pub(super) redirect_url: Option<url::Url>,
    /// Scopes to ask for.
    #[arg(
        long,
        value_name = "SCOPE,...",
        value_delimiter = ',',
        default_value = "crm.objects.leads.read,crm.objects.leads.write"
    )]
    pub(super) scopes: Vec<String>,
    /// How long to wait for consent, such as 90s or 5m.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(super) wait: Duration,
}

/// When a secret that exists already is used or replaced.
#[derive(Debug, ClapArgs, Default)]
pub(in crate::cli) struct ReplacePolicy {
    /// Asks for client id and client secret even if Vault has them.
    #[arg(long)]
    pub(super) new_app: bool,
    /// Overwrites a credential of another account.
    #[arg(long)]
    pub(super) replace: bool,
    /// Whether the Vault is in the memory of this process.
    #[arg(skip)]
    pub(super) in_memory: bool,
}

// === impl Options ===

impl Options {
    /// Whether an option says how to log in.
    pub(in crate::cli) fn chooses_method(&self) -> bool {
        self.fixed || self.no_browser
    }
}

// === impl ReplacePolicy ===

impl ReplacePolicy {
    /// For a Vault in memory, which holds nothing yet.
    pub(in crate::cli) fn in_memory() -> Self {
        Self { in_memory: true, ..Self::default() }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let known = config::duration(text).filter(|wait| !wait.is_zero());
    known.ok_or_else(|| "must be a whole number with a unit: ms, s, m or h".to_owned())
}

//! `leadsd login`: gets a credential from HubSpot, or takes a static token, and stores it in Vault
//! where the service reads it.
//!
//! Secrets are typed hidden or read from standard input, and leave the process in two ways alone: to
//! HubSpot, and into Vault. An existing credential is replaced only if it is of the same account, or
//! on request.

mod browser;
mod credential;
mod error;
mod flow;
mod listener;
mod options;
mod page;
mod redirect;

use std::path::PathBuf;

use clap::Args as ClapArgs;

use self::flow::LoginFlow;
pub(super) use self::{
    error::Error,
    options::{Options, ReplacePolicy},
};
use super::{
    environment::environment,
    output::say,
    portal_secret::{default_portal, secret_path},
    prompt::{Terminal, interrupted},
    remediation::{self, Remediation},
};
use crate::{
    config::{Config, Loaded},
    hubspot::DiagnosticsClient,
    vault::AdminClient,
};

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
    policy: ReplacePolicy,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let Args { portal, config, options, policy } = args;
    let config = Loaded::new(config.as_deref(), environment())?.config;
    let portal = match portal {
        Some(name) => name,
        None => default_portal(&config).map_err(Error::Usage)?,
    };
    let mut terminal = Terminal::new();
    tokio::select! {
        done = log_in(&config, &portal, &options, &policy, &mut terminal) => done?,
        _ = interrupted() => return Err(Error::Interrupted),
    }
    let interval = config.vault.poll_interval;
    say(&format!("A running leadsd takes it over within {interval:?}; leadsd doctor checks it."));
    Ok(())
}

/// Gets a credential and stores it.
pub(super) async fn log_in(
    config: &Config,
    portal: &str,
    options: &Options,
    policy: &ReplacePolicy,
    terminal: &mut Terminal,
) -> Result<(), Error> {
    let (portal, path) = secret_path(config, portal).map_err(Error::Usage)?;
    let hubspot_client = DiagnosticsClient::new(&config.hubspot).map_err(|error| {
        Remediation::new(error.to_string(), "check [hubspot] in the configuration")
    })?;
    let mut vault_client = AdminClient::log_in(&config.vault)
        .await
        .map_err(|error| remediation::vault_login(&error, &config.vault))?;
    let mut login = LoginFlow { config, portal, path, options, policy, hubspot_client, terminal };
    let done = login.run(&mut vault_client).await;
    vault_client.close().await;
    done
}

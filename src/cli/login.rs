//! `leadsd login`: obtains an OAuth credential from HubSpot, or accepts a static token, and stores it in
//! Vault where the service reads it.
//!
//! Secrets are read with echo off or from standard input, and are sent only to HubSpot and Vault. An
//! existing credential is replaced only if it is of the same account, or with `--replace`.

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
    output::print_progress,
    portal_secret::{default_portal, secret_path},
    prompt::{Terminal, interrupted},
    remediation::{self, Remediation},
};
use crate::{
    config::{Config, Loaded},
    hubspot::{AccountInfo, DiagnosticsClient},
    vault::{AdminClient, read_proxy_credentials},
};

/// Arguments of `leadsd login`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Portal of the credential. Default: the portal named default, or the only one.
    #[arg(long, value_name = "NAME")]
    portal: Option<String>,
    /// Configuration file; environment variables (LEADSD_...) override it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    policy: ReplacePolicy,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let Args { portal, config, options, policy } = args;
    let loaded = Loaded::new(config.as_deref(), environment())?;
    loaded.check_files()?;
    let config = loaded.config;
    let portal = match portal {
        Some(name) => name,
        None => default_portal(&config).map_err(Error::Usage)?,
    };
    let mut terminal = Terminal::new();
    tokio::select! {
        done = log_in(&config, &portal, &options, &policy, &mut terminal) => { done?; }
        _ = interrupted() => return Err(Error::Interrupted),
    }
    let interval = config.vault.poll_interval;
    print_progress(&format!(
        "A running leadsd uses it within {interval:?}. To check it, run leadsd doctor --portal {portal}."
    ));
    Ok(())
}

/// Obtains a credential and stores it. Returns the account of the credential.
pub(super) async fn log_in(
    config: &Config,
    portal: &str,
    options: &Options,
    policy: &ReplacePolicy,
    terminal: &mut Terminal,
) -> Result<AccountInfo, Error> {
    let (portal, path) = secret_path(config, portal).map_err(Error::Usage)?;
    let hubspot_client = DiagnosticsClient::new(&config.hubspot_for(&portal)).map_err(|error| {
        Remediation::new(error.to_string(), "check [hubspot] in the configuration")
    })?;
    let mut vault_client = AdminClient::log_in(&config.vault)
        .await
        .map_err(|error| remediation::vault_login(&error, &config.vault))?;
    if let Some(path) = &config.egress.credentials_secret {
        let credentials = read_proxy_credentials(&vault_client, path).await;
        let credentials = credentials.map_err(|error| {
            remediation::proxy_credentials(&error, config, &vault_client.data_path(path))
        });
        config.egress.policy.set_credentials(credentials?);
    }
    let mut login = LoginFlow { config, portal, path, options, policy, hubspot_client, terminal };
    let done = login.run(&mut vault_client).await;
    vault_client.close().await;
    done
}

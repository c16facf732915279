//! `leadsd doctor`: checks everything that the service needs, in the order in which it needs it, and
//! reports for each check what was found, or the cause and the remedy of a failure.
//!
//! The checks only read, with two exceptions: a refresh token that HubSpot rotates during a check is
//! written back, as the service does, and `--write-probe` creates a lead and archives it.

mod args;
mod callers;
mod check;
mod credential;
mod hubspot;
mod location;
mod network;
mod portal;
mod report;
mod vault;
mod write;

use tokio::time::Instant;

pub(super) use self::args::Args;
use self::{
    check::{Area, Check, Outcome},
    location::SecretLocation,
    portal::Portal,
    report::Report,
};
use super::{
    environment::environment,
    error::Error,
    login, output,
    portal_secret::secret_path,
    prompt::{Terminal, interrupted},
};
use crate::{
    config::{Config, Loaded},
    vault::AdminClient,
};

/// Maximum number of discovered portals that are checked without being named: each costs some calls.
const MAX_LISTED: usize = 20;

/// Result of all checks.
pub(super) enum Verdict {
    Works,
    Fails,
}

pub(super) async fn run(args: Args) -> Result<Verdict, Error> {
    let mut report = Report::new(args.write_probe);
    let since = Instant::now();
    match Loaded::new(args.config.as_deref(), environment()) {
        Ok(loaded) => {
            let config = loaded.config;
            if let Some(portal) = &args.portal {
                secret_path(&config, portal).map_err(login::Error::Usage)?;
            }
            if args.write_probe && !args.yes && !agreed().await {
                let text = "nothing was done: the write probe needs a yes, or --yes";
                return Err(login::Error::Usage(text.to_owned()).into());
            }
            let found = format!("right; portals: {}", named(&config));
            report.note(Check::Config, None, Outcome::Ok(found), since.elapsed());
            let checks = examine(&config, &args, &mut report);
            tokio::select! {
                () = checks => {}
                _ = interrupted() => return Err(login::Error::Interrupted.into()),
            }
        }
        Err(faults) => {
            let fix = "correct these keys; leadsd.example.toml and docs/CONFIG.md have them all";
            let cause = faults.to_string().replace('\n', "; ");
            report.note(Check::Config, None, Outcome::fail(cause, fix), since.elapsed());
            for area in [Area::Vault, Area::Secret, Area::Hubspot, Area::Portal, Area::Service] {
                report.skip_rest_for(area, None, Check::Config);
            }
        }
    }
    show(&report, args.json)?;
    Ok(if report.worst() == "fail" { Verdict::Fails } else { Verdict::Works })
}

async fn agreed() -> bool {
    let question = "This creates a lead in HubSpot, and archives it at once. Go on?";
    Terminal::new().confirmed(question).await
}

fn named(config: &Config) -> String {
    let names = config.portals.keys().map(|name| name.as_str().to_owned());
    let folder = config.portals_from.as_ref().map(|from| format!("all in {}", from.folder));
    names.chain(folder).collect::<Vec<_>>().join(", ")
}

/// Runs all checks after the first.
async fn examine(config: &Config, args: &Args, report: &mut Report) {
    let vault_client = vault::examine(&config.vault, report).await;
    let names = match &args.portal {
        Some(name) => vec![name.clone()],
        None => portals(config, vault_client.as_ref()).await,
    };
    let vault_failed = report.first_failed(Area::Vault);
    let mut locations = Vec::with_capacity(names.len());
    for given in names {
        let Ok((name, path)) = secret_path(config, &given) else { continue };
        let Some(vault_client) = &vault_client else {
            let because = vault_failed.unwrap_or(Check::Config);
            report.skip_rest_for(Area::Secret, Some(&given), because);
            locations.push((given, Err(because)));
            continue;
        };
        let location = SecretLocation { config, name, path, vault_client };
        let stored_credential = location.examine(report).await;
        // The check that failed last takes down what needs the credential.
        let because = report.last_failed().unwrap_or(Check::VaultSecret);
        locations.push((
            given,
            stored_credential.map(|stored_credential| (location, stored_credential)).ok_or(because),
        ));
    }
    let hubspot_client = hubspot::examine(&config.hubspot, report).await;
    for (name, location) in locations {
        let because = match (location, &hubspot_client) {
            (Ok((location, stored_credential)), Some(hubspot_client)) => {
                Portal { location, hubspot_client }.examine(stored_credential, args, report).await;
                continue;
            }
            (Err(because), _) => because,
            (Ok(_), None) => report.first_failed(Area::Hubspot).unwrap_or(Check::Config),
        };
        report.skip_rest_for(Area::Portal, Some(&name), because);
    }
    callers::examine(config, vault_client.as_ref(), vault_failed, report).await;
    if let Some(vault_client) = vault_client {
        vault_client.close().await;
    }
}

/// Names of the configured portals and of those in the folder.
async fn portals(config: &Config, vault_client: Option<&AdminClient>) -> Vec<String> {
    let mut names: Vec<String> = config.portals.keys().map(ToString::to_string).collect();
    if let (Some(from), Some(vault_client)) = (&config.portals_from, vault_client) {
        // What keeps it from being listed shows in the checks of single portals.
        let listed = vault_client.list(&from.folder).await.unwrap_or_default();
        let new =
            listed.into_iter().filter(|name| !config.portals.keys().any(|p| p.as_str() == name));
        names.extend(new.take(MAX_LISTED));
    }
    names
}

fn show(report: &Report, json: bool) -> Result<(), Error> {
    let text = if json {
        format!(
            "{:#}
",
            report.json()
        )
    } else {
        report.text()
    };
    output::print(&text).map_err(Error::print)
}

//! `leadsd doctor`: checks everything the service needs, in dependency order, and reports for each
//! check what was found, or cause and remedy of the failure.
//!
//! The checks are read-only, with two exceptions:
//! - A refresh token that HubSpot rotates during a check is written back to Vault, as the service does.
//! - `--write-probe` creates a lead and archives it.

mod args;
mod callers;
mod check;
mod credential;
mod egress;
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
    check::{Area, Check, CheckOutcome},
    location::SecretLocation,
    portal::PortalChecks,
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
    config::{Config, ConfigErrors, Loaded},
    vault::AdminClient,
};

/// Maximum number of discovered portals to check: each costs several HubSpot calls.
const MAX_DISCOVERED: usize = 20;

/// Result of all checks.
pub(super) enum Verdict {
    Passed,
    Failed,
}

pub(super) async fn run(args: Args) -> Result<Verdict, Error> {
    let mut report = Report::new(args.write_probe);
    let since = Instant::now();
    let loaded = Loaded::new(args.config.as_deref(), environment());
    match loaded.and_then(|loaded| check_files(&loaded).map(|()| loaded)) {
        Ok(loaded) => {
            let config = loaded.config;
            if let Some(portal) = &args.portal {
                secret_path(&config, portal).map_err(login::Error::Usage)?;
            }
            if args.write_probe && !args.yes && !confirm_write_probe().await {
                let text = "no checks were run: confirm --write-probe with y, or pass --yes";
                return Err(login::Error::Usage(text.to_owned()).into());
            }
            let found = format!("valid; portals: {}", portal_summary(&config));
            report.note(Check::Config, None, CheckOutcome::Ok(found), since.elapsed());
            let checks = examine(&config, &args, &mut report);
            tokio::select! {
                () = checks => {}
                _ = interrupted() => return Err(login::Error::Interrupted.into()),
            }
        }
        Err(errors) => {
            let fix = "correct these keys; docs/CONFIG.md describes every key";
            let cause = errors.to_string().replace('\n', "; ");
            report.note(Check::Config, None, CheckOutcome::fail(cause, fix), since.elapsed());
            for area in [Area::Vault, Area::Secret, Area::Hubspot, Area::Portal, Area::Service] {
                report.skip_rest_for(area, None, Check::Config);
            }
        }
    }
    print_report(&report, args.json)?;
    Ok(if report.worst() == "fail" { Verdict::Failed } else { Verdict::Passed })
}

/// Errors if a file with CAs is invalid that no later check names.
fn check_files(loaded: &Loaded) -> Result<(), ConfigErrors> {
    let Err(ConfigErrors(mut errors)) = loaded.check_files() else { return Ok(()) };
    errors.retain(|error| !matches!(&*error.key, "vault.ca_file" | "auth.jwt.ca_file"));
    if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
}

async fn confirm_write_probe() -> bool {
    let question = "This creates a lead in HubSpot and archives it at once. Continue?";
    Terminal::new().confirmed(question).await
}

/// Lists the configured portals and the discovery folder.
fn portal_summary(config: &Config) -> String {
    let names = config.portals.keys().map(|name| name.as_str().to_owned());
    let folder = config.portal_discovery.as_ref().map(|from| format!("all in {}", from.path));
    names.chain(folder).collect::<Vec<_>>().join(", ")
}

/// Runs all checks after the first.
async fn examine(config: &Config, args: &Args, report: &mut Report) {
    let vault_client = vault::examine(&config.vault, report).await;
    let names = match &args.portal {
        Some(name) => vec![name.clone()],
        None => portal_names(config, vault_client.as_ref()).await,
    };
    let vault_failed = report.first_failed(Area::Vault);
    egress::examine(config, vault_client.as_ref(), vault_failed, report).await;
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
        // The last failed check is the reason why later checks are skipped.
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
                PortalChecks { location, hubspot_client }
                    .examine(stored_credential, args, report)
                    .await;
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

/// Names of the configured portals and of discovered portals.
async fn portal_names(config: &Config, vault_client: Option<&AdminClient>) -> Vec<String> {
    let mut names: Vec<String> = config.portals.keys().map(ToString::to_string).collect();
    if let (Some(from), Some(vault_client)) = (&config.portal_discovery, vault_client) {
        // If listing fails, the checks of the individual portals report why.
        let listed = vault_client.list(&from.path).await.unwrap_or_default();
        let new =
            listed.into_iter().filter(|name| !config.portals.keys().any(|p| p.as_str() == name));
        names.extend(new.take(MAX_DISCOVERED));
    }
    names
}

fn print_report(report: &Report, json: bool) -> Result<(), Error> {
    let text = if json { format!("{:#}\n", report.json()) } else { report.text() };
    output::print(&text).map_err(Error::print)
}

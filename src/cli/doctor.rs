//! `leadsd doctor`: checks everything the service needs, in dependency order, and reports for each
//! check what was found, or cause and remedy of the failure.
//!
//! The checks are read-only, with these exceptions:
//! - A refresh token that HubSpot rotates during a check is written back to Vault, as the service does.
//! - `--write-probe` creates a lead and archives it, and `--conformance` up to twenty.

mod args;
mod ca_files;
mod callers;
mod check;
mod conformance;
mod credential;
mod egress;
mod fact;
mod hubspot;
mod location;
mod network;
mod observations;
mod portal;
mod report;
mod schema;
mod service;
mod time_zone;
mod vault;
mod write;

use std::collections::BTreeMap;

use tokio::time::Instant;
use url::Url;

pub(super) use self::args::Args;
use self::{
    check::{Area, Check, CheckOutcome},
    conformance::Session,
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
    config::{self, Config, ConfigErrors, Loaded},
    hubspot::DiagnosticsClient,
    leads::PortalName,
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
    let mut report = Report::new(&args);
    let since = Instant::now();
    let loaded = Loaded::new(args.config.as_deref(), environment());
    match loaded.and_then(|loaded| check_files(&loaded).map(|()| loaded)) {
        Ok(loaded) => {
            let config = loaded.config;
            if let Some(portal) = &args.portal {
                secret_path(&config, portal).map_err(login::Error::Usage)?;
            }
            if !args.yes && !confirm_writes(&args).await {
                let text = "no checks were run: confirm the writes with y, or pass --yes";
                return Err(login::Error::Usage(text.to_owned()).into());
            }
            let found = format!("valid; portals: {}", portal_summary(&config));
            report.note(Check::Config, None, CheckOutcome::Ok(found), since.elapsed());
            let session = Session::default();
            let checks = examine(&config, &args, &session, &mut report);
            tokio::pin!(checks);
            tokio::select! {
                () = &mut checks => {}
                // The conformance run cleans up before it ends.
                _ = interrupted() => match session.stop() {
                    true => checks.await,
                    false => return Err(login::Error::Interrupted.into()),
                },
            }
        }
        Err(errors) => {
            let of_file = errors.0.iter().find(|error| error.key == config::FILE_OPTION);
            let fix = match of_file {
                Some(error) if error.is_syntax() => "correct the file at this position",
                Some(_) => {
                    "name a readable file with --config, or omit it to configure with LEADSD_* \
                     variables"
                }
                None => "correct these keys; docs/CONFIG.md describes every key",
            };
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
    let checked_later = ["vault.ca_file", "auth.jwt.ca_file", "quota.shared.ca_file"];
    errors.retain(|error| !checked_later.contains(&&*error.key));
    if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
}

/// Asks before writes; true if none were requested.
async fn confirm_writes(args: &Args) -> bool {
    let question = if args.conformance {
        conformance::QUESTION
    } else if args.write_probe {
        "This creates a lead in HubSpot and archives it at once. Continue?"
    } else {
        return true;
    };
    Terminal::new().confirmed(question).await
}

/// Lists the configured portals and the discovery folder.
fn portal_summary(config: &Config) -> String {
    let names = config.portals.keys().map(|name| name.as_str().to_owned());
    let folder = config.portal_discovery.as_ref().map(|from| format!("all in {}", from.path));
    names.chain(folder).collect::<Vec<_>>().join(", ")
}

/// Runs all checks after the first.
async fn examine(config: &Config, args: &Args, conformance: &Session, report: &mut Report) {
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
    let hubspot_clients = examine_hubspot(config, &locations, report).await;
    for (name, location) in locations {
        let hubspot_client = hubspot_clients.get(&hubspot_settings(config, &name).base_url);
        let because = match (location, hubspot_client) {
            (Ok((location, stored_credential)), Some(Ok(hubspot_client))) => {
                PortalChecks { location, hubspot_client, conformance }
                    .examine(stored_credential, args, report)
                    .await;
                continue;
            }
            (Err(because), _) => because,
            (Ok(_), Some(Err(because))) => *because,
            (Ok(_), None) => Check::Config,
        };
        report.skip_rest_for(Area::Portal, Some(&name), because);
    }
    callers::examine(config, vault_client.as_ref(), vault_failed, report).await;
    service::examine(config, report).await;
    if let Some(vault_client) = vault_client {
        vault_client.close().await;
    }
}

/// Checks HubSpot's API at each base URL of the portals, once.
async fn examine_hubspot<T>(
    config: &Config,
    portals: &[(String, T)],
    report: &mut Report,
) -> BTreeMap<Url, Result<DiagnosticsClient, Check>> {
    let mut clients = BTreeMap::new();
    let default = &config.hubspot;
    let own = portals.iter().map(|(name, _)| (hubspot_settings(config, name), Some(name.as_str())));
    let fallback = portals.is_empty().then(|| (default.clone(), None));
    for (settings, portal) in own.chain(fallback) {
        if clients.contains_key(&settings.base_url) {
            continue;
        }
        let portal = portal.filter(|_| settings.base_url != default.base_url);
        let client = hubspot::examine(&settings, portal, report).await;
        clients.insert(settings.base_url, client);
    }
    clients
}

/// Settings of the HubSpot calls of a portal.
fn hubspot_settings(config: &Config, portal: &str) -> config::Hubspot {
    PortalName::parse(portal)
        .map_or_else(|| config.hubspot.clone(), |portal| config.hubspot_for(&portal))
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

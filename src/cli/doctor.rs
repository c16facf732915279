//! `leadsd doctor`: looks at everything that the service needs, in the order in which it needs it,
//! and says of each what was found, or what is wrong and what to do.
//!
//! It reads only. Two things leave a trace: a refresh token that HubSpot replaces while it is being
//! tried is written back, as the service would; and `--write-probe` creates a lead and archives it.

mod callers;
mod check;
mod hubspot;
mod network;
mod portal;
mod report;
mod vault;
mod write;

use std::{path::PathBuf, time::Duration};

use clap::Args as ClapArgs;
use tokio::time::Instant;

use self::{
    check::{Area, Check, Outcome},
    portal::{Place, Portal},
    report::Report,
};
use super::{
    environment, login,
    portal_secret::secret_path,
    terminal::{Terminal, interrupted},
};
use crate::{
    config::{Config, Loaded},
    vault::AdminClient,
};

/// Longest one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);

/// Most portals of a folder that are looked at without being named: each costs some calls.
const MAX_LISTED: usize = 20;

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Configuration file; the environment (LEADSD_...) goes over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Looks at this portal only. Default: all.
    #[arg(long, value_name = "NAME")]
    portal: Option<String>,
    /// Prints JSON instead of lines; docs/DOCTOR.md says what its fields are.
    #[arg(long)]
    json: bool,
    /// Creates one lead in each portal and archives it, after asking.
    #[arg(long)]
    write_probe: bool,
    /// Contact that this lead is of. Default: that of the first lead there is.
    #[arg(long, value_name = "ID", requires = "write_probe")]
    contact: Option<String>,
    /// Does not ask.
    #[arg(long, requires = "write_probe")]
    yes: bool,
}

/// Whether everything works.
pub(super) enum Verdict {
    Works,
    Fails,
}

pub(super) async fn run(args: Args) -> Result<Verdict, super::Error> {
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
            let look = examine(&config, &args, &mut report);
            tokio::select! {
                () = look => {}
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

/// All checks after the first.
async fn examine(config: &Config, args: &Args, report: &mut Report) {
    let vault_client = vault::examine(&config.vault, report).await;
    let names = match &args.portal {
        Some(name) => vec![name.clone()],
        None => portals(config, vault_client.as_ref()).await,
    };
    let vault_failed = report.first_failed(Area::Vault);
    let mut places = Vec::with_capacity(names.len());
    for given in names {
        let Ok((name, path)) = secret_path(config, &given) else { continue };
        let Some(vault_client) = &vault_client else {
            let because = vault_failed.unwrap_or(Check::Config);
            report.skip_rest_for(Area::Secret, Some(&given), because);
            places.push((given, Err(because)));
            continue;
        };
        let place = Place { config, name, path, vault_client };
        let held = place.examine(report).await;
        // The check that failed last takes down what needs the credential.
        let because = report.last_failed().unwrap_or(Check::VaultSecret);
        places.push((given, held.map(|held| (place, held)).ok_or(because)));
    }
    let hubspot_client = hubspot::examine(&config.hubspot, report).await;
    for (name, place) in places {
        let because = match (place, &hubspot_client) {
            (Ok((place, held)), Some(hubspot_client)) => {
                Portal { place, hubspot_client }.examine(held, args, report).await;
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

/// Those that are configured, and those of the folder.
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

/// When a check that begins now has to be over.
fn soon() -> Instant {
    Instant::now() + CHECK_TIMEOUT
}

fn show(report: &Report, json: bool) -> Result<(), super::Error> {
    let text = if json {
        format!(
            "{:#}
",
            report.json()
        )
    } else {
        report.text()
    };
    super::print(&text)
}

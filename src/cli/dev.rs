//! `leadsd dev`: the service as `serve` runs it, with a fake HubSpot and a fake Vault in the same
//! process. With `--upstream`, it calls a real HubSpot account; the credential stays in the fake Vault.
//! Everything listens on loopback; nothing is stored beyond the process, unless `--state` names a file.

mod args;
mod banner;
mod callers;
mod fakes;
mod folder;
mod settings;
mod state;
mod values;

use std::{io, net::SocketAddr, path::PathBuf};

use serde_json::Value;

pub(super) use self::args::Args;
use self::{
    banner::Banner,
    callers::Callers,
    fakes::Fakes,
    folder::Folder,
    state::{StateFile, StateKeeper},
};
use super::{
    environment::environment,
    error::Error,
    hardening::deny_debugging,
    login,
    prompt::{Terminal, interrupted},
    serve::{hangups, until_signalled},
};
use crate::{
    app::{self, BoundService},
    config::{Config, Loaded},
    hubspot::AccountInfo,
    telemetry,
};
use leadsd_vault_fake::FakeVault;

/// HubSpot behind the service.
enum DevUpstream {
    /// Fake HubSpots.
    Fakes(Fakes),
    /// Real HubSpot at a URL.
    Real(url::Url),
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let hangups = hangups()?;
    if !args.allow_debugging {
        deny_debugging()?;
    }
    args.check()?;
    let (state, saved) =
        args.state.as_deref().map(StateFile::open).transpose().map_err(state_error)?.unzip();
    let saved = saved.unwrap_or_default();
    let vault = FakeVault::start(args.vault).await.map_err(listen_error("--vault", args.vault))?;
    let (upstream, keeper) = match &args.upstream {
        Some(url) => (DevUpstream::Real(url.clone()), None),
        None => {
            let fakes = Fakes::start(&args, &vault, saved.clone()).await?;
            let keeper = state.map(|file| StateKeeper::start(file, saved, &fakes)).transpose();
            (DevUpstream::Fakes(fakes), keeper.map_err(state_error)?)
        }
    };
    let folder = Folder::new().map_err(folder_error)?;
    let callers = args.auth.then(|| Callers::new(&folder, &vault, args.grpc.ip()));
    let callers = callers.transpose().map_err(folder_error)?;
    let settings = settings::build(&folder, &args, &upstream, &vault, callers.as_ref());
    let mut settings = settings.map_err(folder_error)?;
    let is_real = matches!(upstream, DevUpstream::Real(_));
    if is_real {
        let (_, config) = load(&folder, "login.toml", &settings, is_real)?;
        settings::set_time_zone(&mut settings, log_in(&args, &config).await?.time_zone);
    }
    let (file, config) = load(&folder, "leadsd.toml", &settings, is_real)?;
    let _log = telemetry::init(&config.log)?;
    let bound = BoundService::bind(config).await.map_err(|error| match error {
        app::Error::Listen { key: "grpc.listen", source, .. } => {
            listen_error("--grpc", args.grpc)(source)
        }
        app::Error::Listen { source, .. } => listen_error("--admin", args.admin)(source),
        error @ (app::Error::Vault(_)
        | app::Error::Hubspot(_)
        | app::Error::Trace(_)
        | app::Error::Tls(_)
        | app::Error::Portal(_)) => Error::App(error),
    })?;
    let callers = callers.as_ref();
    let banner = Banner {
        args: &args,
        bound: &bound,
        upstream: &upstream,
        vault: &vault,
        callers,
        config: &file,
    };
    banner.print().map_err(Error::print)?;
    let done = until_signalled(bound, hangups, || {}).await;
    let kept = keeper.map_or(Ok(()), StateKeeper::finish);
    done.and_then(|()| kept.map_err(state_error))
}

/// Writes a configuration file, and loads and validates it as in production.
fn load(
    folder: &Folder,
    name: &str,
    settings: &Value,
    is_real: bool,
) -> Result<(PathBuf, Config), Error> {
    let file = settings::write(folder, name, settings).map_err(folder_error)?;
    // The proxy of the environment is for the real account; the fakes are on loopback.
    let from_environment = environment().filter(|(name, _)| !name.starts_with("LEADSD_"));
    let loaded = Loaded::new(Some(&file), from_environment.filter(|_| is_real))?;
    loaded.check_files()?;
    Ok((file, loaded.config))
}

/// Obtains the credential of a real account, and stores it in the fake Vault.
async fn log_in(args: &Args, config: &Config) -> Result<AccountInfo, Error> {
    let (policy, mut terminal) = (login::ReplacePolicy::in_memory(), Terminal::new());
    tokio::select! {
        done = login::log_in(config, "default", &args.login, &policy, &mut terminal) => Ok(done?),
        _ = interrupted() => Err(login::Error::Interrupted.into()),
    }
}

/// Error of a listen address that a flag sets.
fn listen_error(flag: &'static str, address: SocketAddr) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::DevListen { flag, address, source }
}

fn folder_error(source: io::Error) -> Error {
    Error::Io { what: "cannot write to the folder for temporary files", source }
}

fn state_error(error: state::Error) -> Error {
    Error::DevState(error.to_string())
}

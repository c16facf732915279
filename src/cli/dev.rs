//! `leadsd dev`: the service as `serve` runs it, with a fake HubSpot and a fake Vault in the same
//! process. With `--upstream`, it calls a real HubSpot account; the credential stays in the fake Vault.
//! Everything listens on loopback; nothing is stored beyond the process.

mod banner;

use std::{io::Write as _, net::SocketAddr, sync::Arc};

use clap::Args as ClapArgs;
use serde_json::json;

use super::{
    environment::environment,
    error::Error,
    hardening::deny_debugging,
    login,
    prompt::{Terminal, interrupted},
    serve::until_signalled,
};
use crate::{app::BoundService, config::Loaded, telemetry};
use leadsd_base::time::SystemClock;
use leadsd_hubspot_fake::{FakeHubspot, READ, WRITE};
use leadsd_vault_fake::FakeVault;

/// Arguments of `leadsd dev`. Port 0 in an address picks a free port.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Listen address of the gRPC port (loopback only).
    #[arg(long, default_value = "127.0.0.1:50051")]
    grpc: SocketAddr,
    /// Listen address of the admin port: /live, /ready and /metrics.
    #[arg(long, default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// Listen address of the fake HubSpot.
    #[arg(long, default_value = "127.0.0.1:8088")]
    hubspot: SocketAddr,
    /// Listen address of the fake Vault.
    #[arg(long, default_value = "127.0.0.1:8200")]
    vault: SocketAddr,
    /// Version of HubSpot's API: 2026-09, 2026-03 or v3.
    #[arg(long, default_value = "2026-09")]
    api_version: String,
    /// Log filter, such as debug.
    #[arg(long, default_value = "info")]
    log: String,
    /// Allows debuggers, profilers and core dumps.
    #[arg(long)]
    allow_debugging: bool,
    /// Calls a real HubSpot at this URL, such as `https://api.hubapi.com`
    ///
    /// Calls read and change the account. The credential is prompted for at start and stays in memory.
    #[arg(long, value_name = "URL", conflicts_with = "hubspot")]
    upstream: Option<url::Url>,
    /// URL of the consent page of the HubSpot at --upstream.
    #[arg(long, value_name = "URL", requires = "upstream")]
    authorize_url: Option<url::Url>,
    #[command(flatten, next_help_heading = "With --upstream")]
    login: login::Options,
}

/// HubSpot behind the service.
enum DevUpstream {
    /// Fake HubSpot, with the ids of its contacts.
    Fake(FakeHubspot, Vec<String>),
    /// Real HubSpot at a URL.
    Real(url::Url),
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    if !args.allow_debugging {
        deny_debugging()?;
    }
    for (flag, address) in [
        ("--grpc", args.grpc),
        ("--admin", args.admin),
        ("--hubspot", args.hubspot),
        ("--vault", args.vault),
    ] {
        if !address.ip().to_canonical().is_loopback() {
            return Err(Error::DevBeyondLoopback { flag, address });
        }
    }
    if args.upstream.is_none() && args.login.chooses_method() {
        let text = "login options need --upstream: the fake HubSpot needs no login";
        return Err(login::Error::Usage(text.to_owned()).into());
    }
    let io = |what| move |source| Error::Io { what, source };
    let vault = FakeVault::start(args.vault).await.map_err(io("cannot start the fake Vault"))?;
    let upstream = match &args.upstream {
        Some(url) => DevUpstream::Real(url.clone()),
        None => {
            start_fake(args.hubspot, &vault).await.map_err(io("cannot start the fake HubSpot"))?
        }
    };
    // Configuration is loaded, validated and wired as in production.
    let mut token_file =
        TokenFile::new(vault.root_token().expose()).map_err(io("cannot write the token file"))?;
    let settings = settings(&args, &upstream, &vault, &token_file);
    // The proxy of the environment is for the real account; the fakes are on loopback.
    let from_environment = environment().filter(|(name, _)| !name.starts_with("LEADSD_"));
    let is_real = matches!(upstream, DevUpstream::Real(_));
    let settings = settings.into_iter().chain(from_environment.filter(|_| is_real));
    let loaded = Loaded::new(None, settings)?;
    loaded.check_files()?;
    let config = loaded.config;
    if let DevUpstream::Real(_) = upstream {
        let (policy, mut terminal) = (login::ReplacePolicy::in_memory(), Terminal::new());
        tokio::select! {
            done = login::log_in(&config, "default", &args.login, &policy, &mut terminal) => done?,
            _ = interrupted() => return Err(login::Error::Interrupted.into()),
        }
    }
    let _log = telemetry::init(&config.log)?;
    let bound = BoundService::bind(config).await?;
    banner::print(&bound, &upstream, &vault).map_err(io("cannot write to standard output"))?;
    let done = until_signalled(bound).await;
    token_file.remove();
    done
}

/// Starts a fake HubSpot with sample leads, and stores its token in the fake Vault.
async fn start_fake(address: SocketAddr, vault: &FakeVault) -> std::io::Result<DevUpstream> {
    let hubspot = FakeHubspot::start(address, Arc::new(SystemClock)).await?;
    let contacts = hubspot.seed();
    hubspot.add_unique_property("crm_key");
    let token = hubspot.static_token(&[READ, WRITE]);
    vault.put("hubspot/default", json!({"access_token": token.expose()}));
    Ok(DevUpstream::Fake(hubspot, contacts))
}

fn settings(
    args: &Args,
    upstream: &DevUpstream,
    vault: &FakeVault,
    token_file: &TokenFile,
) -> Vec<(String, String)> {
    let base_url = match upstream {
        DevUpstream::Fake(hubspot, _) => format!("http://{}", hubspot.address()),
        DevUpstream::Real(url) => url.to_string(),
    };
    let mut settings = vec![
        ("GRPC__LISTEN", args.grpc.to_string()),
        ("GRPC__DRAIN_DELAY", "0s".to_owned()),
        ("ADMIN__LISTEN", args.admin.to_string()),
        ("VAULT__ADDRESS", format!("http://{}", vault.address())),
        ("VAULT__AUTH__METHOD", "token".to_owned()),
        ("VAULT__AUTH__FILE", token_file.path.clone()),
        ("HUBSPOT__BASE_URL", base_url),
        ("HUBSPOT__API_VERSION", args.api_version.clone()),
        ("PORTALS__DEFAULT__SECRET", "hubspot/default".to_owned()),
        ("LOG__LEVEL", args.log.clone()),
        ("LOG__FORMAT", "pretty".to_owned()),
    ];
    if let Some(url) = &args.authorize_url {
        settings.push(("HUBSPOT__AUTHORIZE_URL", url.to_string()));
    }
    settings.into_iter().map(|(key, value)| (format!("LEADSD_{key}"), value)).collect()
}

/// Temporary file with mode 0600; deleted on drop.
struct TokenFile {
    path: String,
}

// === impl TokenFile ===

impl TokenFile {
    fn new(text: &str) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let name = format!("leadsd-dev-{}", uuid::Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(Self { path: path.display().to_string() })
    }

    fn remove(&mut self) {
        // The file may be deleted already.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        self.remove();
    }
}

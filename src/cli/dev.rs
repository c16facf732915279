//! `leadsd dev`: the service as `serve` runs it, in front of a HubSpot and a Vault in memory; or, with
//! `--upstream`, in front of a real HubSpot, with the credential in that Vault alone.

mod banner;

use std::{io::Write as _, net::SocketAddr, sync::Arc};

use clap::Args as ClapArgs;
use serde_json::json;

use super::{
    error::Error,
    login,
    prompt::{Terminal, interrupted},
    serve::until_signalled,
};
use crate::{app::Bound, config::Loaded, telemetry};
use leadsd_base::time::SystemClock;
use leadsd_hubspot_fake::{FakeHubspot, READ, WRITE};
use leadsd_vault_fake::FakeVault;

/// Addresses; port 0 picks a free one.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Where to serve gRPC.
    #[arg(long, default_value = "127.0.0.1:50051")]
    grpc: SocketAddr,
    /// Where to serve /live and /ready.
    #[arg(long, default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// Where the fake HubSpot listens.
    #[arg(long, default_value = "127.0.0.1:8088")]
    hubspot: SocketAddr,
    /// Where the fake Vault listens.
    #[arg(long, default_value = "127.0.0.1:8200")]
    vault: SocketAddr,
    /// API version to use: 2026-09, 2026-03 or v3.
    #[arg(long, default_value = "2026-09")]
    api_version: String,
    /// Log filter, such as debug.
    #[arg(long, default_value = "info")]
    log: String,
    /// Talks to this HubSpot instead of a fake one, such as `https://api.hubapi.com`: calls are real.
    /// The credential is asked for first, and kept in memory alone.
    #[arg(long, value_name = "URL", conflicts_with = "hubspot")]
    upstream: Option<url::Url>,
    /// Where the consent page of that HubSpot is.
    #[arg(long, value_name = "URL", requires = "upstream")]
    authorize_url: Option<url::Url>,
    #[command(flatten, next_help_heading = "With --upstream")]
    login: login::Options,
}

/// The HubSpot behind the service.
enum Upstream {
    /// The one in memory, with the ids of its contacts.
    Fake(FakeHubspot, Vec<String>),
    /// A real one.
    Real(url::Url),
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
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
        let text = "there is no login without --upstream: the HubSpot in memory needs none";
        return Err(login::Error::Usage(text.to_owned()).into());
    }
    let io = |what| move |source| Error::Io { what, source };
    let vault = FakeVault::start(args.vault).await.map_err(io("cannot start the fake Vault"))?;
    let upstream = match &args.upstream {
        Some(url) => Upstream::Real(url.clone()),
        None => fake(args.hubspot, &vault).await.map_err(io("cannot start the fake HubSpot"))?,
    };
    // The same loading, checking and wiring as in production; the token is one of the fake's.
    let mut token_file =
        tempfile(vault.root_token().expose()).map_err(io("cannot write a file"))?;
    let settings = settings(&args, &upstream, &vault, &token_file);
    let config = Loaded::new(None, settings)?.config;
    if let Upstream::Real(_) = upstream {
        let (policy, mut terminal) = (login::ReplacePolicy::in_memory(), Terminal::new());
        tokio::select! {
            done = login::log_in(&config, "default", &args.login, &policy, &mut terminal) => done?,
            _ = interrupted() => return Err(login::Error::Interrupted.into()),
        }
    }
    let _log = telemetry::init(&config.log)?;
    let bound = Bound::bind(config).await?;
    banner::print(&bound, &upstream, &vault).map_err(io("cannot print"))?;
    let done = until_signalled(bound).await;
    token_file.remove();
    done
}

/// A HubSpot with something in it, whose token is in Vault.
async fn fake(address: SocketAddr, vault: &FakeVault) -> std::io::Result<Upstream> {
    let hubspot = FakeHubspot::start(address, Arc::new(SystemClock)).await?;
    let contacts = hubspot.seed();
    hubspot.add_unique_property("crm_key");
    let token = hubspot.static_token(&[READ, WRITE]);
    vault.put("hubspot/default", json!({"access_token": token.expose()}));
    Ok(Upstream::Fake(hubspot, contacts))
}

fn settings(
    args: &Args,
    upstream: &Upstream,
    vault: &FakeVault,
    token_file: &TokenFile,
) -> Vec<(String, String)> {
    let base_url = match upstream {
        Upstream::Fake(hubspot, _) => format!("http://{}", hubspot.address()),
        Upstream::Real(url) => url.to_string(),
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

/// A file that only we can read, gone when dropped.
struct TokenFile {
    path: String,
}

// === impl TokenFile ===

impl TokenFile {
    fn remove(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        self.remove();
    }
}

fn tempfile(text: &str) -> std::io::Result<TokenFile> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let name = format!("leadsd-dev-{}", uuid::Uuid::new_v4());
    let path = std::env::temp_dir().join(name);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(TokenFile { path: path.display().to_string() })
}

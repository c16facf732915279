//! Arguments of `leadsd dev`.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args as ClapArgs;

use super::values::{self, CallQuota, FaultOption};
use crate::{
    cli::{error::Error, login},
    leads::PortalName,
};
use leadsd_base::net::listen_address::ListenAddress;

/// Maximum number of portals: each has a listener.
const MAX_PORTALS: usize = 32;

/// Arguments of `leadsd dev`. Port 0 in an address picks a free port.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Args {
    /// Listen address of the gRPC port (loopback only).
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051", value_parser = values::address)]
    pub(super) grpc: SocketAddr,
    /// Listen address of the admin port: /live, /ready and /metrics.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9090", value_parser = values::address)]
    pub(super) admin: SocketAddr,
    /// Listen address of the fake HubSpot. Further portals have the next ports.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8088", value_parser = values::address)]
    pub(super) hubspot: SocketAddr,
    /// Listen address of the fake Vault.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8200", value_parser = values::address)]
    pub(super) vault: SocketAddr,
    /// Portal with a separate account; may be repeated. Default: one named default.
    #[arg(long = "portal", value_name = "NAME", value_parser = values::portal)]
    pub(super) portals: Vec<PortalName>,
    /// Version of HubSpot's API.
    #[arg(long, value_parser = ["2026-09", "2026-03", "v3"], default_value = "2026-09")]
    pub(super) api_version: String,
    /// Time until a search of the fake HubSpot finds a write, such as 500ms or 30s.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = values::search_lag)]
    pub(super) search_lag: Duration,
    /// Lets a share of the requests to the fake HubSpot fail, such as create:503@10%; may be repeated.
    ///
    /// Operations: create, get, update, archive, list, search, associations, schema, owners, account,
    /// token, or any. An upsert is a get, an update and a create. A request that fails has no effect.
    #[arg(long = "fault", value_name = "OPERATION:STATUS@RATIO", value_parser = values::fault)]
    pub(super) faults: Vec<FaultOption>,
    /// Delays each response of the fake HubSpot, such as 200ms.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = values::latency)]
    pub(super) latency: Duration,
    /// Rate limit of the fake HubSpot, such as 20/10s. Default: 190 calls in ten seconds.
    #[arg(long, value_name = "CALLS/WINDOW", value_parser = values::quota)]
    pub(super) quota: Option<CallQuota>,
    /// JSON file with switches of the fake HubSpot, as leadsd doctor --conformance writes it.
    #[arg(long, value_name = "FILE")]
    pub(super) switches: Option<PathBuf>,
    /// File that keeps the records of the fake HubSpot between runs; created if it does not exist.
    #[arg(long, value_name = "FILE")]
    pub(super) state: Option<PathBuf>,
    /// Serves with TLS and authenticates callers; prints an API key and a client certificate.
    #[arg(long)]
    pub(super) auth: bool,
    /// Log filter, such as debug.
    #[arg(long, default_value = "info", value_parser = values::log_filter)]
    pub(super) log: String,
    /// Allows debuggers, profilers and core dumps.
    #[arg(long)]
    pub(super) allow_debugging: bool,
    /// Calls a real HubSpot at this URL, such as `https://api.hubapi.com`
    ///
    /// Calls read and change the account. The credential is prompted for at start and stays in memory.
    #[arg(
        long,
        value_name = "URL",
        conflicts_with_all = [
            "hubspot", "search_lag", "switches", "portals", "faults", "latency", "quota", "state",
        ]
    )]
    pub(super) upstream: Option<url::Url>,
    /// URL of the consent page of the HubSpot at --upstream.
    #[arg(long, value_name = "URL", requires = "upstream")]
    pub(super) authorize_url: Option<url::Url>,
    #[command(flatten, next_help_heading = "With --upstream")]
    pub(super) login: login::Options,
}

// === impl Args ===

impl Args {
    /// Errors if options contradict each other.
    pub(super) fn check(&self) -> Result<(), Error> {
        let listen = [
            ("--grpc", self.grpc),
            ("--admin", self.admin),
            ("--hubspot", self.hubspot),
            ("--vault", self.vault),
        ];
        for (flag, address) in listen {
            if !address.ip().to_canonical().is_loopback() {
                return Err(Error::DevBeyondLoopback { flag, address });
            }
        }
        if self.upstream.is_none() && self.login.chooses_method() {
            let text = "login options need --upstream: the fake HubSpot needs no login";
            return Err(login::Error::Usage(text.to_owned()).into());
        }
        let usage = |flag| move |what| Error::DevUsage { flag, what };
        if ListenAddress::Socket(self.admin).conflicts_with(&ListenAddress::Socket(self.grpc)) {
            let what = format!("{} is the address of --grpc; choose another port", self.admin);
            return Err(usage("--admin")(what));
        }
        values::check_ratios(&self.faults).map_err(usage("--fault"))?;
        self.check_portals().map_err(usage("--portal"))
    }

    fn check_portals(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        if let Some(twice) = self.portals.iter().find(|name| !names.insert(name.as_str())) {
            return Err(format!("{twice} is given twice; give each portal once"));
        }
        if self.portals.len() > MAX_PORTALS {
            return Err(format!("at most {MAX_PORTALS} portals are allowed"));
        }
        Ok(())
    }
}

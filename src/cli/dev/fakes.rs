//! Fakes of `leadsd dev`: a HubSpot with sample records for each portal, and the credentials of all in a
//! fake Vault.

use std::{collections::BTreeMap, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Args, listen_error, values::MAX_SEARCH_LAG};
use crate::{cli::error::Error, leads::PortalName};
use leadsd_base::{
    secret::Secret,
    time::{SystemClock, WallClock as _, Zone},
};
use leadsd_hubspot_fake::{
    Behaviour, CONTACTS_READ, CONTACTS_WRITE, FakeHubspot, OWNERS, READ, Snapshot, TIME_ZONE, WRITE,
};
use leadsd_vault_fake::FakeVault;

/// Portal if no other is named.
const DEFAULT_PORTAL: &str = "default";

/// Redirect URL of `leadsd login` by default.
const REDIRECT_URL: &str = "http://localhost:8976/oauth-callback";

/// Fake HubSpots, one for each portal.
pub(super) struct Fakes {
    /// At least one.
    pub(super) all: Vec<Fake>,
    pub(super) search_lag: Duration,
}

/// OAuth app of an account.
pub(super) struct App {
    pub(super) client_id: String,
    pub(super) client_secret: Secret,
}

/// Fake HubSpot with sample records.
pub(super) struct Fake {
    pub(super) portal: PortalName,
    pub(super) hubspot: Arc<FakeHubspot>,
    /// Ids of its contacts.
    pub(super) contacts: Vec<String>,
    /// Ids of its owners.
    pub(super) owners: Vec<String>,
    /// Static access token.
    pub(super) token: Secret,
    pub(super) app: App,
}

// === impl Fakes ===

impl Fakes {
    /// Starts the fakes with the records of an earlier run, or with sample records, and stores their
    /// tokens in the fake Vault.
    pub(super) async fn start(
        args: &Args,
        vault: &FakeVault,
        mut saved: BTreeMap<String, Snapshot>,
    ) -> Result<Self, Error> {
        let io = |what| move |source| Error::Io { what, source };
        let mut behaviour = match &args.switches {
            Some(file) => {
                read_switches(file, args.search_lag).map_err(io("cannot read --switches"))?
            }
            None => Behaviour { index_lag: args.search_lag, ..Behaviour::default() },
        };
        let search_lag = behaviour.index_lag.min(MAX_SEARCH_LAG);
        behaviour.index_lag = search_lag;
        let mut all: Vec<Fake> = Vec::new();
        for portal in portals(&args.portals) {
            let listen = listen_address(args.hubspot, all.len())?;
            let hubspot = FakeHubspot::start(listen, Arc::new(SystemClock)).await;
            let hubspot = hubspot.map_err(listen_error("--hubspot", listen))?;
            hubspot.set_hub(all.len() as u64 + 1);
            hubspot.behave(|own| own.clone_from(&behaviour));
            hubspot.add_unique_property("crm_key");
            let zone = Zone::parse(TIME_ZONE).unwrap_or_default();
            let offset = zone.offset_minutes(SystemClock.now());
            hubspot.limit(|limits| limits.utc_offset_minutes = offset);
            if let Some(quota) = args.quota {
                hubspot.limit(|limits| {
                    (limits.burst, limits.window) = (quota.calls, quota.window);
                });
            }
            match saved.remove(portal.as_str()) {
                Some(snapshot) => hubspot.restore(snapshot).map_err(|error| Error::DevUsage {
                    flag: "--state",
                    what: format!("invalid records of portal {portal}: {error}"),
                })?,
                None => {
                    hubspot.seed();
                    hubspot.add_owner("sales@example.com");
                }
            }
            // These records are in the index from the start.
            hubspot.advance(search_lag);
            hubspot.set_latency(args.latency);
            hubspot.inject(args.faults.iter().map(|option| option.fault).collect());
            let scopes = [READ, WRITE, OWNERS, CONTACTS_READ, CONTACTS_WRITE];
            let token = hubspot.static_token(&scopes);
            vault.put(&secret_path(&portal), json!({"access_token": token.expose()}));
            let records = hubspot.snapshot();
            let contacts = records.contacts().map(str::to_owned).collect();
            let owners = records.owners().map(str::to_owned).collect();
            let (client_id, client_secret) = hubspot.register_app(&[REDIRECT_URL]);
            let app = App { client_id, client_secret };
            all.push(Fake { portal, hubspot: Arc::new(hubspot), contacts, owners, token, app });
        }
        Ok(Self { all, search_lag })
    }

    /// Fake of the first portal.
    pub(super) fn first(&self) -> &Fake {
        &self.all[0]
    }
}

/// Path of the secret of a portal.
pub(super) fn secret_path(portal: &PortalName) -> String {
    format!("hubspot/{portal}")
}

/// Portals in the order of the options; one named default without any.
pub(super) fn portals(named: &[PortalName]) -> Vec<PortalName> {
    if named.is_empty() {
        PortalName::parse(DEFAULT_PORTAL).into_iter().collect()
    } else {
        named.to_vec()
    }
}

/// Listen address of the fake with this index: the next ports, or free ones.
fn listen_address(first: SocketAddr, index: usize) -> Result<SocketAddr, Error> {
    if first.port() == 0 {
        return Ok(first);
    }
    let port = u16::try_from(index).ok().and_then(|index| first.port().checked_add(index));
    let port = port.ok_or_else(|| Error::DevUsage {
        flag: "--hubspot",
        what: format!("{first} leaves no port for each portal; use a lower port"),
    })?;
    Ok(SocketAddr::new(first.ip(), port))
}

/// Reads the switches of a conformance report. The search lag is `search_lag` if the report has none.
fn read_switches(file: &Path, search_lag: Duration) -> io::Result<Behaviour> {
    let switches = || -> io::Result<Behaviour> {
        let report: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let switches = &report["switches"];
        let has_lag = switches["index_lag"].as_f64().is_some_and(|lag| lag > 0.0);
        let behaviour = Behaviour::deserialize(switches)?;
        let index_lag = if has_lag { behaviour.index_lag } else { search_lag };
        Ok(Behaviour { index_lag, ..behaviour })
    };
    switches().map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_portals_have_the_next_ports() {
        let listen = |first: &str, index| listen_address(first.parse().unwrap(), index);
        assert_eq!(listen("127.0.0.1:8088", 0).unwrap().port(), 8088);
        assert_eq!(listen("[::1]:8088", 2).unwrap().to_string(), "[::1]:8090");
        assert_eq!(listen("127.0.0.1:0", 3).unwrap().port(), 0);
        let error = listen("127.0.0.1:65535", 1).unwrap_err().to_string();
        assert!(error.starts_with("--hubspot: 127.0.0.1:65535 leaves no port"), "{error}");
    }
}

//! Converts all sections. Each section continues after an error, so that all errors are reported.

use std::collections::BTreeMap;

use super::{
    admin::Admin,
    callers::{Auth, Policy},
    check::Checker,
    credentials::Credentials,
    egress::{EgressConfig, Variables},
    grpc::Grpc,
    hubspot::Hubspot,
    portals::{Portal, PortalDiscovery},
    process::Process,
    quota::Quota,
    raw::Raw,
    vault::Vault,
};
use crate::{
    leads::PortalName,
    telemetry::{LogSettings, TraceSettings},
};

/// The configuration of the service.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[grpc]`
    pub grpc: Grpc,
    /// `[admin]`
    pub admin: Admin,
    /// `[vault]`
    pub vault: Vault,
    /// `[hubspot]`
    pub hubspot: Hubspot,
    /// `[egress]`
    pub egress: EgressConfig,
    /// `[credentials]`
    pub credentials: Credentials,
    /// `[quota]`
    pub quota: Quota,
    /// `[auth]`
    pub auth: Auth,
    /// `[policy.<name>]`; at least one with authentication, none without.
    pub policy: BTreeMap<String, Policy>,
    /// `[portals.<name>]`; at least one unless portals are discovered.
    pub portals: BTreeMap<PortalName, Portal>,
    /// `[portal_discovery]`; disabled by default.
    pub portal_discovery: Option<PortalDiscovery>,
    /// `[trace]`
    pub trace: TraceSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[process]`
    pub process: Process,
}

// === impl Config ===

impl Config {
    /// Settings of the HubSpot calls of a portal.
    pub fn hubspot_for(&self, portal: &PortalName) -> Hubspot {
        let base_url = self.portals.get(portal).and_then(|portal| portal.base_url.as_ref());
        base_url.map_or_else(|| self.hubspot.clone(), |url| self.hubspot.with_base_url(url))
    }
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn config(&mut self, raw: Raw, variables: &Variables) -> Option<Config> {
        let Raw {
            grpc,
            admin,
            vault,
            hubspot,
            egress,
            credentials,
            quota,
            auth,
            policy,
            portals,
            portal_discovery,
            trace,
            log,
            process,
        } = raw;
        let grpc = self.grpc(grpc);
        let admin = self.admin(admin);
        if let (Some(grpc), Some(admin)) = (&grpc, &admin)
            && grpc.listen.conflicts_with(&admin.listen)
        {
            self.add_error("admin.listen", "must have another port than grpc.listen");
        }
        let egress = self.egress(&egress, variables);
        let way_out = egress.as_ref().map(|egress| egress.policy.clone()).unwrap_or_default();
        let vault = self.vault(vault, &way_out);
        let hubspot = self.hubspot(&hubspot, &way_out);
        let credentials = self.credentials(&credentials);
        let quota = self.quota(quota);
        let portal_discovery = portal_discovery.map(|raw| self.portal_discovery(&raw));
        let portals = self.portals(portals, portal_discovery.is_some());
        let auth = self.callers(auth, &way_out);
        let known = portal_discovery.is_none().then_some(portals.as_ref()).flatten();
        let policy = self.policies(policy, known);
        if let (Some(grpc), Some(auth), Some(policy)) = (&grpc, &auth, &policy) {
            self.check_exposure(grpc, auth, policy);
        }
        let trace = self.trace(trace, &way_out);
        let log = self.log(log);
        Some(Config {
            grpc: grpc?,
            admin: admin?,
            vault: vault?,
            hubspot: hubspot?,
            egress: egress?,
            credentials: credentials?,
            quota: quota?,
            auth: auth?,
            policy: policy?,
            portals: portals?,
            portal_discovery: match portal_discovery {
                Some(from) => Some(from?),
                None => None,
            },
            trace: trace?,
            log: log?,
            process: process.into(),
        })
    }
}

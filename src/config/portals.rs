//! `[portals.<name>]` and `[portal_discovery]`: the HubSpot accounts.

use std::collections::BTreeMap;

use super::{check::Checker, raw};
use crate::leads::PortalName;
use leadsd_base::time::Zone;
use leadsd_credentials::SecretPath;

/// `[portal_discovery]`: every secret in a folder is a portal of that name, beside those of
/// `[portals.<name>]`.
#[derive(Debug, Clone)]
pub struct PortalDiscovery {
    /// Path of the folder under the KV mount; looked at every `vault.poll_interval`.
    pub path: SecretPath,
    /// As in `[portals.<name>]`, for all portals found in the folder.
    pub request_id_property: Option<String>,
}

/// `[portals.<name>]`: one HubSpot account.
#[derive(Debug, Clone)]
pub struct Portal {
    /// Path of its secret under the KV mount. Default `hubspot/<name>`.
    pub secret: SecretPath,
    /// The account's time zone. Default that of `[quota]`.
    pub zone: Option<Zone>,
    /// Property of its leads with unique values that request ids are written to, so that a create
    /// whose answer got lost can be looked for. Default none.
    pub request_id_property: Option<String>,
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn portal_discovery(
        &mut self,
        raw: &raw::PortalDiscovery,
    ) -> Option<PortalDiscovery> {
        let request_id_property = raw.request_id_property.clone();
        self.property("portal_discovery.request_id_property", request_id_property.as_deref());
        match SecretPath::parse(&raw.path) {
            Ok(path) => Some(PortalDiscovery { path, request_id_property }),
            Err(what) => {
                self.fault("portal_discovery.path", what);
                None
            }
        }
    }

    pub(super) fn portals(
        &mut self,
        raw: BTreeMap<String, raw::Portal>,
        may_be_empty: bool,
    ) -> Option<BTreeMap<PortalName, Portal>> {
        if raw.is_empty() && !may_be_empty {
            self.fault(
                "portals",
                "needs at least one table such as [portals.default], or [portal_discovery]",
            );
        }
        let mut portals = BTreeMap::new();
        for (name, raw::Portal { secret, time_zone, request_id_property }) in raw {
            let key = format!("portals.{name}");
            let Some(name) = PortalName::parse(&name) else {
                self.fault(&key, "must have a name of 1 to 64 letters, digits, `_` or `-`");
                continue;
            };
            let secret = secret.unwrap_or_else(|| format!("hubspot/{name}"));
            self.property(&format!("{key}.request_id_property"), request_id_property.as_deref());
            let zone = time_zone.map(|zone| self.zone(&format!("{key}.time_zone"), &zone));
            match SecretPath::parse(&secret) {
                Ok(secret) => {
                    let zone = zone.flatten();
                    portals.insert(name, Portal { secret, zone, request_id_property });
                }
                Err(what) => self.fault(&format!("{key}.secret"), what),
            }
        }
        Some(portals)
    }

    /// HubSpot's rule for internal names.
    fn property(&mut self, key: &str, name: Option<&str>) {
        let fits = |name: &str| {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            (1..=100).contains(&name.len()) && name.chars().all(allowed)
        };
        if !name.is_none_or(fits) {
            self.fault(key, "must be a property's internal name: lower case letters, digits, `_`");
        }
    }
}

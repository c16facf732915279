//! `[portals.<name>]` and `[portal_discovery]`: configured and discovered HubSpot accounts.

use std::collections::BTreeMap;

use super::{check::Checker, raw};
use crate::leads::{PortalName, ValidationMode};
use leadsd_base::time::Zone;
use leadsd_credentials::SecretPath;

/// `[portal_discovery]`: each secret in a folder is a portal of the same name, in addition to
/// `[portals.<name>]`.
#[derive(Debug, Clone)]
pub struct PortalDiscovery {
    /// Path of the folder under the KV mount; listed every `vault.poll_interval`.
    pub path: SecretPath,
    /// `request_id_property` of all discovered portals.
    pub request_id_property: Option<String>,
    /// `default_properties` of all discovered portals.
    pub default_properties: Option<Vec<String>>,
    /// `validate` of all discovered portals. Default `hubspot.validate`.
    pub validate: Option<ValidationMode>,
}

/// `[portals.<name>]`: HubSpot account.
#[derive(Debug, Clone)]
pub struct Portal {
    /// Path of the secret under the KV mount. Default `hubspot/<name>`.
    pub secret: SecretPath,
    /// Base URL of the API for this account. Default `hubspot.base_url`.
    pub base_url: Option<url::Url>,
    /// Time zone of the account. Default `quota.time_zone`.
    pub zone: Option<Zone>,
    /// Lead property with unique values for request ids, by which a create without a response is found.
    /// Default none.
    pub request_id_property: Option<String>,
    /// Properties of reads that select none. Default `hubspot.default_properties`.
    pub default_properties: Option<Vec<String>>,
    /// Validation of writes. Default `hubspot.validate`.
    pub validate: Option<ValidationMode>,
}

/// Maximum length of the names of default properties in bytes, each with a comma. Reads of longer names
/// do not share batches.
const MAX_DEFAULT_PROPERTIES_BYTES: usize = 2_000;

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn portal_discovery(
        &mut self,
        raw: &raw::PortalDiscovery,
    ) -> Option<PortalDiscovery> {
        let request_id_property = raw.request_id_property.clone();
        let validate = raw.validate.as_deref();
        let validate =
            validate.and_then(|mode| self.validation_mode("portal_discovery.validate", mode));
        self.property("portal_discovery.request_id_property", request_id_property.as_deref());
        let default_properties = raw.default_properties.as_deref();
        let default_properties = default_properties
            .map(|names| self.default_properties("portal_discovery.default_properties", names));
        match SecretPath::parse(&raw.path) {
            Ok(path) => {
                Some(PortalDiscovery { path, request_id_property, default_properties, validate })
            }
            Err(what) => {
                self.add_error("portal_discovery.path", what);
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
            self.add_error(
                "portals",
                "needs at least one table such as [portals.default], or [portal_discovery]",
            );
        }
        let mut portals = BTreeMap::new();
        for (name, raw) in raw {
            let raw::Portal {
                secret,
                base_url,
                time_zone,
                request_id_property,
                default_properties,
                validate,
            } = raw;
            let key = format!("portals.{name}");
            let Some(name) = PortalName::parse(&name) else {
                self.add_error(&key, "must have a name of 1 to 64 letters, digits, `_` or `-`");
                continue;
            };
            let secret = secret.unwrap_or_else(|| default_secret(name.as_str()));
            self.property(&format!("{key}.request_id_property"), request_id_property.as_deref());
            let default_properties = default_properties
                .map(|names| self.default_properties(&format!("{key}.default_properties"), &names));
            let base_url = base_url.map(|url| self.hubspot_url(&format!("{key}.base_url"), &url));
            let validate =
                validate.and_then(|mode| self.validation_mode(&format!("{key}.validate"), &mode));
            let zone = time_zone.map(|zone| self.zone(&format!("{key}.time_zone"), &zone));
            match SecretPath::parse(&secret) {
                Ok(secret) => {
                    let (base_url, zone) = (base_url.flatten(), zone.flatten());
                    let portal = Portal {
                        secret,
                        base_url,
                        zone,
                        request_id_property,
                        default_properties,
                        validate,
                    };
                    portals.insert(name, portal);
                }
                Err(what) => self.add_error(&format!("{key}.secret"), what),
            }
        }
        Some(portals)
    }

    /// Validates the properties of reads that select none; duplicates are dropped.
    pub(super) fn default_properties(&mut self, key: &str, names: &[String]) -> Vec<String> {
        let mut distinct: Vec<String> = Vec::with_capacity(names.len());
        for name in names {
            self.property(key, Some(name));
            if !distinct.contains(name) {
                distinct.push(name.clone());
            }
        }
        if distinct.iter().map(|name| name.len() + 1).sum::<usize>() > MAX_DEFAULT_PROPERTIES_BYTES
        {
            self.add_error(key, "must not exceed 2,000 bytes of names, each with a comma");
        }
        distinct
    }

    /// Validates the internal name of a property by HubSpot's rules.
    fn property(&mut self, key: &str, name: Option<&str>) {
        let fits = |name: &str| {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            (1..=100).contains(&name.len()) && name.chars().all(allowed)
        };
        if !name.is_none_or(fits) {
            self.add_error(
                key,
                "must be the internal name of a property: lower-case letters, digits, `_`",
            );
        }
    }
}

/// Default path of a portal's secret.
pub(super) fn default_secret(portal: &str) -> String {
    format!("hubspot/{portal}")
}

//! Clients of portals: one for each base URL.

use std::collections::BTreeMap;

use url::Url;

use super::client::HubspotClient;
use crate::{config, leads::PortalName};
use leadsd_base::net::http::BuildError;

/// Clients of portals. Portals with the same base URL share one, with its connections.
#[derive(Debug, Clone)]
pub struct PortalClients {
    default: HubspotClient,
    by_portal: BTreeMap<PortalName, HubspotClient>,
}

// === impl PortalClients ===

impl PortalClients {
    /// Creates the clients. `base_urls` has the portals with a separate base URL.
    pub fn new(
        config: &config::Hubspot,
        base_urls: &BTreeMap<PortalName, Url>,
    ) -> Result<Self, BuildError> {
        let (default, by_portal) = build(config, base_urls, HubspotClient::new)?;
        Ok(Self { default, by_portal })
    }

    /// The client of a portal.
    pub fn get(&self, portal: &PortalName) -> &HubspotClient {
        self.by_portal.get(portal).unwrap_or(&self.default)
    }
}

/// Builds the default client, and one for each distinct base URL of the portals.
pub(super) fn build<T: Clone>(
    config: &config::Hubspot,
    base_urls: &BTreeMap<PortalName, Url>,
    client: impl Fn(&config::Hubspot) -> Result<T, BuildError>,
) -> Result<(T, BTreeMap<PortalName, T>), BuildError> {
    let default = client(config)?;
    let mut by_url = BTreeMap::from([(&config.base_url, default.clone())]);
    let mut by_portal = BTreeMap::new();
    for (portal, url) in base_urls {
        let own = match by_url.get(url) {
            Some(own) => own.clone(),
            None => client(&config.with_base_url(url))?,
        };
        by_url.insert(url, own.clone());
        by_portal.insert(portal.clone(), own);
    }
    Ok((default, by_portal))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn portals_with_the_same_base_url_share_a_client() {
        let keys = [
            ("VAULT__ADDRESS", "http://127.0.0.1:1"),
            ("VAULT__AUTH__METHOD", "token_file"),
            ("VAULT__AUTH__FILE", "/vault/token"),
            ("PORTALS__A__SECRET", "hubspot/a"),
        ];
        let keys = keys.map(|(key, value)| (format!("LEADSD_{key}"), value.to_owned()));
        let hubspot = config::Loaded::new(None, keys).unwrap().config.hubspot;
        let (eu, own): (Url, Url) =
            ("https://eu1.example".parse().unwrap(), hubspot.base_url.clone());
        let name = |name: &str| PortalName::parse(name).unwrap();
        let base_urls = BTreeMap::from([
            (name("a"), eu.clone()),
            (name("b"), eu.clone()),
            (name("c"), own.clone()),
        ]);
        let built = RefCell::new(Vec::new());
        let client = |config: &config::Hubspot| {
            built.borrow_mut().push(config.base_url.clone());
            Ok(config.base_url.clone())
        };
        let (default, by_portal) = build(&hubspot, &base_urls, client).unwrap();
        assert_eq!(default, own);
        assert_eq!(by_portal, base_urls);
        assert_eq!(built.into_inner(), [own, eu]);
    }
}

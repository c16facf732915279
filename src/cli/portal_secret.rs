//! Resolves the portal argument of a command to a portal name and the path of its secret.

use crate::{config::Config, leads::PortalName};
use leadsd_credentials::SecretPath;

/// Default for the portal argument: the portal named `default`, or the only configured one.
pub(super) fn default_portal(config: &Config) -> Result<String, String> {
    let mut names = config.portals.keys();
    let first = names.next();
    match (first, names.next()) {
        _ if config.portals.keys().any(|name| name.as_str() == "default") => {
            Ok("default".to_owned())
        }
        (Some(only), None) if config.portal_discovery.is_none() => Ok(only.to_string()),
        _ => {
            let names: Vec<_> = config.portals.keys().map(PortalName::as_str).collect();
            Err(format!("choose a portal with --portal; configured portals: {}", names.join(", ")))
        }
    }
}

/// Name of a portal and path of its secret. Errors if the portal is not configured.
pub(super) fn secret_path(
    config: &Config,
    portal: &str,
) -> Result<(PortalName, SecretPath), String> {
    let name = PortalName::parse(portal).ok_or_else(|| {
        format!("invalid portal name {portal:?}: use 1 to 64 letters, digits, `_` or `-`")
    })?;
    if let Some(known) = config.portals.get(&name) {
        return Ok((name, known.secret.clone()));
    }
    if let Some(from) = &config.portal_discovery {
        let path = from.path.join(name.as_str())?;
        return Ok((name, path));
    }
    let names: Vec<_> = config.portals.keys().map(PortalName::as_str).collect();
    Err(format!(
        "portal {name} is not configured; add a table [portals.{name}]. Configured portals: {}",
        names.join(", ")
    ))
}

//! Which portal a command is about, and where its secret is. Errors are for the person who typed the
//! command.

use crate::{config::Config, leads::PortalName};
use leadsd_credentials::SecretPath;

/// The portal of a command that names none: the one called `default`, or the only one.
pub(super) fn default_portal(config: &Config) -> Result<String, String> {
    let mut names = config.portals.keys();
    let first = names.next();
    match (first, names.next()) {
        _ if config.portals.keys().any(|name| name.as_str() == "default") => {
            Ok("default".to_owned())
        }
        (Some(only), None) if config.portals_from.is_none() => Ok(only.to_string()),
        _ => {
            let names: Vec<_> = config.portals.keys().map(PortalName::as_str).collect();
            Err(format!("say which portal with --portal; configured are: {}", names.join(", ")))
        }
    }
}

/// Name of a portal and path of its secret.
pub(super) fn secret_path(
    config: &Config,
    portal: &str,
) -> Result<(PortalName, SecretPath), String> {
    let name = PortalName::parse(portal)
        .ok_or_else(|| "a portal's name has 1 to 64 letters, digits, `_` or `-`".to_owned())?;
    if let Some(known) = config.portals.get(&name) {
        return Ok((name, known.secret.clone()));
    }
    if let Some(from) = &config.portals_from {
        let path = from.folder.join(name.as_str())?;
        return Ok((name, path));
    }
    let names: Vec<_> = config.portals.keys().map(PortalName::as_str).collect();
    Err(format!(
        "there is no portal {name} in the configuration; add a table [portals.{name}]. Configured \
         are: {}",
        names.join(", ")
    ))
}

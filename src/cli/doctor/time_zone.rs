//! Compares the time zone of an account with the configured one.

use crate::{cli::remediation::Remediation, config::Config, leads::PortalName};
use leadsd_base::time::{SystemClock, WallClock as _, Zone};

/// Remediation if the configured time zone of a portal is not that of its account. `None` for a zone without
/// a known name.
pub(super) fn mismatch(config: &Config, portal: &PortalName, name: &str) -> Option<Remediation> {
    let (own, key) = match config.portals.get(portal) {
        Some(own) => (own.zone.as_ref(), format!("portals.{portal}.time_zone")),
        None => (None, "quota.time_zone".to_owned()),
    };
    let configured = own.unwrap_or(&config.quota.zone);
    if configured.agrees_with(&Zone::parse(name)?, SystemClock.now()) {
        return None;
    }
    Some(Remediation::new(
        format!(
            "the time zone of the account is {name}, which is not the configured one: leadsd \
             assumes another time for the reset of the daily limit"
        ),
        format!("set {key} to \"{name}\""),
    ))
}

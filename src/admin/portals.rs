//! JSON of `/portals`: status of the credential of each portal, without secrets.

use std::time::Duration;

use serde::Serialize;

use leadsd_credentials::{FailureClass, Kind, PortalStatus, State};

/// JSON of one portal. Times are in seconds from now.
#[derive(Debug, Serialize)]
pub(super) struct PortalView {
    portal: String,
    /// True if the portal was discovered in Vault, false if it is configured.
    discovered: bool,
    state: &'static str,
    /// `static` or `oauth`.
    kind: Option<&'static str>,
    /// True if the portal has an unexpired access token that HubSpot has not rejected.
    usable: bool,
    /// True if the portal starts with its first call, which has not arrived.
    unused: bool,
    generation: u64,
    token_age_s: Option<f64>,
    expires_in_s: Option<f64>,
    next_refresh_s: Option<f64>,
    failure: Option<&'static str>,
    last_failure: Option<&'static str>,
    secret_version: Option<u64>,
    secret_deleted: bool,
    write_back_pending: bool,
}

// === impl PortalView ===

impl From<PortalStatus> for PortalView {
    fn from(status: PortalStatus) -> Self {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        Self {
            portal: status.portal.to_string(),
            discovered: status.discovered,
            state: State::as_str(status.state),
            kind: status.kind.map(Kind::as_str),
            usable: status.usable,
            unused: status.unused,
            generation: status.generation,
            token_age_s: seconds(status.token_age),
            expires_in_s: seconds(status.expires_in),
            next_refresh_s: seconds(status.next_refresh),
            failure: status.failure.map(FailureClass::as_str),
            last_failure: status.last_failure.map(FailureClass::as_str),
            secret_version: status.secret_version,
            secret_deleted: status.secret_deleted,
            write_back_pending: status.write_back_pending,
        }
    }
}

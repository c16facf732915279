//! `/portals`: how each portal's credential is doing, for people. Nothing here is a secret.

use std::time::Duration;

use serde::Serialize;

use leadsd_credentials::{FailureClass, Kind, PortalStatus, State};

/// One portal. Times are in seconds from now.
#[derive(Debug, Serialize)]
pub(super) struct Portal {
    portal: String,
    /// Found in the folder instead of configured.
    discovered: bool,
    state: &'static str,
    /// `static` or `oauth`.
    kind: Option<&'static str>,
    /// Whether a call could be made now.
    usable: bool,
    generation: u64,
    token_age_s: Option<f64>,
    expires_in_s: Option<f64>,
    next_refresh_s: Option<f64>,
    trouble: Option<&'static str>,
    last_trouble: Option<&'static str>,
    secret_version: Option<u64>,
    secret_gone: bool,
    write_back_pending: bool,
}

// === impl Portal ===

impl From<PortalStatus> for Portal {
    fn from(status: PortalStatus) -> Self {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        Self {
            portal: status.portal.to_string(),
            discovered: status.discovered,
            state: State::as_str(status.state),
            kind: status.kind.map(Kind::as_str),
            usable: status.usable,
            generation: status.generation,
            token_age_s: seconds(status.token_age),
            expires_in_s: seconds(status.expires_in),
            next_refresh_s: seconds(status.next_refresh),
            trouble: status.failure.map(FailureClass::as_str),
            last_trouble: status.last_failure.map(FailureClass::as_str),
            secret_version: status.secret_version,
            secret_gone: status.secret_deleted,
            write_back_pending: status.write_back_pending,
        }
    }
}

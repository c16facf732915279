//! Metrics of the portals' credentials, from one snapshot per scrape.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::metric::{Metric, Writer, count, counter, flag, gauge, seconds};
use leadsd_credentials::{Credentials, PortalStatus, State};

const STATES: [State; 5] =
    [State::Starting, State::Fresh, State::Stale, State::Failed, State::Suspended];

const CREDENTIAL_STATE: Metric = gauge(
    "leadsd_credential_state",
    &["portal", "state"],
    "1 for the state the credential is in: starting, fresh, stale, failed or parked; 0 for the others",
);
const CREDENTIAL_USABLE: Metric =
    gauge("leadsd_credential_usable", &["portal"], "1 if a call could be made now");
const CREDENTIAL_TROUBLE: Metric = gauge(
    "leadsd_credential_trouble",
    &["portal", "trouble"],
    "1 for the class of what is wrong with the credential now; absent if nothing is",
);
const TOKEN_AGE: Metric = gauge(
    "leadsd_credential_token_age_seconds",
    &["portal"],
    "Seconds since the access token in use was obtained",
);
const TOKEN_EXPIRES_IN: Metric = gauge(
    "leadsd_credential_token_expires_in_seconds",
    &["portal"],
    "Seconds the access token may still be used; absent for tokens that do not expire",
);
const NEXT_REFRESH: Metric = gauge(
    "leadsd_credential_next_refresh_seconds",
    &["portal"],
    "Seconds to the next planned refresh; absent if none is planned",
);
const SECRET_VERSION: Metric = gauge(
    "leadsd_credential_secret_version",
    &["portal"],
    "Version of the secret in use; absent before it was read",
);
const SECRET_GONE: Metric = gauge(
    "leadsd_credential_secret_gone",
    &["portal"],
    "1 if the newest version is deleted or destroyed, so that the credential lives in memory only",
);
const WRITE_BACK_PENDING: Metric = gauge(
    "leadsd_credential_write_back_pending",
    &["portal"],
    "1 if a rotated refresh token is not saved yet and would be lost if the process ended",
);
const GRANTS: Metric = counter(
    "leadsd_credential_grants",
    &["portal", "outcome"],
    "Refresh grants sent to the token endpoint: ok, failed (may work later) or refused (for good)",
);
const STORE_CALLS: Metric = counter(
    "leadsd_credential_store_calls",
    &["portal", "call"],
    "Calls to the secret store: read, poll (of the version) or write (of a rotated refresh token)",
);
const STORE_FAILURES: Metric = counter(
    "leadsd_credential_store_failures",
    &["portal"],
    "Calls to the secret store that failed, whatever the reason",
);
const CONFLICTS: Metric = counter(
    "leadsd_credential_conflicts",
    &["portal"],
    "Rotated refresh tokens that met somebody else's change of the secret",
);
const SECRETS_GONE: Metric = counter(
    "leadsd_credential_secrets_gone",
    &["portal"],
    "Times the newest version of the secret was found deleted or destroyed",
);
const REJECTIONS: Metric = counter(
    "leadsd_credential_rejections",
    &["portal"],
    "Access tokens that HubSpot refused, each counted once",
);
const PANICS: Metric =
    counter("leadsd_credential_panics", &["portal"], "Panics caught in the credential engine");

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] = &[
    CREDENTIAL_STATE,
    CREDENTIAL_USABLE,
    CREDENTIAL_TROUBLE,
    TOKEN_AGE,
    TOKEN_EXPIRES_IN,
    NEXT_REFRESH,
    SECRET_VERSION,
    SECRET_GONE,
    WRITE_BACK_PENDING,
    GRANTS,
    STORE_CALLS,
    STORE_FAILURES,
    CONFLICTS,
    SECRETS_GONE,
    REJECTIONS,
    PANICS,
];

#[derive(Debug)]
struct CredentialCollector(Arc<Credentials>);

pub(super) fn register(registry: &mut Registry, credentials: &Arc<Credentials>) {
    registry.register_collector(Box::new(CredentialCollector(Arc::clone(credentials))));
}

// === impl CredentialCollector ===

impl Collector for CredentialCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let portals = self.0.snapshot();
        let mut writer = Writer(encoder);
        encode_states(&mut writer, &portals)?;
        encode_counters(&mut writer, &portals)
    }
}

fn encode_states(writer: &mut Writer<'_>, portals: &[PortalStatus]) -> fmt::Result {
    // `None` omits a portal.
    let each = |value: fn(&PortalStatus) -> Option<f64>| {
        portals.iter().filter_map(move |portal| Some(([&*portal.portal], value(portal)?)))
    };
    let states = portals.iter().flat_map(|portal| {
        STATES.map(|state| ([&*portal.portal, state.as_str()], flag(state == portal.state)))
    });
    writer.samples(CREDENTIAL_STATE, states)?;
    writer.samples(CREDENTIAL_USABLE, each(|portal| Some(flag(portal.usable))))?;
    let troubles = portals
        .iter()
        .filter_map(|portal| Some(([&*portal.portal, portal.failure?.as_str()], 1.0)));
    writer.samples(CREDENTIAL_TROUBLE, troubles)?;
    writer.samples(TOKEN_AGE, each(|portal| seconds(portal.token_age)))?;
    writer.samples(TOKEN_EXPIRES_IN, each(|portal| seconds(portal.expires_in)))?;
    writer.samples(NEXT_REFRESH, each(|portal| seconds(portal.next_refresh)))?;
    writer.samples(SECRET_VERSION, each(|portal| portal.secret_version.map(count)))?;
    writer.samples(SECRET_GONE, each(|portal| Some(flag(portal.secret_deleted))))?;
    writer.samples(WRITE_BACK_PENDING, each(|portal| Some(flag(portal.write_back_pending))))
}

fn encode_counters(writer: &mut Writer<'_>, portals: &[PortalStatus]) -> fmt::Result {
    let grants = portals.iter().flat_map(|portal| {
        let done = portal.counters;
        [("ok", done.grants_ok), ("failed", done.grants_failed), ("refused", done.grants_rejected)]
            .map(|(outcome, grants)| ([&*portal.portal, outcome], count(grants)))
    });
    writer.samples(GRANTS, grants)?;
    let calls = portals.iter().flat_map(|portal| {
        let done = portal.counters;
        [("read", done.store_reads), ("poll", done.store_polls), ("write", done.store_writes)]
            .map(|(call, calls)| ([&*portal.portal, call], count(calls)))
    });
    writer.samples(STORE_CALLS, calls)?;
    let each = |value: fn(&PortalStatus) -> u64| {
        portals.iter().map(move |portal| ([&*portal.portal], count(value(portal))))
    };
    writer.samples(STORE_FAILURES, each(|portal| portal.counters.store_failures))?;
    writer.samples(CONFLICTS, each(|portal| portal.counters.conflicts))?;
    writer.samples(SECRETS_GONE, each(|portal| portal.counters.secrets_deleted))?;
    writer.samples(REJECTIONS, each(|portal| portal.counters.rejections))?;
    writer.samples(PANICS, each(|portal| portal.counters.panics))
}

//! Metrics of the portals' credentials, from one snapshot per scrape.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::metric::{Metric, SampleWriter, count, counter, flag, gauge, seconds};
use leadsd_credentials::{Credentials, PortalStatus, State};

const STATES: [State; 5] =
    [State::Starting, State::Fresh, State::Stale, State::Failed, State::Suspended];

const CREDENTIAL_STATE: Metric = gauge(
    "leadsd_credential_state",
    &["portal", "state"],
    "1 for the current state of the credential: starting, fresh, stale, failed or suspended; 0 for the others",
);
const CREDENTIAL_USABLE: Metric = gauge(
    "leadsd_credential_usable",
    &["portal"],
    "1 if the portal has an access token that HubSpot has not rejected; absent before the first use of a portal that starts lazily",
);
const CREDENTIAL_FAILURE: Metric = gauge(
    "leadsd_credential_failure",
    &["portal", "class"],
    "1 for the class of the current failure of the credential; absent if there is none",
);
const TOKEN_AGE: Metric =
    gauge("leadsd_credential_token_age_seconds", &["portal"], "Age of the access token in use");
const TOKEN_EXPIRES_IN: Metric = gauge(
    "leadsd_credential_token_expires_in_seconds",
    &["portal"],
    "Time until the access token expires; absent for tokens that do not expire",
);
const NEXT_REFRESH: Metric = gauge(
    "leadsd_credential_next_refresh_seconds",
    &["portal"],
    "Time until the next scheduled refresh; absent if none is scheduled",
);
const SECRET_VERSION: Metric = gauge(
    "leadsd_credential_secret_version",
    &["portal"],
    "Version of the secret in use; absent before the first read",
);
const SECRET_DELETED: Metric = gauge(
    "leadsd_credential_secret_deleted",
    &["portal"],
    "1 if the newest version of the secret is deleted or destroyed, so that the credential is in memory only",
);
const WRITE_BACK_PENDING: Metric = gauge(
    "leadsd_credential_write_back_pending",
    &["portal"],
    "1 if a rotated refresh token is not saved yet and would be lost if the process ended now",
);
const GRANTS: Metric = counter(
    "leadsd_credential_grants",
    &["portal", "outcome"],
    "Refresh grants sent to the token endpoint: ok, failed (transient) or rejected (permanent)",
);
const STORE_CALLS: Metric = counter(
    "leadsd_credential_store_calls",
    &["portal", "operation"],
    "Calls to the secret store: read, poll (of the version) or write (of a rotated refresh token)",
);
const STORE_FAILURES: Metric =
    counter("leadsd_credential_store_failures", &["portal"], "Failed calls to the secret store");
const CONFLICTS: Metric = counter(
    "leadsd_credential_conflicts",
    &["portal"],
    "Write-backs of a rotated refresh token that conflicted with another change of the secret",
);
const SECRET_DELETIONS: Metric = counter(
    "leadsd_credential_secret_deletions",
    &["portal"],
    "Deleted or destroyed newest versions of the secret",
);
const REJECTIONS: Metric = counter(
    "leadsd_credential_rejections",
    &["portal"],
    "Access tokens that HubSpot rejected, each counted once",
);
const PANICS: Metric =
    counter("leadsd_credential_panics", &["portal"], "Panics caught in the credential engine");

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] = &[
    CREDENTIAL_STATE,
    CREDENTIAL_USABLE,
    CREDENTIAL_FAILURE,
    TOKEN_AGE,
    TOKEN_EXPIRES_IN,
    NEXT_REFRESH,
    SECRET_VERSION,
    SECRET_DELETED,
    WRITE_BACK_PENDING,
    GRANTS,
    STORE_CALLS,
    STORE_FAILURES,
    CONFLICTS,
    SECRET_DELETIONS,
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
        let mut writer = SampleWriter(encoder);
        encode_states(&mut writer, &portals)?;
        encode_counters(&mut writer, &portals)
    }
}

fn encode_states(writer: &mut SampleWriter<'_>, portals: &[PortalStatus]) -> fmt::Result {
    // `None` omits a portal.
    let each = |value: fn(&PortalStatus) -> Option<f64>| {
        portals.iter().filter_map(move |portal| Some(([&*portal.portal], value(portal)?)))
    };
    let states = portals.iter().flat_map(|portal| {
        STATES.map(|state| ([&*portal.portal, state.as_str()], flag(state == portal.state)))
    });
    writer.samples(CREDENTIAL_STATE, states)?;
    writer
        .samples(CREDENTIAL_USABLE, each(|portal| (!portal.unused).then(|| flag(portal.usable))))?;
    let failures = portals
        .iter()
        .filter_map(|portal| Some(([&*portal.portal, portal.failure?.as_str()], 1.0)));
    writer.samples(CREDENTIAL_FAILURE, failures)?;
    writer.samples(TOKEN_AGE, each(|portal| seconds(portal.token_age)))?;
    writer.samples(TOKEN_EXPIRES_IN, each(|portal| seconds(portal.expires_in)))?;
    writer.samples(NEXT_REFRESH, each(|portal| seconds(portal.next_refresh)))?;
    writer.samples(SECRET_VERSION, each(|portal| portal.secret_version.map(count)))?;
    writer.samples(SECRET_DELETED, each(|portal| Some(flag(portal.secret_deleted))))?;
    writer.samples(WRITE_BACK_PENDING, each(|portal| Some(flag(portal.write_back_pending))))
}

fn encode_counters(writer: &mut SampleWriter<'_>, portals: &[PortalStatus]) -> fmt::Result {
    let grants = portals.iter().flat_map(|portal| {
        let done = portal.counters;
        [("ok", done.grants_ok), ("failed", done.grants_failed), ("rejected", done.grants_rejected)]
            .map(|(outcome, grants)| ([&*portal.portal, outcome], count(grants)))
    });
    writer.samples(GRANTS, grants)?;
    let calls = portals.iter().flat_map(|portal| {
        let done = portal.counters;
        [("read", done.store_reads), ("poll", done.store_polls), ("write", done.store_writes)]
            .map(|(operation, calls)| ([&*portal.portal, operation], count(calls)))
    });
    writer.samples(STORE_CALLS, calls)?;
    let each = |value: fn(&PortalStatus) -> u64| {
        portals.iter().map(move |portal| ([&*portal.portal], count(value(portal))))
    };
    writer.samples(STORE_FAILURES, each(|portal| portal.counters.store_failures))?;
    writer.samples(CONFLICTS, each(|portal| portal.counters.conflicts))?;
    writer.samples(SECRET_DELETIONS, each(|portal| portal.counters.secrets_deleted))?;
    writer.samples(REJECTIONS, each(|portal| portal.counters.rejections))?;
    writer.samples(PANICS, each(|portal| portal.counters.panics))
}

//! Metrics of authentication: calls, auth sources and certificates.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::metric::{Metric, Writer, count, counter, flag, gauge, seconds};
use crate::{
    auth::{self, Auth},
    grpc::{Tls, TlsStatus},
};

const CALLERS_IDENTIFIED: Metric = counter(
    "leadsd_callers_identified",
    &["proof"],
    "Calls whose caller has proven its name, by certificate, jwt or api_key",
);
const CALLERS_REFUSED: Metric = counter(
    "leadsd_callers_refused",
    &["cause"],
    "Calls not let in: missing (no proof of who calls), invalid (one that proves nothing), unavailable (it cannot be checked yet) or forbidden (the caller may not do this)",
);
const TRUST_AGE: Metric = gauge(
    "leadsd_trust_age_seconds",
    &["source"],
    "Seconds since the keys of the token issuer (auth:jwks) or the hashes of API keys (auth:api_keys) were last found as they should be; absent if they never were",
);
const TRUST_ENTRIES: Metric = gauge("leadsd_trust_entries", &["source"], "Keys or hashes in use");
const TRUST_LOADS: Metric = counter(
    "leadsd_trust_loads",
    &["source", "outcome"],
    "Looks for newer keys or hashes: ok or failed; while they fail the old ones serve",
);
const TLS_EXPIRES_IN: Metric = gauge(
    "leadsd_tls_certificate_expires_in_seconds",
    &[],
    "Seconds until the certificate of the gRPC port ends, negative once it has; absent without TLS",
);
const TLS_RELOADS: Metric = counter(
    "leadsd_tls_reloads",
    &["outcome"],
    "Times that the files of the gRPC port's certificates had something new: ok (it serves) or failed (it cannot be used)",
);
const TLS_TROUBLE: Metric = gauge(
    "leadsd_tls_trouble",
    &[],
    "1 while what the files of the certificates hold cannot be used and older ones serve",
);

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] = &[
    CALLERS_IDENTIFIED,
    CALLERS_REFUSED,
    TRUST_AGE,
    TRUST_ENTRIES,
    TRUST_LOADS,
    TLS_EXPIRES_IN,
    TLS_RELOADS,
    TLS_TROUBLE,
];

#[derive(Debug)]
struct AuthCollector(Arc<Auth>);

#[derive(Debug)]
struct CertificateCollector(Arc<Tls>);

pub(super) fn register(registry: &mut Registry, auth: Option<&Arc<Auth>>, tls: Option<&Arc<Tls>>) {
    if let Some(auth) = auth {
        registry.register_collector(Box::new(AuthCollector(Arc::clone(auth))));
    }
    if let Some(tls) = tls {
        registry.register_collector(Box::new(CertificateCollector(Arc::clone(tls))));
    }
}

// === impl AuthCollector ===

impl Collector for AuthCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        let auth::AuthStatus { authenticated, rejected, sources } = self.0.status();
        let methods =
            authenticated.iter().map(|(method, calls)| ([method.as_str()], count(*calls)));
        writer.samples(CALLERS_IDENTIFIED, methods)?;
        let causes = rejected.iter().map(|(cause, calls)| ([*cause], count(*calls)));
        writer.samples(CALLERS_REFUSED, causes)?;
        let ages = sources.iter().filter_map(|source| Some(([source.name], seconds(source.age)?)));
        writer.samples(TRUST_AGE, ages)?;
        let entries = sources.iter().map(|source| ([source.name], count(source.entries as u64)));
        writer.samples(TRUST_ENTRIES, entries)?;
        let loads = sources.iter().flat_map(|source| {
            [("ok", source.loads), ("failed", source.failures)]
                .map(|(outcome, loads)| ([source.name, outcome], count(loads)))
        });
        writer.samples(TRUST_LOADS, loads)
    }
}

// === impl CertificateCollector ===

impl Collector for CertificateCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        let TlsStatus { expires_in_s, reloads, failures, reload_failed } = self.0.status();
        writer.sample(TLS_EXPIRES_IN, expires_in_s)?;
        let outcomes = [("ok", reloads), ("failed", failures)];
        writer.samples(TLS_RELOADS, outcomes.map(|(outcome, times)| ([outcome], count(times))))?;
        writer.sample(TLS_TROUBLE, Some(flag(reload_failed)))
    }
}

//! Metrics of authentication: calls, auth sources and certificates.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::metric::{Metric, SampleWriter, count, counter, flag, gauge, seconds};
use crate::{
    auth::{self, Authenticator},
    grpc::{ServerTls, TlsStatus},
};

const AUTH_SUCCESS: Metric = counter(
    "leadsd_auth_success",
    &["method"],
    "Calls with an authenticated caller: by certificate, jwt or api_key",
);
const AUTH_FAILURE: Metric = counter(
    "leadsd_auth_failure",
    &["reason"],
    "Calls rejected by authentication or authorization: missing (no credential), invalid (the credential is not valid), unavailable (the credential cannot be checked yet) or forbidden (no policy allows the call)",
);
const SOURCE_AGE: Metric = gauge(
    "leadsd_auth_source_age_seconds",
    &["source"],
    "Time since the last successful load of the token issuer's keys (auth:jwks) or the hashes of API keys (auth:api_keys); absent before the first",
);
const SOURCE_ENTRIES: Metric =
    gauge("leadsd_auth_source_entries", &["source"], "Keys or hashes in use");
const SOURCE_LOADS: Metric = counter(
    "leadsd_auth_source_loads",
    &["source", "outcome"],
    "Loads of keys or hashes: ok or failed; after a failure the previous ones stay in use",
);
const TLS_EXPIRES_IN: Metric = gauge(
    "leadsd_tls_certificate_expires_in_seconds",
    &["certificate"],
    "Time until the certificate of the gRPC port (server) expires, or one of its chain that expires earlier; negative after that; absent without TLS",
);
const TLS_RELOADS: Metric = counter(
    "leadsd_tls_reloads",
    &["outcome"],
    "Reloads of changed certificate files of the gRPC port: ok or failed",
);
const TLS_RELOAD_FAILED: Metric = gauge(
    "leadsd_tls_reload_failed",
    &[],
    "1 if the last certificate reload failed and the previous certificate is still served",
);

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] = &[
    AUTH_SUCCESS,
    AUTH_FAILURE,
    SOURCE_AGE,
    SOURCE_ENTRIES,
    SOURCE_LOADS,
    TLS_EXPIRES_IN,
    TLS_RELOADS,
    TLS_RELOAD_FAILED,
];

#[derive(Debug)]
struct AuthCollector(Arc<Authenticator>);

#[derive(Debug)]
struct CertificateCollector(Arc<ServerTls>);

pub(super) fn register(
    registry: &mut Registry,
    auth: Option<&Arc<Authenticator>>,
    tls: Option<&Arc<ServerTls>>,
) {
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
        let mut writer = SampleWriter(encoder);
        let auth::AuthStatus { authenticated, rejected, sources } = self.0.status();
        let methods =
            authenticated.iter().map(|(method, calls)| ([method.as_str()], count(*calls)));
        writer.samples(AUTH_SUCCESS, methods)?;
        let reasons = rejected.iter().map(|(reason, calls)| ([*reason], count(*calls)));
        writer.samples(AUTH_FAILURE, reasons)?;
        let ages = sources.iter().filter_map(|source| Some(([source.name], seconds(source.age)?)));
        writer.samples(SOURCE_AGE, ages)?;
        let entries = sources.iter().map(|source| ([source.name], count(source.entries as u64)));
        writer.samples(SOURCE_ENTRIES, entries)?;
        let loads = sources.iter().flat_map(|source| {
            [("ok", source.loads), ("failed", source.failures)]
                .map(|(outcome, loads)| ([source.name, outcome], count(loads)))
        });
        writer.samples(SOURCE_LOADS, loads)
    }
}

// === impl CertificateCollector ===

impl Collector for CertificateCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = SampleWriter(encoder);
        let TlsStatus { expires_in_s, reloads, failures, reload_failed } = self.0.status();
        writer.samples(TLS_EXPIRES_IN, expires_in_s.map(|left| (["server"], left)))?;
        let outcomes = [("ok", reloads), ("failed", failures)];
        writer.samples(TLS_RELOADS, outcomes.map(|(outcome, times)| ([outcome], count(times))))?;
        writer.sample(TLS_RELOAD_FAILED, Some(flag(reload_failed)))
    }
}

//! Metrics of `/metrics`. Each area registers a collector at startup, which reads a snapshot of its part of
//! the service at each scrape.
//!
//! Snapshots have three advantages over metrics that are updated in place:
//! - `/metrics`, `/portals` and QuotaService are consistent.
//! - Series of removed items, such as a deleted portal, disappear.
//! - The engines do not depend on Prometheus.

mod ca_files;
mod callers;
mod credentials;
mod format;
mod hubspot;
mod metric;
mod process;
mod quota;
mod rpc;
mod schema;
mod usage;
mod vault;

use std::fmt;

use prometheus_client::{encoding::text, registry::Registry};

pub(super) use self::format::ScrapeFormat;
pub use self::metric::{Metric, MetricKind};
use super::sources::Sources;

/// Registry of all collectors.
#[derive(Debug)]
pub(super) struct Metrics(Registry);

// === impl Metrics ===

impl Metrics {
    pub(super) fn new(sources: &Sources) -> Self {
        let Sources {
            readiness: _,
            credentials,
            vault,
            portals,
            quota,
            grpc,
            spans,
            auth,
            tls,
            ca_files,
            started,
        } = sources;
        let mut registry = Registry::default();
        rpc::register(&mut registry, grpc);
        callers::register(&mut registry, auth.as_ref(), tls.as_ref());
        ca_files::register(&mut registry, ca_files);
        credentials::register(&mut registry, credentials);
        vault::register(&mut registry, vault);
        hubspot::register(&mut registry, portals);
        quota::register(&mut registry, quota);
        process::register(&mut registry, *started, spans);
        Self(registry)
    }

    /// Encodes all metrics.
    pub(super) fn scrape(&self, format: ScrapeFormat) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0)?;
        Ok(format.convert(out))
    }
}

/// All metrics, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    [
        rpc::ALL,
        schema::ALL,
        callers::ALL,
        ca_files::ALL,
        credentials::ALL,
        vault::ALL,
        hubspot::ALL,
        quota::ALL,
        process::ALL,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_well_formed() {
        let names: BTreeSet<_> = all().map(|metric| metric.name).collect();
        assert_eq!(names.len(), all().count());
        for Metric { name, labels, help, .. } in all() {
            // Process and server metrics have their conventional names.
            let prefixes = ["leadsd_", "process_", "grpc_server_"];
            let has_prefix = prefixes.iter().any(|prefix| name.starts_with(prefix));
            assert!(has_prefix && !name.ends_with("_total"), "{name}");
            assert!(
                name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{name}"
            );
            assert!(!help.is_empty() && labels.iter().all(|label| !label.is_empty()), "{name}");
        }
    }
}

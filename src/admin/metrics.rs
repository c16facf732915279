//! `/metrics`: each area registers a collector at start, which reads a snapshot of its part of the
//! service at each scrape.
//!
//! Most of what is scraped are states that the engines hold under their own locks and that `/portals`
//! and QuotaService show as well. A snapshot keeps these views consistent, leaves out what does not
//! exist, such as a portal whose secret was deleted, and lets the engines know nothing of Prometheus.

mod callers;
mod credentials;
mod hubspot;
mod metric;
mod process;
mod quota;
mod rpc;
mod usage;
mod vault;

use std::fmt;

use prometheus_client::{encoding::text, registry::Registry};

pub use self::metric::{Kind, Metric};
use super::sources::Sources;

/// Everything that is scraped.
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
            started,
        } = sources;
        let mut registry = Registry::default();
        rpc::register(&mut registry, grpc);
        callers::register(&mut registry, auth.as_ref(), tls.as_ref());
        credentials::register(&mut registry, credentials);
        vault::register(&mut registry, vault);
        hubspot::register(&mut registry, portals);
        quota::register(&mut registry, quota);
        process::register(&mut registry, *started, spans);
        Self(registry)
    }

    /// The text of a scrape, in the OpenMetrics format.
    pub(super) fn scrape(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0)?;
        Ok(out)
    }
}

/// Every metric, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    [rpc::ALL, callers::ALL, credentials::ALL, vault::ALL, hubspot::ALL, quota::ALL, process::ALL]
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
            // The names of process metrics are those that every dashboard knows.
            let has_prefix = name.starts_with("leadsd_") || name.starts_with("process_");
            assert!(has_prefix && !name.ends_with("_total"), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(!help.is_empty() && labels.iter().all(|label| !label.is_empty()), "{name}");
        }
    }
}

//! Metrics of the files with private CAs.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::metric::{Metric, SampleWriter, gauge};
use leadsd_base::{
    net::ca_files::CaFiles,
    time::{SystemClock, WallClock as _},
};

const CA_EXPIRES_IN: Metric = gauge(
    "leadsd_ca_file_expires_in_seconds",
    &["key", "file"],
    "Time until the first certificate of a file with CAs expires, negative after that; the label key is the configuration key that names the file; absent for a file that was never valid",
);

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] = &[CA_EXPIRES_IN];

#[derive(Debug)]
struct CaFileCollector(Arc<CaFiles>);

pub(super) fn register(registry: &mut Registry, files: &Arc<CaFiles>) {
    registry.register_collector(Box::new(CaFileCollector(Arc::clone(files))));
}

// === impl CaFileCollector ===

impl Collector for CaFileCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (expiries, now) = (self.0.expiries(), SystemClock.now());
        let left = expiries.iter().map(|expiry| {
            let left = expiry.expires.duration_since(now).as_secs_f64();
            ([expiry.key.as_str(), expiry.path.as_str()], left)
        });
        SampleWriter(encoder).samples(CA_EXPIRES_IN, left)
    }
}

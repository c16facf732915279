//! Histogram of durations with the same buckets for all metrics.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric, histogram},
};

/// Upper bounds of the buckets in seconds: from responses out of memory (1 ms) to the longest batches.
/// HubSpot's fastest responses take about 50 ms.
const BUCKETS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Histogram of durations. Clones share the buckets.
#[derive(Debug, Clone)]
pub struct Histogram(histogram::Histogram);

// === impl Histogram ===

impl Histogram {
    /// Records a duration.
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self(histogram::Histogram::new(BUCKETS))
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        histogram::Histogram::TYPE
    }
}

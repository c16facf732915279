//! Description of a metric, and encoding of its samples.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only increases; its name ends in `_total`.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Histogram of durations: `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// Description of a metric, for scrapes and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Name, without the suffix `_total` of counters.
    pub name: &'static str,
    /// Kind of metric.
    pub kind: MetricKind,
    /// Names of the labels, in order.
    pub labels: &'static [&'static str],
    /// Meaning and unit.
    pub help: &'static str,
}

/// Encoder of the samples of a scrape.
pub(super) struct SampleWriter<'a>(pub(super) DescriptorEncoder<'a>);

pub(super) const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: MetricKind::Gauge, labels, help }
}

pub(super) const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: MetricKind::Counter, labels, help }
}

pub(super) const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: MetricKind::Histogram, labels, help }
}

// === impl Metric ===

impl Metric {
    fn metric_type(&self) -> MetricType {
        match self.kind {
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Gauge => MetricType::Gauge,
            MetricKind::Histogram => MetricType::Histogram,
        }
    }
}

// === impl SampleWriter ===

impl SampleWriter<'_> {
    /// Encodes the samples (label values and value) of a counter or gauge. Without samples, the metric is
    /// omitted.
    pub(super) fn samples<'l, const N: usize>(
        &mut self,
        metric: Metric,
        samples: impl IntoIterator<Item = ([&'l str; N], f64)>,
    ) -> fmt::Result {
        self.family(metric, samples, |value, encoder| match metric.kind {
            MetricKind::Counter => ConstCounter::new(*value).encode(encoder),
            MetricKind::Gauge => ConstGauge::new(*value).encode(encoder),
            MetricKind::Histogram => Err(fmt::Error),
        })
    }

    /// Encodes the sample of a metric without labels. `None` omits the metric.
    pub(super) fn sample(&mut self, metric: Metric, value: Option<f64>) -> fmt::Result {
        self.samples(metric, value.map(|value| ([], value)))
    }

    /// Encodes one histogram per set of label values.
    pub(super) fn histograms<'l, const N: usize>(
        &mut self,
        metric: Metric,
        histograms: impl IntoIterator<Item = ([&'l str; N], impl EncodeMetric)>,
    ) -> fmt::Result {
        self.family(metric, histograms, |histogram, encoder| histogram.encode(encoder))
    }

    fn family<'l, const N: usize, V>(
        &mut self,
        metric: Metric,
        samples: impl IntoIterator<Item = ([&'l str; N], V)>,
        encode: impl Fn(&V, prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let Metric { name, labels: names, help, .. } = metric;
        let mut family = self.0.encode_descriptor(name, help, None, metric.metric_type())?;
        for (values, value) in samples {
            let labels: Vec<(&str, &str)> = names.iter().copied().zip(values).collect();
            encode(&value, family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Converts a boolean to 1 or 0.
pub(super) fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

pub(super) fn seconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float; exact below 2^53")]
pub(super) fn count(value: u64) -> f64 {
    value as f64
}

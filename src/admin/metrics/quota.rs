//! Metrics of the HubSpot quota: windows, queues, permits and rejections per bucket.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Registry,
};

use super::metric::{Metric, SampleWriter, count, counter, flag, gauge, histogram};
use leadsd_quota::{AccountSnapshot, BucketSnapshot, Quota, WaitHistogram};

/// Bucket label of writes that wait for an earlier write to the same lead.
const LEAD: &str = "lead";

const QUOTA_LIMIT: Metric = gauge(
    "leadsd_quota_limit",
    &["portal", "bucket"],
    "Calls that HubSpot allows in the window: burst (ten seconds), search (one second) or daily; absent if there is no limit",
);
const QUOTA_USED: Metric = gauge(
    "leadsd_quota_used",
    &["portal", "bucket"],
    "Calls in the window, of leadsd and of other clients that HubSpot's responses reveal",
);
const QUOTA_UTILISATION: Metric = gauge(
    "leadsd_quota_utilisation_ratio",
    &["portal", "bucket"],
    "Calls in the window divided by the limit, 0 to 1",
);
const QUOTA_WAITING: Metric = gauge(
    "leadsd_quota_waiting",
    &["portal", "bucket"],
    "Calls queued for the limit; bucket lead: writes queued behind an earlier write to the same lead",
);
const QUOTA_PERMITS: Metric =
    counter("leadsd_quota_permits", &["portal", "bucket"], "HubSpot calls sent with a permit");
const QUOTA_CALLS: Metric = counter(
    "leadsd_quota_calls",
    &["portal", "bucket"],
    "Calls served by these HubSpot calls, individually or batched",
);
const QUOTA_LEADS: Metric = counter(
    "leadsd_quota_leads",
    &["portal", "bucket"],
    "Leads in these HubSpot calls; a page and a search count as one",
);
const QUOTA_LEADS_PER_CALL: Metric = gauge(
    "leadsd_quota_leads_per_call",
    &["portal", "bucket"],
    "Leads per HubSpot call since the start: up to 100 with batching and for batch calls",
);
const QUOTA_WAIT: Metric = histogram(
    "leadsd_quota_wait_seconds",
    &["portal", "bucket"],
    "Time that queued calls waited for a permit; calls that got a permit at once are not counted",
);
const QUOTA_REJECTED: Metric = counter(
    "leadsd_quota_rejected",
    &["portal", "bucket", "reason"],
    "Calls rejected without a HubSpot call: deadline (the permit would come after it), queue_full or exhausted (no calls left today); bucket lead: writes queued behind an earlier write to the same lead",
);
const HUBSPOT_429: Metric = counter(
    "leadsd_hubspot_429",
    &["portal", "bucket"],
    "Calls that HubSpot rejected for the limit. Should be 0: another client may use the same limit",
);
const LEDGER_UP: Metric = gauge(
    "leadsd_quota_ledger_up",
    &["portal", "bucket"],
    "1 if the ledger through which replicas share this limit is reachable; absent if the limit is not shared",
);
const QUOTA_REPLICAS: Metric = gauge(
    "leadsd_quota_replicas",
    &["portal", "bucket"],
    "Replicas that use this limit, as last reported by the ledger; absent if the limit is not shared",
);

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] = &[
    QUOTA_LIMIT,
    QUOTA_USED,
    QUOTA_UTILISATION,
    QUOTA_WAITING,
    QUOTA_PERMITS,
    QUOTA_CALLS,
    QUOTA_LEADS,
    QUOTA_LEADS_PER_CALL,
    QUOTA_WAIT,
    QUOTA_REJECTED,
    HUBSPOT_429,
    LEDGER_UP,
    QUOTA_REPLICAS,
];

#[derive(Debug)]
struct QuotaCollector(Arc<Quota>);

/// Waiting times of one limit as samples of a histogram.
struct WaitSamples(WaitHistogram);

pub(super) fn register(registry: &mut Registry, quota: &Arc<Quota>) {
    registry.register_collector(Box::new(QuotaCollector(Arc::clone(quota))));
}

// === impl QuotaCollector ===

impl Collector for QuotaCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let accounts = self.0.snapshots();
        let mut writer = SampleWriter(encoder);
        encode_windows(&mut writer, &accounts)?;
        encode_counters(&mut writer, &accounts)?;
        let is_up = |bucket: &BucketSnapshot| Some(flag(!bucket.ledger?.is_unavailable));
        writer.samples(LEDGER_UP, each(&accounts, is_up))?;
        let replicas = |bucket: &BucketSnapshot| Some(f64::from(bucket.ledger?.replicas));
        writer.samples(QUOTA_REPLICAS, each(&accounts, replicas))
    }
}

// === impl WaitSamples ===

impl EncodeMetric for WaitSamples {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let buckets: Vec<(f64, u64)> = self
            .0
            .buckets()
            .map(|(bound, waits)| (bound.map_or(f64::MAX, |bound| bound.as_secs_f64()), waits))
            .collect();
        let (sum, count) = (self.0.sum().as_secs_f64(), self.0.count());
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn encode_windows(writer: &mut SampleWriter<'_>, accounts: &[AccountSnapshot]) -> fmt::Result {
    writer.samples(QUOTA_LIMIT, each(accounts, |bucket| bucket.size.map(count)))?;
    writer.samples(QUOTA_USED, each(accounts, |bucket| Some(count(bucket.used))))?;
    let utilisation = |bucket: &BucketSnapshot| Some(count(bucket.used) / count(bucket.size?));
    writer.samples(QUOTA_UTILISATION, each(accounts, utilisation))?;
    let waiting = each(accounts, |bucket| Some(count(bucket.waiting as u64)));
    let writes = accounts
        .iter()
        .map(|account| ([&*account.portal, LEAD], count(account.write_queue.waiting as u64)));
    writer.samples(QUOTA_WAITING, waiting.chain(writes))
}

fn encode_counters(writer: &mut SampleWriter<'_>, accounts: &[AccountSnapshot]) -> fmt::Result {
    let counted = |value: fn(&BucketSnapshot) -> f64| {
        each(accounts, move |bucket: &BucketSnapshot| Some(value(bucket)))
    };
    writer.samples(QUOTA_PERMITS, counted(|bucket| count(bucket.counts.permits)))?;
    writer.samples(QUOTA_CALLS, counted(|bucket| count(bucket.counts.calls)))?;
    writer.samples(QUOTA_LEADS, counted(|bucket| count(bucket.counts.leads)))?;
    let per_call = |bucket: &BucketSnapshot| {
        let counts = bucket.counts;
        (counts.permits > 0).then(|| count(counts.leads) / count(counts.permits))
    };
    writer.samples(QUOTA_LEADS_PER_CALL, each(accounts, per_call))?;
    writer
        .histograms(QUOTA_WAIT, each(accounts, |bucket| Some(WaitSamples(bucket.counts.waits))))?;
    writer.samples(QUOTA_REJECTED, accounts.iter().flat_map(rejections))?;
    writer.samples(HUBSPOT_429, counted(|bucket| count(bucket.counts.upstream_429)))
}

/// One sample per bucket. `None` omits a bucket.
fn each<V>(
    accounts: &[AccountSnapshot],
    value: impl Fn(&BucketSnapshot) -> Option<V>,
) -> impl Iterator<Item = ([&str; 2], V)> {
    accounts
        .iter()
        .flat_map(|account| account.buckets.iter().map(move |bucket| (account, bucket)))
        .filter_map(move |(account, bucket)| {
            Some(([&*account.portal, bucket.name.as_str()], value(bucket)?))
        })
}

fn rejections(account: &AccountSnapshot) -> impl Iterator<Item = ([&str; 3], f64)> {
    let writes = account.write_queue;
    let writes = [(LEAD, "deadline", writes.deadline), (LEAD, "queue_full", writes.queue_full)];
    let buckets = account.buckets.iter().flat_map(|bucket| {
        let (name, counts) = (bucket.name.as_str(), bucket.counts);
        [
            (name, "deadline", counts.deadline),
            (name, "queue_full", counts.queue_full),
            (name, "exhausted", counts.exhausted),
        ]
    });
    writes
        .into_iter()
        .chain(buckets)
        .map(|(bucket, reason, calls)| ([&*account.portal, bucket, reason], count(calls)))
}

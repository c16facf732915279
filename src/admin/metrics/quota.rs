//! Metrics of the HubSpot quota: windows, queues, permits and rejections per bucket.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::metric::{Metric, Writer, count, counter, flag, gauge};
use leadsd_quota::{AccountSnapshot, BucketSnapshot, Quota};

/// Bucket label of writes that wait for an earlier write to the same lead.
const LEAD: &str = "lead";

const QUOTA_SIZE: Metric = gauge(
    "leadsd_quota_size",
    &["portal", "bucket"],
    "Calls that HubSpot's limit allows in its window: burst (ten seconds), search (a second) or daily; absent if there is none",
);
const QUOTA_USED: Metric = gauge(
    "leadsd_quota_used",
    &["portal", "bucket"],
    "Calls in the window: ours, and those of others that HubSpot told of",
);
const QUOTA_UTILISATION: Metric = gauge(
    "leadsd_quota_utilisation_ratio",
    &["portal", "bucket"],
    "Calls in the window by those that are allowed, 0 to 1",
);
const QUOTA_WAITING: Metric = gauge(
    "leadsd_quota_waiting",
    &["portal", "bucket"],
    "Calls that wait for the limit; of bucket lead: writes that wait for an earlier one to the same lead",
);
const QUOTA_PERMITS: Metric = counter(
    "leadsd_quota_permits",
    &["portal", "bucket"],
    "HubSpot calls that were sent with a permit",
);
const QUOTA_CALLS: Metric = counter(
    "leadsd_quota_calls",
    &["portal", "bucket"],
    "Calls that went with these HubSpot calls, alone or together",
);
const QUOTA_LEADS: Metric = counter(
    "leadsd_quota_leads",
    &["portal", "bucket"],
    "Leads that these HubSpot calls were about; a page and a search count as one",
);
const QUOTA_LEADS_PER_CALL: Metric = gauge(
    "leadsd_quota_leads_per_call",
    &["portal", "bucket"],
    "Leads by the HubSpot calls that were about them since the start: up to 100 where calls went together, or as a batch",
);
const QUOTA_WAITS: Metric = counter(
    "leadsd_quota_waits",
    &["portal", "bucket"],
    "Calls that had to wait for the limit before they went",
);
const QUOTA_WAITED: Metric = counter(
    "leadsd_quota_wait_seconds",
    &["portal", "bucket"],
    "Seconds that these calls have waited, all together",
);
const QUOTA_REFUSALS: Metric = counter(
    "leadsd_quota_refusals",
    &["portal", "bucket", "cause"],
    "Calls refused without asking HubSpot: late (their turn would come after their deadline), full (too many wait) or used_up (nothing left for today); of bucket lead: writes that wait for an earlier one to the same lead",
);
const QUOTA_UPSTREAM: Metric = counter(
    "leadsd_quota_upstream_refusals",
    &["portal", "bucket"],
    "Calls that HubSpot refused for the limit (429). Should be 0: other users of the limit may take what HubSpot's answers have not told yet",
);
const QUOTA_SHARED_AWAY: Metric = gauge(
    "leadsd_quota_shared_away",
    &["portal", "bucket"],
    "1 if the store through which replicas share this limit cannot be reached; absent if it is not shared",
);
const QUOTA_REPLICAS: Metric = gauge(
    "leadsd_quota_replicas",
    &["portal", "bucket"],
    "Replicas that use this limit, as far as this one knows; absent if it is not shared",
);

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] = &[
    QUOTA_SIZE,
    QUOTA_USED,
    QUOTA_UTILISATION,
    QUOTA_WAITING,
    QUOTA_PERMITS,
    QUOTA_CALLS,
    QUOTA_LEADS,
    QUOTA_LEADS_PER_CALL,
    QUOTA_WAITS,
    QUOTA_WAITED,
    QUOTA_REFUSALS,
    QUOTA_UPSTREAM,
    QUOTA_SHARED_AWAY,
    QUOTA_REPLICAS,
];

#[derive(Debug)]
struct QuotaCollector(Arc<Quota>);

pub(super) fn register(registry: &mut Registry, quota: &Arc<Quota>) {
    registry.register_collector(Box::new(QuotaCollector(Arc::clone(quota))));
}

// === impl QuotaCollector ===

impl Collector for QuotaCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let accounts = self.0.snapshots();
        let mut writer = Writer(encoder);
        encode_windows(&mut writer, &accounts)?;
        encode_counters(&mut writer, &accounts)?;
        let away = |bucket: &BucketSnapshot| Some(flag(bucket.ledger?.is_unavailable));
        writer.samples(QUOTA_SHARED_AWAY, each(&accounts, away))?;
        let replicas = |bucket: &BucketSnapshot| Some(f64::from(bucket.ledger?.replicas));
        writer.samples(QUOTA_REPLICAS, each(&accounts, replicas))
    }
}

fn encode_windows(writer: &mut Writer<'_>, accounts: &[AccountSnapshot]) -> fmt::Result {
    writer.samples(QUOTA_SIZE, each(accounts, |bucket| bucket.size.map(count)))?;
    writer.samples(QUOTA_USED, each(accounts, |bucket| Some(count(bucket.used))))?;
    let utilisation = |bucket: &BucketSnapshot| Some(count(bucket.used) / count(bucket.size?));
    writer.samples(QUOTA_UTILISATION, each(accounts, utilisation))?;
    let waiting = each(accounts, |bucket| Some(count(bucket.waiting as u64)));
    let writes = accounts
        .iter()
        .map(|account| ([&*account.portal, LEAD], count(account.write_queue.waiting as u64)));
    writer.samples(QUOTA_WAITING, waiting.chain(writes))
}

fn encode_counters(writer: &mut Writer<'_>, accounts: &[AccountSnapshot]) -> fmt::Result {
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
    writer.samples(QUOTA_WAITS, counted(|bucket| count(bucket.counts.waits)))?;
    writer.samples(QUOTA_WAITED, counted(|bucket| bucket.counts.waited.as_secs_f64()))?;
    writer.samples(QUOTA_REFUSALS, accounts.iter().flat_map(rejections))?;
    writer.samples(QUOTA_UPSTREAM, counted(|bucket| count(bucket.counts.upstream_429)))
}

/// One sample per bucket. `None` omits a bucket.
fn each(
    accounts: &[AccountSnapshot],
    value: impl Fn(&BucketSnapshot) -> Option<f64>,
) -> impl Iterator<Item = ([&str; 2], f64)> {
    accounts
        .iter()
        .flat_map(|account| account.buckets.iter().map(move |bucket| (account, bucket)))
        .filter_map(move |(account, bucket)| {
            Some(([&*account.portal, bucket.name.as_str()], value(bucket)?))
        })
}

fn rejections(account: &AccountSnapshot) -> impl Iterator<Item = ([&str; 3], f64)> {
    let writes = account.write_queue;
    let writes = [(LEAD, "late", writes.deadline), (LEAD, "full", writes.queue_full)];
    let buckets = account.buckets.iter().flat_map(|bucket| {
        let (name, counts) = (bucket.name.as_str(), bucket.counts);
        [
            (name, "late", counts.deadline),
            (name, "full", counts.queue_full),
            (name, "used_up", counts.exhausted),
        ]
    });
    writes
        .into_iter()
        .chain(buckets)
        .map(|(bucket, cause, calls)| ([&*account.portal, bucket, cause], count(calls)))
}

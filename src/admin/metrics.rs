//! `/metrics`: read from the parts of the service at each scrape, so that nothing has to be kept up
//! to date in between.

mod callers;

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use self::callers::{Callers, Certificates};
use super::{Sources, process};
use crate::{
    grpc::{AdmissionSnapshot, LimitSnapshot, MethodSnapshot},
    hubspot::{Timing, Traffic},
    telemetry::{
        LogTarget,
        histogram::Steps,
        names::{self, Kind, Metric},
        spans::SpanCounts,
    },
    vault::{SessionState, SessionStatus},
};
use leadsd_base::time::Timestamp;
use leadsd_credentials::{PortalStatus, State};
use leadsd_quota::{AccountSnapshot, BucketSnapshot};

const STATES: [State; 5] =
    [State::Starting, State::Fresh, State::Stale, State::Failed, State::Suspended];

/// The text of a scrape, in the OpenMetrics format.
pub(super) fn scrape(sources: &Sources) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Calls(sources.load.view())));
    if let Some(auth) = &sources.auth {
        registry.register_collector(Box::new(Callers(auth.status())));
    }
    if let Some(tls) = &sources.tls {
        registry.register_collector(Box::new(Certificates(tls.status())));
    }
    registry.register_collector(Box::new(Portals(sources.credentials.snapshot())));
    registry.register_collector(Box::new(Vault(sources.vault.status())));
    let (traffic, timings) = (sources.hubspot.traffic(), sources.hubspot.timings());
    registry.register_collector(Box::new(Upstream(traffic, timings)));
    registry.register_collector(Box::new(Quotas(sources.quota.snapshots())));
    registry.register_collector(Box::new(Process(
        process::Usage::now(),
        sources.started,
        sources.spans.counts(),
    )));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// One value of a metric, with its labels' values.
struct Sample<'a> {
    labels: Vec<&'a str>,
    value: f64,
}

/// The calls and the load when the scrape began.
#[derive(Debug)]
struct Calls(AdmissionSnapshot);

// === impl Calls ===

impl Calls {
    /// One value a method that was ever called.
    fn each(&self, value: impl Fn(&MethodSnapshot) -> f64) -> Vec<Sample<'_>> {
        let sample = |method| Sample { labels: labels(method), value: value(method) };
        self.called().map(sample).collect()
    }

    fn called(&self) -> impl Iterator<Item = &MethodSnapshot> {
        self.0.methods.iter().filter(|method| method.started > 0)
    }

    fn handled(&self) -> Vec<Sample<'_>> {
        let mut samples = Vec::new();
        for method in self.called() {
            for (code, calls) in &method.handled {
                let mut labels = labels(method);
                labels.push(code);
                samples.push(Sample { labels, value: count(*calls) });
            }
        }
        samples
    }
}

impl Collector for Calls {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let load = &self.0;
        let took = self.called().map(|method| (labels(method), &method.took)).collect();
        encode_steps(&mut encoder, names::RPC_SECONDS, took)?;
        let mut put = |metric, samples| encode(&mut encoder, metric, samples);
        put(names::RPC_STARTED, self.each(|method| count(method.started)))?;
        put(names::RPC_HANDLED, self.handled())?;
        let in_flight = |method: &MethodSnapshot| {
            let over: u64 = method.handled.iter().map(|(_, calls)| calls).sum();
            count(method.started.saturating_sub(over))
        };
        put(names::RPC_IN_FLIGHT, self.each(in_flight))?;
        let limits = |value: fn(&LimitSnapshot) -> usize| {
            let sample = move |limit: &LimitSnapshot| Sample {
                labels: vec![limit.name],
                value: count(value(limit) as u64),
            };
            load.limits.iter().map(sample).collect::<Vec<_>>()
        };
        put(names::LIMIT_SIZE, limits(|limit| limit.most))?;
        put(names::LIMIT_USED, limits(|limit| limit.used))?;
        let named = |counts: &[(&'static str, u64)]| -> Vec<Sample<'static>> {
            let sample = |(name, value): &(&'static str, u64)| Sample {
                labels: vec![*name],
                value: count(*value),
            };
            counts.iter().map(sample).collect()
        };
        put(names::LIMIT_REFUSALS, named(&load.refused))?;
        put(names::CONNECTIONS_OPENED, vec![Sample { labels: vec![], value: count(load.opened) }])?;
        put(names::CONNECTIONS_CLOSED, named(&load.closed))
    }
}

fn labels(method: &MethodSnapshot) -> Vec<&str> {
    vec![&method.service, &method.method]
}

/// The portals as they were when the scrape began.
#[derive(Debug)]
struct Portals(Vec<PortalStatus>);

// === impl Portals ===

impl Portals {
    /// One value a portal; none leaves it out.
    fn each(&self, value: impl Fn(&PortalStatus) -> Option<f64>) -> Vec<Sample<'_>> {
        let sample = |portal| Some(Sample { labels: vec![name(portal)], value: value(portal)? });
        self.0.iter().filter_map(sample).collect()
    }

    /// Several values a portal, told apart by a second label.
    fn split<'a, const N: usize>(
        &'a self,
        values: impl Fn(&PortalStatus) -> [(&'a str, u64); N],
    ) -> Vec<Sample<'a>> {
        let samples = |portal: &'a PortalStatus| {
            values(portal).map(|(label, value)| Sample {
                labels: vec![name(portal), label],
                value: count(value),
            })
        };
        self.0.iter().flat_map(samples).collect()
    }
}

impl Collector for Portals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut put = |metric, samples| encode(&mut encoder, metric, samples);
        let states = |portal: &PortalStatus| {
            STATES.map(|state| (state.as_str(), u64::from(state == portal.state)))
        };
        put(names::CREDENTIAL_STATE, self.split(states))?;
        put(names::CREDENTIAL_USABLE, self.each(|portal| Some(flag(portal.usable))))?;
        let troubled = self.0.iter().filter_map(|portal| {
            Some(Sample { labels: vec![name(portal), portal.failure?.as_str()], value: 1.0 })
        });
        put(names::CREDENTIAL_TROUBLE, troubled.collect())?;
        put(names::TOKEN_AGE, self.each(|portal| seconds(portal.token_age)))?;
        put(names::TOKEN_EXPIRES_IN, self.each(|portal| seconds(portal.expires_in)))?;
        put(names::NEXT_REFRESH, self.each(|portal| seconds(portal.next_refresh)))?;
        put(names::SECRET_VERSION, self.each(|portal| portal.secret_version.map(count)))?;
        put(names::SECRET_GONE, self.each(|portal| Some(flag(portal.secret_deleted))))?;
        put(names::WRITE_BACK_PENDING, self.each(|portal| Some(flag(portal.write_back_pending))))?;
        let grants = |portal: &PortalStatus| {
            let done = portal.counters;
            [
                ("ok", done.grants_ok),
                ("failed", done.grants_failed),
                ("refused", done.grants_rejected),
            ]
        };
        put(names::GRANTS, self.split(grants))?;
        let calls = |portal: &PortalStatus| {
            let done = portal.counters;
            [("read", done.store_reads), ("poll", done.store_polls), ("write", done.store_writes)]
        };
        put(names::STORE_CALLS, self.split(calls))?;
        let counted =
            |of: fn(&PortalStatus) -> u64| self.each(move |portal| Some(count(of(portal))));
        put(names::STORE_FAILURES, counted(|portal| portal.counters.store_failures))?;
        put(names::CONFLICTS, counted(|portal| portal.counters.conflicts))?;
        put(names::SECRETS_GONE, counted(|portal| portal.counters.secrets_deleted))?;
        put(names::REJECTIONS, counted(|portal| portal.counters.rejections))?;
        put(names::PANICS, counted(|portal| portal.counters.panics))
    }
}

/// The Vault session when the scrape began.
#[derive(Debug)]
struct Vault(SessionStatus);

// === impl Vault ===

impl Collector for Vault {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self(status) = self;
        let one = |value| vec![Sample { labels: vec![status.method], value }];
        let split = |ok, failed| {
            [("ok", ok), ("failed", failed)]
                .map(|(outcome, value)| Sample {
                    labels: vec![status.method, outcome],
                    value: count(value),
                })
                .into()
        };
        let logged_in = flag(status.state == SessionState::LoggedIn);
        encode(&mut encoder, names::VAULT_LOGGED_IN, one(logged_in))?;
        let expires_in = seconds(status.expires_in).map(one).unwrap_or_default();
        encode(&mut encoder, names::VAULT_EXPIRES_IN, expires_in)?;
        let logins = split(status.logins, status.login_failures);
        encode(&mut encoder, names::VAULT_LOGINS, logins)?;
        let renewals = split(status.renewals, status.renewal_failures);
        encode(&mut encoder, names::VAULT_RENEWALS, renewals)
    }
}

/// What was sent to HubSpot when the scrape began.
#[derive(Debug)]
struct Upstream(Vec<Traffic>, Vec<Timing>);

// === impl Upstream ===

impl Upstream {
    fn each(&self, value: fn(&Traffic) -> f64) -> Vec<Sample<'_>> {
        let mut samples = Vec::with_capacity(self.0.len());
        for traffic in &self.0 {
            samples.push(Sample { labels: vec![traffic.portal.as_str()], value: value(traffic) });
        }
        samples
    }
}

impl Collector for Upstream {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let took = self.1.iter().map(|timing| (vec![timing.operation], &timing.took)).collect();
        encode_steps(&mut encoder, names::HUBSPOT_SECONDS, took)?;
        let mut put = |metric, samples| encode(&mut encoder, metric, samples);
        let calls = self.0.iter().flat_map(|traffic| {
            traffic.sent.iter().map(|sent| Sample {
                labels: vec![traffic.portal.as_str(), sent.operation, sent.outcome.as_str()],
                value: count(sent.calls),
            })
        });
        put(names::HUBSPOT_CALLS, calls.collect())?;
        put(names::HUBSPOT_RETRIES, self.each(|traffic| count(traffic.retries)))?;
        put(names::HUBSPOT_STOPS, self.each(|traffic| count(traffic.stops)))?;
        put(names::HUBSPOT_STOPPED, self.each(|traffic| flag(traffic.stopped)))
    }
}

/// The quotas when the scrape began.
#[derive(Debug)]
struct Quotas(Vec<AccountSnapshot>);

// === impl Quotas ===

impl Quotas {
    /// One value a limit; none leaves it out.
    fn each(&self, value: impl Fn(&BucketSnapshot) -> Option<f64>) -> Vec<Sample<'_>> {
        let mut samples = Vec::new();
        for view in &self.0 {
            for bucket in &view.buckets {
                let Some(value) = value(bucket) else { continue };
                samples.push(Sample { labels: vec![&view.portal, bucket.name.as_str()], value });
            }
        }
        samples
    }

    fn refusals(&self) -> Vec<Sample<'_>> {
        let mut samples = Vec::new();
        for view in &self.0 {
            let writes = view.write_queue;
            for (cause, writes) in [("late", writes.deadline), ("full", writes.queue_full)] {
                let labels = vec![&*view.portal, "lead", cause];
                samples.push(Sample { labels, value: count(writes) });
            }
            for bucket in &view.buckets {
                let counts = bucket.counts;
                for (cause, calls) in [
                    ("late", counts.deadline),
                    ("full", counts.queue_full),
                    ("used_up", counts.exhausted),
                ] {
                    let labels = vec![&*view.portal, bucket.name.as_str(), cause];
                    samples.push(Sample { labels, value: count(calls) });
                }
            }
        }
        samples
    }
}

impl Collector for Quotas {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut put = |metric, samples| encode(&mut encoder, metric, samples);
        put(names::QUOTA_SIZE, self.each(|bucket| bucket.size.map(count)))?;
        put(names::QUOTA_USED, self.each(|bucket| Some(count(bucket.used))))?;
        let utilisation = |bucket: &BucketSnapshot| Some(count(bucket.used) / count(bucket.size?));
        put(names::QUOTA_UTILISATION, self.each(utilisation))?;
        let waiting = |bucket: &BucketSnapshot| u64::try_from(bucket.waiting).ok().map(count);
        let mut waiting = self.each(waiting);
        waiting.extend(self.0.iter().map(|view| Sample {
            labels: vec![&*view.portal, "lead"],
            value: count(view.write_queue.waiting as u64),
        }));
        put(names::QUOTA_WAITING, waiting)?;
        let counted = |of: fn(&BucketSnapshot) -> f64| self.each(move |bucket| Some(of(bucket)));
        put(names::QUOTA_PERMITS, counted(|bucket| count(bucket.counts.permits)))?;
        put(names::QUOTA_CALLS, counted(|bucket| count(bucket.counts.calls)))?;
        put(names::QUOTA_LEADS, counted(|bucket| count(bucket.counts.leads)))?;
        let per_call = |bucket: &BucketSnapshot| {
            let counts = bucket.counts;
            (counts.permits > 0).then(|| count(counts.leads) / count(counts.permits))
        };
        put(names::QUOTA_LEADS_PER_CALL, self.each(per_call))?;
        put(names::QUOTA_WAITS, counted(|bucket| count(bucket.counts.waits)))?;
        put(names::QUOTA_WAITED, counted(|bucket| bucket.counts.waited.as_secs_f64()))?;
        put(names::QUOTA_REFUSALS, self.refusals())?;
        put(names::QUOTA_UPSTREAM, counted(|bucket| count(bucket.counts.upstream_429)))?;
        let away = |bucket: &BucketSnapshot| Some(flag(bucket.ledger?.is_unavailable));
        put(names::QUOTA_SHARED_AWAY, self.each(away))?;
        let replicas = |bucket: &BucketSnapshot| Some(f64::from(bucket.ledger?.replicas));
        put(names::QUOTA_REPLICAS, self.each(replicas))
    }
}

/// The process when the scrape began, when it started, and what became of spans.
#[derive(Debug)]
struct Process(process::Usage, Timestamp, Option<SpanCounts>);

// === impl Process ===

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self(usage, started, spans) = self;
        let process::Usage { cpu_seconds, resident_bytes, open_fds, max_fds } = *usage;
        if let Some(SpanCounts { sent, dropped, failed }) = *spans {
            let counts = [("sent", sent), ("dropped", dropped), ("failed", failed)];
            let sample = |(outcome, spans)| Sample { labels: vec![outcome], value: count(spans) };
            encode(&mut encoder, names::SPANS, counts.map(sample).into())?;
        }
        let lost = LogTarget::ALL
            .map(|target| Sample { labels: vec![target.as_str()], value: count(target.lost()) });
        encode(&mut encoder, names::LOG_LINES_LOST, lost.into())?;
        let version = Sample { labels: vec![env!("CARGO_PKG_VERSION")], value: 1.0 };
        encode(&mut encoder, names::BUILD_INFO, vec![version])?;
        let mut put = |metric, value: Option<f64>| {
            let sample = value.map(|value| Sample { labels: Vec::new(), value });
            encode(&mut encoder, metric, sample.into_iter().collect())
        };
        put(names::START_TIME, Some(started.as_duration().as_secs_f64()))?;
        put(names::CPU_SECONDS, cpu_seconds)?;
        put(names::RESIDENT_MEMORY, resident_bytes.map(count))?;
        put(names::OPEN_FDS, open_fds.map(count))?;
        put(names::MAX_FDS, max_fds.map(count))
    }
}

/// Writes one metric with all its values.
fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    metric: Metric,
    samples: Vec<Sample<'_>>,
) -> Result<(), fmt::Error> {
    if samples.is_empty() {
        return Ok(());
    }
    let kind = match metric.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        // Those come in steps, not in samples.
        Kind::Histogram => return Err(fmt::Error),
    };
    let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
    for Sample { labels, value } in samples {
        let labels: Vec<(&str, &str)> = metric.labels.iter().copied().zip(labels).collect();
        let one = family.encode_family(&labels)?;
        match kind {
            MetricType::Counter => ConstCounter::new(value).encode(one)?,
            _ => ConstGauge::new(value).encode(one)?,
        }
    }
    Ok(())
}

/// Writes one histogram for each set of labels.
fn encode_steps(
    encoder: &mut DescriptorEncoder<'_>,
    metric: Metric,
    all: Vec<(Vec<&str>, &Steps)>,
) -> Result<(), fmt::Error> {
    if all.is_empty() {
        return Ok(());
    }
    let kind = MetricType::Histogram;
    let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
    for (labels, Steps { steps, sum, count }) in all {
        let labels: Vec<(&str, &str)> = metric.labels.iter().copied().zip(labels).collect();
        let mut one = family.encode_family(&labels)?;
        one.encode_histogram::<NoLabelSet>(*sum, *count, steps, None)?;
    }
    Ok(())
}

fn name(portal: &PortalStatus) -> &str {
    &portal.portal
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn seconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float; exact below 2^53")]
fn count(value: u64) -> f64 {
    value as f64
}

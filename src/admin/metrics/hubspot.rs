//! Metrics of HubSpot calls.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::metric::{Metric, SampleWriter, count, counter, flag, gauge, histogram};
use crate::pipeline::{BreakerStats, CallStats, Portals};

const HUBSPOT_CALLS: Metric = counter(
    "leadsd_hubspot_calls",
    &["portal", "operation", "outcome"],
    "Calls sent to HubSpot: ok, client_error (4xx), rate_limited (429), server_error (5xx) or no_response. HubSpot requires that error responses stay below 5 % of the calls of a day",
);
const HUBSPOT_SECONDS: Metric = histogram(
    "leadsd_hubspot_call_seconds",
    &["operation"],
    "Time from sending a call to HubSpot to the headers of its response",
);
const HUBSPOT_RETRIES: Metric =
    counter("leadsd_hubspot_retries", &["portal"], "Calls sent to HubSpot as a retry");
const BREAKER_OPENED: Metric = counter(
    "leadsd_hubspot_breaker_opened",
    &["portal", "calls"],
    "Times that the circuit breaker of all calls opened because HubSpot was unavailable, or that of one kind of calls because HubSpot responded only to others",
);
const BREAKER_OPEN: Metric = gauge(
    "leadsd_hubspot_breaker_open",
    &["portal", "calls"],
    "1 while the circuit breaker is open and rejects these calls",
);
const UNREADABLE: Metric = counter(
    "leadsd_hubspot_unreadable_fields",
    &["portal", "field"],
    "Values of HubSpot's responses that could not be read and were left out, by field. Should be 0",
);

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] =
    &[HUBSPOT_CALLS, HUBSPOT_SECONDS, HUBSPOT_RETRIES, BREAKER_OPENED, BREAKER_OPEN, UNREADABLE];

#[derive(Debug)]
struct HubspotCollector(Arc<Portals>);

pub(super) fn register(registry: &mut Registry, portals: &Arc<Portals>) {
    registry.register_collector(Box::new(HubspotCollector(Arc::clone(portals))));
}

// === impl HubspotCollector ===

impl Collector for HubspotCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = SampleWriter(encoder);
        let latencies = self.0.latencies().into_iter();
        let latencies = latencies.map(|latency| ([latency.operation], latency.histogram));
        writer.histograms(HUBSPOT_SECONDS, latencies)?;
        let portals = self.0.call_stats();
        let calls = portals.iter().flat_map(|stats| {
            stats.calls.iter().map(|call| {
                let labels = [stats.portal.as_str(), call.operation, call.outcome.as_str()];
                (labels, count(call.calls))
            })
        });
        writer.samples(HUBSPOT_CALLS, calls)?;
        let each = |value: fn(&CallStats) -> f64| {
            portals.iter().map(move |stats| ([stats.portal.as_str()], value(stats)))
        };
        writer.samples(HUBSPOT_RETRIES, each(|stats| count(stats.retries)))?;
        let breakers = |value: fn(&BreakerStats) -> f64| {
            portals.iter().flat_map(move |stats| {
                let breakers = stats.breakers.iter();
                breakers.map(move |breaker| {
                    ([stats.portal.as_str(), breaker.scope.as_str()], value(breaker))
                })
            })
        };
        writer.samples(BREAKER_OPENED, breakers(|breaker| count(breaker.opened)))?;
        writer.samples(BREAKER_OPEN, breakers(|breaker| flag(breaker.is_open)))?;
        let unreadable = portals.iter().flat_map(|stats| {
            let fields = stats.unreadable.iter();
            fields.map(|(field, values)| ([stats.portal.as_str(), field], count(*values)))
        });
        writer.samples(UNREADABLE, unreadable)
    }
}

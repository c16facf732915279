//! Metrics of HubSpot calls.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::metric::{Metric, Writer, count, counter, flag, gauge, histogram};
use crate::pipeline::{CallStats, Portals};

const HUBSPOT_CALLS: Metric = counter(
    "leadsd_hubspot_calls",
    &["portal", "operation", "outcome"],
    "Calls sent to HubSpot: ok, refused (4xx), rate_limited (429), failed (5xx) or lost (no answer). HubSpot wants error answers under 5 % of a day's calls",
);
const HUBSPOT_SECONDS: Metric = histogram(
    "leadsd_hubspot_call_seconds",
    &["operation"],
    "Seconds from sending a call to HubSpot to the headers of its answer",
);
const HUBSPOT_RETRIES: Metric = counter(
    "leadsd_hubspot_retries",
    &["portal"],
    "Calls sent to HubSpot that repeated a failed one",
);
const HUBSPOT_STOPS: Metric = counter(
    "leadsd_hubspot_stops",
    &["portal"],
    "Times that calls began to fail at once because HubSpot was down",
);
const HUBSPOT_STOPPED: Metric = gauge(
    "leadsd_hubspot_stopped",
    &["portal"],
    "1 while calls fail at once because HubSpot is down",
);

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] =
    &[HUBSPOT_CALLS, HUBSPOT_SECONDS, HUBSPOT_RETRIES, HUBSPOT_STOPS, HUBSPOT_STOPPED];

#[derive(Debug)]
struct HubspotCollector(Arc<Portals>);

pub(super) fn register(registry: &mut Registry, portals: &Arc<Portals>) {
    registry.register_collector(Box::new(HubspotCollector(Arc::clone(portals))));
}

// === impl HubspotCollector ===

impl Collector for HubspotCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
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
        writer.samples(HUBSPOT_STOPS, each(|stats| count(stats.breaker_opened)))?;
        writer.samples(HUBSPOT_STOPPED, each(|stats| flag(stats.breaker_is_open)))
    }
}

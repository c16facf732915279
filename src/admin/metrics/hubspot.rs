//! Metrics of the requests to HubSpot.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::metric::{Metric, Writer, count, counter, flag, gauge, histogram};
use crate::hubspot::{Client, Traffic};

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
struct HubspotCollector(Client);

pub(super) fn register(registry: &mut Registry, client: &Client) {
    registry.register_collector(Box::new(HubspotCollector(client.clone())));
}

// === impl HubspotCollector ===

impl Collector for HubspotCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        let timings = self.0.timings().into_iter().map(|timing| ([timing.operation], timing.took));
        writer.histograms(HUBSPOT_SECONDS, timings)?;
        let portals = self.0.traffic();
        let calls = portals.iter().flat_map(|traffic| {
            traffic.sent.iter().map(|sent| {
                let labels = [traffic.portal.as_str(), sent.operation, sent.outcome.as_str()];
                (labels, count(sent.calls))
            })
        });
        writer.samples(HUBSPOT_CALLS, calls)?;
        let each = |value: fn(&Traffic) -> f64| {
            portals.iter().map(move |traffic| ([traffic.portal.as_str()], value(traffic)))
        };
        writer.samples(HUBSPOT_RETRIES, each(|traffic| count(traffic.retries)))?;
        writer.samples(HUBSPOT_STOPS, each(|traffic| count(traffic.stops)))?;
        writer.samples(HUBSPOT_STOPPED, each(|traffic| flag(traffic.stopped)))
    }
}

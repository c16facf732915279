//! Metrics of the gRPC server: calls, connections and limits of the replica.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::metric::{Metric, Writer, count, counter, gauge, histogram};
use crate::grpc::{AdmissionSnapshot, LimitSnapshot, MethodSnapshot, ServerSnapshot, ServerStats};

const RPC_STARTED: Metric = counter(
    "leadsd_rpc_started",
    &["service", "method"],
    "Calls begun; `unknown` stands for methods that do not exist",
);
const RPC_HANDLED: Metric = counter(
    "leadsd_rpc_handled",
    &["service", "method", "code"],
    "Calls over, by gRPC code: a stream at its real end, CANCELLED when the caller has gone away",
);
const RPC_IN_FLIGHT: Metric = gauge(
    "leadsd_rpc_in_flight",
    &["service", "method"],
    "Calls under way, streams and health probes included",
);
const RPC_SECONDS: Metric = histogram(
    "leadsd_rpc_seconds",
    &["service", "method"],
    "Seconds from a call's headers to the end of its answer",
);
const LIMIT_SIZE: Metric = gauge(
    "leadsd_limit_size",
    &["limit"],
    "What this replica takes at the same time: connections, in_flight (calls), memory (bytes) or probes (health probes past the first of each connection)",
);
const LIMIT_USED: Metric = gauge(
    "leadsd_limit_used",
    &["limit"],
    "What is in use of it; in_flight counts writes whose callers have gone away, and no probes",
);
const LIMIT_REFUSALS: Metric = counter(
    "leadsd_limit_refusals",
    &["limit"],
    "Calls and connections refused because of it, and calls with a message_size or header_size over the bound",
);
const CONNECTIONS_OPENED: Metric =
    counter("leadsd_connections_opened", &[], "Connections accepted");
const CONNECTIONS_CLOSED: Metric = counter(
    "leadsd_connections_closed",
    &["cause"],
    "Connections ended: by the caller, for their age, in a drain, crowded (too many), certificate (the caller's has ended or is no longer trusted), handshake (no TLS or HTTP/2 in time), error (broken, silent or against the protocol) or cut (calls past their grace)",
);

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] = &[
    RPC_STARTED,
    RPC_HANDLED,
    RPC_IN_FLIGHT,
    RPC_SECONDS,
    LIMIT_SIZE,
    LIMIT_USED,
    LIMIT_REFUSALS,
    CONNECTIONS_OPENED,
    CONNECTIONS_CLOSED,
];

#[derive(Debug)]
struct RpcCollector(ServerStats);

pub(super) fn register(registry: &mut Registry, stats: &ServerStats) {
    registry.register_collector(Box::new(RpcCollector(stats.clone())));
}

// === impl RpcCollector ===

impl Collector for RpcCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        let ServerSnapshot { admission, methods } = self.0.snapshot();
        let AdmissionSnapshot { limits, rejected, connections_opened, connections_closed } =
            admission;
        // Methods that were never called are omitted.
        let called = || methods.iter().filter(|method| method.started > 0);
        let each = |value: fn(&MethodSnapshot) -> f64| {
            called().map(move |method| (labels(method), value(method)))
        };
        writer.histograms(
            RPC_SECONDS,
            called().map(|method| (labels(method), method.took.clone())),
        )?;
        writer.samples(RPC_STARTED, each(|method| count(method.started)))?;
        let handled = called().flat_map(|method| {
            method
                .handled
                .iter()
                .map(|(code, calls)| ([&*method.service, &*method.method, *code], count(*calls)))
        });
        writer.samples(RPC_HANDLED, handled)?;
        writer.samples(RPC_IN_FLIGHT, each(in_flight))?;
        let limit = |value: fn(&LimitSnapshot) -> usize| {
            limits.iter().map(move |limit| ([limit.name], count(value(limit) as u64)))
        };
        writer.samples(LIMIT_SIZE, limit(|limit| limit.max))?;
        writer.samples(LIMIT_USED, limit(|limit| limit.used))?;
        let named = |(name, calls): &(&'static str, u64)| ([*name], count(*calls));
        writer.samples(LIMIT_REFUSALS, rejected.iter().map(named))?;
        writer.sample(CONNECTIONS_OPENED, Some(count(connections_opened)))?;
        writer.samples(CONNECTIONS_CLOSED, connections_closed.iter().map(named))
    }
}

fn labels(method: &MethodSnapshot) -> [&str; 2] {
    [&method.service, &method.method]
}

fn in_flight(method: &MethodSnapshot) -> f64 {
    let handled: u64 = method.handled.iter().map(|(_, calls)| calls).sum();
    count(method.started.saturating_sub(handled))
}

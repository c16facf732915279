//! Metrics of the gRPC server: calls, connections and limits of the replica.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::{
    metric::{Metric, SampleWriter, count, counter, gauge, histogram},
    schema,
};
use crate::grpc::{AdmissionSnapshot, LimitSnapshot, MethodSnapshot, ServerSnapshot, ServerStats};

/// Labels of the server metrics, named as go-grpc-prometheus names them.
const METHOD_LABELS: &[&str] = &["grpc_type", "grpc_service", "grpc_method"];

const STARTED: Metric = counter(
    "grpc_server_started",
    METHOD_LABELS,
    "Started calls; `unknown` stands for methods that do not exist",
);
const HANDLED: Metric = counter(
    "grpc_server_handled",
    &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
    "Finished calls by gRPC code; a stream counts when it ends, as Canceled if the client disconnected",
);
const HANDLING_SECONDS: Metric = histogram(
    "grpc_server_handling_seconds",
    METHOD_LABELS,
    "Time from the headers of a call to the end of its response",
);
const MSG_RECEIVED: Metric = counter(
    "grpc_server_msg_received",
    METHOD_LABELS,
    "Request messages that were read completely",
);
const MSG_SENT: Metric = counter(
    "grpc_server_msg_sent",
    METHOD_LABELS,
    "Response messages passed to HTTP/2; an error has none",
);
const IN_FLIGHT: Metric = gauge(
    "leadsd_grpc_in_flight",
    METHOD_LABELS,
    "Calls in progress, including streams and health probes",
);
const ADMISSION_LIMIT: Metric = gauge(
    "leadsd_admission_limit",
    &["limit"],
    "Limit of this replica: connections (of identified callers), unidentified (other connections), in_flight (calls), waiting (calls whose request has not ended), identifying (calls whose caller is not identified), memory (bytes), exports (streams of ExportLeads), imports (streams of ImportLeads) or probes (health probes beyond the first of each connection)",
);
const ADMISSION_USED: Metric = gauge(
    "leadsd_admission_used",
    &["limit"],
    "Current use of the limit; in_flight includes writes whose client disconnected and excludes probes",
);
const ADMISSION_REJECTED: Metric = counter(
    "leadsd_admission_rejected",
    &["limit"],
    "Calls and connections rejected because of the limit or of the caller's share, or of memory pressure (process_memory), connections closed to make room for unidentified ones, and calls that exceed message_size or header_size",
);
const MEMORY_LIMIT: Metric = gauge(
    "leadsd_memory_limit_bytes",
    &[],
    "Memory limit of the process (`grpc.memory_limit`), to compare with process_resident_memory_bytes; absent without a limit",
);
const MEMORY_PRESSURE: Metric = gauge(
    "leadsd_memory_pressure",
    &[],
    "Level of memory pressure: 0 (normal), 1 (from 80 % of the limit) or 2 (from 90 %); 1 rejects requests over 64 KiB, 2 all calls but GetLead, GetQuota and health probes",
);
const KEPT_RESULT_BYTES: Metric = gauge(
    "leadsd_kept_result_bytes",
    &[],
    "Memory of the results kept for request ids, at most 32 MiB; a part of the use of the limit memory",
);
const REQUEST_ID_STORE_UP: Metric = gauge(
    "leadsd_request_id_store_up",
    &[],
    "1 if the Redis of `[quota.shared]` has request ids of all replicas, 0 while it is unavailable; absent without it",
);
const REQUEST_ID_WRITES: Metric = counter(
    "leadsd_request_id_writes",
    &["scope"],
    "Writes with a request id by the replicas that recognize a repeat: shared (all) or replica (only this one)",
);
const EXPORT_LEADS: Metric = counter(
    "leadsd_export_leads",
    &[],
    "Leads passed to the streams of ExportLeads; its rate is leads per second",
);
const EXPORT_RESUMED: Metric =
    counter("leadsd_export_resumed", &[], "Streams of ExportLeads that began with a resume token");
const EXPORT_ENDED: Metric = counter(
    "leadsd_export_ended",
    &["end"],
    "Streams of ExportLeads that ended: complete (all leads were sent), paused (with a resume token, since the replica or connection ended or the deadline was near), failed (with an error) or cancelled (the client disconnected or did not read)",
);
const IMPORT_ROWS: Metric = counter(
    "leadsd_import_rows",
    &["outcome"],
    "Rows of ImportLeads with results: created, updated, archived, validated (not written) or failed; its rate is rows per second",
);
const IMPORT_ENDED: Metric = counter(
    "leadsd_import_ended",
    &["end"],
    "Streams of ImportLeads that ended: complete (all rows of the client have results), drained (the replica or connection ended or the deadline was near), stopped (too many rows failed), failed (with an error) or cancelled (the client disconnected or did not read)",
);
const ACCEPT_ERRORS: Metric = counter(
    "leadsd_accept_errors",
    &[],
    "Connections of the gRPC port that could not be accepted, usually for lack of file descriptors",
);
const CONNECTIONS_OPENED: Metric =
    counter("leadsd_connections_opened", &[], "Accepted connections");
const CONNECTIONS_CLOSED: Metric = counter(
    "leadsd_connections_closed",
    &["reason"],
    "Closed connections: client (the client disconnected), age, drain, over_limit (too many connections, or closed to make room), idle (no calls), certificate (the client's expired or is no longer trusted), handshake (TLS or HTTP/2 not established in time), error (broken, unresponsive or protocol error), forced (calls exceeded the grace period), cancellations (the client cancelled too many calls) or unread (the client did not read a response)",
);

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] = &[
    STARTED,
    HANDLED,
    HANDLING_SECONDS,
    MSG_RECEIVED,
    MSG_SENT,
    IN_FLIGHT,
    ADMISSION_LIMIT,
    ADMISSION_USED,
    ADMISSION_REJECTED,
    MEMORY_LIMIT,
    MEMORY_PRESSURE,
    KEPT_RESULT_BYTES,
    REQUEST_ID_STORE_UP,
    REQUEST_ID_WRITES,
    EXPORT_LEADS,
    EXPORT_RESUMED,
    EXPORT_ENDED,
    IMPORT_ROWS,
    IMPORT_ENDED,
    ACCEPT_ERRORS,
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
        let mut writer = SampleWriter(encoder);
        let snapshot = self.0.snapshot();
        schema::encode(&mut writer, &snapshot)?;
        let ServerSnapshot {
            admission,
            methods,
            kept_result_bytes,
            request_ids,
            exports,
            imports,
            ..
        } = snapshot;
        let AdmissionSnapshot {
            limits,
            process_memory,
            pressure,
            rejected,
            accept_errors,
            connections_opened,
            connections_closed,
        } = admission;
        // Methods that were never called are omitted.
        let called = || methods.iter().filter(|method| method.started > 0);
        let each = |value: fn(&MethodSnapshot) -> f64| {
            called().map(move |method| (labels(method), value(method)))
        };
        writer.histograms(
            HANDLING_SECONDS,
            called().map(|method| (labels(method), method.took.clone())),
        )?;
        writer.samples(STARTED, each(|method| count(method.started)))?;
        let handled = called().flat_map(|method| {
            method.handled.iter().map(move |(code, calls)| {
                let [kind, service, name] = labels(method);
                ([kind, service, name, *code], count(*calls))
            })
        });
        writer.samples(HANDLED, handled)?;
        writer.samples(MSG_RECEIVED, each(|method| count(method.received)))?;
        writer.samples(MSG_SENT, each(|method| count(method.sent)))?;
        writer.samples(IN_FLIGHT, each(in_flight))?;
        let limit = |value: fn(&LimitSnapshot) -> usize| {
            limits.iter().map(move |limit| ([limit.name], count(value(limit) as u64)))
        };
        writer.samples(ADMISSION_LIMIT, limit(|limit| limit.max))?;
        writer.samples(ADMISSION_USED, limit(|limit| limit.used))?;
        let named = |(name, calls): &(&'static str, u64)| ([*name], count(*calls));
        writer.samples(ADMISSION_REJECTED, rejected.iter().map(named))?;
        writer.sample(MEMORY_LIMIT, process_memory.map(|usage| count(usage.limit)))?;
        writer.sample(MEMORY_PRESSURE, Some(f64::from(pressure as u8)))?;
        writer.sample(KEPT_RESULT_BYTES, Some(count(kept_result_bytes as u64)))?;
        let is_up = request_ids.is_store_up.map(|is_up| f64::from(u8::from(is_up)));
        writer.sample(REQUEST_ID_STORE_UP, is_up)?;
        let by_scope = request_ids.by_scope();
        let by_scope =
            by_scope.into_iter().map(|(scope, writes)| ([scope.as_str()], count(writes)));
        writer.samples(REQUEST_ID_WRITES, by_scope)?;
        writer.sample(EXPORT_LEADS, Some(count(exports.leads)))?;
        writer.sample(EXPORT_RESUMED, Some(count(exports.resumed)))?;
        let ended = exports.ended.into_iter();
        let ended = ended.map(|(end, streams)| ([end.as_str()], count(streams)));
        writer.samples(EXPORT_ENDED, ended)?;
        let rows = imports.rows.into_iter();
        let rows = rows.map(|(kind, rows)| ([kind.as_str()], count(rows)));
        writer.samples(IMPORT_ROWS, rows)?;
        let ended = imports.ended.into_iter();
        let ended = ended.map(|(end, streams)| ([end.as_str()], count(streams)));
        writer.samples(IMPORT_ENDED, ended)?;
        writer.sample(ACCEPT_ERRORS, Some(count(accept_errors)))?;
        writer.sample(CONNECTIONS_OPENED, Some(count(connections_opened)))?;
        writer.samples(CONNECTIONS_CLOSED, connections_closed.iter().map(named))
    }
}

fn labels(method: &MethodSnapshot) -> [&str; 3] {
    [method.grpc_type, &method.service, &method.method]
}

fn in_flight(method: &MethodSnapshot) -> f64 {
    let handled: u64 = method.handled.iter().map(|(_, calls)| calls).sum();
    count(method.started.saturating_sub(handled))
}

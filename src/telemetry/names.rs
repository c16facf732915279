//! Every name that the service is observed by, in one place: metrics, attributes of spans, targets and
//! fields of the log. What is scraped, and what the documentation lists, both come from here.

/// Kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in steps: `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Name as it is scraped, without the `_total` that a counter gets.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// Names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says, with its unit.
    pub help: &'static str,
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// Calls begun.
pub const RPC_STARTED: Metric = counter(
    "leadsd_rpc_started",
    &["service", "method"],
    "Calls begun; `unknown` stands for methods that do not exist",
);
/// Calls over.
pub const RPC_HANDLED: Metric = counter(
    "leadsd_rpc_handled",
    &["service", "method", "code"],
    "Calls over, by gRPC code: a stream at its real end, CANCELLED when the caller has gone away",
);
/// Calls under way.
pub const RPC_IN_FLIGHT: Metric = gauge(
    "leadsd_rpc_in_flight",
    &["service", "method"],
    "Calls under way, streams and health probes included",
);
/// How long calls take.
pub const RPC_SECONDS: Metric = histogram(
    "leadsd_rpc_seconds",
    &["service", "method"],
    "Seconds from a call's headers to the end of its answer",
);
/// The most of each limit of the replica.
pub const LIMIT_SIZE: Metric = gauge(
    "leadsd_limit_size",
    &["limit"],
    "What this replica takes at the same time: connections, in_flight (calls), memory (bytes) or probes (health probes past the first of each connection)",
);
/// Use of each limit of the replica.
pub const LIMIT_USED: Metric = gauge(
    "leadsd_limit_used",
    &["limit"],
    "What is in use of it; in_flight counts writes whose callers have gone away, and no probes",
);
/// Refusals for a limit of the replica.
pub const LIMIT_REFUSALS: Metric = counter(
    "leadsd_limit_refusals",
    &["limit"],
    "Calls and connections refused because of it, and calls with a message_size or header_size over the bound",
);
/// Connections accepted.
pub const CONNECTIONS_OPENED: Metric =
    counter("leadsd_connections_opened", &[], "Connections accepted");
/// Connections ended.
pub const CONNECTIONS_CLOSED: Metric = counter(
    "leadsd_connections_closed",
    &["cause"],
    "Connections ended: by the caller, for their age, in a drain, crowded (too many), certificate (the caller's has ended or is no longer trusted), handshake (no TLS or HTTP/2 in time), error (broken, silent or against the protocol) or cut (calls past their grace)",
);

/// Calls whose caller is known.
pub const CALLERS_IDENTIFIED: Metric = counter(
    "leadsd_callers_identified",
    &["proof"],
    "Calls whose caller has proven its name, by certificate, jwt or api_key",
);
/// Calls that were not let in.
pub const CALLERS_REFUSED: Metric = counter(
    "leadsd_callers_refused",
    &["cause"],
    "Calls not let in: missing (no proof of who calls), invalid (one that proves nothing), unavailable (it cannot be checked yet) or forbidden (the caller may not do this)",
);
/// Age of what callers are checked with.
pub const TRUST_AGE: Metric = gauge(
    "leadsd_trust_age_seconds",
    &["source"],
    "Seconds since the keys of the token issuer (auth:jwks) or the hashes of API keys (auth:api_keys) were last found as they should be; absent if they never were",
);
/// Entries of it.
pub const TRUST_ENTRIES: Metric =
    gauge("leadsd_trust_entries", &["source"], "Keys or hashes in use");
/// Looks for it.
pub const TRUST_LOADS: Metric = counter(
    "leadsd_trust_loads",
    &["source", "outcome"],
    "Looks for newer keys or hashes: ok or failed; while they fail the old ones serve",
);
/// Life left in the certificate.
pub const TLS_EXPIRES_IN: Metric = gauge(
    "leadsd_tls_certificate_expires_in_seconds",
    &[],
    "Seconds until the certificate of the gRPC port ends, negative once it has; absent without TLS",
);
/// Reloads of certificates.
pub const TLS_RELOADS: Metric = counter(
    "leadsd_tls_reloads",
    &["outcome"],
    "Times that the files of the gRPC port's certificates had something new: ok (it serves) or failed (it cannot be used)",
);
/// Whether the files cannot be used.
pub const TLS_TROUBLE: Metric = gauge(
    "leadsd_tls_trouble",
    &[],
    "1 while what the files of the certificates hold cannot be used and older ones serve",
);

/// State of each portal's credential.
pub const CREDENTIAL_STATE: Metric = gauge(
    "leadsd_credential_state",
    &["portal", "state"],
    "1 for the state the credential is in: starting, fresh, stale, failed or parked; 0 for the others",
);
/// Whether a call could be made.
pub const CREDENTIAL_USABLE: Metric =
    gauge("leadsd_credential_usable", &["portal"], "1 if a call could be made now");
/// What is wrong.
pub const CREDENTIAL_TROUBLE: Metric = gauge(
    "leadsd_credential_trouble",
    &["portal", "trouble"],
    "1 for the class of what is wrong with the credential now; absent if nothing is",
);
/// Age of the token.
pub const TOKEN_AGE: Metric = gauge(
    "leadsd_credential_token_age_seconds",
    &["portal"],
    "Seconds since the access token in use was obtained",
);
/// Life left in the token.
pub const TOKEN_EXPIRES_IN: Metric = gauge(
    "leadsd_credential_token_expires_in_seconds",
    &["portal"],
    "Seconds the access token may still be used; absent for tokens that do not expire",
);
/// Time to the next refresh.
pub const NEXT_REFRESH: Metric = gauge(
    "leadsd_credential_next_refresh_seconds",
    &["portal"],
    "Seconds to the next planned refresh; absent if none is planned",
);
/// Version of the secret.
pub const SECRET_VERSION: Metric = gauge(
    "leadsd_credential_secret_version",
    &["portal"],
    "Version of the secret in use; absent before it was read",
);
/// Whether the secret is deleted.
pub const SECRET_GONE: Metric = gauge(
    "leadsd_credential_secret_gone",
    &["portal"],
    "1 if the newest version is deleted or destroyed, so that the credential lives in memory only",
);
/// Whether a refresh token is not saved.
pub const WRITE_BACK_PENDING: Metric = gauge(
    "leadsd_credential_write_back_pending",
    &["portal"],
    "1 if a rotated refresh token is not saved yet and would be lost if the process ended",
);
/// Grants by outcome.
pub const GRANTS: Metric = counter(
    "leadsd_credential_grants",
    &["portal", "outcome"],
    "Refresh grants sent to the token endpoint: ok, failed (may work later) or refused (for good)",
);
/// Calls to the secret store.
pub const STORE_CALLS: Metric = counter(
    "leadsd_credential_store_calls",
    &["portal", "call"],
    "Calls to the secret store: read, poll (of the version) or write (of a rotated refresh token)",
);
/// Failed calls to the secret store.
pub const STORE_FAILURES: Metric = counter(
    "leadsd_credential_store_failures",
    &["portal"],
    "Calls to the secret store that failed, whatever the reason",
);
/// Lost races.
pub const CONFLICTS: Metric = counter(
    "leadsd_credential_conflicts",
    &["portal"],
    "Rotated refresh tokens that met somebody else's change of the secret",
);
/// Deleted versions seen.
pub const SECRETS_GONE: Metric = counter(
    "leadsd_credential_secrets_gone",
    &["portal"],
    "Times the newest version of the secret was found deleted or destroyed",
);
/// Tokens refused by HubSpot.
pub const REJECTIONS: Metric = counter(
    "leadsd_credential_rejections",
    &["portal"],
    "Access tokens that HubSpot refused, each counted once",
);
/// Caught panics.
pub const PANICS: Metric =
    counter("leadsd_credential_panics", &["portal"], "Panics caught in the credential engine");

/// Calls to HubSpot.
pub const HUBSPOT_CALLS: Metric = counter(
    "leadsd_hubspot_calls",
    &["portal", "operation", "outcome"],
    "Calls sent to HubSpot: ok, refused (4xx), rate_limited (429), failed (5xx) or lost (no answer). HubSpot wants error answers under 5 % of a day's calls",
);
/// How long HubSpot takes.
pub const HUBSPOT_SECONDS: Metric = histogram(
    "leadsd_hubspot_call_seconds",
    &["operation"],
    "Seconds from sending a call to HubSpot to the headers of its answer",
);
/// Retries.
pub const HUBSPOT_RETRIES: Metric = counter(
    "leadsd_hubspot_retries",
    &["portal"],
    "Calls sent to HubSpot that repeated a failed one",
);
/// Times the breaker opened.
pub const HUBSPOT_STOPS: Metric = counter(
    "leadsd_hubspot_stops",
    &["portal"],
    "Times that calls began to fail at once because HubSpot was down",
);
/// Whether the breaker is open.
pub const HUBSPOT_STOPPED: Metric = gauge(
    "leadsd_hubspot_stopped",
    &["portal"],
    "1 while calls fail at once because HubSpot is down",
);

/// Size of each limit.
pub const QUOTA_SIZE: Metric = gauge(
    "leadsd_quota_size",
    &["portal", "bucket"],
    "Calls that HubSpot's limit allows in its window: burst (ten seconds), search (a second) or daily; absent if there is none",
);
/// Use of each limit.
pub const QUOTA_USED: Metric = gauge(
    "leadsd_quota_used",
    &["portal", "bucket"],
    "Calls in the window: ours, and those of others that HubSpot told of",
);
/// Part of each limit in use.
pub const QUOTA_UTILISATION: Metric = gauge(
    "leadsd_quota_utilisation_ratio",
    &["portal", "bucket"],
    "Calls in the window by those that are allowed, 0 to 1",
);
/// Queue lengths.
pub const QUOTA_WAITING: Metric = gauge(
    "leadsd_quota_waiting",
    &["portal", "bucket"],
    "Calls that wait for the limit; of bucket lead: writes that wait for an earlier one to the same lead",
);
/// Permits used.
pub const QUOTA_PERMITS: Metric = counter(
    "leadsd_quota_permits",
    &["portal", "bucket"],
    "HubSpot calls that were sent with a permit",
);
/// Calls admitted.
pub const QUOTA_CALLS: Metric = counter(
    "leadsd_quota_calls",
    &["portal", "bucket"],
    "Calls that went with these HubSpot calls, alone or together",
);
/// Leads asked for.
pub const QUOTA_LEADS: Metric = counter(
    "leadsd_quota_leads",
    &["portal", "bucket"],
    "Leads that these HubSpot calls were about; a page and a search count as one",
);
/// Leads by HubSpot calls.
pub const QUOTA_LEADS_PER_CALL: Metric = gauge(
    "leadsd_quota_leads_per_call",
    &["portal", "bucket"],
    "Leads by the HubSpot calls that were about them since the start: up to 100 where calls went together, or as a batch",
);
/// Calls that waited.
pub const QUOTA_WAITS: Metric = counter(
    "leadsd_quota_waits",
    &["portal", "bucket"],
    "Calls that had to wait for the limit before they went",
);
/// Time waited.
pub const QUOTA_WAITED: Metric = counter(
    "leadsd_quota_wait_seconds",
    &["portal", "bucket"],
    "Seconds that these calls have waited, all together",
);
/// Refusals by the quota.
pub const QUOTA_REFUSALS: Metric = counter(
    "leadsd_quota_refusals",
    &["portal", "bucket", "cause"],
    "Calls refused without asking HubSpot: late (their turn would come after their deadline), full (too many wait) or used_up (nothing left for today); of bucket lead: writes that wait for an earlier one to the same lead",
);
/// Refusals by HubSpot.
pub const QUOTA_UPSTREAM: Metric = counter(
    "leadsd_quota_upstream_refusals",
    &["portal", "bucket"],
    "Calls that HubSpot refused for the limit (429). Should be 0: other users of the limit may take what HubSpot's answers have not told yet",
);
/// The shared quota is away.
pub const QUOTA_SHARED_AWAY: Metric = gauge(
    "leadsd_quota_shared_away",
    &["portal", "bucket"],
    "1 if the store through which replicas share this limit cannot be reached; absent if it is not shared",
);
/// Replicas.
pub const QUOTA_REPLICAS: Metric = gauge(
    "leadsd_quota_replicas",
    &["portal", "bucket"],
    "Replicas that use this limit, as far as this one knows; absent if it is not shared",
);

/// Whether there is a Vault login.
pub const VAULT_LOGGED_IN: Metric =
    gauge("leadsd_vault_logged_in", &["method"], "1 if the service is logged in to Vault");
/// Life left in the Vault token.
pub const VAULT_EXPIRES_IN: Metric = gauge(
    "leadsd_vault_token_expires_in_seconds",
    &["method"],
    "Seconds the Vault token lives without another renewal; absent if it does not expire",
);
/// Logins.
pub const VAULT_LOGINS: Metric =
    counter("leadsd_vault_logins", &["method", "outcome"], "Logins to Vault: ok or failed");
/// Renewals.
pub const VAULT_RENEWALS: Metric = counter(
    "leadsd_vault_renewals",
    &["method", "outcome"],
    "Renewals of the Vault token: ok or failed",
);

/// What became of spans.
pub const SPANS: Metric = counter(
    "leadsd_trace_spans",
    &["outcome"],
    "Spans of sampled traces: sent, dropped (the queue was full) or failed (the collector did not take them); absent without a collector",
);
/// Lines of the log that were lost.
pub const LOG_LINES_LOST: Metric = counter(
    "leadsd_log_lines_lost",
    &["target"],
    "Lines of the log that were lost because standard error was blocked and the buffer full: access, audit or other",
);
/// What runs.
pub const BUILD_INFO: Metric =
    gauge("leadsd_build_info", &["version"], "1; the version that runs is in the label");
/// Start of the process.
pub const START_TIME: Metric =
    gauge("process_start_time_seconds", &[], "When the process started, in seconds since 1970");
/// Processor time.
pub const CPU_SECONDS: Metric =
    counter("process_cpu_seconds", &[], "Seconds of processor time used, by user and system");
/// Memory in use.
pub const RESIDENT_MEMORY: Metric =
    gauge("process_resident_memory_bytes", &[], "Memory in use, in bytes; on Linux");
/// File handles in use.
pub const OPEN_FDS: Metric =
    gauge("process_open_fds", &[], "File handles in use: each connection is one; on Linux");
/// Most file handles.
pub const MAX_FDS: Metric =
    gauge("process_max_fds", &[], "Most file handles the process may have; on Linux");

/// All of them, in the order of the documentation.
pub const ALL: &[Metric] = &[
    RPC_STARTED,
    RPC_HANDLED,
    RPC_IN_FLIGHT,
    RPC_SECONDS,
    LIMIT_SIZE,
    LIMIT_USED,
    LIMIT_REFUSALS,
    CONNECTIONS_OPENED,
    CONNECTIONS_CLOSED,
    CALLERS_IDENTIFIED,
    CALLERS_REFUSED,
    TRUST_AGE,
    TRUST_ENTRIES,
    TRUST_LOADS,
    TLS_EXPIRES_IN,
    TLS_RELOADS,
    TLS_TROUBLE,
    CREDENTIAL_STATE,
    CREDENTIAL_USABLE,
    CREDENTIAL_TROUBLE,
    TOKEN_AGE,
    TOKEN_EXPIRES_IN,
    NEXT_REFRESH,
    SECRET_VERSION,
    SECRET_GONE,
    WRITE_BACK_PENDING,
    GRANTS,
    STORE_CALLS,
    STORE_FAILURES,
    CONFLICTS,
    SECRETS_GONE,
    REJECTIONS,
    PANICS,
    VAULT_LOGGED_IN,
    VAULT_EXPIRES_IN,
    VAULT_LOGINS,
    VAULT_RENEWALS,
    HUBSPOT_CALLS,
    HUBSPOT_SECONDS,
    HUBSPOT_RETRIES,
    HUBSPOT_STOPS,
    HUBSPOT_STOPPED,
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
    SPANS,
    LOG_LINES_LOST,
    BUILD_INFO,
    START_TIME,
    CPU_SECONDS,
    RESIDENT_MEMORY,
    OPEN_FDS,
    MAX_FDS,
];

/// Attributes of spans; those of OpenTelemetry's own conventions are named as there.
pub const RPC_SYSTEM: &str = "rpc.system";
/// Full name of the gRPC service.
pub const RPC_SERVICE: &str = "rpc.service";
/// Name of the method.
pub const RPC_METHOD: &str = "rpc.method";
/// Number of the gRPC code.
pub const RPC_STATUS_CODE: &str = "rpc.grpc.status_code";
/// Status of HubSpot's answer.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// Reason of a failure.
pub const ERROR_TYPE: &str = "error.type";
/// Id of the call, as in its answer and the log.
pub const REQUEST_ID: &str = "request.id";
/// The portal.
pub const PORTAL: &str = "portal";
/// HubSpot calls that a call took.
pub const HUBSPOT_CALLS_SPENT: &str = "hubspot.calls";
/// Operation of HubSpot's API.
pub const HUBSPOT_OPERATION: &str = "hubspot.operation";
/// HubSpot's id of the call.
pub const HUBSPOT_CORRELATION_ID: &str = "hubspot.correlation_id";

/// Targets that a filter may name, with what is logged there.
pub const TARGETS: &[(&str, &str)] = &[
    (
        "leadsd",
        "everything of the service: what changes its state, and what somebody should look at",
    ),
    (
        "leadsd::access",
        "one event for each call when it is over, a stream at its real end; health probes and reflection at `debug`",
    ),
    (
        "leadsd::audit",
        "one event for each write: who, where, what and how it ended, and no property value",
    ),
];

/// Spans of the log: an event inside one carries its fields.
pub const LOG_SPANS: &[(&str, &str)] =
    &[("rpc", "a call of a client"), ("task", "work in the background")];

/// Fields of log events and their spans.
pub const FIELDS: &[(&str, &str)] = &[
    ("admin.address", "where the admin endpoints are"),
    ("attempts", "how often something was tried before it worked"),
    ("audit.inputs", "number of inputs of a write"),
    ("audit.operation", "the write, such as UpdateLead"),
    ("audit.outcome", "how it ended: OK or a reason"),
    ("audit.outcomes", "the same of a batch, with how many inputs each"),
    ("audit.repeat", "whether a `request_id` was known, so that nothing was written"),
    ("caller", "who calls: by identity, by what it says, or by address"),
    ("caller.known", "whether the caller has proven who it is"),
    ("code", "OAuth's code of a refused grant"),
    ("connection.ending", "why a connection ended; as in `leadsd_connections_closed_total`"),
    ("discovered", "whether a portal was found in the folder of `portals_from`"),
    ("drain.delay_ms", "how long calls are still taken after a stop signal"),
    ("duration_ms", "how long it took"),
    ("entries", "number of keys or hashes in use"),
    ("error", "what went wrong, to its innermost cause"),
    ("error.internal", "what is not for the caller to know"),
    ("error.reason", "reason of a failed call, as its caller gets it"),
    ("expires_in_s", "seconds until an access token ends"),
    ("failures", "how often something has failed in a row"),
    ("folder", "path of a folder of secrets"),
    ("generation", "number of an access token since the start"),
    ("grpc.address", "where gRPC is served"),
    ("grpc.connections", "open connections"),
    ("grpc.tls", "whether it is served over TLS"),
    ("http.status", "status of HubSpot's answer"),
    ("hubspot.calls", "HubSpot calls that the call took, or its part of shared ones"),
    ("hubspot.correlation_id", "HubSpot's id of the last of them; its support asks for it"),
    ("hubspot.operation", "operation of HubSpot's API"),
    ("hubspot.remaining", "calls left in the window, by HubSpot's answer"),
    ("in_use", "version of a secret that is used"),
    ("keys", "number of keys of a token issuer"),
    ("lead.id", "id of the lead that was written"),
    ("lead.ids", "the same of a small batch, or of any at `debug`"),
    ("log.filter", "the filter that was put"),
    ("log.lost", "lines of the log that were lost while standard error was blocked"),
    ("most", "how many there may be"),
    ("name", "name of a secret"),
    ("net.peer", "address of a caller"),
    ("pause_s", "seconds until the next attempt"),
    ("port", "which port of the engine answered too late"),
    ("portal", "the portal"),
    ("portals", "number of portals"),
    ("refresh_in_s", "seconds until an access token is refreshed"),
    ("request.id", "id of the call: the caller's `x-request-id`, or one of ours"),
    ("rpc.code", "gRPC code at the end of the call"),
    ("rpc.method", "service and method"),
    ("secret", "path of a secret, never what it holds"),
    ("serving", "whether older keys or hashes serve meanwhile"),
    ("task.name", "name of the work in the background"),
    ("task.owner", "for whom it is done, such as a portal"),
    ("tls.client_cas", "number of CAs that callers' certificates are checked against"),
    ("tls.expires", "when the certificate of the gRPC port ends"),
    ("trace.id", "id of the trace, as in `traceparent`"),
    ("trouble", "class of what is wrong with a credential"),
    ("trust.from", "where keys or hashes of callers come from"),
    ("trust.source", "what they are"),
    ("unmet", "what keeps the service from being ready; empty when it is"),
    ("usable", "whether a call could be made"),
    ("vault.method", "how the service logs in to Vault"),
    ("vault.ttl_s", "seconds that the login lasts; 0 without an end"),
    ("version", "version of a secret"),
    ("was", "class of what was wrong and is no longer"),
    ("why", "what is wrong with a credential that is parked"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_well_formed() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Metric { name, labels, help, .. } in ALL {
            // The names of process metrics are those that every dashboard knows.
            let is_ours = name.starts_with("leadsd_") || name.starts_with("process_");
            assert!(is_ours && !name.ends_with("_total"), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(!help.is_empty() && labels.iter().all(|label| !label.is_empty()), "{name}");
        }
    }
}

//! Every name of spans and of the log, in one place: attributes of spans, targets and fields of log
//! events. What the documentation lists comes from here.

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

/// Target of the access events.
pub(super) const ACCESS_TARGET: &str = "leadsd::access";

/// Target of the audit events, which a filter silences only if it names them.
pub(super) const AUDIT_TARGET: &str = "leadsd::audit";

/// Targets that a filter may name, with what is logged there.
pub const TARGETS: &[(&str, &str)] = &[
    (
        "leadsd",
        "everything of the service: what changes its state, and what somebody should look at",
    ),
    (
        ACCESS_TARGET,
        "one event for each call when it is over, a stream at its real end; health probes and reflection at `debug`",
    ),
    (
        AUDIT_TARGET,
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

//! Names of span attributes, log targets and log fields. docs/LOGGING.md lists them from these tables.

/// RPC system of a span, by OpenTelemetry's semantic conventions.
pub const RPC_SYSTEM: &str = "rpc.system";
/// Full name of the gRPC service.
pub const RPC_SERVICE: &str = "rpc.service";
/// Name of the gRPC method.
pub const RPC_METHOD: &str = "rpc.method";
/// Numeric gRPC code.
pub const RPC_STATUS_CODE: &str = "rpc.grpc.status_code";
/// HTTP status of HubSpot's response.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// Error reason of a failed call.
pub const ERROR_TYPE: &str = "error.type";
/// Request id of the call, as in the response metadata and the log.
pub const REQUEST_ID: &str = "request.id";
/// Name of the portal.
pub const PORTAL: &str = "portal";
/// Number of HubSpot calls that a call cost.
pub const HUBSPOT_CALLS_SPENT: &str = "hubspot.calls";
/// Operation of HubSpot's API.
pub const HUBSPOT_OPERATION: &str = "hubspot.operation";
/// Correlation id of HubSpot's response.
pub const HUBSPOT_CORRELATION_ID: &str = "hubspot.correlation_id";

/// Log target of access events.
pub(super) const ACCESS_TARGET: &str = "leadsd::access";

/// Log target of audit events. A filter silences them only by naming this target.
pub(super) const AUDIT_TARGET: &str = "leadsd::audit";

/// Log targets and their events.
pub const TARGETS: &[(&str, &str)] = &[
    ("leadsd", "state changes of the service, warnings and errors"),
    (
        ACCESS_TARGET,
        "one event per call at its end, for a stream at the end of the stream; health probes and reflection at `debug`",
    ),
    (
        AUDIT_TARGET,
        "one event per write and per stream of an export or import: caller, portal, operation and outcome; never property values",
    ),
];

/// Log spans. Events inside a span have its fields.
pub const LOG_SPANS: &[(&str, &str)] = &[("rpc", "call of a client"), ("task", "background task")];

/// Fields of log events and log spans.
pub const FIELDS: &[(&str, &str)] = &[
    ("admin.address", "listen address of the admin port"),
    ("attempts", "number of attempts until success"),
    ("audit.exported", "number of leads that an export passed to its stream"),
    ("audit.filtered", "true if an export has a query or filters"),
    ("audit.inputs", "number of inputs of a write, or of rows that an import has read"),
    ("audit.operation", "RPC of the write, export or import, such as UpdateLead"),
    (
        "audit.outcome",
        "outcome of the write, export or import: OK, PARTIAL (of a batch), PAUSED (of an export), DRAINED or STOPPED (of an import), CANCELLED, or an error reason",
    ),
    ("audit.outcomes", "outcomes of a batch write or import, with the number of inputs of each"),
    (
        "audit.replayed",
        "true if the response of an earlier write with this `request_id` was returned",
    ),
    ("audit.resumed", "true if the stream of an export began with a resume token"),
    ("auth.location", "path or URL of an auth source"),
    ("auth.source", "auth source: `auth:jwks` or `auth:api_keys`"),
    ("caller", "name of the caller: its identity, its metadata, or its address"),
    ("caller.authenticated", "true if the caller is authenticated"),
    (
        "connection.close_reason",
        "reason why a connection was closed, as in `leadsd_connections_closed_total`",
    ),
    ("contact.id", "id of a contact that was created for a lead"),
    ("discovered", "true if the portal was found by discovery (`portal_discovery`)"),
    ("discovery.path", "path of the folder in which portals are discovered"),
    ("drain.delay_ms", "time for which calls are accepted after a stop signal"),
    ("duration_ms", "duration in milliseconds"),
    ("entries", "number of keys or hashes in use"),
    ("error", "error with its root cause"),
    ("error.internal", "error details that are not sent to the caller"),
    ("error.reason", "error reason of a failed call, as sent to the caller"),
    ("expires_in_s", "seconds until an access token expires"),
    ("failure.class", "failure class of a credential"),
    ("failure.previous_class", "previous failure class, now recovered"),
    ("failure.reason", "cause of a suspended credential"),
    ("failures", "number of consecutive failures, or of failures since the last line"),
    ("generation", "number of an access token since start"),
    ("grpc.address", "listen address of the gRPC port"),
    ("grpc.connections", "number of open connections"),
    ("grpc.tls", "true if the gRPC port serves TLS"),
    ("has_value", "true if an earlier value of an auth source stays in use"),
    ("http.status", "HTTP status of HubSpot's response"),
    (
        "hubspot.calls",
        "number of HubSpot calls that the call cost, including its part of shared calls",
    ),
    ("hubspot.correlation_id", "correlation id of HubSpot's last response, for HubSpot's support"),
    ("hubspot.operation", "operation of HubSpot's API"),
    ("hubspot.remaining", "calls left in the window, as HubSpot reports"),
    ("keys", "number of keys in the key set of a token issuer"),
    ("lead.id", "id of the written lead"),
    ("lead.ids", "ids of the leads of a small batch, or of any batch at `debug`"),
    ("log.dropped", "number of log lines dropped while standard error was blocked or failing"),
    ("log.dropped_audit", "number of audit events among them"),
    ("log.filter", "new log filter"),
    ("max", "maximum number"),
    ("memory.limit", "memory limit of the process in bytes"),
    ("memory.resident", "resident memory of the process in bytes"),
    ("name", "name of a secret"),
    ("net.peer", "address of a client, or `uid:` and the user id of one at a Unix socket"),
    ("oauth.error", "OAuth error code of a rejected refresh"),
    ("panic.location", "source file and line of a panic"),
    ("panic.message", "message of a panic, truncated to 256 bytes"),
    ("port", "port of the credential engine that timed out"),
    ("portal", "name of the portal"),
    ("portals", "number of portals"),
    ("refresh_in_s", "seconds until an access token is refreshed"),
    ("refused.calls", "number of refused calls that were not logged one by one"),
    ("refused.reasons", "reasons of those calls, with the number of each"),
    ("request.id", "request id: `x-request-id` of the caller, or a generated one"),
    ("retry_in_s", "seconds until the next attempt"),
    ("rpc.code", "gRPC code at the end of the call"),
    ("rpc.method", "gRPC service and method"),
    ("secret", "path of a secret, never its data"),
    ("task.name", "name of a background task"),
    ("task.owner", "owner of a background task, such as a portal"),
    ("tls.client_cas", "number of CAs that verify client certificates"),
    ("tls.expires", "expiry of the certificate of the gRPC port"),
    ("trace.id", "trace id, as in `traceparent`"),
    ("unlogged.calls", "number of calls that were not logged one by one while the log was behind"),
    ("unlogged.codes", "gRPC codes of those calls, with the number of each"),
    ("unmet", "readiness conditions that are not met; empty if ready"),
    ("unusable", "portals without a usable credential"),
    ("usable", "true if the portal has a valid access token"),
    ("vault.method", "auth method of the Vault login"),
    ("vault.ttl_s", "time to live of the Vault token in seconds; 0 if it does not expire"),
    ("vault.uses_left", "number of requests that the Vault token permits; it ends after them"),
    ("version", "version of a secret"),
    ("violation", "rule that a write violates, as in `leadsd_validation_violations_total`"),
];

//! Raw configuration as it is written: strings and numbers, not validated. Unknown keys are errors.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Whole file.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) grpc: Grpc,
    pub(super) admin: Admin,
    pub(super) vault: Vault,
    pub(super) hubspot: Hubspot,
    pub(super) egress: Egress,
    pub(super) credentials: Credentials,
    pub(super) quota: Quota,
    #[serde(default)]
    pub(super) auth: Auth,
    #[serde(default)]
    pub(super) policy: BTreeMap<String, Policy>,
    #[serde(default)]
    pub(super) portals: BTreeMap<String, Portal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) portal_discovery: Option<PortalDiscovery>,
    pub(super) trace: Trace,
    pub(super) log: Log,
    pub(super) process: Process,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grpc {
    pub(super) listen: String,
    pub(super) max_request_size: String,
    pub(super) max_batch_inputs: usize,
    pub(super) max_deadline: String,
    pub(super) max_batch_deadline: String,
    pub(super) max_connections: usize,
    pub(super) max_streams_per_connection: usize,
    pub(super) max_in_flight: usize,
    pub(super) max_request_memory: String,
    pub(super) max_header_size: String,
    pub(super) max_connection_age: String,
    pub(super) max_connection_age_grace: String,
    pub(super) keepalive_interval: String,
    pub(super) keepalive_timeout: String,
    pub(super) drain_delay: String,
    pub(super) shutdown_grace: String,
    pub(super) error_docs_url: String,
    pub(super) insecure: bool,
    pub(super) memory_limit: String,
    pub(super) max_caller_share: f64,
    pub(super) max_connections_per_address: usize,
    pub(super) max_connection_idle: String,
    pub(super) max_response_size: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<Tls>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_auth: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) listen: String,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api_keys_secret: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vault {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_key_file: Option<PathBuf>,
    pub(super) mount: String,
    pub(super) timeout: String,
    pub(super) poll_interval: String,
    #[serde(default)]
    pub(super) auth: VaultAuth,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VaultAuth {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mount: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role_id_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret_id_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret_id_wrapped: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwt_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hubspot {
    pub(super) base_url: String,
    pub(super) authorize_url: String,
    pub(super) api_version: String,
    pub(super) connect_timeout: String,
    pub(super) request_timeout: String,
    pub(super) max_response_size: String,
    pub(super) max_attempts: usize,
    pub(super) breaker_min_wait: String,
    pub(super) breaker_max_wait: String,
    pub(super) default_properties: Vec<String>,
    pub(super) validate: String,
    pub(super) batch_concurrency: usize,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Egress {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxy: Option<String>,
    pub(super) no_proxy: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) credentials_secret: Option<String>,
    pub(super) ca_files: Vec<PathBuf>,
    pub(super) from_environment: bool,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    pub(super) start: String,
    pub(super) readiness: String,
    pub(super) start_concurrency: usize,
    pub(super) suspended_retry_interval: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Quota {
    pub(super) burst: usize,
    pub(super) burst_window: String,
    pub(super) search_per_second: usize,
    pub(super) daily: usize,
    pub(super) time_zone: String,
    pub(super) max_queue: usize,
    pub(super) max_concurrency: usize,
    pub(super) batching: bool,
    #[serde(default)]
    pub(super) weights: BTreeMap<String, usize>,
    pub(super) shared: SharedQuota,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SharedQuota {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,
    pub(super) expected_replicas: usize,
    pub(super) prefix: String,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwt: Option<Jwt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api_keys: Option<ApiKeys>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Jwt {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audience: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwks_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwks_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refresh_interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) caller_claim: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApiKeys {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    #[serde(default)]
    pub(super) callers: Vec<String>,
    #[serde(default)]
    pub(super) portals: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) access: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quota: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) export: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) import: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) create_contacts: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) weight: Option<usize>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortalDiscovery {
    pub(super) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id_property: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default_properties: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) validate: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Portal {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) base_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id_property: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default_properties: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) validate: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: String,
    pub(super) format: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trace {
    pub(super) otlp_endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) headers_file: Option<PathBuf>,
    pub(super) sample_ratio: f64,
    pub(super) service_name: String,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Process {
    pub(super) allow_debugging: bool,
}

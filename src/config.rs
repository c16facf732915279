//! Configuration: plain data, one struct per section.
//!
//! - Layers: the default file `leadsd.example.toml`, the user's file, environment variables.
//! - Each section converts its raw values to the types of the service. All errors are reported at once,
//!   each with its key and the origin of the value.
//! - The JSON schema and docs/CONFIG.md are generated from the default file and its comments.
//!
//! The configuration contains paths of secrets in Vault, never secrets.

mod admin;
mod annotated_toml;
mod ca_files;
mod callers;
mod check;
mod credentials;
mod effective;
mod egress;
mod error;
mod grpc;
mod hubspot;
mod load;
mod portals;
mod process;
mod quota;
mod raw;
#[cfg(test)]
mod reference_page;
mod renamed;
mod schema;
mod sections;
mod syntax;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod units;
mod vault;
mod vault_auth;

pub use self::{
    admin::Admin,
    callers::{Access, ApiKeys, Auth, CallerPattern, Jwks, Jwt, Policy},
    credentials::Credentials,
    egress::EgressConfig,
    error::{ConfigError, ConfigErrors, FILE_OPTION},
    grpc::{Grpc, MemoryLimit},
    hubspot::{ApiVersion, Hubspot},
    load::Loaded,
    portals::{Portal, PortalDiscovery},
    process::Process,
    quota::{Quota, SharedQuota},
    sections::Config,
    tls::{ClientCa, Tls},
    units::{parse_duration as duration, parse_size as size},
    vault::Vault,
    vault_auth::VaultAuth,
};

/// JSON schema of the configuration file.
pub fn schema() -> serde_json::Value {
    schema::schema(&annotated_toml::sections(load::DEFAULTS))
}

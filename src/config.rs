//! Configuration: plain data, one struct per section.
//!
//! The layers are the documented default file `leadsd.example.toml`, the file of the user, and the
//! environment. Every section converts its raw values into the types that the service uses; all errors
//! are reported at once, each with its key and the origin of its value. The JSON schema and the
//! reference page are made of the default file and its comments.
//!
//! Secrets are never configuration: it says where in Vault they are.

mod annotated_toml;
mod callers;
mod check;
mod credentials;
mod error;
mod grpc;
mod hubspot;
mod load;
mod portals;
mod quota;
mod raw;
#[cfg(test)]
mod reference_page;
mod renamed;
mod schema;
mod sections;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod units;
mod vault;
mod vault_auth;

pub use self::{
    callers::{Access, ApiKeys, Auth, CallerPattern, Jwks, Jwt, Policy},
    credentials::Credentials,
    error::{ConfigError, ConfigErrors},
    grpc::{Admin, Grpc},
    hubspot::{ApiVersion, Hubspot},
    load::Loaded,
    portals::{Portal, PortalDiscovery},
    quota::{Quota, SharedQuota},
    sections::Config,
    tls::{ClientCa, Tls},
    units::parse_duration as duration,
    vault::Vault,
    vault_auth::VaultAuth,
};

/// The JSON schema of a configuration file.
pub fn schema() -> serde_json::Value {
    schema::schema(&annotated_toml::sections(load::DEFAULTS))
}

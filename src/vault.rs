//! Vault (or OpenBao): one client for the service and the command line.
//!
//! | Module | Does |
//! |---|---|
//! | `client`, `response`, `error` | send a request, read a bounded response, classify an error |
//! | `auth_method`, `lease`, `token_details` | issue, renew and revoke tokens; schedule renewals; how long a token lasts |
//! | [`Session`] | one login for the process, renewed in the background |
//! | `kv2` | requests and responses of KV v2 |
//! | [`KvStore`] | [`leadsd_credentials::SecretStore`] over session and KV v2 |
//! | `proxy_credentials` | reads the credentials of the egress proxy |
//! | [`AdminClient`] | one login and individual requests, for `leadsd login` and `leadsd doctor` |
//!
//! The service and the command line share everything but the session, so both classify each status
//! alike. `vaultrs` defines endpoints and responses; no other module uses it. Its types are never
//! logged, because their `Debug` output contains tokens.

mod admin_client;
mod auth_method;
mod client;
mod error;
mod kv2;
mod kv_store;
mod lease;
mod pool;
mod proxy_credentials;
mod redirect;
mod response;
mod secret_file;
mod session;
mod token_details;

pub use admin_client::{AdminClient, MountInfo, TokenLookup, VaultHealth};
pub use error::Error;
pub use kv_store::KvStore;
pub use kv2::{CasOutcome, SecretData, SecretVersion};
pub use proxy_credentials::{
    ProxyCredentialsError, read_proxy_credentials, watch_proxy_credentials,
};
pub use session::{Session, SessionState, SessionStatus};

#[cfg(test)]
mod tests;

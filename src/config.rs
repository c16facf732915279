//! Configuration: plain data, one struct per section.
//!
//! Secrets are never configuration: it says where in Vault they are.

mod auth;
mod callers;
mod check;
mod document;
mod load;
#[cfg(test)]
mod page;
mod raw;
mod schema;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

pub use check::parse_duration as duration;
pub use load::{Fault, Faults, Loaded};

use crate::{
    leads::PortalName,
    telemetry::{LogSettings, TraceSettings},
};
use leadsd_base::time::Zone;
use leadsd_credentials::{SecretPath, Start};
use leadsd_quota::redis_ledger::RedisSettings;

/// The JSON schema of a configuration file.
pub fn schema() -> serde_json::Value {
    schema::schema(&document::sections(load::DEFAULTS))
}

/// Everything the service is told at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[grpc]`
    pub grpc: Grpc,
    /// `[admin]`
    pub admin: Admin,
    /// `[vault]`
    pub vault: Vault,
    /// `[hubspot]`
    pub hubspot: Hubspot,
    /// `[credentials]`
    pub credentials: Credentials,
    /// `[quota]`
    pub quota: Quota,
    /// `[auth]`
    pub auth: Auth,
    /// `[policy.<name>]`; at least one if callers are identified, else none.
    pub policy: BTreeMap<String, Policy>,
    /// `[portals.<name>]`; at least one, unless `portals_from` is given.
    pub portals: BTreeMap<PortalName, Portal>,
    /// `[portals_from]`; none by default.
    pub portals_from: Option<PortalsFrom>,
    /// `[trace]`
    pub trace: TraceSettings,
    /// `[log]`
    pub log: LogSettings,
}

/// `[grpc]`: the service itself.
#[derive(Debug, Clone)]
pub struct Grpc {
    /// Where to listen. Default `127.0.0.1:50051`; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Largest request message, in bytes. Default 4 MiB.
    pub max_request_bytes: usize,
    /// Most inputs of one batch call. Default 10,000.
    pub max_batch_inputs: usize,
    /// Longest a call for one lead or one page may take, whatever the caller allows. Default 60 s.
    pub max_deadline: Duration,
    /// The same for batches. Default 5 min: 10,000 inputs are a hundred HubSpot calls.
    pub max_batch_deadline: Duration,
    /// Connections at the same time. Default 4,096.
    pub max_connections: usize,
    /// Calls at the same time on one connection. Default 1,024.
    pub max_streams: u32,
    /// Calls at the same time on all connections. Default 16,384.
    pub max_in_flight: usize,
    /// Bytes of requests and of answers that are held at the same time. Default 256 MiB.
    pub max_request_memory: usize,
    /// Largest metadata of one call, in bytes. Default 16 KiB.
    pub max_header_bytes: usize,
    /// When a connection is asked to end, give or take a tenth. Default 30 min.
    pub max_connection_age: Duration,
    /// How long its calls may go on after that. Default 1 min.
    pub max_connection_age_grace: Duration,
    /// A connection that was quiet for this long is asked whether it is still there. Default 30 s.
    pub keepalive_interval: Duration,
    /// How long the answer to that may take. Default 20 s.
    pub keepalive_timeout: Duration,
    /// How long calls are still taken after a stop signal. Default 5 s.
    pub drain_delay: Duration,
    /// How long calls in flight may go on after that. Default 25 s.
    pub shutdown_grace: Duration,
    /// Where callers can read about errors: the `google.rpc.Help` of each links there, with the
    /// reason as the fragment. Default `docs/ERRORS.md` of leadsd's source; empty leaves it out.
    pub error_catalogue: String,
    /// Whether it may listen on a non-loopback address without TLS or without knowing its callers.
    /// Default no.
    pub insecure: bool,
    /// `[grpc.tls]`; none by default.
    pub tls: Option<Tls>,
}

/// `[grpc.tls]`: certificates, read again when their files change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the certificate chain.
    pub cert_file: PathBuf,
    /// PEM file with its key.
    pub key_file: PathBuf,
    /// What callers' certificates are checked against; none asks for no certificates.
    pub client_ca: Option<ClientCa>,
}

/// How callers' certificates are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCa {
    /// PEM file with the CAs that may sign them.
    pub file: PathBuf,
    /// Whether a caller without a certificate gets no connection. Default yes.
    pub required: bool,
}

/// `[auth]`: how callers prove who they are, beside certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// `[auth.jwt]`; none by default.
    pub jwt: Option<Jwt>,
    /// `[auth.api_keys]`; none by default.
    pub api_keys: Option<ApiKeys>,
}

/// `[auth.jwt]`: bearer tokens of one issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// The claim `iss` of its tokens.
    pub issuer: String,
    /// What the claim `aud` must name.
    pub audience: String,
    /// Where its public keys are.
    pub jwks: Jwks,
    /// The claim that names the caller. Default `sub`.
    pub caller_claim: String,
}

/// Where an issuer's public keys (a JSON Web Key Set) are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// In a file, which is read again when it changes.
    File(PathBuf),
    /// At a URL.
    Url {
        /// Where; https, or http on loopback.
        url: url::Url,
        /// PEM file with the CAs that may sign its certificate, beside the public ones.
        ca_file: Option<PathBuf>,
        /// File with a bearer token to send along; read at every request.
        token_file: Option<PathBuf>,
        /// How often to look. Default 5 min.
        refresh: Duration,
    },
}

/// `[auth.api_keys]`: keys whose hashes are in Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeys {
    /// Path of the secret under the KV mount: callers' names, each with the SHA-256 of its key.
    pub secret: SecretPath,
}

/// `[policy.<name>]`: what some callers may do in some portals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Names of callers, or how they begin.
    pub callers: Vec<Callers>,
    /// The portals; none stands for all of them.
    pub portals: Option<Vec<PortalName>>,
    /// What they may do with leads.
    pub access: Access,
    /// Whether they may ask for the portal's quota. Default no.
    pub quota: bool,
    /// Their part of a portal's quota when callers wait. Default 1.
    pub share: u32,
}

/// One or more callers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Callers {
    /// The one of this name.
    Named(String),
    /// All whose names begin like this; with the empty text, all.
    Beginning(String),
}

/// What a caller may do with leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing.
    None,
    /// Reads.
    Read,
    /// Reads and writes.
    Write,
}

/// `[admin]`: health, readiness and metrics over HTTP.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where to listen. Default `127.0.0.1:9090`; port 0 picks a free one.
    pub listen: SocketAddr,
}

/// `[vault]`: where the credentials are.
#[derive(Debug, Clone)]
pub struct Vault {
    /// Base URL of Vault or OpenBao. Required.
    pub address: url::Url,
    /// Vault Enterprise or OpenBao namespace. Default none.
    pub namespace: Option<String>,
    /// PEM file with the CAs that may sign Vault's certificate, beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our client certificate chain. Needs `client_key_file`.
    pub client_cert_file: Option<PathBuf>,
    /// PEM file with the key of `client_cert_file`.
    pub client_key_file: Option<PathBuf>,
    /// Mount of the KV v2 engine. Default `secret`.
    pub mount: String,
    /// Longest one request to Vault may take. Default 5 s.
    pub timeout: Duration,
    /// How often to look for a new version of the secrets. Default 30 s.
    pub poll_interval: Duration,
    /// `[vault.auth]`
    pub auth: VaultAuth,
}

/// `[vault.auth]`: how to log in.
#[derive(Debug, Clone)]
pub enum VaultAuth {
    /// `method = "kubernetes"`: the pod's service account.
    Kubernetes {
        /// Mount of the auth method. Default `kubernetes`.
        mount: String,
        /// Name of the role.
        role: String,
        /// File with the service account's token; read at every login. Default where Kubernetes
        /// puts it.
        jwt_file: PathBuf,
    },
    /// `method = "jwt"`: a JWT from whoever issues them.
    Jwt {
        /// Mount of the auth method. Default `jwt`.
        mount: String,
        /// Name of the role; none for the mount's default role.
        role: Option<String>,
        /// File with the JWT; read at every login.
        jwt_file: PathBuf,
    },
    /// `method = "userpass"`.
    UserPass {
        /// Mount of the auth method. Default `userpass`.
        mount: String,
        /// Name of the user.
        username: String,
        /// File with the password; read at every login.
        password_file: PathBuf,
    },
    /// `method = "cert"`: the client certificate of `[vault]`.
    Cert {
        /// Mount of the auth method. Default `cert`.
        mount: String,
        /// Name of the certificate role; none lets Vault find one that fits.
        role: Option<String>,
    },
    /// `method = "approle"`.
    AppRole {
        /// Mount of the auth method. Default `approle`.
        mount: String,
        /// File with the role id.
        role_id_file: PathBuf,
        /// File with the secret id; read at every login. None for roles that bind no secret id.
        secret_id_file: Option<PathBuf>,
        /// Whether that file holds a wrapping token instead, which is unwrapped once. Default no.
        secret_id_wrapped: bool,
    },
    /// `method = "token"`: a token handed over once, which leadsd keeps alive by itself.
    Token {
        /// File with the token; read once, at start. `/dev/stdin` works.
        file: PathBuf,
    },
    /// `method = "token_file"`: a token that somebody else keeps fresh, such as Vault Agent.
    TokenFile {
        /// File with the token; read again when it changes.
        file: PathBuf,
    },
}

// === impl VaultAuth ===

impl VaultAuth {
    /// The method's name.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Kubernetes { .. } => "kubernetes",
            Self::Jwt { .. } => "jwt",
            Self::UserPass { .. } => "userpass",
            Self::Cert { .. } => "cert",
            Self::AppRole { .. } => "approle",
            Self::Token { .. } => "token",
            Self::TokenFile { .. } => "token_file",
        }
    }
}

/// `[hubspot]`: the API behind.
#[derive(Debug, Clone)]
pub struct Hubspot {
    /// Default `https://api.hubapi.com`.
    pub base_url: url::Url,
    /// Where `leadsd login` sends the browser. Default `https://app.hubspot.com/oauth/authorize`.
    pub authorize_url: url::Url,
    /// Decides the paths. Default 2026-09.
    pub api_version: ApiVersion,
    /// Longest wait for a connection. Default 5 s.
    pub connect_timeout: Duration,
    /// Longest one HTTP call may take. Default 30 s.
    pub request_timeout: Duration,
    /// Largest answer that is read, in bytes after decompression. Default 32 MiB.
    pub max_answer_bytes: usize,
    /// Most attempts at one HubSpot call, the first one included. Default 4; 1 never retries.
    pub max_attempts: u32,
    /// How long a single create, update or upsert that HubSpot refused for its content is refused
    /// without asking again. Default 0 s: never.
    pub remember_refusals: Duration,
    /// Batch calls of one client call that run at the same time. Default 4.
    pub batch_concurrency: usize,
}

/// Version of HubSpot's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiVersion {
    /// `/crm/objects/2026-09/...`
    V2026_09,
    /// `/crm/objects/2026-03/...`
    V2026_03,
    /// `/crm/v3/objects/...`
    V3,
}

// === impl ApiVersion ===

impl ApiVersion {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2026_09 => "2026-09",
            Self::V2026_03 => "2026-03",
            Self::V3 => "v3",
        }
    }
}

/// `[credentials]`: how the portals' credentials are looked after.
#[derive(Debug, Clone, Copy)]
pub struct Credentials {
    /// When a portal's first token is fetched. Default `eager`: at start, so that the first call
    /// finds one, and `/ready` waits for it. `lazy`: when the first call asks for it.
    pub start: Start,
    /// How many portals may fetch their first token at the same time. Default 16.
    pub start_concurrency: usize,
    /// How often a portal whose credential is refused for good is tried again without a reason to.
    /// Default 10 min.
    pub heartbeat: Duration,
}

/// `[quota]`: what is assumed of HubSpot's limits until its answers tell, and how calls wait.
#[derive(Debug, Clone)]
pub struct Quota {
    /// Calls in a window, all but searches. Default 190.
    pub burst: u64,
    /// Length of the window. Default 10 s.
    pub burst_window: Duration,
    /// Searches in a second. Default 5; HubSpot's answers never tell.
    pub search_per_second: u64,
    /// Calls in a day. Default none: OAuth apps have no such limit, and for others the first answer
    /// tells.
    pub daily: Option<u64>,
    /// The accounts' time zone, at whose midnight the calls of a day start over. Default UTC.
    pub zone: Zone,
    /// Most calls that wait for one limit of one portal. Default 10,000.
    pub max_waiting: usize,
    /// Whether calls that wait leave together as batches, and identical reads share a call. Default
    /// yes.
    pub group_commit: bool,
    /// Shares of callers that have more than one.
    pub shares: BTreeMap<String, u32>,
    /// `[quota.shared]`; none by default.
    pub shared: Option<SharedQuota>,
}

/// `[quota.shared]`: the store through which replicas share their quotas.
#[derive(Debug, Clone)]
pub struct SharedQuota {
    /// How to reach the store.
    pub redis: RedisSettings,
    /// How many replicas there are, as long as the store has not told: each keeps to its part of
    /// the limits until then, and while the store is away. Default 2.
    pub replicas: u32,
}

/// `[portals_from]`: every secret in a folder is a portal of that name, beside those of
/// `[portals.<name>]`.
#[derive(Debug, Clone)]
pub struct PortalsFrom {
    /// Path of the folder under the KV mount; looked at every `vault.poll_interval`.
    pub folder: SecretPath,
    /// As in `[portals.<name>]`, for all portals found in the folder.
    pub request_id_property: Option<String>,
}

/// `[portals.<name>]`: one HubSpot account.
#[derive(Debug, Clone)]
pub struct Portal {
    /// Path of its secret under the KV mount. Default `hubspot/<name>`.
    pub secret: SecretPath,
    /// The account's time zone. Default that of `[quota]`.
    pub zone: Option<Zone>,
    /// Property of its leads with unique values that request ids are written to, so that a create
    /// whose answer got lost can be looked for. Default none.
    pub request_id_property: Option<String>,
}

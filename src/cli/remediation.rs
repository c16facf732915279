//! Causes and remedies of failures of Vault and HubSpot, shared by `login` and `doctor`.
//!
//! A remedy names the key, the command or the page with which an operator repairs the failure.
//! `token_endpoint` has those for the codes of OAuth.

mod api_path;
mod token_endpoint;
mod vault_login;

use std::fmt;

pub(super) use self::{
    api_path::api_path,
    vault_login::{namespace_fix, vault_login},
};
use crate::{
    config,
    hubspot::DiagnosticsError,
    leads::{self, PortalName, Reason},
    vault::{self, ProxyCredentialsError},
};
use leadsd_base::net::connect_error::{CertificateError, ConnectError};

/// Part of rustls's error for a response that is not TLS.
const NO_TLS: &str = "InvalidContentType";

/// HTTP status of Cloudflare for a malformed token, and for an outage.
const CLOUDFLARE: u16 = 530;

/// Cause and remedy of a failure. Contains no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remediation {
    pub(super) cause: String,
    pub(super) fix: String,
}

/// Server that commands connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Vault,
    /// The API at `hubspot.base_url`.
    Hubspot,
    /// The API at the base URL of a portal.
    PortalApi,
    /// The trace collector at `trace.otlp_endpoint`.
    Collector,
}

/// HubSpot's API as one portal uses it.
pub(super) struct PortalApi {
    pub(super) peer: Peer,
    pub(super) portal: PortalName,
    pub(super) url: url::Url,
}

// === impl Remediation ===

impl Remediation {
    pub(super) fn new(cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { cause: cause.into(), fix: fix.into() }
    }
}

impl fmt::Display for Remediation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  Remedy: {}", self.cause, self.fix)
    }
}

// === impl Peer ===

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vault => "Vault",
            Self::Hubspot | Self::PortalApi => "HubSpot",
            Self::Collector => "the trace collector",
        }
    }

    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Vault => "vault.address",
            Self::Hubspot => "hubspot.base_url",
            Self::PortalApi => "portals.<name>.base_url",
            Self::Collector => "trace.otlp_endpoint",
        }
    }
}

// === impl PortalApi ===

impl PortalApi {
    /// The API that the configuration names for a portal.
    pub(super) fn new(config: &config::Config, portal: &PortalName) -> Self {
        let url = config.hubspot_for(portal).base_url;
        let peer = if url == config.hubspot.base_url { Peer::Hubspot } else { Peer::PortalApi };
        Self { peer, portal: portal.clone(), url }
    }
}

/// Builds the remediation of a failed connection.
pub(super) fn connect(peer: Peer, address: &url::Url, error: &ConnectError) -> Remediation {
    let (name, key) = (peer.name(), peer.key());
    let fix = match error {
        ConnectError::Tls(text) if text.contains(NO_TLS) => {
            let plain = address.as_str().replacen("https://", "http://", 1);
            return Remediation::new(
                format!("{name} at {address} responds without TLS"),
                format!("enable TLS there, or set {key} to {plain}, which is not encrypted"),
            );
        }
        ConnectError::Dns => format!(
            "check the host in {key}, and the DNS configuration of this machine (in a container: \
             resolver and search domains)"
        ),
        ConnectError::Refused => {
            format!("start {name}, or correct the port in {key}")
        }
        ConnectError::Timeout => format!(
            "check whether {name} is overloaded, and whether a firewall or network policy drops the \
             connection"
        ),
        ConnectError::Certificate(CertificateError::UnknownIssuer) => match peer {
            Peer::Vault => {
                "set vault.ca_file to a PEM file with the CA certificate that signed Vault's \
                 certificate; if a proxy intercepts TLS, add its CA to egress.ca_files"
                    .to_owned()
            }
            Peer::Hubspot | Peer::PortalApi => {
                "a proxy intercepts TLS, since HubSpot's certificate is from a public CA: add the \
                 proxy's CA to egress.ca_files, or exempt HubSpot from interception"
                    .to_owned()
            }
            Peer::Collector => {
                "set trace.ca_file to a PEM file with the CA certificate that signed the collector's \
                 certificate"
                    .to_owned()
            }
        },
        ConnectError::Certificate(CertificateError::Expired) => {
            format!("renew the certificate of {name}, or correct this machine's clock")
        }
        ConnectError::Certificate(CertificateError::NotYetValid) => {
            "correct this machine's clock: it is behind".to_owned()
        }
        ConnectError::Certificate(CertificateError::NameMismatch) => {
            format!("use a host name of the certificate in {key}")
        }
        ConnectError::Certificate(CertificateError::Other(_)) | ConnectError::Tls(_) => format!(
            "check that the port in {key} serves TLS if the URL starts with https, and that the \
             certificate is valid"
        ),
        ConnectError::Proxy { cause, .. } => cause.remedy().to_owned(),
        ConnectError::Io(_) => format!("check the logs of {name} and of proxies in between"),
    };
    Remediation::new(format!("{name} at {address} {error}"), fix)
}

/// Builds the remediation of capabilities that Vault's policy does not grant.
pub(super) fn policy(path: &str, missing: &[&str]) -> Remediation {
    let list = missing.join(", ");
    let quoted: Vec<String> = missing.iter().map(|may| format!("\"{may}\"")).collect();
    Remediation::new(
        format!("Vault's policy does not allow {list} on {path}"),
        format!(
            "add to the policy of this login: path \"{path}\" {{ capabilities = [{}] }}",
            quoted.join(", ")
        ),
    )
}

/// Builds the remediation of any other Vault error after the login.
pub(super) fn vault(error: &vault::Error, config: &config::Vault, path: &str) -> Remediation {
    match error {
        vault::Error::Denied => policy(path, &["read"]),
        vault::Error::Connect(error) => connect(Peer::Vault, &config.address, error),
        vault::Error::File { .. }
        | vault::Error::Setup(_)
        | vault::Error::LoginRejected(_)
        | vault::Error::Unwrap(_)
        | vault::Error::NotFound
        | vault::Error::CasConflict
        | vault::Error::Invalid
        | vault::Error::Unavailable(_) => Remediation::new(
            format!("the Vault request for {path} failed: {error}"),
            "check the state of Vault: vault status",
        ),
    }
}

/// Builds the remediation of proxy credentials that cannot be read from Vault.
pub(super) fn proxy_credentials(
    error: &ProxyCredentialsError,
    config: &config::Config,
    location: &str,
) -> Remediation {
    let fix = "store them: the keys username and password, in the secret of \
               egress.credentials_secret";
    let key = "egress.credentials_secret";
    let path = config.egress.credentials_secret.as_ref();
    let api = path.and_then(|path| api_path(key, path, &config.vault.mount, str::to_owned));
    match (error, api) {
        (ProxyCredentialsError::Vault(vault::Error::Denied), Some(api))
        | (ProxyCredentialsError::NotFound, Some(api)) => api,
        (ProxyCredentialsError::Vault(error), _) => vault(error, &config.vault, location),
        (ProxyCredentialsError::NotFound | ProxyCredentialsError::Malformed(_), _) => {
            Remediation::new(format!("the proxy's credentials at {location}: {error}"), fix)
        }
    }
}

/// Builds the remediation of a HubSpot error.
pub(super) fn hubspot(error: &DiagnosticsError, api: &PortalApi) -> Remediation {
    let PortalApi { peer, portal, url } = api;
    let fix = match error {
        DiagnosticsError::Connect(error) => return connect(*peer, url, error),
        DiagnosticsError::TokenExpired => {
            format!("store a token that is valid: {}", static_login(portal))
        }
        DiagnosticsError::Unauthorized => format!(
            "copy the token again as one piece; if it was rotated or its app deleted, create another \
             one and store it: {}",
            static_login(portal)
        ),
        DiagnosticsError::Rejected(code) => token_endpoint::fix(code).to_owned(),
        DiagnosticsError::InvalidResponse => {
            "check that hubspot.base_url names HubSpot's API, and \
                                              that no proxy responds instead of HubSpot"
                .to_owned()
        }
        DiagnosticsError::Api(api) => api_fix(api, portal),
    };
    let mut cause = error.to_string();
    if let DiagnosticsError::Api(api) = error {
        api.message().clone_into(&mut cause);
        let upstream = api.upstream();
        if let Some(status) = upstream.http_status {
            cause = format!("{cause} (status {status})");
        }
        if let Some(id) = &upstream.correlation_id {
            cause = format!("{cause} (correlation id {id})");
        }
    }
    Remediation::new(cause, fix)
}

/// Command that stores a static token.
fn static_login(portal: &PortalName) -> String {
    format!("leadsd login --static --portal {portal}")
}

/// Remedy for an error response of HubSpot.
fn api_fix(error: &leads::Error, portal: &PortalName) -> String {
    match error.reason() {
        Reason::MissingScopes => {
            let scopes = &error.upstream().required_scopes;
            format!(
                "add the missing scope to the app or key, then grant access again (leadsd login): {}",
                if scopes.is_empty() { "check its scopes".to_owned() } else { scopes.join(" or ") }
            )
        }
        Reason::UpstreamForbidden => {
            "check that the account has Sales Hub Professional or Enterprise, and \
                              that the user may access leads"
                .to_owned()
        }
        Reason::CredentialRejected if error.upstream().http_status == Some(CLOUDFLARE) => format!(
            "copy the token again as one piece ({}): Cloudflare in front of HubSpot responds so to a \
             malformed token; if the token is complete, see HubSpot's status page",
            static_login(portal)
        ),
        Reason::CredentialRejected => format!("store a valid token: {}", static_login(portal)),
        Reason::DailyLimitReached => "wait for midnight in the account's time zone, or raise the \
                                      limit of the account"
            .to_owned(),
        Reason::RateLimited => "wait ten seconds; if it persists, check which other apps use the \
                                limits of this account"
            .to_owned(),
        Reason::AccountLocked | Reason::AccountMigrating => {
            "wait until HubSpot unlocks the account".to_owned()
        }
        Reason::WrongDataCenter => {
            let hublet = error.upstream().correct_hublet.as_deref().unwrap_or("eu1");
            format!(
                "set portals.{portal}.base_url to the API of its data centre, such as \
                 https://api-{hublet}.hubapi.com"
            )
        }
        Reason::UpstreamInvalidResponse => "check that hubspot.base_url names HubSpot's API, and \
                                            that no proxy or firewall responds instead of HubSpot"
            .to_owned(),
        Reason::InvalidRequest
        | Reason::UnknownPortal
        | Reason::InvalidPageToken
        | Reason::SearchWindowExceeded
        | Reason::RequestIdReused
        | Reason::LeadNotFound
        | Reason::ValidationFailed
        | Reason::AlreadyExists
        | Reason::Conflict
        | Reason::CredentialUnavailable
        | Reason::Overloaded
        | Reason::UpstreamUnavailable
        | Reason::ResponseTooLarge
        | Reason::DeadlineExceeded
        | Reason::WriteOutcomeUnknown
        | Reason::BatchRejected
        | Reason::Internal
        | Reason::RequestTooLarge
        | Reason::Unauthenticated
        | Reason::CallerForbidden
        | Reason::AuthenticationUnavailable
        | Reason::Unimplemented => {
            "check HubSpot's status page; give the correlation id to HubSpot's support".to_owned()
        }
    }
}

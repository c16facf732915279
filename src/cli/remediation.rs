//! Causes and remedies of failures, for the person at the terminal: the same for `login` and `doctor`.

use std::fmt;

use crate::{
    config::{self, VaultAuth},
    hubspot::DiagnosticsError,
    leads::{self, Reason},
    vault,
};
use leadsd_base::net::connect_error::{CertificateError, ConnectError};

/// A cause and its remedy. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remediation {
    pub(super) cause: String,
    pub(super) fix: String,
}

/// A server that commands talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Vault,
    Hubspot,
}

// === impl Remediation ===

impl Remediation {
    pub(super) fn new(cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { cause: cause.into(), fix: fix.into() }
    }
}

impl fmt::Display for Remediation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  What to do: {}", self.cause, self.fix)
    }
}

// === impl Peer ===

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vault => "Vault",
            Self::Hubspot => "HubSpot",
        }
    }

    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Vault => "vault.address",
            Self::Hubspot => "hubspot.base_url",
        }
    }
}

/// Remediation of a peer that gives no response.
pub(super) fn unreached(peer: Peer, address: &url::Url, why: &ConnectError) -> Remediation {
    let (name, key) = (peer.name(), peer.key());
    let fix = match why {
        ConnectError::Dns => format!(
            "check the name in {key}, and whether this machine's DNS knows it (in a container: its \
             resolver and search domains)"
        ),
        ConnectError::Refused => {
            format!("start it, or correct the port in {key}")
        }
        ConnectError::Timeout => format!(
            "see whether {name} is overloaded, and whether a firewall or network policy drops the \
             connection from here"
        ),
        ConnectError::Certificate(CertificateError::UnknownIssuer) => match peer {
            Peer::Vault => {
                "put the CA certificate that signed Vault's into a PEM file and name it \
                            as vault.ca_file"
                    .to_owned()
            }
            Peer::Hubspot => "HubSpot's certificate is from a public authority: something between \
                              opens the connection, such as a company proxy; let it pass"
                .to_owned(),
        },
        ConnectError::Certificate(CertificateError::Expired) => format!(
            "renew the certificate of {name}; if it is good elsewhere, set this machine's clock"
        ),
        ConnectError::Certificate(CertificateError::NotYetValid) => {
            "set this machine's clock: it is behind".to_owned()
        }
        ConnectError::Certificate(CertificateError::NameMismatch) => {
            format!("use in {key} the name that the certificate is for")
        }
        ConnectError::Certificate(CertificateError::Other(_)) | ConnectError::Tls(_) => format!(
            "check that {key} names a TLS port if it begins with https, and that the certificate is \
             a good one"
        ),
        ConnectError::Io(_) => format!("see the logs of {name}, and of what stands between"),
    };
    Remediation::new(format!("{name} at {address} {why}"), fix)
}

/// Remediation of a failed login to Vault.
pub(super) fn vault_login(error: &vault::Error, config: &config::Vault) -> Remediation {
    let method = config.auth.method();
    let fix = match error {
        vault::Error::Connect(why) => return unreached(Peer::Vault, &config.address, why),
        vault::Error::File { file, .. } => {
            format!(
                "let {file} exist, be readable for this user, and hold what method {method} needs"
            )
        }
        vault::Error::Setup(_) => "check the certificates in [vault]".to_owned(),
        vault::Error::Unwrap(_) => {
            "make a new wrapped secret id, and put its token there".to_owned()
        }
        vault::Error::LoginRejected(_) | vault::Error::Denied | vault::Error::NotFound => {
            login_fix(&config.auth)
        }
        vault::Error::Invalid | vault::Error::CasConflict => {
            "check the keys of [vault.auth]".to_owned()
        }
        vault::Error::Unavailable(_) => "see Vault's own state: vault status".to_owned(),
    };
    let cause = match error {
        vault::Error::LoginRejected(status) => {
            format!("Vault refuses the login by method {method} with status {status}")
        }
        vault::Error::File { .. }
        | vault::Error::Setup(_)
        | vault::Error::Unwrap(_)
        | vault::Error::Denied
        | vault::Error::NotFound
        | vault::Error::CasConflict
        | vault::Error::Invalid
        | vault::Error::Connect(_)
        | vault::Error::Unavailable(_) => {
            format!("cannot log in to Vault by method {method}: {error}")
        }
    };
    Remediation::new(cause, fix)
}

fn login_fix(auth: &VaultAuth) -> String {
    match auth {
        VaultAuth::AppRole { mount, .. } => format!(
            "check the role id, and make a new secret id: they expire and can be used up (vault \
             write -f auth/{mount}/role/ROLE/secret-id)"
        ),
        VaultAuth::Kubernetes { mount, role, .. } => format!(
            "check that auth/{mount}/role/{role} exists and binds this pod's service account and \
             namespace, and that Vault can review tokens of this cluster"
        ),
        VaultAuth::Jwt { mount, .. } => format!(
            "check the role at auth/{mount}: its bound audiences and claims must fit the JWT, which \
             must not have expired"
        ),
        VaultAuth::UserPass { .. } => "check the user name and the password".to_owned(),
        VaultAuth::Cert { mount, .. } => format!(
            "register the client certificate or its CA at auth/{mount}/certs, and check that it has \
             not expired"
        ),
        VaultAuth::Token { .. } | VaultAuth::TokenFile { .. } => {
            "the token has expired, was revoked, or is none: make a new one (vault token create \
             -policy=leadsd -period=24h) and put it into the file"
                .to_owned()
        }
    }
}

/// Remediation of capabilities that Vault's policy does not grant.
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

/// Remediation of any other failure of Vault after a login.
pub(super) fn vault(error: &vault::Error, config: &config::Vault, path: &str) -> Remediation {
    match error {
        vault::Error::Denied => policy(path, &["read"]),
        vault::Error::Connect(why) => unreached(Peer::Vault, &config.address, why),
        vault::Error::File { .. }
        | vault::Error::Setup(_)
        | vault::Error::LoginRejected(_)
        | vault::Error::Unwrap(_)
        | vault::Error::NotFound
        | vault::Error::CasConflict
        | vault::Error::Invalid
        | vault::Error::Unavailable(_) => Remediation::new(
            format!("Vault does not give {path}: {error}"),
            "see Vault's own state: vault status",
        ),
    }
}

/// Remediation of a failure of HubSpot.
pub(super) fn hubspot(error: &DiagnosticsError, address: &url::Url) -> Remediation {
    let fix = match error {
        DiagnosticsError::Connect(why) => return unreached(Peer::Hubspot, address, why),
        DiagnosticsError::TokenExpired => {
            "run leadsd login for this portal, or store a token that lives".to_owned()
        }
        DiagnosticsError::Unauthorized => {
            "copy the token once more, in one piece; if it was rotated or its app \
                                deleted, store the new one: leadsd login --static"
                .to_owned()
        }
        DiagnosticsError::Rejected(code) => rejection_fix(code).to_owned(),
        DiagnosticsError::InvalidResponse => {
            "check that hubspot.base_url names HubSpot's API, and nothing in between \
                            answers in its place"
                .to_owned()
        }
        DiagnosticsError::Api(api) => api_fix(api),
    };
    let mut cause = error.to_string();
    if let DiagnosticsError::Api(api) = error {
        api.message().clone_into(&mut cause);
        let facts = api.upstream();
        if let Some(status) = facts.http_status {
            cause = format!("{cause} (status {status})");
        }
        if let Some(id) = &facts.correlation_id {
            cause = format!("{cause} (correlation id {id})");
        }
    }
    Remediation::new(cause, fix)
}

/// Remedy for an error that HubSpot answered.
fn api_fix(error: &leads::Error) -> String {
    match error.reason() {
        Reason::MissingScopes => {
            let scopes = &error.upstream().required_scopes;
            format!(
                "add a scope to the app or key, and let the account agree to it again: {}",
                if scopes.is_empty() { "see its scopes".to_owned() } else { scopes.join(" or ") }
            )
        }
        Reason::UpstreamForbidden => {
            "leads need Sales Hub Professional or Enterprise in this account, \
                              and a user who may see them"
                .to_owned()
        }
        Reason::CredentialRejected => "store a token that HubSpot knows: leadsd login".to_owned(),
        Reason::DailyLimitReached => "wait for midnight in the account's time zone, or raise the \
                                      limit of the account"
            .to_owned(),
        Reason::RateLimited => "wait ten seconds; if it stays so, see which other apps use this \
                                account's limits"
            .to_owned(),
        Reason::AccountLocked | Reason::AccountMigrating => {
            "wait: HubSpot opens the account again by itself".to_owned()
        }
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
        | Reason::UpstreamInvalidResponse
        | Reason::ResponseTooLarge
        | Reason::DeadlineExceeded
        | Reason::WriteOutcomeUnknown
        | Reason::BatchRejected
        | Reason::Internal
        | Reason::RequestTooLarge
        | Reason::Unauthenticated
        | Reason::CallerForbidden
        | Reason::AuthenticationUnavailable => {
            "see HubSpot's status page; its support asks for the correlation id".to_owned()
        }
    }
}

/// Remedy of a rejection by the token endpoint.
fn rejection_fix(code: &str) -> &'static str {
    match code {
        "BAD_CLIENT_ID" | "BAD_CLIENT_SECRET" | "invalid_client" | "unauthorized_client" => {
            "copy client id and client secret from the app's Auth page: they belong together, and a \
             secret that was rotated does not work any more. leadsd login --new-app asks for them"
        }
        "BAD_REDIRECT_URI" => {
            "register exactly this redirect URL with the app, or name one that it has"
        }
        "BAD_AUTH_CODE" => {
            "run leadsd login once more: a code works once, for a short time, and for one app"
        }
        "BAD_HUB" | "access_denied" => {
            "install the app in the account again: leadsd login; the account may forbid it"
        }
        _ => {
            "the app was uninstalled, or the grant revoked or replaced: run leadsd login for this \
             portal"
        }
    }
}

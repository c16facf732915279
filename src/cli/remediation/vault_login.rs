//! Remedies of failed logins to Vault, by auth method.

use super::{Peer, Remediation, connect};
use crate::{
    config::{self, VaultAuth},
    vault,
};

/// HTTP status of Vault for an unknown path.
const NOT_FOUND: u16 = 404;

/// Builds the remediation of a failed Vault login.
pub(in crate::cli) fn vault_login(error: &vault::Error, config: &config::Vault) -> Remediation {
    let method = config.auth.method();
    let fix = match error {
        vault::Error::Connect(error) => return connect(Peer::Vault, &config.address, error),
        vault::Error::File { file, .. } => {
            format!(
                "check that {file} exists, is readable by this user, and contains the credential \
                 for method {method}"
            )
        }
        vault::Error::Setup(_) => "check the certificates in [vault]".to_owned(),
        vault::Error::Unwrap(_) => {
            "create a new wrapped secret id, and store its wrapping token in the file".to_owned()
        }
        // Vault responds so for a namespace or an auth method that does not exist.
        vault::Error::LoginRejected(NOT_FOUND) | vault::Error::NotFound
            if config.namespace.is_some() =>
        {
            format!("{}; otherwise {}", namespace_fix(config), login_fix(&config.auth))
        }
        vault::Error::LoginRejected(_) | vault::Error::Denied | vault::Error::NotFound => {
            format!("{}; {}", login_fix(&config.auth), namespace_fix(config))
        }
        vault::Error::Invalid | vault::Error::CasConflict => {
            "check the keys of [vault.auth]".to_owned()
        }
        vault::Error::Unavailable(_) => "check the state of Vault: vault status".to_owned(),
    };
    let cause = match error {
        vault::Error::LoginRejected(status) => {
            format!("Vault rejected the login by method {method} with HTTP status {status}")
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

/// Remedy of a login or an engine in another namespace. Vault does not say whether a namespace exists.
pub(in crate::cli) fn namespace_fix(config: &config::Vault) -> String {
    match &config.namespace {
        Some(name) => format!(
            "check that auth method and engine are in the namespace {name} (vault.namespace)"
        ),
        None => "if they are in a namespace, set vault.namespace".to_owned(),
    }
}

fn login_fix(auth: &VaultAuth) -> String {
    match auth {
        VaultAuth::AppRole { mount, .. } => format!(
            "check the role id, and create a new secret id: secret ids expire and have a use limit \
             (vault write -f auth/{mount}/role/ROLE/secret-id)"
        ),
        VaultAuth::Kubernetes { mount, role, .. } => format!(
            "check that auth/{mount}/role/{role} exists and is bound to this pod's service account \
             and namespace, and that Vault can review tokens of this cluster"
        ),
        VaultAuth::Jwt { mount, .. } => format!(
            "check the role at auth/{mount}: its bound audiences and claims must match the JWT, and \
             the JWT must not be expired"
        ),
        VaultAuth::UserPass { .. } => "check the user name and the password".to_owned(),
        VaultAuth::Cert { mount, .. } => format!(
            "register the client certificate or its CA at auth/{mount}/certs, and check that it is \
             not expired"
        ),
        VaultAuth::Token { .. } | VaultAuth::TokenFile { .. } => {
            "the token is expired, revoked or invalid, or its policies do not allow \
             auth/token/lookup-self, as the policy default does: create a new one (vault token \
             create -policy=leadsd -period=24h) and store it in the file"
                .to_owned()
        }
    }
}

//! Credential obtained from HubSpot, and its form in Vault.

use crate::{
    hubspot::{AccountInfo, OAuthApp},
    vault::SecretData,
};
use leadsd_base::secret::Secret;

/// Keys of an OAuth credential.
const OAUTH_KEYS: [&str; 3] = ["client_id", "client_secret", "refresh_token"];

/// Credential that HubSpot accepts.
pub(super) struct ObtainedCredential {
    pub(super) kind: CredentialKind,
    pub(super) hub_id: Option<u64>,
    pub(super) hub_domain: Option<String>,
    pub(super) account: AccountInfo,
    /// `None` if HubSpot does not report scopes.
    pub(super) scopes: Option<Vec<String>>,
}

/// Kind of a credential.
pub(super) enum CredentialKind {
    Static(Secret),
    OAuth(OAuthApp, Secret),
}

// === impl ObtainedCredential ===

impl ObtainedCredential {
    /// Secret data to write: the keys of this kind, none of the other kind, and all unrelated keys of
    /// `old`.
    pub(super) fn into_data(self, old: Option<SecretData>) -> SecretData {
        let mut data = old.unwrap_or_default();
        for name in OAUTH_KEYS.into_iter().chain(["access_token", "hub_id"]) {
            data.remove(name);
        }
        match &self.kind {
            CredentialKind::Static(token) => data.set("access_token", token.expose()),
            CredentialKind::OAuth(OAuthApp { client_id, client_secret }, refresh_token) => {
                data.set("client_id", client_id);
                data.set("client_secret", client_secret.expose());
                data.set("refresh_token", refresh_token.expose());
            }
        }
        if let Some(id) = self.hub_id {
            data.set("hub_id", &id.to_string());
        }
        data
    }
}

/// OAuth app of a stored credential; `None` if client id or client secret is missing.
pub(super) fn stored_app(data: &SecretData) -> Option<OAuthApp> {
    let client_id = data.text("client_id")?.trim().to_owned();
    let client_secret = data.secret("client_secret")?;
    (!client_id.is_empty()).then_some(OAuthApp { client_id, client_secret })
}

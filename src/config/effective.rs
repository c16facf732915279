//! Defaults of keys whose default depends on other keys, or that belong to a section without defaults.
//! Validation applies them; [`Raw::with_defaults`] sets them for `config print`, which shows the
//! effective values.

use std::path::PathBuf;

use super::{
    callers::{CALLER_CLAIM, REFRESH_INTERVAL, WEIGHT},
    portals::default_secret,
    raw::{self, Raw},
    tls::CLIENT_AUTH,
    vault_auth::SERVICE_ACCOUNT_TOKEN,
};

// === impl Raw ===

impl Raw {
    /// Sets every key without a value to its default.
    pub(super) fn with_defaults(mut self) -> Self {
        self.vault.auth.set_defaults();
        if let Some(tls) = &mut self.grpc.tls
            && tls.client_ca_file.is_some()
        {
            tls.client_auth.get_or_insert_with(|| CLIENT_AUTH.to_owned());
        }
        if let Some(jwt) = &mut self.auth.jwt {
            jwt.caller_claim.get_or_insert_with(|| CALLER_CLAIM.to_owned());
            if jwt.jwks_url.is_some() {
                jwt.refresh_interval.get_or_insert_with(|| REFRESH_INTERVAL.to_owned());
            }
        }
        for policy in self.policy.values_mut() {
            policy.quota.get_or_insert(false);
            policy.export.get_or_insert(false);
            policy.import.get_or_insert(false);
            policy.create_contacts.get_or_insert(false);
            policy.weight.get_or_insert(WEIGHT);
        }
        for (name, portal) in &mut self.portals {
            portal.secret.get_or_insert_with(|| default_secret(name));
            portal.base_url.get_or_insert_with(|| self.hubspot.base_url.clone());
            portal.time_zone.get_or_insert_with(|| self.quota.time_zone.clone());
        }
        self
    }
}

// === impl VaultAuth ===

impl raw::VaultAuth {
    fn set_defaults(&mut self) {
        let Some(method) = self.method.clone() else { return };
        match method.as_str() {
            "kubernetes" => {
                self.jwt_file.get_or_insert_with(|| PathBuf::from(SERVICE_ACCOUNT_TOKEN));
            }
            "approle" if self.secret_id_file.is_some() => {
                self.secret_id_wrapped.get_or_insert(false);
            }
            "token" | "token_file" => return,
            _ => {}
        }
        self.mount.get_or_insert(method);
    }
}

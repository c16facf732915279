//! What stands around the service: a HubSpot and a Vault in the process of the load.

use std::{io::Write as _, sync::Arc};

use leadsd_base::time::SystemClock;
use leadsd_hubspot_fake::{FakeHubspot, READ, WRITE};
use leadsd_vault_fake::FakeVault;
use serde_json::json;
use tempfile::NamedTempFile;

/// Any free port on loopback.
pub(crate) const FREE: &str = "127.0.0.1:0";

/// A HubSpot and a Vault, with a credential for the portal `default`.
pub(crate) struct Peers {
    pub(crate) hubspot: FakeHubspot,
    pub(crate) contact: String,
    vault: FakeVault,
    token: NamedTempFile,
}

// === impl Peers ===

impl Peers {
    pub(crate) async fn start() -> Self {
        let free = FREE.parse().expect("an address");
        let hubspot = FakeHubspot::start(free, Arc::new(SystemClock)).await.expect("a HubSpot");
        let vault = FakeVault::start(free).await.expect("a Vault");
        let secret = hubspot.static_token(&[READ, WRITE]);
        vault.put("hubspot/default", json!({"access_token": secret.expose()}));
        let contact = hubspot.add_contact("ada@example.com");
        let mut token = NamedTempFile::new().expect("a file");
        writeln!(token, "{}", vault.root_token().expose()).expect("a token in a file");
        Self { hubspot, contact, vault, token }
    }

    /// Leads that calls can be about.
    pub(crate) fn leads(&self, count: usize) -> Vec<String> {
        let lead = |number| {
            let properties = json!({
                "hs_lead_name": format!("Lead {number}"), "hs_lead_label": "WARM",
                "hs_lead_type": "NEW_BUSINESS", "hs_lead_source": "bench",
            });
            self.hubspot.add_lead(&self.contact, &properties).expect("a good lead")
        };
        (0..count).map(lead).collect()
    }

    /// Allows so many calls in ten seconds.
    pub(crate) fn allow(&self, calls: usize) {
        self.hubspot.limit(|limits| limits.burst = calls);
    }

    /// What the service must be told to work with these.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        [
            ("VAULT__ADDRESS", format!("http://{}", self.vault.address())),
            ("VAULT__AUTH__METHOD", "token".to_owned()),
            ("VAULT__AUTH__FILE", self.token.path().display().to_string()),
            ("HUBSPOT__BASE_URL", format!("http://{}", self.hubspot.address())),
            ("PORTALS__DEFAULT__SECRET", "hubspot/default".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

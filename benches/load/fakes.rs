//! The HubSpot and the Vault that the service talks to: fakes in the process of the load.

use std::{io::Write as _, sync::Arc, time::Duration};

use leadsd_base::time::SystemClock;
use leadsd_hubspot_fake::{FakeHubspot, READ, WRITE};
use leadsd_vault_fake::FakeVault;
use serde_json::json;
use tempfile::NamedTempFile;

/// Any free port on loopback.
pub(crate) const ANY_PORT: &str = "127.0.0.1:0";

/// A HubSpot and a Vault, with a credential for the portal `default`.
pub(crate) struct Fakes {
    pub(crate) hubspot: FakeHubspot,
    /// Contact that leads can be associated with.
    pub(crate) contact: String,
    /// Access token of the portal.
    pub(crate) token: String,
    vault: FakeVault,
    vault_token: NamedTempFile,
}

// === impl Fakes ===

impl Fakes {
    pub(crate) async fn start() -> Self {
        let any = ANY_PORT.parse().expect("the address is valid");
        let hubspot = FakeHubspot::start(any, Arc::new(SystemClock)).await;
        let hubspot = hubspot.expect("the HubSpot fake starts");
        let vault = FakeVault::start(any).await.expect("the Vault fake starts");
        let token = hubspot.static_token(&[READ, WRITE]).expose().to_owned();
        vault.put("hubspot/default", json!({"access_token": token}));
        // The load searches for leads that it has just written.
        hubspot.behave(|behaviour| {
            behaviour.index_lag = Duration::ZERO;
            behaviour.echo_trace_ids = true;
        });
        let contact = hubspot.add_contact("ada@example.com");
        let mut vault_token = NamedTempFile::new().expect("a temporary file can be created");
        writeln!(vault_token, "{}", vault.root_token().expose()).expect("the file is writable");
        Self { hubspot, contact, token, vault, vault_token }
    }

    /// Creates leads.
    pub(crate) fn add_leads(&self, count: usize) -> Vec<String> {
        let add_lead = |number| {
            let properties = json!({
                "hs_lead_name": format!("Lead {number}"), "hs_lead_label": "WARM",
                "hs_lead_type": "NEW_BUSINESS", "hs_lead_source": "bench",
            });
            self.hubspot.add_lead(&self.contact, &properties).expect("the lead is valid")
        };
        (0..count).map(add_lead).collect()
    }

    /// Sets the number of calls that HubSpot allows in ten seconds.
    pub(crate) fn set_burst(&self, calls: usize) {
        self.hubspot.limit(|limits| limits.burst = calls);
    }

    /// Base URL of HubSpot.
    pub(crate) fn hubspot_url(&self) -> String {
        format!("http://{}", self.hubspot.address())
    }

    /// Configuration of a service that uses these fakes.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        [
            ("VAULT__ADDRESS", format!("http://{}", self.vault.address())),
            ("VAULT__AUTH__METHOD", "token".to_owned()),
            ("VAULT__AUTH__FILE", self.vault_token.path().display().to_string()),
            ("HUBSPOT__BASE_URL", self.hubspot_url()),
            ("PORTALS__DEFAULT__SECRET", "hubspot/default".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

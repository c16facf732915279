//! `leadsd doctor` as an operator runs it: faults are planted in the fakes, in proxies and in the
//! configuration, and the right check reports each.

mod callers;
mod conformance;
mod planted_faults;
mod reports;

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::Arc,
};

use crate::harness::LEADSD;
use leadsd_base::{
    secret::{SECRET_MARKER, Secret},
    time::{SystemClock, WallClock},
};
use leadsd_hubspot_fake::{FakeHubspot, READ, WRITE};
use leadsd_vault_fake::FakeVault;
use serde_json::{Value, json};
use tempfile::TempDir;

const FREE: &str = "127.0.0.1:0";

/// Policy of the doctor's login.
const POLICY: [(&str, &[&str]); 2] = [
    ("secret/data/hubspot/", &["read", "create", "update"]),
    ("secret/metadata/hubspot", &["read", "list"]),
];

/// A HubSpot and a Vault, with a valid configuration for both.
struct World {
    hubspot: FakeHubspot,
    vault: FakeVault,
    folder: TempDir,
    vault_url: String,
    auth: String,
    hubspot_url: String,
    /// Configuration keys by section.
    grpc: String,
    admin: String,
    vault_keys: String,
    hubspot_keys: String,
    portal_keys: String,
    /// Further sections.
    sections: String,
    /// Configured time zone of the account.
    time_zone: &'static str,
    /// The static token in Vault.
    token: Secret,
}

/// A report.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    report: Value,
}

// === impl World ===

impl World {
    async fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock)).await
    }

    /// Uses a HubSpot with this clock.
    async fn with_clock(clock: Arc<dyn WallClock>) -> Self {
        let hubspot = FakeHubspot::start(FREE.parse().unwrap(), clock).await.unwrap();
        let vault = FakeVault::start(FREE.parse().unwrap()).await.unwrap();
        let token = hubspot.static_token(&[READ, WRITE]);
        vault.put("hubspot/default", json!({"access_token": token.expose()}));
        let mut world = Self {
            vault_url: format!("http://{}", vault.address()),
            hubspot_url: format!("http://{}", hubspot.address()),
            hubspot,
            vault,
            folder: tempfile::tempdir().unwrap(),
            auth: String::new(),
            grpc: format!("listen = \"{FREE}\""),
            admin: format!("listen = \"{FREE}\""),
            vault_keys: String::new(),
            hubspot_keys: String::new(),
            portal_keys: String::new(),
            sections: String::new(),
            // The same as the fake's, by another name.
            time_zone: "America/New_York",
            token,
        };
        world.allow(&POLICY);
        world
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path
    }

    /// Uses an AppRole with these capabilities.
    fn allow(&mut self, rules: &[(&str, &[&str])]) {
        self.vault.allow(rules);
        let (role, secret) = self.vault.approle();
        let (role, secret) =
            (self.file("role-id", role.expose()), self.file("secret-id", secret.expose()));
        self.auth = format!(
            "method = \"approle\"\nrole_id_file = \"{}\"\nsecret_id_file = \"{}\"",
            role.display(),
            secret.display()
        );
    }

    /// Stores an OAuth grant in Vault instead of the static token.
    fn oauth(&self) -> (String, Secret, Secret) {
        let app = self.hubspot.oauth_app();
        let keys = json!({"client_id": app.0, "client_secret": app.1.expose(),
                          "refresh_token": app.2.expose()});
        self.vault.put("hubspot/default", keys);
        app
    }

    fn config(&self) -> PathBuf {
        let Self { vault_url, auth, hubspot_url, .. } = self;
        let Self {
            grpc, admin, vault_keys, hubspot_keys, portal_keys, sections, time_zone, ..
        } = self;
        let text = format!(
            "[grpc]\n{grpc}\n[admin]\n{admin}\n\
             [vault]\naddress = \"{vault_url}\"\n{vault_keys}\n[vault.auth]\n{auth}\n\
             [hubspot]\nbase_url = \"{hubspot_url}\"\n{hubspot_keys}\n\
             [quota]\ntime_zone = \"{time_zone}\"\n\
             [portals.default]\n{portal_keys}\n{sections}"
        );
        self.file("leadsd.toml", &text)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(LEADSD);
        command.arg("doctor").arg("--config").arg(self.config()).args(arguments).env_clear();
        let output = command.output().unwrap();
        for side in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(side);
            assert!(!text.contains(SECRET_MARKER), "a secret was printed: {text}");
        }
        output
    }

    async fn diagnose(&self) -> Said {
        self.diagnose_with(&[]).await
    }

    async fn diagnose_with(&self, arguments: &[&str]) -> Said {
        let arguments = [&["--json"], arguments].concat();
        let output = tokio::task::block_in_place(|| self.run(&arguments));
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            panic!("no report: {}", String::from_utf8_lossy(&output.stderr));
        });
        let said = Said { code: output.status.code(), report };
        said.assert_well_formed();
        said
    }
}

// === impl Said ===

impl Said {
    fn checks(&self) -> &[Value] {
        self.report["checks"].as_array().unwrap()
    }

    /// Result of a check for the portal `default`, or for all portals.
    fn check_result(&self, check: &str) -> &Value {
        let found = self.checks().iter().find(|found| found["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {:#}", self.report))
    }

    /// Checks with this result.
    fn with(&self, result: &str) -> Vec<&str> {
        let found = self.checks().iter().filter(|found| found["result"] == result);
        found.map(|found| found["check"].as_str().unwrap()).collect()
    }

    /// Asserts the invariants of every report.
    fn assert_well_formed(&self) {
        assert_eq!(self.report["version"], 1);
        let worst = match (self.with("fail").len(), self.with("warn").len()) {
            (0, 0) => "ok",
            (0, _) => "warn",
            _ => "fail",
        };
        assert_eq!(self.report["result"], worst);
        assert_eq!(self.code, Some(i32::from(worst == "fail")), "{:#}", self.report);
        for found in self.checks() {
            let has = |key: &str| found[key].as_str().is_some_and(|text| !text.is_empty());
            let told = match found["result"].as_str().unwrap() {
                "ok" => has("found"),
                "warn" | "fail" => has("cause") && has("fix"),
                "skipped" => {
                    let because = found["because"].as_str().unwrap();
                    self.checks().iter().any(|other| other["check"] == because)
                }
                other => panic!("an unknown result: {other}"),
            };
            assert!(told && has("check") && found["ms"].is_number(), "{found:#}");
        }
    }
}

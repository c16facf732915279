//! Checks of the secret of one portal: Vault policy and stored keys.

use tokio::time::Instant;

use super::{
    check::{Area, Check, CheckResult},
    credential::{Credential, parse_credential},
    report::Report,
};
use leadsd_credentials::SecretPath;

use crate::{
    cli::remediation::{self, PortalApi, Remediation},
    config::Config,
    hubspot::DiagnosticsError,
    leads::{PortalName, Reason},
    vault::{AdminClient, Error, SecretData, SecretVersion},
};

/// Secret of one portal, and the client that reads it.
#[derive(Clone)]
pub(super) struct SecretLocation<'a> {
    pub(super) config: &'a Config,
    pub(super) name: PortalName,
    pub(super) path: SecretPath,
    pub(super) vault_client: &'a AdminClient,
}

/// Secret with a valid credential.
pub(super) struct StoredCredential {
    pub(super) stored: SecretVersion,
    pub(super) keys: SecretData,
    pub(super) credential: Credential,
}

// === impl SecretLocation ===

impl SecretLocation<'_> {
    /// Runs the checks; `None` if the secret contains no credential.
    pub(super) async fn examine(&self, report: &mut Report) -> Option<StoredCredential> {
        let stored_credential = self.run_checks(report).await;
        if stored_credential.is_none() {
            report.skip_rest(Area::Secret, Some(self.name.as_str()));
        }
        stored_credential
    }

    async fn run_checks(&self, report: &mut Report) -> Option<StoredCredential> {
        let name = Some(self.name.as_str());
        let since = Instant::now();
        // The kind of credential determines which capabilities are needed.
        let stored = self.vault_client.read(&self.path).await;
        let oauth = stored.as_ref().is_ok_and(|stored| {
            let keys = stored.as_ref().and_then(|stored| stored.data.as_ref());
            keys.is_some_and(|keys| keys.has("refresh_token"))
        });
        let policy = async {
            match self.api_path(&stored) {
                Some(remediation) => CheckResult::fail(remediation),
                None => self.check_policy(oauth).await,
            }
        };
        report.check(Check::VaultPolicy, name, policy).await?;
        let CheckResult { value, outcome } = self.check_secret(stored);
        report.note(Check::VaultSecret, name, outcome, since.elapsed());
        value
    }

    /// Remediation if the configured path is that of Vault's API, such as `secret/data/hubspot/default`, and no
    /// secret can be read there. `None` otherwise.
    fn api_path(&self, stored: &Result<Option<SecretVersion>, Error>) -> Option<Remediation> {
        if matches!(stored, Ok(Some(_))) {
            return None;
        }
        let is_configured = self.config.portals.contains_key(&self.name);
        let key = match is_configured {
            true => format!("portals.{}.secret", self.name),
            false => "portal_discovery.path".to_owned(),
        };
        // The key of discovery is the folder of the secrets.
        let shown = |plain: &str| match (is_configured, plain.rsplit_once('/')) {
            (false, Some((folder, _))) => folder.to_owned(),
            (true, _) | (false, None) => plain.to_owned(),
        };
        remediation::api_path(&key, &self.path, &self.config.vault.mount, shown)
    }

    /// Checks that the policy allows what the service does with the secret.
    async fn check_policy(&self, oauth: bool) -> CheckResult<()> {
        let (data, metadata) =
            (self.vault_client.data_path(&self.path), self.vault_client.metadata_path(&self.path));
        let paths = [data.clone(), metadata.clone()];
        let Ok(may) = self.vault_client.capabilities(&paths).await else {
            return CheckResult::ok((), "unknown: Vault does not report capabilities");
        };
        let allowed = |index: usize, what: &str| {
            may.get(index).is_some_and(|may| may.iter().any(|may| may == what || may == "root"))
        };
        if !allowed(0, "read") {
            return CheckResult::fail(remediation::policy(&data, &["read"]));
        }
        if oauth && !allowed(0, "update") {
            let Remediation { cause, fix } = remediation::policy(&data, &["read", "update"]);
            let cause = format!("{cause}: a refresh token that HubSpot rotates would be lost");
            return CheckResult::warn((), cause, fix);
        }
        if !allowed(1, "read") {
            let Remediation { cause, fix } = remediation::policy(&metadata, &["read"]);
            let cause = format!("{cause}: leadsd reads the whole secret at each poll instead");
            return CheckResult::warn((), cause, fix);
        }
        let may = |index: usize| may.get(index).map(|may| may.join(", ")).unwrap_or_default();
        CheckResult::ok((), format!("{data}: {}; {metadata}: {}", may(0), may(1)))
    }

    /// Builds the remediation of a failed HubSpot request for this portal.
    pub(super) fn remediation(&self, error: &DiagnosticsError) -> Remediation {
        let api = PortalApi::new(self.config, &self.name);
        let mut remediation = remediation::hubspot(error, &api);
        if let DiagnosticsError::Api(error) = error
            && error.reason() == Reason::LeadNotFound
        {
            "check hubspot.api_version".clone_into(&mut remediation.fix);
        }
        remediation
    }

    /// Evaluates the secret as it was read.
    fn check_secret(
        &self,
        stored: Result<Option<SecretVersion>, Error>,
    ) -> CheckResult<StoredCredential> {
        let (location, name) = (self.vault_client.data_path(&self.path), &self.name);
        let stored = match stored {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                return CheckResult::fail(Remediation::new(
                    format!("there is no secret at {location}"),
                    format!("store the credential: leadsd login --portal {name}"),
                ));
            }
            Err(error) => {
                return CheckResult::fail(remediation::vault(
                    &error,
                    &self.config.vault,
                    &location,
                ));
            }
        };
        let Some(keys) = stored.data.clone() else {
            let version = stored.version;
            return CheckResult::fail(Remediation::new(
                format!("the newest version of {location} ({version}) is deleted"),
                format!(
                    "restore it (vault kv undelete -versions={version} ...), or run leadsd login \
                     --portal {name}"
                ),
            ));
        };
        let found = |kind: &str| format!("{kind}, version {}", stored.version);
        match parse_credential(&keys) {
            Ok((credential, None)) => {
                let found = found(credential.kind());
                CheckResult::ok(StoredCredential { stored, keys, credential }, found)
            }
            Ok((credential, Some(Remediation { cause, fix }))) => CheckResult::warn(
                StoredCredential { stored, keys, credential },
                format!("{location}: {cause}"),
                fix,
            ),
            Err(Remediation { cause, fix }) => CheckResult::fail(Remediation::new(
                format!("{location}: {cause}"),
                format!("{fix}: leadsd login --portal {name}"),
            )),
        }
    }
}

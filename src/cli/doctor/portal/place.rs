//! Where a portal's credential is kept: what the login may do there, and what is there.

use tokio::time::Instant;

use super::secret::{Credential, judged};
use leadsd_credentials::SecretPath;

use crate::{
    cli::{
        doctor::{
            check::{Area, Check, Seen},
            report::Report,
        },
        remediation::{self, Remediation},
    },
    config::Config,
    leads::PortalName,
    vault::{AdminClient, Error, SecretData, SecretVersion},
};

/// The secret of one portal, and what asks for it.
#[derive(Clone)]
pub(in crate::cli::doctor) struct Place<'a> {
    pub(in crate::cli::doctor) config: &'a Config,
    pub(in crate::cli::doctor) name: PortalName,
    pub(in crate::cli::doctor) path: SecretPath,
    pub(in crate::cli::doctor) vault_client: &'a AdminClient,
}

/// What is there.
pub(in crate::cli::doctor) struct Held {
    pub(super) stored: SecretVersion,
    pub(super) keys: SecretData,
    pub(super) credential: Credential,
}

// === impl Place ===

impl Place<'_> {
    /// Looks at the place and at what is there; nothing if that is no credential.
    pub(in crate::cli::doctor) async fn examine(&self, report: &mut Report) -> Option<Held> {
        let held = self.looked_at(report).await;
        if held.is_none() {
            report.skip_rest(Area::Secret, Some(self.name.as_str()));
        }
        held
    }

    async fn looked_at(&self, report: &mut Report) -> Option<Held> {
        let name = Some(self.name.as_str());
        let since = Instant::now();
        // What the secret is decides which capabilities are needed.
        let stored = self.vault_client.read(&self.path).await;
        let oauth = stored.as_ref().is_ok_and(|stored| {
            let keys = stored.as_ref().and_then(|stored| stored.data.as_ref());
            keys.is_some_and(|keys| keys.has("refresh_token"))
        });
        report.check(Check::VaultPolicy, name, self.policy(oauth)).await?;
        let Seen { value, outcome } = self.stored(stored);
        report.note(Check::VaultSecret, name, outcome, since.elapsed());
        value
    }

    /// What the service does at the secret's paths, and whether that is allowed.
    async fn policy(&self, oauth: bool) -> Seen<()> {
        let (data, metadata) =
            (self.vault_client.data_path(&self.path), self.vault_client.metadata_path(&self.path));
        let paths = [data.clone(), metadata.clone()];
        let Ok(may) = self.vault_client.capabilities(&paths).await else {
            return Seen::ok((), "Vault does not say; the next check shows");
        };
        let allowed = |index: usize, what: &str| {
            may.get(index).is_some_and(|may| may.iter().any(|may| may == what || may == "root"))
        };
        if !allowed(0, "read") {
            return Seen::fail(remediation::policy(&data, &["read"]));
        }
        if !allowed(1, "read") {
            return Seen::fail(remediation::policy(&metadata, &["read"]));
        }
        if oauth && !allowed(0, "update") {
            let Remediation { cause, fix } = remediation::policy(&data, &["read", "update"]);
            let cause = format!("{cause}: a refresh token that HubSpot replaces would be lost");
            return Seen::warn((), cause, fix);
        }
        let may = |index: usize| may.get(index).map(|may| may.join(", ")).unwrap_or_default();
        Seen::ok((), format!("{data}: {}; {metadata}: {}", may(0), may(1)))
    }

    fn stored(&self, stored: Result<Option<SecretVersion>, Error>) -> Seen<Held> {
        let (place, name) = (self.vault_client.data_path(&self.path), &self.name);
        let stored = match stored {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                return Seen::fail(Remediation::new(
                    format!("there is no secret at {place}"),
                    format!("store the credential: leadsd login --portal {name}"),
                ));
            }
            Err(error) => {
                return Seen::fail(remediation::vault(&error, &self.config.vault, &place));
            }
        };
        let Some(keys) = stored.data.clone() else {
            let version = stored.version;
            return Seen::fail(Remediation::new(
                format!("the newest version of {place}, {version}, is deleted"),
                format!(
                    "bring it back (vault kv undelete -versions={version} ...), or leadsd login \
                     --portal {name}"
                ),
            ));
        };
        let found = |kind: &str| format!("{kind}, version {}", stored.version);
        match judged(&keys) {
            Ok((credential, None)) => {
                let found = found(credential.kind());
                Seen::ok(Held { stored, keys, credential }, found)
            }
            Ok((credential, Some(Remediation { cause, fix }))) => {
                Seen::warn(Held { stored, keys, credential }, format!("{place}: {cause}"), fix)
            }
            Err(Remediation { cause, fix }) => Seen::fail(Remediation::new(
                format!("{place}: {cause}"),
                format!("{fix}: leadsd login --portal {name}"),
            )),
        }
    }
}

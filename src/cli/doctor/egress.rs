//! Check of the credentials of the egress proxy, which later checks use.

use std::time::Duration;

use super::{
    check::{Check, CheckOutcome, CheckResult},
    report::Report,
};
use crate::{
    cli::remediation,
    config::Config,
    vault::{AdminClient, read_proxy_credentials},
};

/// Reads the credentials, if the configuration has a secret for them.
pub(super) async fn examine(
    config: &Config,
    vault_client: Option<&AdminClient>,
    vault_failed: Option<Check>,
    report: &mut Report,
) {
    let Some(path) = &config.egress.credentials_secret else { return };
    let Some(vault_client) = vault_client else {
        let because = CheckOutcome::Skipped(vault_failed.unwrap_or(Check::VaultLogin));
        report.note(Check::EgressCredentials, None, because, Duration::ZERO);
        return;
    };
    let location = vault_client.data_path(path);
    let read = async {
        match read_proxy_credentials(vault_client, path).await {
            Ok(credentials) => {
                config.egress.policy.set_credentials(credentials);
                CheckResult::ok((), location)
            }
            Err(error) => {
                CheckResult::fail(remediation::proxy_credentials(&error, config, &location))
            }
        }
    };
    report.check(Check::EgressCredentials, None, read).await;
}

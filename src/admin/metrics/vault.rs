//! Metrics of the Vault session.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::metric::{Metric, SampleWriter, count, counter, flag, gauge, seconds};
use crate::vault::{Session, SessionState};

const VAULT_LOGGED_IN: Metric =
    gauge("leadsd_vault_logged_in", &["method"], "1 if the service is logged in to Vault");
const VAULT_EXPIRES_IN: Metric = gauge(
    "leadsd_vault_token_expires_in_seconds",
    &["method"],
    "Time until the Vault token expires without another renewal; absent if it does not expire",
);
const VAULT_TOKEN_REPLACED: Metric = gauge(
    "leadsd_vault_token_replaced",
    &["method"],
    "1 if the Vault token is renewed or replaced before it expires; 0 if an operator has to replace it",
);
const SECRET_ID_EXPIRES_IN: Metric = gauge(
    "leadsd_vault_secret_id_expires_in_seconds",
    &["method"],
    "Time until the secret id of the AppRole expires; absent if it does not expire, with other methods, and if the policy does not allow its lookup",
);
const CERTIFICATE_EXPIRES_IN: Metric = gauge(
    "leadsd_vault_client_certificate_expires_in_seconds",
    &["method"],
    "Time until the client certificate of vault.client_cert_file expires, negative after that; absent without one",
);
const VAULT_LOGINS: Metric =
    counter("leadsd_vault_logins", &["method", "outcome"], "Logins to Vault: ok or failed");
const VAULT_RENEWALS: Metric = counter(
    "leadsd_vault_renewals",
    &["method", "outcome"],
    "Renewals of the Vault token: ok or failed",
);

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] = &[
    VAULT_LOGGED_IN,
    VAULT_EXPIRES_IN,
    VAULT_TOKEN_REPLACED,
    SECRET_ID_EXPIRES_IN,
    CERTIFICATE_EXPIRES_IN,
    VAULT_LOGINS,
    VAULT_RENEWALS,
];

#[derive(Debug)]
struct VaultCollector(Session);

pub(super) fn register(registry: &mut Registry, session: &Session) {
    registry.register_collector(Box::new(VaultCollector(session.clone())));
}

// === impl VaultCollector ===

impl Collector for VaultCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = SampleWriter(encoder);
        let status = self.0.status();
        let method = status.method;
        let outcomes = |ok, failed| {
            [("ok", ok), ("failed", failed)]
                .map(|(outcome, times)| ([method, outcome], count(times)))
        };
        let is_logged_in = flag(status.state == SessionState::LoggedIn);
        writer.samples(VAULT_LOGGED_IN, [([method], is_logged_in)])?;
        let expires_in = seconds(status.expires_in).map(|left| ([method], left));
        writer.samples(VAULT_EXPIRES_IN, expires_in)?;
        writer.samples(VAULT_TOKEN_REPLACED, [([method], flag(status.is_replaced))])?;
        let secret_id = seconds(status.secret_id_expires_in).map(|left| ([method], left));
        writer.samples(SECRET_ID_EXPIRES_IN, secret_id)?;
        let certificate = status.certificate_expires_in_s().map(|left| ([method], left));
        writer.samples(CERTIFICATE_EXPIRES_IN, certificate)?;
        writer.samples(VAULT_LOGINS, outcomes(status.logins, status.login_failures))?;
        writer.samples(VAULT_RENEWALS, outcomes(status.renewals, status.renewal_failures))
    }
}

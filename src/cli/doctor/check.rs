//! The checks, in the order in which they are made, and what each can come to.

use std::time::Duration;

use crate::cli::advice::Advice;

/// One thing that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Check {
    Config,
    VaultDns,
    VaultTcp,
    VaultTls,
    VaultHealth,
    VaultLogin,
    VaultToken,
    VaultEngine,
    HubspotDns,
    HubspotTcp,
    HubspotTls,
    HubspotApi,
    HubspotClock,
    VaultPolicy,
    VaultSecret,
    HubspotToken,
    HubspotAccount,
    HubspotScopes,
    HubspotLeads,
    HubspotPipelines,
    HubspotProperties,
    HubspotRequestId,
    HubspotQuota,
    HubspotWrite,
}

/// What a check is about: what it needs decides which others it takes down with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    Config,
    Vault,
    Hubspot,
    Portal,
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it should be; says what was found.
    Ok(String),
    /// It works, and will not for long or not for everything.
    Warn(Advice),
    /// It does not work.
    Fail(Advice),
    /// It was not looked at: this one has to be mended first.
    Skipped(Check),
}

/// An outcome with its check.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) check: Check,
    /// None for what is the same for all portals.
    pub(super) portal: Option<String>,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

/// What a check found out, for those that come after it.
pub(super) struct Seen<T> {
    /// None if nothing that needs it can be looked at.
    pub(super) value: Option<T>,
    pub(super) outcome: Outcome,
}

// === impl Check ===

impl Check {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 24] = [
        Self::Config,
        Self::VaultDns,
        Self::VaultTcp,
        Self::VaultTls,
        Self::VaultHealth,
        Self::VaultLogin,
        Self::VaultToken,
        Self::VaultEngine,
        Self::HubspotDns,
        Self::HubspotTcp,
        Self::HubspotTls,
        Self::HubspotApi,
        Self::HubspotClock,
        Self::VaultPolicy,
        Self::VaultSecret,
        Self::HubspotToken,
        Self::HubspotAccount,
        Self::HubspotScopes,
        Self::HubspotLeads,
        Self::HubspotPipelines,
        Self::HubspotProperties,
        Self::HubspotRequestId,
        Self::HubspotQuota,
        Self::HubspotWrite,
    ];

    /// Its name, which does not change.
    pub(super) fn name(self) -> &'static str {
        self.facts().0
    }

    pub(super) fn area(self) -> Area {
        self.facts().1
    }

    /// What is looked at, for `docs/DOCTOR.md`.
    #[cfg(test)]
    pub(super) fn meaning(self) -> &'static str {
        self.facts().2
    }

    fn facts(self) -> (&'static str, Area, &'static str) {
        use Area::{Config, Hubspot, Portal, Vault};
        match self {
            Self::Config => ("config", Config, "the configuration is right"),
            Self::VaultDns => ("vault.dns", Vault, "the name in `vault.address` has an address"),
            Self::VaultTcp => ("vault.tcp", Vault, "its port takes connections"),
            Self::VaultTls => {
                ("vault.tls", Vault, "its certificate is trusted, in time, and for this name")
            }
            Self::VaultHealth => ("vault.health", Vault, "it is set up, unsealed, and serves"),
            Self::VaultLogin => ("vault.login", Vault, "the login of `[vault.auth]` works"),
            Self::VaultToken => {
                ("vault.token", Vault, "how long the login lasts, and its policies")
            }
            Self::VaultEngine => ("vault.engine", Vault, "`vault.mount` is a KV engine, version 2"),
            Self::HubspotDns => {
                ("hubspot.dns", Hubspot, "the name in `hubspot.base_url` has an address")
            }
            Self::HubspotTcp => ("hubspot.tcp", Hubspot, "its port takes connections"),
            Self::HubspotTls => {
                ("hubspot.tls", Hubspot, "its certificate is trusted, in time, and for this name")
            }
            Self::HubspotApi => ("hubspot.api", Hubspot, "what answers there is HubSpot's API"),
            Self::HubspotClock => {
                ("hubspot.clock", Hubspot, "this machine's clock goes as HubSpot's")
            }
            Self::VaultPolicy => {
                ("vault.policy", Portal, "the login may do what leadsd does at the secret's paths")
            }
            Self::VaultSecret => {
                ("vault.secret", Portal, "the secret is there, with the right keys")
            }
            Self::HubspotToken => ("hubspot.token", Portal, "HubSpot accepts the credential"),
            Self::HubspotAccount => ("hubspot.account", Portal, "which account it is of"),
            Self::HubspotScopes => ("hubspot.scopes", Portal, "it has the scopes for leads"),
            Self::HubspotLeads => {
                ("hubspot.leads", Portal, "leads can be read (one is, with `limit=1`)")
            }
            Self::HubspotPipelines => {
                ("hubspot.pipelines", Portal, "pipelines of leads can be read, and there is one")
            }
            Self::HubspotProperties => {
                ("hubspot.properties", Portal, "properties of leads can be read")
            }
            Self::HubspotRequestId => (
                "hubspot.request_id_property",
                Portal,
                "the portal's `request_id_property` exists, is a text, and has unique values",
            ),
            Self::HubspotQuota => ("hubspot.quota", Portal, "how many calls are left"),
            Self::HubspotWrite => (
                "hubspot.write",
                Portal,
                "with `--write-probe`: a lead can be created and archived",
            ),
        }
    }
}

// === impl Outcome ===

impl Outcome {
    pub(super) fn warn(cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Warn(Advice::new(cause, fix))
    }

    pub(super) fn fail(cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Fail(Advice::new(cause, fix))
    }

    /// Its name in the report.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Warn(_) => "warn",
            Self::Fail(_) => "fail",
            Self::Skipped(_) => "skipped",
        }
    }
}

// === impl Seen ===

impl<T> Seen<T> {
    pub(super) fn ok(value: T, found: impl Into<String>) -> Self {
        Self { value: Some(value), outcome: Outcome::Ok(found.into()) }
    }

    pub(super) fn warn(value: T, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { value: Some(value), outcome: Outcome::warn(cause, fix) }
    }

    pub(super) fn fail(advice: Advice) -> Self {
        Self { value: None, outcome: Outcome::Fail(advice) }
    }
}

impl From<Outcome> for Seen<()> {
    fn from(outcome: Outcome) -> Self {
        let good = matches!(outcome, Outcome::Ok(_) | Outcome::Warn(_));
        Self { value: good.then_some(()), outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::Check;

    #[test]
    fn checks_are_listed_in_their_order_and_documented() {
        assert!(Check::ALL.is_sorted());
        let page = include_str!("../../../docs/DOCTOR.md");
        let rows: Vec<String> = Check::ALL
            .iter()
            .map(|check| format!("| `{}` | {} |", check.name(), check.meaning()))
            .collect();
        let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows, listed, "docs/DOCTOR.md lists the checks in their order");
    }
}

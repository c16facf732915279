//! Checks in execution order, and their outcomes.

use std::time::Duration;

use tokio::time::Instant;

use crate::cli::remediation::Remediation;

/// Timeout for one check.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Check of `leadsd doctor`.
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
    EgressCredentials,
    VaultPolicy,
    VaultSecret,
    HubspotDns,
    HubspotTcp,
    HubspotTls,
    HubspotApi,
    HubspotClock,
    HubspotToken,
    HubspotAccount,
    HubspotScopes,
    HubspotLeads,
    HubspotPipelines,
    HubspotProperties,
    HubspotSchema,
    HubspotRequestId,
    HubspotQuota,
    HubspotWrite,
    HubspotConformance,
    GrpcCertificate,
    CaFiles,
    GrpcCallers,
    AuthJwks,
    AuthApiKeys,
    AdminApiKeys,
    QuotaShared,
    TraceCollector,
    GrpcListen,
    AdminListen,
}

/// Subject of checks. A failed check skips the rest of its area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    Config,
    Vault,
    Egress,
    Secret,
    Hubspot,
    Portal,
    Service,
}

/// Checks in execution order: name, area and meaning.
const TABLE: [(Check, &str, Area, &str); 37] = [
    (Check::Config, "config", Area::Config, "the configuration is valid"),
    (Check::VaultDns, "vault.dns", Area::Vault, "the host in `vault.address` resolves"),
    (Check::VaultTcp, "vault.tcp", Area::Vault, "Vault accepts TCP connections"),
    (
        Check::VaultTls,
        "vault.tls",
        Area::Vault,
        "Vault's certificate is trusted, not expired, and matches the host name",
    ),
    (Check::VaultHealth, "vault.health", Area::Vault, "Vault is initialized, unsealed and active"),
    (Check::VaultLogin, "vault.login", Area::Vault, "the login of `[vault.auth]` succeeds"),
    (Check::VaultToken, "vault.token", Area::Vault, "time to live and policies of the Vault token"),
    (Check::VaultEngine, "vault.engine", Area::Vault, "`vault.mount` is a KV version 2 engine"),
    (
        Check::EgressCredentials,
        "egress.credentials",
        Area::Egress,
        "the secret of `egress.credentials_secret` has the proxy's `username` and `password`",
    ),
    (
        Check::VaultPolicy,
        "vault.policy",
        Area::Secret,
        "the policy grants the capabilities that leadsd needs on the secret",
    ),
    (
        Check::VaultSecret,
        "vault.secret",
        Area::Secret,
        "the secret exists and has the required keys",
    ),
    (
        Check::HubspotDns,
        "hubspot.dns",
        Area::Hubspot,
        "the host in `hubspot.base_url`, or in that of a portal, resolves",
    ),
    (Check::HubspotTcp, "hubspot.tcp", Area::Hubspot, "HubSpot accepts TCP connections"),
    (
        Check::HubspotTls,
        "hubspot.tls",
        Area::Hubspot,
        "HubSpot's certificate is trusted, not expired, and matches the host name",
    ),
    (Check::HubspotApi, "hubspot.api", Area::Hubspot, "the responding server is HubSpot's API"),
    (
        Check::HubspotClock,
        "hubspot.clock",
        Area::Hubspot,
        "this machine's clock agrees with HubSpot's",
    ),
    (Check::HubspotToken, "hubspot.token", Area::Portal, "HubSpot accepts the credential"),
    (
        Check::HubspotAccount,
        "hubspot.account",
        Area::Portal,
        "account of the credential, and whether its time zone is the configured one",
    ),
    (
        Check::HubspotScopes,
        "hubspot.scopes",
        Area::Portal,
        "the credential has the scopes for leads",
    ),
    (
        Check::HubspotLeads,
        "hubspot.leads",
        Area::Portal,
        "leads can be read (one request with `limit=1`)",
    ),
    (
        Check::HubspotPipelines,
        "hubspot.pipelines",
        Area::Portal,
        "lead pipelines can be read, and at least one exists",
    ),
    (Check::HubspotProperties, "hubspot.properties", Area::Portal, "lead properties can be read"),
    (
        Check::HubspotSchema,
        "hubspot.schema",
        Area::Portal,
        "association types and owners can be read, which SchemaService lists",
    ),
    (
        Check::HubspotRequestId,
        "hubspot.request_id_property",
        Area::Portal,
        "the portal's `request_id_property` exists, is a text property, and has unique values",
    ),
    (Check::HubspotQuota, "hubspot.quota", Area::Portal, "remaining calls of the quota"),
    (
        Check::HubspotWrite,
        "hubspot.write",
        Area::Portal,
        "with `--write-probe`: a lead can be created and archived",
    ),
    (
        Check::HubspotConformance,
        "hubspot.conformance",
        Area::Portal,
        "with `--conformance`: HubSpot behaves as leadsd expects",
    ),
    (
        Check::GrpcCertificate,
        "grpc.certificate",
        Area::Service,
        "the certificate chain of `[grpc.tls]` is valid",
    ),
    (
        Check::CaFiles,
        "ca_files",
        Area::Service,
        "no CA of the files that the configuration names expires within two weeks",
    ),
    (
        Check::GrpcCallers,
        "grpc.callers",
        Area::Service,
        "callers are authenticated, or anonymous calls are enabled",
    ),
    (Check::AuthJwks, "auth.jwks", Area::Service, "the issuer keys of `[auth.jwt]` can be loaded"),
    (
        Check::AuthApiKeys,
        "auth.api_keys",
        Area::Service,
        "the secret of `[auth.api_keys]` contains valid key hashes",
    ),
    (
        Check::AdminApiKeys,
        "admin.api_keys",
        Area::Service,
        "the secret of `admin.api_keys_secret` contains valid key hashes",
    ),
    (
        Check::QuotaShared,
        "quota.shared",
        Area::Service,
        "the Redis of `[quota.shared]` is writable and runs scripts",
    ),
    (
        Check::TraceCollector,
        "trace.collector",
        Area::Service,
        "the collector of `trace.otlp_endpoint` accepts an export without spans",
    ),
    (
        Check::GrpcListen,
        "grpc.listen",
        Area::Service,
        "the service can listen on `grpc.listen`, or runs already",
    ),
    (
        Check::AdminListen,
        "admin.listen",
        Area::Service,
        "the service can listen on `admin.listen`, or runs already",
    ),
];

/// Outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CheckOutcome {
    /// Passed, with what was found.
    Ok(String),
    /// Passed, but it will fail soon or fails for some requests.
    Warn(Remediation),
    /// Failed.
    Fail(Remediation),
    /// Skipped, because this check failed.
    Skipped(Check),
}

/// Check with its outcome.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) check: Check,
    /// `None` for checks that are the same for all portals.
    pub(super) portal: Option<String>,
    pub(super) outcome: CheckOutcome,
    pub(super) took: Duration,
}

/// Outcome of a check, with the value that later checks need.
pub(super) struct CheckResult<T> {
    /// `None` if the checks that need it are skipped.
    pub(super) value: Option<T>,
    pub(super) outcome: CheckOutcome,
}

/// Computes the deadline of a check that starts now.
pub(super) fn deadline() -> Instant {
    Instant::now() + TIMEOUT
}

// === impl Check ===

impl Check {
    /// All checks in execution order.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        TABLE.into_iter().map(|(check, ..)| check)
    }

    /// Name of the check, a stable part of the report.
    pub(super) fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    pub(super) fn area(self) -> Area {
        TABLE[self as usize].2
    }
}

// === impl CheckOutcome ===

impl CheckOutcome {
    pub(super) fn warn(cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Warn(Remediation::new(cause, fix))
    }

    pub(super) fn fail(cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Fail(Remediation::new(cause, fix))
    }

    /// Name of the outcome in the report.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Warn(_) => "warn",
            Self::Fail(_) => "fail",
            Self::Skipped(_) => "skipped",
        }
    }
}

// === impl CheckResult ===

impl<T> CheckResult<T> {
    pub(super) fn ok(value: T, found: impl Into<String>) -> Self {
        Self { value: Some(value), outcome: CheckOutcome::Ok(found.into()) }
    }

    pub(super) fn warn(value: T, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { value: Some(value), outcome: CheckOutcome::warn(cause, fix) }
    }

    pub(super) fn fail(remediation: Remediation) -> Self {
        Self { value: None, outcome: CheckOutcome::Fail(remediation) }
    }
}

impl From<CheckOutcome> for CheckResult<()> {
    fn from(outcome: CheckOutcome) -> Self {
        let good = matches!(outcome, CheckOutcome::Ok(_) | CheckOutcome::Warn(_));
        Self { value: good.then_some(()), outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;

    #[test]
    fn checks_are_listed_in_order_and_documented() {
        assert!(TABLE.iter().enumerate().all(|(index, row)| row.0 as usize == index));
        let page = include_str!("../../../docs/DOCTOR.md");
        let rows = TABLE.map(|(_, name, _, meaning)| format!("| `{name}` | {meaning} |"));
        let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows[..], listed[..], "docs/DOCTOR.md must list the checks in order");
    }
}

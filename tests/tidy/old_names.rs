//! Rule about public names that were renamed: no text contains an old one.

use std::path::Path;

/// Files that contain old names: the changelog, the table of renamed keys with its tests, this file and
/// the planted faults.
const EXEMPT: &[&str] = &[
    "CHANGELOG.md",
    "src/config/renamed.rs",
    "src/config/tests/renamed.rs",
    "tests/tidy/old_names.rs",
    "tests/tidy/planted.rs",
];

/// Old names that mean nothing else. Ordinary words, such as `share`, are not listed.
const OLD_NAMES: &[&str] = &[
    // The contract.
    "hubspot.leads.v1",
    "hubspot/leads/v1",
    "com.hubspot.leads",
    "x-leadsd-caller",
    "UPSTREAM_UNINTELLIGIBLE",
    "ANSWER_TOO_LARGE",
    "BATCH_REFUSED",
    "ERROR_REASON_FORBIDDEN",
    // Configuration.
    "error_catalogue",
    "max_answer_size",
    "remember_refusals",
    "credentials.heartbeat",
    "CREDENTIALS__HEARTBEAT",
    "quota.max_waiting",
    "QUOTA__MAX_WAITING",
    "quota.group_commit",
    "QUOTA__GROUP_COMMIT",
    "quota.shared.replicas",
    "QUOTA__SHARED__REPLICAS",
    "quota.shares",
    "QUOTA__SHARES",
    "portals_from",
    // Metrics and alerts.
    "leadsd_rpc_",
    "leadsd_limit_",
    "leadsd_callers_",
    "leadsd_trust_",
    "leadsd_tls_trouble",
    "leadsd_credential_trouble",
    "leadsd_credential_secret_gone",
    "leadsd_credential_secrets_gone",
    "leadsd_hubspot_stop",
    "leadsd_quota_size",
    "leadsd_quota_waits",
    "leadsd_quota_refusals",
    "leadsd_quota_upstream_refusals",
    "leadsd_quota_shared_away",
    "leadsd_log_lines_lost",
    "LeadsdHubspotRefusesForItsLimit",
    "LeadsdQuotaSharedAway",
    "LeadsdTrustStale",
    "LeadsdCertificateUnusable",
    // Label values, log fields and the admin port.
    "grant_refused",
    "login_refused",
    "last_trouble",
    "secret_gone",
    "audit.repeat",
    "caller.known",
    "connection.ending",
    "log.lost",
    "trust.from",
    "trust.source",
];

/// Faults of a text, ignoring case.
pub(crate) fn faults(file: &Path, text: &str) -> Vec<String> {
    if EXEMPT.iter().any(|exempt| file == Path::new(exempt)) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.to_lowercase();
        for name in OLD_NAMES.iter().filter(|name| line.contains(&name.to_lowercase())) {
            faults.push(format!("{}:{number}: `{name}` was renamed", file.display()));
        }
    }
    faults
}
